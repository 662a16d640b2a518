"""What an agent's answer to `trace` is taken for: hosts may send anything."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pingmesh_tasks.fleet.connect import Answer
from pingmesh_tasks.fleet.trace import parse_trace
from pingmesh_tasks.fleet.trace_paths import Hop, PathTrace

WAY = PathTrace("host01", "host02", "tcp", 8765)
GOOD: dict[str, Any] = {
    "agent_version": "0123456789abcdef", "target": "10.0.0.2", "packets": 3, "took_ms": 12, "complete": True,
    "reason": None,
    "paths": [
        {"port": 40000, "reached": True, "directly": None,
         "hops": [[1, "10.252.1.1", 80, "hop", 1, 1], [2, None, None, "silent", 2, 0],
                  [3, "10.0.0.2", 95, "open", 1, 1]]},
        {"port": 40001, "reached": False, "directly": [None, None, "silent", 1, 0],
         "hops": [[1, "fe80::1", 80, "icmp 3/13", 1, 1]]},
    ],
}  # fmt: skip


def answer(stdout: bytes | str, exit_status: int = 0, stderr: str = "") -> Answer:
    return Answer(exit_status, stdout.encode() if isinstance(stdout, str) else stdout, stderr, 0)


def test_a_good_answer_becomes_paths_with_hops():
    trace = parse_trace(answer(json.dumps(GOOD)), WAY)
    assert (trace.reason, trace.complete, trace.took_ms) == (None, True, 12)
    good, refused = trace.paths
    assert (good.source_port, good.reached, good.directly) == (40000, True, None)
    assert good.hops[1] == Hop(2, None, None, "silent", 2, 0)
    assert good.hops[-1] == Hop(3, "10.0.0.2", 95, "open", 1, 1)
    assert not refused.reached
    assert refused.hops[0].what == "icmp 3/13"


def test_whether_the_target_was_reached_is_read_from_the_hops_not_believed():
    said = json.loads(json.dumps(GOOD))
    said["paths"][1]["reached"] = True
    assert [path.reached for path in parse_trace(answer(json.dumps(said)), WAY).paths] == [True, False]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("paths",), None),
        (("paths",), [GOOD["paths"][0]] * 65),
        (("took_ms",), -1),
        (("paths", 0), 7),
        (("paths", 0, "port"), 65_536),
        (("paths", 0, "port"), True),
        (("paths", 0, "hops"), "hops"),
        (("paths", 0, "hops"), [[1, "10.252.1.1", 80, "hop", 1, 1]] * 65),
        (("paths", 0, "hops", 0), [1, "10.252.1.1"]),
        (("paths", 0, "hops", 0, 0), 2),
        (("paths", 0, "hops", 0, 1), "<script>alert(1)</script>"),
        (("paths", 0, "hops", 0, 1), 167_772_161),
        (("paths", 0, "hops", 0, 1), None),
        (("paths", 0, "hops", 0, 2), 1e999),
        (("paths", 0, "hops", 0, 3), "hop\n<!channel>"),
        (("paths", 0, "hops", 0, 5), 2),
        (("paths", 0, "hops", 1, 1), "10.0.0.1"),
        (("paths", 0, "directly"), [1]),
    ],
)
def test_an_answer_that_cannot_be_is_refused_whole_with_a_reason(place, value):
    said = json.loads(json.dumps(GOOD))
    into = said
    for step in place[:-1]:
        into = into[step]
    into[place[-1]] = value
    trace = parse_trace(answer(json.dumps(said)), WAY)
    assert trace.paths == ()
    assert "host01 answered with something that is no trace" in (trace.reason or "")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (answer("", 2, "usage: python3 -I -S agent.py run ..."), "is of a release that cannot trace"),
        (answer("", 8), "no agent is installed on host01"),
        (answer("", 9), "has no Python 3.8"),
        (answer("", 1, "trace: port 0 is not 1 ... 65535"), "did not trace: trace: port 0"),
        (answer("", -1), "exit -1 without a word"),
        (answer("", 1, "\x1b[31m" + "x" * 5000), "did not trace: \\u001b[31m"),
    ],
)
def test_why_there_is_no_trace_is_said_in_one_line(told, reason):
    trace = parse_trace(told, WAY)
    assert reason in (trace.reason or "")
    assert len(trace.reason or "") <= 300 and (trace.reason or "").isprintable()


def test_why_a_kernel_does_not_trace_is_passed_on():
    said = GOOD | {"paths": [], "reason": "this kernel does not trace for users: Protocol not available"}
    trace = parse_trace(answer(json.dumps(said)), WAY)
    assert trace.reason == "host01: this kernel does not trace for users: Protocol not available"


def test_no_bytes_bring_it_down():
    chance = random.Random(7)
    whole = json.dumps(GOOD).encode()
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        trace = parse_trace(answer(bytes(data[: chance.randrange(len(data) + 1)])), WAY)
        assert trace.paths == () or trace.reason is None
