"""### Latency roll-ups: what the network was like, by the hour and by the day

Merges what `pingmesh` found in the windows of an hour, and the hours of its day so far: counts and latency ladders are
added, quantiles are read from the sums (to 2.9 %), and no percentile is averaged. The page shows both levels.

**Schedule** every hour, at its end; the run's data interval is the hour. It waits up to 15 minutes for the hour's last
windows.

**Inputs** tables `pair_latency` and `group_latency`, the rules (`PINGMESH_RULES`). **Outputs** tables
`pair_latency_hour`, `group_latency_hour`, `mesh_map_hour`, the report `sla_hour` (also as CSV under `artifacts/`), and
the same for `_day`. The report says in which share of their pairs DCs and podsets kept the limits of the rules `loss`
and `latency_sla`.

**Run again** as often as you like: an hour and its day are made anew of what is there, windows that came late included.
Windows that are missing are counted in the task's log and return value. A **backfill** over a day makes its hours and
the day. What was made of more windows than are left is kept.

**When it is late**, not done 45 minutes after it was queued, an alarm says so; two runs in a row that end close it.

**When it is red**

| task | look at |
|---|---|
| `wait_for_windows` | the object store was down: it is retried |
| `roll_up_hour`, `roll_up_day` | the object store; a part of a table that is damaged is named: run that window again |

Skipped are hours and days in which nothing was measured, and levels that are no longer than a window.
**Owner** the network team.
"""

from datetime import timedelta

from airflow.sdk import TriggerRule, dag, task

from pingmesh_tasks.orchestration import assets
from pingmesh_tasks.orchestration.callbacks import late_data_alert
from pingmesh_tasks.orchestration.defaults import ONE_BY_ONE, every_window
from pingmesh_tasks.orchestration.environment import dag_environment
from pingmesh_tasks.orchestration.sensors import HourSensor
from pingmesh_tasks.windows import LEVELS_S

ENVIRONMENT = dag_environment()
TABLES = ("pair_latency", "group_latency", "mesh_map", "sla")


@dag(
    schedule=every_window(LEVELS_S["hour"]),
    deadline=late_data_alert(ENVIRONMENT.settings, timedelta(minutes=45)),
    doc_md=ENVIRONMENT.doc(__doc__),
    dag_display_name="Latency roll-ups",
    description="Every hour: merge its windows, and the hours of its day; report who kept the limits.",
    tags=ENVIRONMENT.tags("mesh"),
    **ONE_BY_ONE,
)
def latency_rollups():
    wait = HourSensor(
        task_id="wait_for_windows",
        inlets=[assets.PAIR_LATENCY],
        doc_md="Wait until the hour's windows are all there, or are not to be expected any more.",
    )
    wait >> roll_up_hour() >> roll_up_day()


@task(
    inlets=[assets.PAIR_LATENCY],
    outlets=[assets.rolled_up(table, "hour") for table in TABLES],
    execution_timeout=timedelta(minutes=40),
    doc_md="Merge the windows of the hour.",
)
def roll_up_hour():
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import rollups

    with context.skipped_on(rollups.NothingToMerge):
        return rollups.roll_up(context.current_run(LEVELS_S["hour"]), "hour")


@task(
    trigger_rule=TriggerRule.NONE_FAILED,
    inlets=[assets.rolled_up("pair_latency", "hour")],
    outlets=[assets.rolled_up(table, "day") for table in TABLES],
    execution_timeout=timedelta(minutes=40),
    doc_md="Merge the hours of the day so far.",
)
def roll_up_day():
    from pingmesh_tasks.orchestration import context
    from pingmesh_tasks.pipeline import rollups

    with context.skipped_on(rollups.NothingToMerge):
        return rollups.finish_roll_up(context.current_run(LEVELS_S["hour"]), "day", dag_id="latency_rollups")


latency_rollups()
