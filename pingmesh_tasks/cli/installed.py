"""`pingmesh doctor`, and what is installed with the package: DAG files, preloads, examples."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pingmesh_tasks import bundled
from pingmesh_tasks.cli.output import json_option, show, wants_json

if TYPE_CHECKING:
    from pingmesh_tasks.pipeline.checkup import Check

EXAMPLES = {
    "inventory.csv": ("include/inventories", "example.csv"),
    "inventory.yaml": ("include/inventories", "example.yaml"),
    "pinglist.txt": ("include/inventories", "pinglist.txt"),
    "rules.yaml": ("include/rules", "rules.example.yaml"),
}
_MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warn", "yellow"),
    "fault": ("FAULT", "red"),
    "skipped": ("skip", "cyan"),
}


@click.command()
@json_option
def doctor() -> None:
    """Check this installation, and say for each fault what to do.

    Checks files of the package, settings, inventory, probe budget, connections, bucket, pool, rules,
    channels, DAG files and plugin; changes nothing and shows no secret. Run it with the variables
    and as the user of Airflow's scheduler.
    """
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
    from pingmesh_tasks.orchestration import installation
    from pingmesh_tasks.pipeline.checkup import examine

    installation.read_connections_of_the_database()
    as_json = wants_json()
    checks: list[Check] = []
    out = sys.stdout
    with redirect_stdout(sys.stderr):  # of DAG files and hooks
        for check in examine(os.environ, installation.LocalInstallation()):
            checks.append(check)
            if not as_json:
                click.echo(_line(check), file=out)
    faults = [f"{check.name}: {check.detail}" for check in checks if check.state == "fault"]
    if as_json:
        click.echo(_document(checks, faults))
    else:
        click.echo(f"{len(faults)} faults" if len(faults) != 1 else "1 fault")
    click.get_current_context().exit(1 if faults else 0)


@click.command("dags-folder")
@json_option
def dags_folder() -> None:
    """Print the folder of the DAG files: for AIRFLOW__CORE__DAGS_FOLDER, or for a DAG bundle."""
    folder = str(bundled.files("dags"))
    show({"path": folder}, folder)


@click.command("preload-folder")
@json_option
def preload_folder() -> None:
    """Print the folder of the airflow_local_settings.py that makes tasks start faster: for PYTHONPATH.

    It imports what tasks need before the executor forks, which saves seconds a task. Airflow reads
    one such module: where you have one of your own, import the same modules there.
    """
    folder = str(bundled.files("include/airflow"))
    show({"path": folder}, folder)


@click.command()
@click.argument("name", type=click.Choice(list(EXAMPLES)))
@json_option
def example(name: str) -> None:
    """Print an example: an inventory in one of three formats, or the rules with every default."""
    folder, file = EXAMPLES[name]
    text = (bundled.files(folder) / file).read_text(encoding="utf-8")
    show({"name": name, "text": text}, text.rstrip("\n"))


def _line(check: Check) -> str:
    mark, colour = _MARKS[check.state]
    advice = f"\n{'':22}{check.advice}" if check.advice else ""
    return f"{click.style(f'{mark:<5}', fg=colour)} {check.name:<15} {check.detail}{advice}"


def _document(checks: list[Check], faults: list[str]) -> str:
    import json

    return json.dumps({"checks": [asdict(check) for check in checks], "faults": faults}, ensure_ascii=False)
