"""The group of all commands; one of our errors ends it with exit code 1 and a sentence a fault."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from pingmesh_tasks.cli.demo import demo
from pingmesh_tasks.cli.installed import dags_folder, doctor, example, preload_folder
from pingmesh_tasks.cli.inventory import check_inventory, plan
from pingmesh_tasks.cli.output import show_faults, wants_json
from pingmesh_tasks.cli.records import dump, import_2018
from pingmesh_tasks.errors import PingmeshError, faults_of


class Commands(click.Group):
    """A group whose commands may raise PingmeshError."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except PingmeshError as error:
            show_faults(faults_of(error), wants_json())
            context.exit(1)


def _version() -> str:
    try:
        return version("pingmesh-airflow")
    except PackageNotFoundError:
        return "a source checkout"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="pingmesh")
def main() -> None:
    """See the latency of every pair of your servers, with Airflow, SSH and an S3-compatible bucket.

    Settings are the PINGMESH_* variables, credentials are Airflow connections, as for the DAGs.
    `pingmesh doctor` checks both. Exit codes: 0 no fault, 1 faults, 2 wrong usage.
    """


COMMANDS: tuple[click.Command, ...] = (
    *(check_inventory, plan, doctor, dump, import_2018),
    *(example, dags_folder, preload_folder, demo),
)
for command in COMMANDS:
    main.add_command(command)
