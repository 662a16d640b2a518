"""`pingmesh demo`: a real S3 server, hosts and a data server with SSH, an inbox, Airflow; no root.

The extra `demo` has what this needs. State is below `.demo/` of the checkout or of the current
directory.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pingmesh_tasks.cli.output import json_option, show, wants_json
from pingmesh_tasks.errors import ConfigError

if TYPE_CHECKING:
    from pingmesh_tasks.demo.run import Demo


@click.group()
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the demo keeps everything: .demo of the checkout, or of the current directory.",
)
@click.option("--no-outage", is_flag=True, help="No faults but those that `fault` causes.")
@click.pass_context
def demo(context: click.Context, root: Path | None, no_outage: bool) -> None:
    """Run everything on this machine: S3 server, hosts, a data server, an inbox, Airflow."""
    context.obj = {"root": root, "outage": not no_outage}


@demo.command()
@json_option
def up() -> None:
    """Start what does not run yet; return when the first pictures are there, with where to look."""
    running = _open()
    try:
        store = running.up(_tell)
        keys = running.await_artifacts(store, _tell)
    except KeyboardInterrupt:
        click.echo("\ninterrupted; what was started goes on: end it with `pingmesh demo stop`", err=True)
        raise SystemExit(130) from None
    running.copy_latest(store, keys)
    document = {
        "airflow": running.airflow.url,
        "inbox": running.inbox_url,
        "object_store": running.s3.access.endpoint,
        "artifacts": keys,
        "copies": str(running.root / "latest"),
    }
    show(document, running.summary(keys))


@demo.command()
@json_option
def stop() -> None:
    """End everything that `up` started; what was stored stays."""
    _open().stop(_tell)
    show({"up": False}, "the demo is stopped")


@demo.command()
@json_option
def status() -> None:
    """Say whether everything runs; exit code 1 where something does not."""
    is_up = _open().is_up()
    show({"up": is_up}, "up" if is_up else "down")
    click.get_current_context().exit(0 if is_up else 1)


@demo.command()
@click.argument("what", default="host04")
@click.option("--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True, help="0 ends it.")
@json_option
def fault(what: str, seconds: float) -> None:
    """Cause a fault now: WHAT is a host that goes down, or `hammer`, a user who floods one node."""
    happens = _open().cause(what, seconds)
    show({"fault": what, "seconds": seconds}, happens)


def _open() -> Demo:
    """Return the demo that the options of the group name. Raises ConfigError without the extra."""
    try:
        from pingmesh_tasks.demo.run import ROOT, Demo, Ports
    except ModuleNotFoundError as error:
        install = "pip install 'pingmesh-airflow[demo]'"
        raise ConfigError(f"the demo needs {error.name}. Install it: {install}") from None
    given = click.get_current_context().obj
    root = (given["root"] or ROOT).resolve()
    return Demo(root, Ports.from_environment(), outage=given["outage"])


def _tell(message: str) -> None:
    """Print a line of progress: on stderr where stdout is for a program."""
    click.echo(f"{time.strftime('%H:%M:%S')} {message}", err=wants_json())
