"""Pytest plugin: skips what the machine cannot run, counts it, and holds CI to a list.

A test declares what it needs with `@pytest.mark.needs(...)`; `tests/support/needs.py` says how that
is found and installed. After a run each need is listed with the number of tests that were skipped
for it. With CI=true, or `--allowed-skips FILE`, a run fails if a test is skipped for a reason that
the file does not hold.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.support import needs

ALLOWED = needs.ROOT / ".ci" / "allowed_skips.txt"
Skips = dict[str, list[str]]  # by need, or by the text of a skip that names none: the tests


def read_allowed(path: Path) -> dict[str, str]:
    """Read a list of allowed skips: `need: why it may lack` a line, `#` for comments.

    Raises:
        pytest.UsageError: A line has no reason, or names what is not in the table of needs.
    """
    allowed = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            name, _, why = (part.strip() for part in line.partition(":"))
            if name not in needs.NEEDS or not why:
                where = f"{path}, line {number}"
                raise pytest.UsageError(
                    f"{where}: {line!r} is not `need: reason` with a need of tests/support/needs.py"
                )
            allowed[name] = why
    return allowed


def needs_of(reason: str) -> list[str]:
    """Return the needs that the text of a skip names, or the text itself where it names none."""
    reason = reason.removeprefix("Skipped: ")
    named = re.fullmatch(r"needs ([^(]+) \(.*", reason, re.DOTALL)
    names = named[1].split(", ") if named else []
    return names if names and set(names) <= needs.NEEDS.keys() else [reason]


def skips_of(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> Skips:
    """Return which tests were skipped for which need; a test that lacks two is under both."""
    skips: Skips = {}
    for report in reports:
        where = report.longrepr
        for name in needs_of(where[2] if isinstance(where, tuple) else str(where)):
            skips.setdefault(name, []).append(report.nodeid)
    return skips


def table(skips: Mapping[str, list[str]], packages: list[str]) -> list[str]:
    """Return the lines that list what was not run, and the command that installs `packages`."""
    lines = []
    for name, tests in sorted(skips.items(), key=lambda item: (-len(item[1]), item[0])):
        need = needs.NEEDS.get(name, needs.Need(None))
        cures = [f"Debian: {' '.join(need.packages)}"] if need.packages else []
        cures += [need.otherwise] if need.otherwise else []
        lines.append(f"{len(tests):6}  {name:18}  {'; '.join(cures)}".rstrip())
    if packages:
        lines += ["", f"To run more of them, as root: apt-get install -y {' '.join(packages)}"]
    return lines


def refused(skips: Mapping[str, list[str]], allowed: Mapping[str, str]) -> Skips:
    """Return the skips whose reason is not allowed."""
    return {name: tests for name, tests in skips.items() if name not in allowed}


# ---- the hooks of pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("skips")
    group.addoption(
        "--allowed-skips", type=Path, metavar="FILE",
        help="fail if a test is skipped for a need that FILE does not list "
             "(with CI=true: .ci/allowed_skips.txt)",
    )  # fmt: skip
    group.addoption(
        "--results-to", type=Path, metavar="FILE", help="write counts and skips as JSON, print no table"
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    marker = "needs(*names): what the machine must have; see tests/support/needs.py"
    config.addinivalue_line("markers", marker)
    path = config.getoption("--allowed-skips")
    if path is None and os.environ.get("CI", "").lower() in {"1", "true"}:
        path = ALLOWED
    config.stash[_ALLOWED] = None if path is None else read_allowed(path)


_ALLOWED = pytest.StashKey[dict[str, str] | None]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    needs.require(*(name for marker in item.iter_markers("needs") for name in marker.args))


def _skips(config: pytest.Config) -> Skips:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return skips_of(reporter.stats.get("skipped", [])) if reporter else {}


def _refused(config: pytest.Config) -> Skips:
    allowed = config.stash[_ALLOWED]
    return {} if allowed is None else refused(_skips(config), allowed)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if exitstatus == pytest.ExitCode.OK and _refused(config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if (path := config.getoption("--results-to")) and reporter:
        outcomes = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
        counts = {name: len(reporter.stats[name]) for name in outcomes if name in reporter.stats}
        path.write_text(json.dumps({"counts": counts, "skips": _skips(config)}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skips = _skips(config)
    if skips and not config.getoption("--results-to"):
        terminalreporter.section("tests that were skipped, by what they need")
        packages = needs.packages_of(name for name in skips if name in needs.NEEDS)
        terminalreporter.write_line("\n".join(table(skips, packages)))
    if found := _refused(config):
        terminalreporter.section("skips that are not allowed", red=True)
        for name, tests in found.items():
            terminalreporter.write_line(f"{name}: {len(tests)} tests, the first is {tests[0]}")
