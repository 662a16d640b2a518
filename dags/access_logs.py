"""### Access logs: who used the data servers, every window

Brings the new bytes of each data server's log to object storage, splits its lines into connections and operations,
keeps lines that fit no table in quarantine with the reason, pairs sessions, and draws who used the data.

**Schedule** at the end of every window (`PINGMESH_WINDOW_S`, default 300 s). A window's lines are those that were
collected for it; each line is of one window, however the log is rotated.

**Inputs** `log_servers` of the inventory (`PINGMESH_INVENTORY`, YAML), the data servers over SSH (connections
`pingmesh_ssh`, `pingmesh_bootstrap`); their logs must be readable for that user. **Outputs** tables `client`,
`operation`, `session`, `usage`, `server_error` and `log_status`; `quarantine/access/`; the artifacts `usage` (the
window) and `usage_day` (its day so far). What is wrong is in `anomaly`; `anomaly_alerts` notifies.

**Run again** as often as you like: what a window brought is fetched once and never changes, everything else is
replaced. A **backfill** of windows that were never collected brings nothing: their lines are in the next window.

**When it is red**

| task | look at |
|---|---|
| `list_servers` | its log lists every fault of the settings or the inventory |
| `collect_logs` that stays scheduled | `airflow pools list`: the pool of `PINGMESH_SSH_POOL` must exist |
| `collect_logs` | the object store was down: it is retried; a server that fails is in `log_status`, and an alarm |
| `build_on_spark` | its log: no Spark (`make spark`), no Java, no `spark_default`, or Maven Central out of reach |

Skipped where the inventory has no `log_servers`. **Owner** the data group.
"""

from datetime import timedelta

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from pingmesh_tasks.orchestration import assets
from pingmesh_tasks.orchestration.callbacks import late_data_alert
from pingmesh_tasks.orchestration.defaults import (
    INVENTORY_PARAM,
    MAPPED_AT_ONCE,
    ONE_BY_ONE,
    every_window,
)
from pingmesh_tasks.orchestration.environment import dag_environment
from pingmesh_tasks.orchestration.spark import BuildAccessTables

ENVIRONMENT = dag_environment()
SETTINGS = ENVIRONMENT.settings

PARAMS = {
    "inventory": INVENTORY_PARAM,
    "engine": Param(
        "polars",
        type="string",
        enum=["polars", "spark"],
        title="Engine",
        description="What splits the lines into tables: Polars on this machine, or the Spark of `spark_default`.",
    ),
}


#: Tasks of one data server, named after it in the UI.
OF_SERVER = {
    "map_index_template": "{{ task.op_kwargs['server'] }}",
    "max_active_tis_per_dag": MAPPED_AT_ONCE,
}


@dag(
    schedule=every_window(SETTINGS.window_s),
    deadline=late_data_alert(SETTINGS),
    params=PARAMS,
    doc_md=ENVIRONMENT.doc(__doc__),
    dag_display_name="Access logs",
    description="Every window: collect the data servers' logs, build tables, pair sessions, draw who used the data.",
    tags=ENVIRONMENT.tags("access"),
    **ONE_BY_ONE,
)
def access_logs():
    servers = list_servers()
    collected = collect_logs.expand(server=servers)
    engine = choose_engine()
    collected >> engine

    @task_group(group_id="server")
    def each_server(server):
        pair_sessions(server=server) >> [summarize_usage(server=server), detect_anomalies(server=server)]

    on_spark = BuildAccessTables(
        task_id="build_on_spark",
        outlets=[assets.CLIENT, assets.OPERATION],
        execution_timeout=timedelta(hours=1),
        doc_md="Split the window's lines into `client`, `operation` and quarantine, for all servers, on Spark.",
    )
    tables = each_server.expand(server=servers)
    engine >> [build_access_tables.expand(server=servers), on_spark] >> tables >> render_usage()


@task(doc_md="Read the data servers of the inventory; without one, everything is skipped.")
def list_servers() -> list[str]:
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import access_logs

    names = access_logs.server_names(context.current_run())
    if not names:
        raise AirflowSkipException("the inventory has no log_servers")
    return names


@task(
    **OF_SERVER,
    pool=SETTINGS.ssh_pool,
    outlets=[assets.RAW_ACCESS],
    execution_timeout=timedelta(minutes=15),
    doc_md="Bring what is new in the server's logs to `raw/`, every complete line once.",
)
def collect_logs(server):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import access_logs

    return access_logs.collect_logs(context.current_run(), server)


@task.branch(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS, doc_md="Take the engine that the form chose.")
def choose_engine():
    return {"polars": "build_access_tables", "spark": "build_on_spark"}[get_current_context()["params"]["engine"]]


@task(
    **OF_SERVER,
    inlets=[assets.RAW_ACCESS],
    outlets=[assets.CLIENT, assets.OPERATION],
    doc_md="Split the window's lines into `client`, `operation` and quarantine.",
)
def build_access_tables(server):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import access_logs

    return access_logs.build_access_tables(context.current_run(), server)


@task(
    **OF_SERVER,
    trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    inlets=[assets.CLIENT, assets.OPERATION],
    outlets=[assets.SESSION],
    doc_md="Pair connections into sessions; those that are open are carried into the next window.",
)
def pair_sessions(server):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import access_logs

    return access_logs.pair_sessions(context.current_run(), server)


@task(
    **OF_SERVER,
    inlets=[assets.SESSION],
    outlets=[assets.USAGE],
    doc_md="Write the figures of how the data server was used in the window.",
)
def summarize_usage(server):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import access_logs

    return access_logs.summarize_usage(context.current_run(), server)


@task(
    **OF_SERVER,
    inlets=[assets.CLIENT, assets.OPERATION, assets.SESSION],
    outlets=[assets.ANOMALY],
    doc_md="Evaluate the window: rows of `anomaly`, and incidents that `anomaly_alerts` notifies.",
)
def detect_anomalies(server):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import evaluate_windows

    return evaluate_windows.evaluate_access_window(context.current_run(), server)


@task(
    inlets=[assets.USAGE],
    outlets=[assets.artifact("usage")],
    doc_md="Draw the report of the window, and of its day so far.",
)
def render_usage():
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import usage_pictures

    return usage_pictures.draw_usage(context.current_run())


access_logs()
