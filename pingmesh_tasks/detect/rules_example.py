"""The example of a rules file: every rule and limit of the catalogue at its default, as YAML.

python -m pingmesh_tasks.detect.rules_example > include/rules/rules.example.yaml
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from pingmesh_tasks.detect.catalogue import ACCESS_RULES, NETWORK_RULES, By, Rule

_HEAD = """\
# Rules of the alarm: every rule, and every limit at its default. Keep only what you change; what is left out stays as
# it is here. Name the file in PINGMESH_RULES. All faults in it are told at once, before anything is judged by it.
# Rates and shares are 0 … 1; units are written beside each limit.
# This file is made: python -m pingmesh_tasks.detect.rules_example > include/rules/rules.example.yaml

rules:
"""

_TAIL = """
# For parts of the mesh, users or data servers. `where` takes shell patterns on host, tor, podset, dc, server, user,
# client and node; all of them must fit; a pair is where either of its hosts is. The last entry that fits wins. A scope
# can only name what is known when a rule asks ("may differ by" above); one that could have no effect is a fault.
scopes:
  - where: {dc: dc-example, podset: dc-example/podset*}
    rules:
      latency_sla: {intra_dc_us: 9000}
      black_hole: off
  - where: {server: data-example, user: "shift-*"}
    rules:
      user_rate: off

# Nothing is said of what lies within a maintenance: not of it, and not of what it would excuse. What is still wrong
# after it is told then. A data server is also where the host of its address is.
maintenance:
  - where: {tor: dc-example/podset1/tor3}
    from: 2026-11-22T01:00:00Z
    until: 2026-11-22T05:00:00Z
    note: new firmware
  - where: {server: data-example}
    daily: "02:00-04:30"  # UTC; may pass midnight
"""


def example_rules() -> str:
    """Return the text of a rules file that changes nothing."""
    sections = (("the network", NETWORK_RULES), ("access logs", ACCESS_RULES))
    body = "\n".join(line for title, rules in sections for line in _section(title, rules))
    return _HEAD + body + "\n" + _TAIL


def _section(title: str, rules: tuple[Rule, ...]) -> Iterator[str]:
    yield f"  # ---- {title} ----"
    for rule in rules:
        yield ""
        yield from textwrap.wrap(rule.doc, 116, initial_indent="  # ", subsequent_indent="  # ")
        yield from textwrap.wrap(f"After: {rule.source}.", 116, initial_indent="  # ", subsequent_indent="  # ")
        yield f"  # May differ by {_kinds(rule.by)}."
        yield f"  {rule.name}:"
        yield f"    {'off: false':<32} # true: this rule does not look"
        for limit in rule.limits:
            by = f" (by {_kinds(limit.by)})" if limit.by else ""
            yield f"    {f'{limit.name}: {limit.default:.10g}':<32} # {limit.unit}: {limit.doc}{by}"
    yield ""


def _kinds(by: By) -> str:
    return " or by ".join(", ".join(known) for known in by)


if __name__ == "__main__":
    sys.stdout.write(example_rules())
