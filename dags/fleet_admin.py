"""### Fleet admin: by hand, what no schedule should do

Install keys, stop agents, build the hook library on data servers, or remove everything of ours from hosts. **Dry run
by default**: it logs in, looks, and writes in its log what it would do; nothing is changed until the form says so.

**Schedule** none: trigger it with the form. **Inputs** the inventory; connections `pingmesh_ssh` and, to install keys,
`pingmesh_bootstrap`. **Outputs** the task's log and return value: what happened to each host.

| action | what it does |
|---|---|
| `install_keys` | log in with the bootstrap password where our key opens nothing yet; pin the host key |
| `forget_host_keys` | forget the pinned keys of the named hosts, which were installed anew; then `install_keys` |
| `stop_agents` | stop the agents; the next run of `pingmesh` starts them again: pause that DAG first |
| `deploy_hook` | build the MDSplus hook library on the data servers, say what to restart (include/mdsplus/README.md) |
| `clean_hosts` | stop the agents, remove their directory; `remove_key` also takes our line out of `authorized_keys` |

**Run again** at any time: an action that has nothing left to do changes nothing.

**When it is red** its log names each host that failed and why; the other hosts are done. **Owner** the network team.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from pingmesh_tasks.orchestration.defaults import DEFAULT_ARGS, HOSTS_PARAM, INVENTORY_PARAM
from pingmesh_tasks.orchestration.environment import dag_environment

ENVIRONMENT = dag_environment()

PARAMS = {
    "action": Param(
        "install_keys",
        type="string",
        enum=["install_keys", "forget_host_keys", "stop_agents", "clean_hosts", "deploy_hook"],
        title="Action",
        description="What to do on each host.",
    ),
    "hosts": HOSTS_PARAM,
    "dry_run": Param(True, type="boolean", title="Dry run", description="Only say what would be done."),
    "remove_key": Param(
        False,
        type="boolean",
        title="Remove our key",
        description="With clean_hosts: also take our line out of authorized_keys. The hosts are then out of reach.",
    ),
    "hook_directory": Param(
        "/usr/local/mdsplus/lib",
        type="string",
        title="Hook directory",
        description="With deploy_hook: where libTreeShrHooks.so goes, a directory of the server's LD_LIBRARY_PATH.",
    ),
    "inventory": INVENTORY_PARAM,
}
OPTIONS = ("dry_run", "remove_key", "hook_directory")


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=DEFAULT_ARGS | {"execution_timeout": timedelta(minutes=50), "retries": 1},
    params=PARAMS,
    doc_md=ENVIRONMENT.doc(__doc__),
    dag_display_name="Pingmesh: fleet admin",
    description="By hand: install keys, stop agents, clean hosts. Dry run by default.",
    tags=ENVIRONMENT.tags("admin"),
)
def fleet_admin():
    @task(
        pool=ENVIRONMENT.settings.ssh_pool,
        doc_md="Do the form's action on every chosen host; the log has a line a host.",
    )
    def act_on_hosts() -> dict[str, int]:
        from pingmesh_tasks.orchestration import context
        from pingmesh_tasks.pipeline import fleet_admin

        params = get_current_context()["params"]
        run = context.current_run()
        return fleet_admin.act(run, params["action"], **{name: params[name] for name in OPTIONS})

    act_on_hosts()


fleet_admin()
