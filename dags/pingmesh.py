"""### Pingmesh: what the network looked like, every window

Brings the hosts of the inventory to the right agent and ping list, fetches what their agents measured in the window,
turns it into tables and draws them.

**Schedule** at the end of every window (`PINGMESH_WINDOW_S`, default 300 s); the run's data interval is the window.

**Inputs** the inventory (`PINGMESH_INVENTORY`), the hosts over SSH (connections `pingmesh_ssh`, and
`pingmesh_bootstrap` until the key is installed). **Outputs** tables `probe`, `pair_latency` and `host_status`, and the
artifacts `heatmap`, `history`, `cdf`, `bars` and `timeline`, each under the window's key and under `artifacts/latest/`;
what is wrong is in `anomaly`, the baseline in `normal`, and `anomaly_alerts` notifies.

**Run again** as often as you like: each stage replaces what it wrote for the window. A **backfill** of past windows
collects from the hosts' spools (24 h by default) and leaves the agents alone.

**When it is red**

| task | look at |
|---|---|
| `plan_pinglists` | its log lists every fault of settings or inventory, or by how much the plan is over the budget |
| tasks in `shard` | the object store was down: they are retried; hosts that fail do not turn them red |
| tasks in `shard` that stay scheduled | `airflow pools list`: the pool of `PINGMESH_SSH_POOL` must exist |
| `check_fleet` | more hosts failed than the Param allows; its log names the first ten and why |

The very first run ends skipped: its agents have only just been started. **Owner** the network team.
"""

from airflow.sdk import Param, TriggerRule, dag, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from pingmesh_tasks.orchestration import assets
from pingmesh_tasks.orchestration.callbacks import late_data_alert
from pingmesh_tasks.orchestration.defaults import (
    HOSTS_PARAM,
    INVENTORY_PARAM,
    MAPPED_AT_ONCE,
    ONE_BY_ONE,
    every_window,
)
from pingmesh_tasks.orchestration.environment import dag_environment

ENVIRONMENT = dag_environment()
SETTINGS = ENVIRONMENT.settings

PARAMS = {
    "inventory": INVENTORY_PARAM,
    "hosts": HOSTS_PARAM,
    "protocol": Param(
        None,
        type=["null", "string"],
        enum=[None, "tcp", "tcp_echo", "udp"],
        title="Protocol",
        description="How pairs are probed from this run on, until the next scheduled run brings the setting back.",
    ),
    "max_failed_share": Param(
        SETTINGS.max_failed_share,
        type="number",
        minimum=0,
        maximum=1,
        title="Failing hosts allowed",
        description="Share of hosts (0 to 1) that may fail before the run does.",
    ),
    "shard_size": Param(
        SETTINGS.shard_size,
        type="integer",
        minimum=1,
        title="Shard size",
        description="Hosts that one mapped task takes care of.",
    ),
}


#: Tasks of one shard, named after it in the UI; those that talk to hosts share a pool.
OF_SHARD = {
    "map_index_template": "{{ task.op_kwargs['part']['shard'] }}",
    "max_active_tis_per_dag": MAPPED_AT_ONCE,
}
ON_HOSTS = OF_SHARD | {"pool": SETTINGS.ssh_pool}


@dag(
    schedule=every_window(SETTINGS.window_s),
    deadline=late_data_alert(SETTINGS),
    params=PARAMS,
    doc_md=ENVIRONMENT.doc(__doc__),
    dag_display_name="Pingmesh",
    description="Every window: keep the agents running, collect, build tables, evaluate, draw.",
    tags=ENVIRONMENT.tags("mesh"),
    **ONE_BY_ONE,
)
def pingmesh():
    @task_group(group_id="shard")
    def each_shard(part):
        (
            ensure_keys(part=part)
            >> dispatch_agents(part=part)
            >> collect_segments(part=part)
            >> build_probe_table(part=part)
            >> summarize_latency(part=part)
        )

    parts = plan_pinglists()
    pictures = [render_heatmap(), render_history(), render_cdf(), render_bars(), render_timeline()]
    each_shard.expand(part=parts) >> [detect_anomalies(), build_mesh_map(), *pictures, check_fleet(parts)]


