"""### Alert admin: acknowledge, silence or dismiss by hand

**Schedule** none: trigger it with the form, or by the link in a message. **Inputs** the alarm's memory
(`control/alerts/state.json`). **Outputs** the same; the task's log lists what is open, silenced and waiting.

| action | what it does |
|---|---|
| `list` | only write in the log what is open, silenced and not yet said |
| `acknowledge` | someone looks after the `incident`: no reminders until it grows or ends |
| `silence` | say nothing for `hours` of the `incident`, or of everything that the four patterns match |
| `unsilence` | end the silence `silence_id` now; what is still wrong is then said |
| `dismiss` | end the `incident` by hand; one whose host left the inventory ends by itself |

Patterns are globs: `host0*`, `dc1/podset2/*`, `*`. **Run again** at any time: a second acknowledgement changes nothing.

**When it is red** its log says what is wrong with the form: an incident that is not open, a silence that would hide
everything for good. **Owner** the network team.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from pingmesh_tasks.orchestration.defaults import DEFAULT_ARGS
from pingmesh_tasks.orchestration.environment import dag_environment

ENVIRONMENT = dag_environment()


def _text(title: str, description: str, default: str | None = None) -> Param:
    return Param(default, type=["null", "string"], maxLength=200, title=title, description=description)


PARAMS = {
    "action": Param(
        "list",
        type="string",
        enum=["list", "acknowledge", "silence", "unsilence", "dismiss"],
        title="Action",
        description="What to do.",
    ),
    "incident": _text("Incident", "Its id, from a message or the page: twelve hex digits."),
    "hours": Param(4, type="number", exclusiveMinimum=0, maximum=24 * 90, title="Hours", description="Of a silence."),
    "source": _text("Source", "With silence: `mesh` or a data server; a glob.", "*"),
    "scope": _text("Scope", "With silence: host, tor, podset, user, node, …; a glob.", "*"),
    "subject": _text("Subject", "With silence: the suspect's name; a glob.", "*"),
    "rule": _text("Rule", "With silence: host_down, loss, user_rate, …; a glob.", "*"),
    "silence_id": _text("Silence", "With unsilence: its id, from the log of `list`."),
    "by": _text("By", "Who does this; messages name it."),
    "comment": _text("Comment", "Why."),
}


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    default_args=DEFAULT_ARGS | {"execution_timeout": timedelta(minutes=2)},
    params=PARAMS,
    doc_md=ENVIRONMENT.doc(__doc__),
    dag_display_name="Alert admin",
    description="By hand: acknowledge, silence or dismiss an alert.",
    tags=ENVIRONMENT.tags("alarm", "admin"),
)
def alert_admin():
    @task(doc_md="Do the form's action on the alarm's memory; the log has a line an incident and silence.")
    def change_alerts() -> dict[str, int]:
        from pingmesh_tasks.orchestration import context
        from pingmesh_tasks.pipeline import alert_admin

        return alert_admin.administer(context.current_run(), dict(get_current_context()["params"]))

    change_alerts()


alert_admin()
