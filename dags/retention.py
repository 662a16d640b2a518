"""### Retention: delete what is too old

Looks through the bucket once a day and deletes the windows that are older than `PINGMESH_KEEP_D` says, by kind: bytes
as they came, tables, hours, days, pictures. **Dry run by default**: it writes in its log what it would delete; nothing
is deleted until the form, or `PINGMESH_KEEP_DRY_RUN=false`, says so.

**Schedule** daily, 03:40 UTC. **Inputs** the listing of the bucket. **Outputs** fewer objects; the task's log and
return value have objects, bytes, oldest and newest window by kind.

**Never deleted** are cursors, the alarm's memory, `artifacts/latest/`, the newest window of each kind (of raw logs: of
each data server), the ping list plans that a window which stays may name, and any object that is not of a kind of ours.
Hours and days that were made of windows which are gone stay as they are.

**Run again** at any time, also after it was killed: what is left is found again.

**When it is red**

| what its log says | what to do |
|---|---|
| more than 50 % of … is too old | it was left alone. If `PINGMESH_KEEP_D` and the clock are right, raise `max_share` |
| `PINGMESH_KEEP_D`: … is no kind of object | mend the setting |
| anything else | the object store was down: it is retried |

What Airflow keeps of its own runs is not in the bucket: see "Operating" in the README. **Owner** the network team.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task

from pingmesh_tasks.orchestration.defaults import DEFAULT_ARGS
from pingmesh_tasks.orchestration.environment import dag_environment

ENVIRONMENT = dag_environment()

PARAMS = {
    "dry_run": Param(
        ENVIRONMENT.settings.keep_dry_run,
        type="boolean",
        title="Dry run",
        description="Only say what would be deleted.",
    ),
    "max_share": Param(
        0.5,
        type="number",
        exclusiveMinimum=0,
        maximum=1,
        title="Most of a kind at once",
        description="A kind of which a larger share (0 to 1) is too old is left alone, and the run fails.",
    ),
}


@dag(
    schedule=CronTriggerTimetable("40 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=DEFAULT_ARGS | {"execution_timeout": timedelta(hours=2)},
    params=PARAMS,
    doc_md=ENVIRONMENT.doc(__doc__),
    dag_display_name="Pingmesh: retention",
    description="Daily: delete what is older than the settings say. Dry run by default.",
    tags=ENVIRONMENT.tags("admin"),
)
def retention():
    @task(doc_md="Delete the windows that are too old, or only say which; the log has a line a kind.")
    def prune_bucket() -> dict[str, object]:
        from pingmesh_tasks.orchestration.connections import open_store
        from pingmesh_tasks.pipeline import retention
        from pingmesh_tasks.settings import load_settings

        params, settings = get_current_context()["params"], load_settings()
        store = open_store(settings)
        return retention.prune(store, settings, dry_run=params["dry_run"], max_share=params["max_share"])

    prune_bucket()


retention()
