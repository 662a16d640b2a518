"""### Access logs: who used the data servers, every window

Brings the new bytes of each data server's log to object storage, splits its lines into connections and operations,
keeps what is neither in quarantine with the reason, pairs sessions, and draws who used the data.

**Schedule** at the end of every window (`PINGMESH_WINDOW_S`, default 300 s). A window's lines are those that were
collected for it; each line is of one window, whatever the log does.

**Inputs** `log_servers` of the inventory (`PINGMESH_INVENTORY`, YAML), the data servers over SSH (connections
`pingmesh_ssh`, `pingmesh_bootstrap`); their logs must be readable for that user. **Outputs** tables `client`,
`operation`, `session`, `usage`, `server_error` and `log_status`; `quarantine/access/`; the artifacts `usage` (the
window) and `usage_day` (its day so far). What is wrong is in `anomaly`; `anomaly_alerts` tells it.

**Run again** as often as you like: what a window brought is fetched once and never changes, everything else is
replaced. A **backfill** of windows that were never collected brings nothing: their lines are in the next window.

**When it is red**

| task | look at |
|---|---|
| `list_servers` | its log lists every fault of the inventory |
| `collect_logs` | the object store was down: it is retried; a server that fails is in `log_status`, and an alarm |
| `build_on_spark` | its log: no Spark (`make spark`), no Java, no `spark_default`, or Maven Central out of reach |

Skipped where the inventory has no `log_servers`. **Owner** the data group.
"""

from datetime import timedelta

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from pingmesh_tasks.orchestration import assets
from pingmesh_tasks.orchestration.callbacks import late_data_alert
from pingmesh_tasks.orchestration.defaults import INVENTORY_PARAM, ONE_BY_ONE, every_window
from pingmesh_tasks.settings import load_settings

SETTINGS = load_settings()

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


@dag(
    schedule=every_window(SETTINGS.window_s),
    deadline=late_data_alert(SETTINGS),
    params=PARAMS,
    doc_md=__doc__,
    dag_display_name="Access logs",
    description="Every window: collect the data servers' logs, build tables, pair sessions, draw who used the data.",
    tags=["pingmesh", "access"],
    **ONE_BY_ONE,
)
def access_logs():
    servers = list_servers()
    collected = collect_logs.expand(server=servers)
    engine = choose_engine()
    collected >> engine

    @task_group(group_id="server")
    def each_server(server):
        pair_sessions(server) >> [summarize_usage(server), detect_anomalies(server)]

    tables = each_server.expand(server=servers)
    engine >> [build_access_tables.expand(server=servers), build_on_spark()] >> tables >> render_usage()


@task(doc_md="Read the data servers of the inventory; without one, everything is skipped.")
def list_servers() -> list[str]:
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import access_logs

    names = access_logs.server_names(context.current_run())
    if not names:
        raise AirflowSkipException("the inventory has no log_servers")
    return names


@task(
    map_index_template="{{ server }}",
    outlets=[assets.RAW_ACCESS],
    execution_timeout=timedelta(minutes=15),
    doc_md="Bring what is new in the server's logs to `raw/`, every complete line once.",
)
def collect_logs(server):
    return _stage("collect_logs", server)


@task.branch(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS, doc_md="Take the engine that the form chose.")
def choose_engine():
    return {"polars": "build_access_tables", "spark": "build_on_spark"}[get_current_context()["params"]["engine"]]


@task(
    map_index_template="{{ server }}",
    inlets=[assets.RAW_ACCESS],
    outlets=[assets.CLIENT, assets.OPERATION],
    doc_md="Split the window's lines into `client`, `operation` and quarantine.",
)
def build_access_tables(server):
    return _stage("build_access_tables", server)


@task(
    map_index_template="{{ server }}",
    trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    inlets=[assets.CLIENT, assets.OPERATION],
    outlets=[assets.SESSION],
    doc_md="Pair connections into sessions; those that are open are carried into the next window.",
)
def pair_sessions(server):
    return _stage("pair_sessions", server)


@task(
    map_index_template="{{ server }}",
    inlets=[assets.SESSION],
    outlets=[assets.USAGE],
    doc_md="Say in figures how the data server was used in the window.",
)
def summarize_usage(server):
    return _stage("summarize_usage", server)


@task(
    map_index_template="{{ server }}",
    inlets=[assets.CLIENT, assets.OPERATION, assets.SESSION],
    outlets=[assets.ANOMALY],
    doc_md="Look for what is wrong: rows of `anomaly`, and incidents that `anomaly_alerts` tells.",
)
def detect_anomalies(server):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import evaluate_windows

    get_current_context()["server"] = server
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


def build_on_spark():
    """The same tables by the Spark job; without the extra `spark`, a task that says what to install."""
    try:
        from pingmesh_tasks.orchestration.spark import BuildAccessTables
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("airflow.providers.apache"):
            raise
        return refuse_spark()

    return BuildAccessTables(
        task_id="build_on_spark",
        outlets=[assets.CLIENT, assets.OPERATION],
        execution_timeout=timedelta(hours=1),
        doc_md="Split the window's lines into `client`, `operation` and quarantine, for all servers, on Spark.",
    )


@task(task_id="build_on_spark", doc_md="Refuse the engine `spark`: its provider is not installed.")
def refuse_spark():
    from pingmesh_tasks.errors import ConfigError

    raise ConfigError(
        "the engine spark needs Airflow's Spark provider; install it: pip install 'pingmesh-airflow[spark]'"
    )


def _stage(name, server):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import access_logs

    get_current_context()["server"] = server
    return getattr(access_logs, name)(context.current_run(), server)


access_logs()
