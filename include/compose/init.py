"""Prepare what the services of docker-compose.yml share: the service `airflow-init`, once, before all others.

Checks the settings and the inventory (a fault ends here, with all faults told, and not in a task at night), writes
the password of the page's user, brings the database up to date, makes the pool of the tasks that use SSH. Safe to run
again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.topology.inventory import load_inventory

USER = "admin"
MIN_SECRET_CHARS = 32
NEEDED_GIB = 4
SSH_POOL_SLOTS = 4


def check_settings() -> str:
    """Return one line about what will be measured. Raises PingmeshError that lists every fault."""
    settings = load_settings()
    if settings.inventory.startswith("s3://"):
        return f"inventory {settings.inventory} is read when the first window ends"
    hosts = load_inventory(settings.inventory).hosts
    return f"{len(hosts)} hosts in {settings.inventory}, a window every {settings.window_s} s"


def weak_secrets(names: list[str]) -> list[str]:
    """Return a sentence for every secret that is too short to be one."""
    return [
        f"{name} has {len(os.environ.get(name, ''))} characters, at least {MIN_SECRET_CHARS} are needed"
        for name in names
        if len(os.environ.get(name, "")) < MIN_SECRET_CHARS
    ]


def memory_warning() -> str:
    """Return what to say about too little memory, or nothing."""
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return "" if gib >= NEEDED_GIB else f"warning: {gib:.1f} GiB of memory, Airflow wants {NEEDED_GIB}"


def write_password(file: Path, password: str) -> None:
    """Write the password file of Airflow's simple auth manager, for our eyes only, in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump({USER: password}, out)
    new.replace(file)


def prepare_database(ssh_pool: str) -> int:
    """Bring Airflow's database up to date and make the pool unless it is there; return the exit status."""
    if status := subprocess.run(["airflow", "db", "migrate"], check=False).returncode:
        return status
    if subprocess.run(["airflow", "pools", "get", ssh_pool], check=False, capture_output=True).returncode == 0:
        return 0
    words = [ssh_pool, str(SSH_POOL_SLOTS), "Tasks of Pingmesh that use SSH"]
    return subprocess.run(["airflow", "pools", "set", *words], check=False).returncode


def main() -> int:
    try:
        print(check_settings())
    except PingmeshError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    if weak := weak_secrets(["AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY"]):
        print("cannot start: " + "; ".join(weak), file=sys.stderr)
        return 1
    if warning := memory_warning():
        print(warning)
    write_password(
        Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), os.environ["AIRFLOW_ADMIN_PASSWORD"]
    )
    return prepare_database(load_settings().ssh_pool)


if __name__ == "__main__":
    sys.exit(main())
