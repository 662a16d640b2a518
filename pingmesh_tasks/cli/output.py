"""What a command prints: text or one JSON document on stdout; faults and progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

_JSON = "pingmesh.json"
Command = TypeVar("Command", bound=Callable[..., Any])


def _remember(context: click.Context, _: click.Parameter, chosen: bool) -> None:
    context.meta[_JSON] = chosen


def json_option(command: Command) -> Command:
    """Add the option `--json` to a command."""
    option = click.option(
        "--json",
        is_flag=True,
        callback=_remember,
        expose_value=False,
        help="Print JSON: the same facts for a program; faults are in the list `faults`.",
    )
    return option(command)


def wants_json() -> bool:
    """Return whether the running command was called with `--json`."""
    return bool(click.get_current_context().meta.get(_JSON))


def show(document: dict[str, Any], text: str) -> None:
    """Print the result of a command that found no fault."""
    click.echo(json.dumps(document | {"faults": []}, ensure_ascii=False) if wants_json() else text)


def show_faults(faults: Iterable[str], as_json: bool) -> None:
    """Print the faults that end a command, one sentence a line."""
    if as_json:
        click.echo(json.dumps({"faults": list(faults)}, ensure_ascii=False))
    else:
        for fault in faults:
            click.echo(f"error: {fault}", err=True)


def progress(label: str, items: Iterable[Any] | None = None, length: int | None = None) -> Any:
    """Return a progress bar on stderr, as a context; silent where no terminal reads it."""
    hidden = not sys.stderr.isatty()
    return click.progressbar(items, length, label=label, file=sys.stderr, hidden=hidden)
