"""### Pingmesh: what the network looked like, every window

Brings the hosts of the inventory to the right agent and ping list, fetches what their agents measured in the window,
turns it into tables and draws them.

**Schedule** at the end of every window (`PINGMESH_WINDOW_S`, default 300 s); the run's data interval is the window.

**Inputs** the inventory (`PINGMESH_INVENTORY`), the hosts over SSH (connections `pingmesh_ssh`, and
`pingmesh_bootstrap` until the key is installed). **Outputs** tables `probe`, `pair_latency` and `host_status`, and the
artifacts `heatmap`, `history`, `cdf`, `bars` and `timeline`, each under the window's key and under `artifacts/latest/`;
what is wrong is in `anomaly`, what is normal in `normal`, and `anomaly_alerts` tells it.

**Run again** as often as you like: each stage replaces what it wrote for the window. A **backfill** of past windows
collects from the hosts' spools (24 h by default) and leaves the agents alone.

**When it is red**

| task | look at |
|---|---|
| `plan_pinglists` | its log lists every fault of the inventory, or by how much the plan is over the budget |
| tasks in `shard` | the object store was down: they are retried; hosts that fail do not turn them red |
| `check_fleet` | more hosts failed than the Param allows; its log names the first ten and why |

The very first run ends skipped: its agents have only just been started. **Owner** the network team.
"""

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from pingmesh_tasks.orchestration import assets
from pingmesh_tasks.orchestration.callbacks import late_data_alert
from pingmesh_tasks.orchestration.defaults import HOSTS_PARAM, INVENTORY_PARAM, ONE_BY_ONE, every_window
from pingmesh_tasks.settings import load_settings

SETTINGS = load_settings()

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


@dag(
    schedule=every_window(SETTINGS.window_s),
    deadline=late_data_alert(SETTINGS),
    params=PARAMS,
    doc_md=__doc__,
    dag_display_name="Pingmesh",
    description="Every window: keep the agents running, collect, build tables, look for faults, draw.",
    tags=["pingmesh", "mesh"],
    **ONE_BY_ONE,
)
def pingmesh():
    @task(doc_md="Read the inventory and plan who probes whom. One mapped group a shard of hosts follows.")
    def plan_pinglists() -> list[dict[str, str]]:
        from pingmesh_tasks.orchestration import context
        from pingmesh_tasks.pipeline import plan

        return [part.document() for part in plan.plan_window(context.current_run())]

    @task_group(group_id="shard")
    def each_shard(part):
        keys, agents = ensure_keys(part), dispatch_agents(part)
        keys >> agents >> collect_segments(part) >> build_probe_table(part) >> summarize_latency(part)

    parts = plan_pinglists()
    pictures = [render_heatmap(), render_history(), render_cdf(), render_bars(), render_timeline()]
    each_shard.expand(part=parts) >> [detect_anomalies(), build_mesh_map(), *pictures, check_fleet(parts)]


@task(
    map_index_template="{{ shard }}", doc_md="Make sure that our key opens every host; pin host keys at first contact."
)
def ensure_keys(part):
    return _stage("ensure_keys", part)


@task(
    map_index_template="{{ shard }}",
    doc_md="Copy agent and ping list where they differ, start agents that do not run, renew every lease.",
)
def dispatch_agents(part):
    return _stage("dispatch_agents", part)


@task(
    map_index_template="{{ shard }}",
    trigger_rule=TriggerRule.NONE_FAILED,
    outlets=[assets.RAW_PROBES, assets.HOST_STATUS],
    doc_md="Fetch the window's segments straight to `raw/`; a damaged one goes to `quarantine/`.",
)
def collect_segments(part):
    from pingmesh_tasks.pipeline import mesh

    counts = _stage("collect_segments", part)
    if mesh.has_no_data_yet(counts):
        raise AirflowSkipException(
            "no data yet: the agents of this shard were started after the window began; the next window has some"
        )
    return counts


@task(
    map_index_template="{{ shard }}",
    inlets=[assets.RAW_PROBES],
    outlets=[assets.PROBE],
    doc_md="Turn raw segments into the shard's part of the table `probe`.",
)
def build_probe_table(part):
    return _stage("build_probe_table", part)


@task(
    map_index_template="{{ shard }}",
    inlets=[assets.PROBE],
    outlets=[assets.PAIR_LATENCY],
    doc_md="Turn probes into the shard's part of `pair_latency`; planned pairs that stayed silent are rows too.",
)
def summarize_latency(part):
    return _stage("summarize_latency", part)


@task(
    trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    inlets=[assets.PAIR_LATENCY, assets.HOST_STATUS],
    outlets=[assets.ANOMALY],
    doc_md="Look for what is wrong: rows of `anomaly`, and incidents that `anomaly_alerts` tells.",
)
def detect_anomalies():
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import evaluate_windows

    return evaluate_windows.evaluate_mesh_window(context.current_run(), _first_part())


@task(
    trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    inlets=[assets.PAIR_LATENCY],
    outlets=[assets.MESH_MAP],
    doc_md="Lay the window out as the page reads it: one dense column a metric.",
)
def build_mesh_map():
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh_matrix

    return mesh_matrix.build_mesh_map(context.current_run(), _first_part())


@task(
    trigger_rule=TriggerRule.NONE_FAILED,
    inlets=[assets.HOST_STATUS],
    doc_md="Fail the run where more hosts failed than the Param allows.",
)
def check_fleet(parts):
    return _stage("check_fleet", parts[0])


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

        return pictures.draw(kind, context.current_run(), _first_part())

    return render


render_heatmap, render_history = _picture("heatmap"), _picture("history")
render_cdf, render_bars, render_timeline = _picture("cdf"), _picture("bars"), _picture("timeline")


def _first_part():
    """Any part tells the plan. Pulled: as an argument it would make the plan an upstream, and hide skipped shards."""
    from pingmesh_tasks.pipeline.run import Part

    return Part(**get_current_context()["ti"].xcom_pull(task_ids="plan_pinglists")[0])


def _stage(name, part):
    """Run the stage called `name` on one part; it is imported here, since every task process reads this file."""
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import mesh
    from pingmesh_tasks.pipeline.run import Part

    get_current_context()["shard"] = part["shard"]
    run = context.current_run()
    if name in ("ensure_keys", "dispatch_agents") and not run.dispatches:
        raise AirflowSkipException("this run looks back: the agents are left alone")
    return getattr(mesh, name)(run, Part(**part))


pingmesh()
