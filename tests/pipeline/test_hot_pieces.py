"""From hot pieces to what the rules look at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.detect.finding import Evaluation, Finding
from pingmesh_tasks.detect.rules import DEFAULT_RULES
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.fleet.tailing import Contact, Roster
from pingmesh_tasks.pipeline.evaluate_hot import evaluation_times
from pingmesh_tasks.pipeline.hot_access import current_sessions, mark_gaps, recent_access
from pingmesh_tasks.pipeline.hot_batches import unique
from pingmesh_tasks.pipeline.hot_contacts import status_rows
from pingmesh_tasks.pipeline.hot_pairs import recent_pairs
from pingmesh_tasks.pipeline.rulebook import half_of
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.store.schemas import HOST_STATUS, LOG_STATUS, PAIR_LATENCY, SESSION
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer
from tests.support.segments import START_US, TABLE, segment

HOSTS = Inventory(tuple(Host(name, f"10.0.0.{i}") for i, name in enumerate(("db-1", "db-2", "db-3", "db-4"), 1)))
SINCE = datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(seconds=7)  # no window begins here
UNTIL = SINCE + timedelta(seconds=60)
LOG = LogServer("data1", "10.0.0.9", "/log", "UTC")
DAY = "Sat Nov 21 22:05:20 2026"


def us(seconds: float) -> int:
    """A time of the span, µs since the epoch."""
    return int((SINCE + timedelta(seconds=seconds)).timestamp() * 1e6)


def probes(host: str, at_s: float, rows: list, *, number: int = 0, offset_us: int | None = None) -> HotPiece:
    data = segment([rows], host=host, start_us=us(at_s) + (offset_us or 0))
    return HotPiece("probe", host, "20261121T220500Z", number, data, us(at_s + 10), offset_us)


def roster(*contacts: Contact, at_s: float = 50, not_followed: int = 0) -> HotPiece:
    return HotPiece("roster", "follow", "0123abcd", 0, Roster(contacts, not_followed).encode(), us(at_s))


def lines(*said: str, offset: int = 0, at_s: float = 20, stream: str = "1:7.0", **more: object) -> HotPiece:
    data = "".join(f"{line}\n" for line in said).encode()
    return HotPiece("access", "data1", stream, offset, data, us(at_s), **more)


GOOD, BAD = (0, 0, 200, 40_000, 0, 0), (1, 2, 0, 40_001, 1, 0)


@pytest.mark.parametrize(
    ("last_look_s", "looks_s"),
    [
        (None, [0]),
        (30, [0]),
        (60, [0]),
        (100, [90, 75, 60, 45, 30, 15, 0]),
        (86_400, list(range(300, -1, -15))),
    ],
)
def test_what_nobody_looked_at_is_looked_at_before_now(last_look_s, looks_s):
    last = None if last_look_s is None else UNTIL - timedelta(seconds=last_look_s)
    moments = evaluation_times(last, UNTIL, timedelta(seconds=60))
    assert [(UNTIL - moment).total_seconds() for moment in moments] == looks_s


def test_pairs_of_the_span_are_summed_over_chunks_and_hosts():
    pieces = [probes("db-1", 0, [GOOD, BAD]), probes("db-1", 10, [GOOD, BAD], number=1), probes("db-2", 5, [BAD])]
    pairs, _ = recent_pairs(pieces, HOSTS, SINCE, UNTIL)
    assert pairs.schema == PAIR_LATENCY
    assert pairs.select("src", "dst", "sent", "answered", "lost").rows() == [
        ("db-1", TABLE[0][0], 2, 2, 0),
        ("db-1", TABLE[2][0], 2, 0, 2),
        ("db-2", TABLE[2][0], 1, 0, 1),
    ]


def test_a_piece_that_came_twice_counts_once():
    piece = probes("db-1", 0, [GOOD, BAD])
    pairs, _ = recent_pairs([piece, piece], HOSTS, SINCE, UNTIL)
    assert pairs["sent"].sum() == 2


def test_probes_of_another_time_do_not_count_whatever_the_hosts_clock_says():
    hour_us = 3_600_000_000
    pieces = [
        probes("db-1", -30, [GOOD]),
        probes("db-2", 20, [GOOD], offset_us=hour_us),
        probes("db-3", -30, [GOOD], offset_us=hour_us),
    ]
    pairs, unheard = recent_pairs(pieces, HOSTS, SINCE, UNTIL)
    assert pairs["src"].to_list() == ["db-2"]
    assert {host.host for host in unheard} == {"db-1", "db-3", "db-4"}


def test_a_chunk_that_is_none_is_passed_over():
    bad = HotPiece("probe", "db-2", "20261121T220500Z", 0, b"PMS1 and garbage", us(10))
    pairs, _ = recent_pairs([bad, probes("db-1", 0, [GOOD])], HOSTS, SINCE, UNTIL)
    assert pairs["src"].to_list() == ["db-1"]


def test_nothing_at_all_is_no_pair_and_nobody_knows_why():
    pairs, unheard = recent_pairs([], HOSTS, SINCE, UNTIL)
    assert pairs.is_empty() and pairs.schema == PAIR_LATENCY
    assert [host.reason for host in unheard] == ["unknown"] * 4


def test_every_host_that_is_not_heard_of_has_its_reason_and_age():
    pieces = [
        roster(
            Contact("db-1", "host", us(-600), True, us(-40)),
            Contact("db-2", "host", us(-600), True, us(-5)),
            Contact("db-3", "host", us(55), True),
            at_s=56,
        ),
        HotPiece("lost_contact", "db-2", "host", 0, b"", us(58), detail="unreachable: 10.0.0.2 port 22: refused"),
    ]
    _, unheard = recent_pairs(pieces, HOSTS, SINCE, UNTIL)
    assert [(host.host, host.reason, host.age_s) for host in unheard] == [
        ("db-1", "silent", 100),
        ("db-2", "lost_contact", 2),
        ("db-3", "starting", 5),
        ("db-4", "not_tailed", None),
    ]
    rows = status_rows(unheard, UNTIL, {"db-1", "db-2", "db-3", "db-4"})
    assert rows.schema == HOST_STATUS
    assert rows.select("host", "stage", "outcome").rows() == [
        ("db-1", "follow", "no_segment"),
        ("db-2", "follow", "unreachable"),
        ("db-3", "follow", "no_data_yet"),
        ("db-4", "follow", "no_data_yet"),
    ]
    never_heard = status_rows(unheard, UNTIL, set())
    assert set(never_heard["outcome"]) == {"no_data_yet"}, "a fleet that is being set up is not missed"


def test_a_contact_that_came_back_is_no_longer_lost():
    lost = HotPiece("lost_contact", "db-1", "host", 0, b"", us(10), detail="timeout: …")
    back = roster(Contact("db-1", "host", us(30), True), at_s=40)
    _, unheard = recent_pairs([back, lost], HOSTS, SINCE, UNTIL)
    assert unheard[0].reason != "lost_contact"


def test_a_lost_contact_keeps_its_beginning_while_it_is_told_again():
    was = Contact("db-1", "host", us(5), False, us(0), "unreachable: gone")
    again = HotPiece("lost_contact", "db-1", "host", 0, b"", us(55), detail="unreachable: gone")
    _, unheard = recent_pairs([roster(was), again], HOSTS, SINCE, UNTIL)
    assert (unheard[0].reason, unheard[0].age_s) == ("lost_contact", 55)


def test_lines_become_tables_each_once_though_pieces_overlap():
    said = [f"{DAY} (pid 7) GetData called for tree=EAST, shot=1, node=\\EAST::P{n}" for n in range(4)]
    size = len(said[0]) + 1
    pieces = [
        lines(*said[:2], at_s=20),
        lines(*said[1:3], at_s=21, offset=size),  # of another follower, which began in the middle
        lines(*said[3:], at_s=22, offset=3 * size),
    ]
    found = recent_access(pieces, LOG, SINCE, UNTIL)
    assert found.operation["node_path"].to_list() == [f"\\EAST::P{n}" for n in range(4)]
    assert found.operation["server"].unique().to_list() == ["data1"]
    assert found.rejected.is_empty()


def test_files_that_follow_each_other_have_offsets_of_their_own():
    said = f"{DAY} (pid 7) OpenTree called for tree=EAST, shot=1, node=N/A"
    pieces = [
        lines(said, offset=5_000, at_s=20),
        lines(said, at_s=21, stream="1:7.1"),
        lines(said, at_s=22, stream="2:9.0"),
    ]
    assert len(recent_access(pieces, LOG, SINCE, UNTIL).operation) == 3


def test_what_was_passed_over_and_what_was_refused_is_told():
    pieces = [
        lines("no line of ours", skipped_bytes=4_711),
        HotPiece("errors", "data1", "1:8.0", 0, b"Access denied: mallory\nConnected: alice\n", us(30)),
        lines("of another server").__class__("access", "data2", "1:1.0", 0, b"x\n", us(30)),
    ]
    found = recent_access(pieces, LOG, SINCE, UNTIL)
    assert found.skipped_bytes == 4_711 and len(found.rejected) == 1
    assert found.errors.select("kind", "user").rows() == [("denied", "mallory"), ("connected", "alice")]


def test_a_look_that_passed_bytes_over_says_so_and_ends_nothing():
    pieces = [lines("no line of ours", skipped_bytes=4_711), lines("nor this", offset=9_000, at_s=21)]
    pieces += [HotPiece("errors", "data1", "1:8.0", 0, b"Connected: alice\n", us(30), skipped_bytes=289)]
    flood = Finding("user_rate", "user", "bob", "warning", 300, "/min", 100, SINCE, "Bob does 300 operations.")
    look = Evaluation("data1", "hot", UNTIL, frozenset({"user_rate"}), (flood,))
    seen = mark_gaps(look, recent_access(pieces, LOG, SINCE, UNTIL))
    told = "5,000 bytes of its logs grew too fast to be followed"
    assert seen.findings[0].detail == f"Bob does 300 operations. At least: {told} and are not counted."
    assert seen.unjudged == {("server", "data1"): told}
    open_one = advance(AlertState(), look, Policy(), UNTIL)
    for second in range(1, 6):
        later = replace(seen, at=UNTIL + timedelta(seconds=second), findings=())
        open_one = advance(open_one, later, Policy(), later.at)
    assert [incident.lead.finding.subject for incident in open_one.open] == ["bob"]
    assert mark_gaps(look, recent_access(pieces[1:2], LOG, SINCE, UNTIL)) is look


def test_a_pid_means_nobody_who_has_ended_or_been_silent_for_hours():
    now = datetime(2026, 11, 22, 8, tzinfo=UTC)
    rows = [
        {"user": "bob", "pid": 7, "last_time": now - timedelta(minutes=50), "ended_by": None},
        {"user": "eve", "pid": 8, "last_time": now - timedelta(hours=4), "ended_by": None},
        {"user": "tom", "pid": 9, "last_time": now - timedelta(seconds=5), "ended_by": "disconnect"},
    ]
    assert current_sessions(pl.DataFrame(rows, schema=SESSION), now)["user"].to_list() == ["bob"]


def test_lines_that_were_read_before_the_span_or_at_its_end_are_not_of_it():
    found = recent_access([lines("early", at_s=-1), lines("late", at_s=60)], LOG, SINCE, UNTIL)
    assert found.rejected.is_empty()
    assert recent_access([lines("first", at_s=0)], LOG, SINCE, UNTIL).rejected.height == 1


@pytest.mark.parametrize(
    ("contact", "up", "silent_s"),
    [
        (Contact("data1", "log", us(-600), True, us(-30)), True, 90),
        (Contact("data1", "log", us(-600), True), True, 660),
        (Contact("data1", "log", us(-90), False, us(-120), "unreachable: gone"), False, 150),
        (None, None, None),
    ],
)
def test_a_silent_log_is_told_from_a_lost_server(contact: Contact | None, up: bool | None, silent_s: float | None):
    found = recent_access([roster(contact)] if contact else [], LOG, SINCE, UNTIL)
    assert (found.up, found.silent_s) == (up, silent_s)


GONE = Contact("data1", "log", us(-90), False, us(-120), "unreachable: 10.0.0.9 port 22: refused")


def test_a_data_server_that_was_lost_is_a_row_of_its_status_that_says_why():
    found = recent_access([roster(GONE, Contact("db-1", "host", us(-600), True))], LOG, SINCE, UNTIL)
    assert found.status is not None and found.status.schema == LOG_STATUS
    assert found.status.select("server", "kind", "outcome", "detail").row(0) == (
        "data1",
        "access",
        "unreachable",
        "10.0.0.9 port 22: refused",
    )


@pytest.mark.parametrize(
    "contacts",
    [
        [replace(GONE, connected=True)],
        [replace(GONE, why="")],
        [GONE, Contact("db-1", "host", us(-60), False, None, "unreachable: no route")],
        [Contact("db-1", "host", us(-60), True)],
    ],
    ids=["it was not lost", "it has only just been looked for", "nobody else is in contact either", "unknown"],
)
def test_a_data_server_is_not_lost_where(contacts):
    assert recent_access([roster(*contacts)], LOG, SINCE, UNTIL).status is None


def test_lines_after_the_roster_end_a_silence():
    contact = Contact("data1", "log", us(-600), True, us(-30))
    found = recent_access([roster(contact, at_s=50), lines("x", at_s=55)], LOG, SINCE, UNTIL)
    assert found.silent_s == 5


def test_news_of_a_contact_are_kept_though_they_look_alike():
    news = [HotPiece("lost_contact", "db-1", "host", 0, b"", us(n), detail="x") for n in (1, 2)]
    assert unique([*news, *news]) == news


def test_half_of_a_rules_limit_is_notable():
    limits = half_of(DEFAULT_RULES)
    assert limits.same_read_of_pid * 2 == DEFAULT_RULES.limit("heavy_reads", "process_per_min")
    assert limits.denied * 2 == DEFAULT_RULES.limit("refused_clients", "user_per_min")


def test_a_limit_that_is_lower_for_one_user_only_is_notable_as_early():
    rules = load_rules("scopes: [{where: {user: guest}, rules: {heavy_reads: {process_per_min: 50}}}]", "r")
    assert half_of(rules).same_read_of_pid == 25


def test_the_lines_of_a_server_are_read_as_the_inventory_says():
    said = f"{DAY} (pid 7) GetData called for tree=EAST, shot=1, node=\\EAST::P1"
    server = replace(LOG, timezone="Asia/Shanghai", drop=("P1",))
    assert recent_access([lines(said)], server, SINCE, UNTIL).operation.is_empty()
    here = recent_access([lines(said)], LOG, SINCE, UNTIL).operation["link_time"].item()
    there = recent_access([lines(said)], replace(server, drop=()), SINCE, UNTIL).operation["link_time"].item()
    assert here - there == timedelta(hours=8)