@task(doc_md="Read the inventory and plan who probes whom. One mapped group a shard of hosts follows.")
def plan_pinglists() -> list[dict[str, str]]:
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import plan

    return [part.document() for part in plan.plan_window(context.current_run())]


@task(**ON_HOSTS, doc_md="Make sure that our key opens every host; pin host keys at first contact.")
def ensure_keys(part):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh

    return mesh.ensure_keys(context.live_run(), context.part_of(part))


@task(
    **ON_HOSTS,
    doc_md="Copy agent and ping list where they differ, start agents that do not run, renew every lease.",
)
def dispatch_agents(part):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh

    return mesh.dispatch_agents(context.live_run(), context.part_of(part))


@task(
    **ON_HOSTS,
    trigger_rule=TriggerRule.NONE_FAILED,
    outlets=[assets.RAW_PROBES, assets.HOST_STATUS],
    doc_md="Fetch the window's segments straight to `raw/`; a damaged one goes to `quarantine/`.",
)
def collect_segments(part):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh

    counts = mesh.collect_segments(context.current_run(), context.part_of(part))
    if mesh.has_no_data_yet(counts):
        raise AirflowSkipException(
            "no data yet: the agents of this shard were started after the window began; the next window has some"
        )
    return counts


@task(
    **OF_SHARD,
    inlets=[assets.RAW_PROBES],
    outlets=[assets.PROBE],
    doc_md="Turn raw segments into the shard's part of the table `probe`.",
)
def build_probe_table(part):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh

    return mesh.build_probe_table(context.current_run(), context.part_of(part))


@task(
    **OF_SHARD,
    inlets=[assets.PROBE],
    outlets=[assets.PAIR_LATENCY],
    doc_md="Turn probes into the shard's part of `pair_latency`; planned pairs that gave nothing are rows too.",
)
def summarize_latency(part):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh

    return mesh.summarize_latency(context.current_run(), context.part_of(part))


@task(
    trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    inlets=[assets.PAIR_LATENCY, assets.HOST_STATUS],
    outlets=[assets.ANOMALY],
    doc_md="Evaluate the window: rows of `anomaly`, and incidents that `anomaly_alerts` notifies.",
)
def detect_anomalies():
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import evaluate_windows

    return evaluate_windows.evaluate_mesh_window(context.current_run(), context.planned_part())


@task(
    trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    inlets=[assets.PAIR_LATENCY],
    outlets=[assets.MESH_MAP],
    doc_md="Lay the window out as the page reads it: one dense column a metric.",
)
def build_mesh_map():
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh_matrix

    return mesh_matrix.build_mesh_map(context.current_run(), context.planned_part())


@task(
    trigger_rule=TriggerRule.NONE_FAILED,
    inlets=[assets.HOST_STATUS],
    doc_md="Fail the run where more hosts failed than the Param allows.",
)
def check_fleet(parts):
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh

    return mesh.check_fleet(context.current_run(), context.part_of(parts[0]))


def _picture(kind):
    @task(
        task_id=f"render_{kind}",
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        inlets=[assets.PAIR_LATENCY],
        outlets=[assets.artifact(kind)],
        doc_md=f"Draw the artifact `{kind}` of the window; `artifacts/latest/` follows where no newer window is drawn.",
    )
    def render():
        from pingmesh_tasks.orchestration import context
        from pingmesh_tasks.pipeline import pictures

        return pictures.draw(kind, context.current_run(), context.planned_part())

    return render


render_heatmap, render_history = _picture("heatmap"), _picture("history")
render_cdf, render_bars, render_timeline = _picture("cdf"), _picture("bars"), _picture("timeline")

pingmesh()
