"""### Anomaly alerts: seconds from a fault to a message that names the suspect, and one when it is over

Looks at what the follower brought in the last minute, remembers which faults are open, and tells Slack, e-mail and
webhook what is new. The windows' own looks (`pingmesh`, `access_logs`) feed the same memory.

**Schedule** none by the clock: the trigger `arrival` starts a run when a batch under `hot/` is worth a look, and at
least every `PINGMESH_ALERT_HEARTBEAT_S`; rows of `anomaly` from a window start one too. The trigger `follow` holds one
SSH connection to each host and data server and writes those batches (`PINGMESH_FOLLOW=false`: alarms then come with
the windows).

**Inputs** `hot/`, tables `normal`, `session` and `anomaly`, the rules (`PINGMESH_RULES`); connections `pingmesh_slack`,
`pingmesh_smtp`, `pingmesh_webhook`: one that is missing is a channel that is off. **Outputs** messages, the table
`notice` (what was said), a row of `anomaly` for each incident it opened, and the memory `control/alerts/state.json`.
The windows alone judge how many sessions are open at once (`concurrency`).

**Run again** at any time: what was said is not said again. A message that was sent and not yet marked when its task
died is sent again, with the same id.

**When it is red**

| task | look at |
|---|---|
| `detect` | the object store was down, or `PINGMESH_RULES` has faults: its log lists them |
| `notify` | no channel takes messages, its log says why; they wait in the outbox and are tried again for a day |

Acknowledge, silence or dismiss with the DAG `alert_admin`. **Owner** the network team.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from pingmesh_tasks.orchestration import assets
from pingmesh_tasks.orchestration.defaults import DEFAULT_ARGS
from pingmesh_tasks.orchestration.environment import dag_environment

ENVIRONMENT = dag_environment()


@dag(
    schedule=assets.hot(ENVIRONMENT.settings) | assets.ANOMALY,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    max_consecutive_failed_dag_runs=0,  # it is red while no channel works, and must not be paused for it
    dagrun_timeout=timedelta(minutes=3),  # one run at a time: a run that hangs would be the end of all alarms
    default_args=DEFAULT_ARGS | {"retry_delay": timedelta(seconds=2), "execution_timeout": timedelta(seconds=100)},
    doc_md=ENVIRONMENT.doc(__doc__),
    dag_display_name="Anomaly alerts",
    description="When something arrives: look at the last minute, remember, tell Slack and e-mail.",
    tags=ENVIRONMENT.tags("alarm"),
)
def anomaly_alerts():
    @task(doc_md="Look at the last minute of every host and log; note what opened, grew or ended.")
    def detect() -> dict[str, int]:
        from pingmesh_tasks.orchestration import context
        from pingmesh_tasks.pipeline import evaluate_hot

        return evaluate_hot.evaluate_hot(context.current_run())

    @task(outlets=[assets.NOTICE], doc_md="Trace the suspects, tell every channel what is due, keep what was said.")
    def notify(run_id: str) -> dict[str, int]:
        from pingmesh_tasks.orchestration import alerts

        counts = alerts.notify_channels(run_id)
        if not counts:
            raise AirflowSkipException("there is nothing to say")
        return counts

    detect() >> notify()


anomaly_alerts()
