"""What a finding about a data server states is what its lines say: rates, shares, counts, names, limits."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from pingmesh_tasks.access.sessions import pair_sessions
from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access
from pingmesh_tasks.detect.finding import Finding
from pingmesh_tasks.detect.rules import DEFAULT_RULES
from pingmesh_tasks.detect.rules_file import load_rules
from tests.support.access_frames import SERVER, WINDOW, Log, errors


def in_window(log: Log, rules: str = "", **more) -> tuple[Finding, ...]:
    client, operation = log.frames()
    session = pair_sessions(client, None, WINDOW, operation=operation).table
    view = AccessView(SERVER, WINDOW.end, 300, "window", client, operation, session=session, **more)
    return evaluate_access(view, load_rules(rules, "r") if rules else DEFAULT_RULES).findings


def one_of(log: Log, rules: str = "", **more) -> Finding:
    (finding,) = in_window(log, rules, **more)
    return finding


def reader(reads: int, *, user: str = "bob", address: str = "10.0.0.1", begin_s: float = 0.0) -> Log:
    """One process that reads one node of one shot, 20 times a second."""
    log = Log()
    log.on(user, begin_s, pid=500, socket=0, address=address)
    for number in range(reads):
        log.op(begin_s + number / 20, pid=500)
    return log


@pytest.mark.parametrize(("reads", "is_found"), [(199, False), (200, True)])
def test_the_limit_of_reads_is_reached_by_as_many_as_it_says(reads, is_found):
    assert bool(in_window(reader(reads))) is is_found


def test_reads_are_told_as_a_rate_with_their_share_of_all_reads():
    log = reader(300)
    for number in range(100):
        log.op(number / 10, pid=900, node=rf"\EAST::OTHER{number}", hook_type="GetData")
    finding = one_of(log)
    assert finding.detail == (
        r"EAST/\EAST::IP is read at a rate of 300 a minute by bob from 10.0.0.1, 75% of all reads"
    )
    assert (finding.value, finding.threshold, finding.unit) == (300, 200, "reads/min")
    assert (finding.affected, finding.since) == (300, WINDOW.start)
    assert finding.evidence == (
        {
            "tree": "EAST", "shot": 138_000, "node_path": r"\EAST::IP", "user": "bob", "client": "10.0.0.1",
            "pid": 500, "per_min": 300, "limit": 200,
        },
    )  # fmt: skip


def test_a_finding_begins_with_the_first_of_its_lines_and_is_of_its_busiest_minute():
    log = reader(260, begin_s=61.0)
    for number in range(400):
        log.op(121 + number / 20, pid=500)
    finding = one_of(log)
    assert finding.value == 400
    assert finding.since in (WINDOW.start + timedelta(seconds=61), WINDOW.start + timedelta(seconds=121))


@pytest.mark.parametrize(("reads", "severity"), [(599, "warning"), (600, "critical")])
def test_three_times_the_limit_is_critical(reads, severity):
    rules = "{rules: {heavy_reads: {user_per_min: 100000}}}"
    assert one_of(reader(reads), rules).severity == severity


def test_operations_of_a_user_are_told_with_his_clients_and_his_busiest_nodes():
    log = Log()
    for number, address in enumerate(("10.0.0.2", "10.0.0.1")):
        log.on("bob", pid=500 + number, socket=0, address=address)
    for number in range(6_100):
        log.op(number / 120, pid=500 + number % 2, hook_type="GetNci", node=rf"\EAST::N{number % 7}")
    finding = one_of(log)
    assert finding.detail == "bob (10.0.0.1, 10.0.0.2) does 6,100 operations a minute"
    assert [row["per_min"] for row in finding.evidence] == [872, 872, 872, 871, 871]
    assert (finding.rule, finding.value, finding.threshold) == ("user_rate", 6_100, 6_000)


@pytest.mark.parametrize(("connections", "is_found"), [(239, False), (240, True)])
def test_connections_of_a_user_are_counted_by_the_minute(connections, is_found):
    log = Log()
    for number in range(connections):
        log.on("bob", number / 5, pid=500 + number, socket=0, address=f"10.0.{number % 9}.1")
    found = in_window(log)
    assert bool(found) is is_found
    if found:
        (finding,) = found
        assert finding.detail == (
            "bob connects 240 times a minute from 10.0.0.1, 10.0.1.1, 10.0.2.1, 10.0.3.1, 10.0.4.1 and 4 more"
        )


def test_refusals_of_one_name_are_told_by_the_minute_of_the_window():
    finding = one_of(Log(), server_error=errors(*[("denied", "banned")] * 30))
    assert (finding.value, finding.threshold, finding.unit) == (6.0, 6.0, "refusals/min")
    assert finding.detail == "banned was refused 30 times" and finding.affected == 30
    assert finding.since == WINDOW.start


def test_refusals_under_the_limit_of_a_name_count_for_the_server():
    lines = errors(*[("denied", f"guess{number % 100}") for number in range(300)])
    finding = one_of(Log(), server_error=lines)
    assert (finding.scope, finding.value, finding.threshold) == ("server", 60.0, 60.0)
    assert finding.detail == "300 logins of 100 names were refused"
    assert finding.evidence[0] == {"user": "guess0", "refused": 3} and len(finding.evidence) == 5


@pytest.mark.parametrize("refusals", [299, 29])
def test_fewer_refusals_than_the_limits_are_no_finding(refusals):
    names = 100 if refusals == 299 else 1
    lines = errors(*[("denied", f"guess{number % names}") for number in range(refusals)])
    assert in_window(Log(), server_error=lines) == ()


def test_rejected_lines_are_summed_over_the_rows_of_a_reason():
    rejected = pl.DataFrame({"reason": ["glued", "partial", "glued", "glued"], "count": [500, 200, 700, 300]})
    finding = one_of(Log(), rejected=rejected)
    assert finding.evidence == (
        {"reason": "glued", "lines": 1_500},
        {"reason": "partial", "lines": 200},
    )
    assert (finding.value, finding.affected) == (340.0, 1_700)
    assert "1,700 of 1,700 lines" in finding.detail and "1,500 glued, 200 partial" in finding.detail


@pytest.mark.parametrize(("rejected", "is_found"), [(1_499, False), (1_500, True)])
def test_rejected_lines_are_judged_by_the_minute(rejected, is_found):
    lines = pl.DataFrame({"reason": ["glued"], "count": [rejected]})
    assert bool(in_window(Log(), rejected=lines)) is is_found


def test_sessions_open_at_once_count_an_end_and_a_beginning_of_one_moment_as_both_open():
    log = Log()
    for number in range(199):
        log.on("bob", number / 10, socket=4 + number, address=f"10.0.{number}.1")
    log.on("bob", 100, socket=400, address="10.1.0.1")
    log.off("bob", 200, socket=400, address="10.1.0.1")
    log.on("bob", 200, socket=401, address="10.1.0.2")
    finding = one_of(log)
    assert (finding.value, finding.unit) == (201, "sessions")
    assert finding.detail == "bob has 201 sessions open at once"
