import itertools
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.access.errors_log import parse_errors_log
from pingmesh_tasks.access.grammar import REJECTED, parse_access_log
from pingmesh_tasks.access.sessions import pair_sessions
from pingmesh_tasks.access.usage import MEASURES, NO_NODE, merge_usage, online_over_time, summarize_usage
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.schemas import CLIENT, OPERATION, USAGE, check_schema
from pingmesh_tasks.windows import Window
from tests.support.access_frames import SERVER, WINDOW, Log, errors
from tests.support.samples import log_sample

HOUR = Window(datetime(2026, 11, 21, 22, tzinfo=UTC), 3_600)


def country_of(addresses):
    return [{"10.0.0.1": "CN", "10.0.0.2": "DE"}.get(address, "unknown") for address in addresses]


def rejected(*reasons):
    rows = [
        {"server": SERVER, "offset": n, "reason": reason, "length": 3, "line": "x"} for n, reason in enumerate(reasons)
    ]
    return pl.DataFrame(rows, schema=REJECTED)


def summarize(log, *, carried=None, window=WINDOW, reasons=(), error_lines=None, **options):
    client, operation = log.frames()
    sessions = pair_sessions(client, carried, window, operation=operation, errors=error_lines)
    usage = summarize_usage(
        window,
        client,
        operation,
        sessions.table,
        rejected(*reasons),
        country_of,
        server=SERVER,
        errors=error_lines,
        **options,
    )
    check_schema("usage", usage)
    return usage


def figures(usage, measure, dimension="all"):
    rows = usage.filter(pl.col("measure") == measure, pl.col("dimension") == dimension)
    return dict(rows.select("key", "value").rows())


def figure(usage, measure):
    return figures(usage, measure)[None]


def a_morning():
    log = Log()
    log.on("alice", 0, pid=500, socket=0, address="10.0.0.1", host="pc1")
    log.op(1, pid=500, hook_type="OpenTree", node=None)
    log.op(2, pid=500)
    log.on("bob", 3, pid=501, socket=0, address="10.0.0.2", host="pc2")
    log.op(4, pid=501, tree="WEST", shot=-1, node=r"\WEST::NE")
    log.on("alice", 10, pid=502, socket=0, address="10.0.0.2", host="pc2")
    log.op(200, pid=502, hook_type="PutData")
    log.op(201, pid=999)  # of a process whose connection line is not there
    return log


def test_connects_and_operations_are_counted_by_all_that_is_known_of_them():
    usage = summarize(a_morning())
    assert figures(usage, "connects", "user") == {"alice": 2, "bob": 1}
    assert figures(usage, "connects", "host") == {"pc2": 2, "pc1": 1}
    assert figures(usage, "connects", "country") == {"DE": 2, "CN": 1}
    assert figures(usage, "operations", "hook_type") == {"GetData": 3, "OpenTree": 1, "PutData": 1}
    assert figures(usage, "operations", "tree") == {"EAST": 4, "WEST": 1}
    assert figures(usage, "operations", "shot") == {"138000": 4, "-1": 1}
    assert figures(usage, "operations", "node") == {r"\EAST::IP": 3, r"\WEST::NE": 1, NO_NODE: 1}
    assert figures(usage, "operations", "user") == {"alice": 3, "bob": 1}
    assert figures(usage, "operations", "host") == {"pc1": 2, "pc2": 2}
    assert figures(usage, "operations", "country") == {"CN": 2, "DE": 2}
    assert (figure(usage, "operations"), figure(usage, "operations_untied")) == (5, 1)


def test_lines_that_are_neither_and_what_the_errors_log_says_are_counted():
    log = Log()
    log.on("bob", 1)
    log.off("eve", 2, socket=9)
    said = errors(("denied", "bob"), ("denied", "mallory"), ("bad_header", ""), ("connected", "alice"))
    usage = summarize(log, reasons=["partial", "stray_text", "partial"], error_lines=said)
    assert figures(usage, "rejected", "reason") == {"partial": 2, "stray_text": 1}
    assert figures(usage, "refused", "user") == {"bob": 1, "mallory": 1}
    assert (figure(usage, "refused"), figure(usage, "bad_headers")) == (2, 1)
    assert (figure(usage, "disconnects"), figure(usage, "disconnects_unpaired")) == (1, 1)
    assert figures(usage, "sessions_ended", "ended_by") == {"refusal": 1}
    assert figure(usage, "sessions_online") == 0


def test_without_an_errors_log_nothing_is_claimed_of_it():
    usage = summarize(Log())
    assert set(MEASURES) - set(usage["measure"]) == {"refused", "bad_headers"}


def test_a_silent_window_says_zero_for_everything():
    usage = summarize(Log(), error_lines=errors())
    assert set(usage["measure"]) == set(MEASURES)
    assert set(usage["value"]) == {0}
    assert set(usage["dimension"]) == {"all"}


def test_who_is_online_at_the_end_and_for_how_long():
    log = Log()
    log.on("alice", 10, socket=4, address="10.0.0.1")
    log.on("alice", 20, socket=5, address="10.0.0.1")
    log.on("bob", 40, socket=6, address="10.0.0.2")
    log.on("carol", 50, socket=7, address="10.0.0.2")
    log.off("carol", 60, socket=7, address="10.0.0.2")
    usage = summarize(log)
    assert (figure(usage, "sessions_online"), figure(usage, "users_online")) == (3, 2)
    assert figures(usage, "users_online", "country") == {"CN": 1, "DE": 1}
    assert figures(usage, "longest_online_s", "user") == {"alice": 290, "bob": 260}
    assert figure(usage, "longest_online_s") == 290


def test_a_carried_session_is_online_in_every_window_until_it_ends():
    log = Log()
    log.on("alice", 10)
    client, operation = log.frames()
    carried = pair_sessions(client, None, WINDOW, operation=operation).table
    usage = summarize(Log(), carried=carried, window=WINDOW.shifted(2))
    assert (figure(usage, "users_online"), figure(usage, "users_online_peak")) == (1, 1)
    assert (figure(usage, "longest_online_s"), figure(usage, "connects")) == (890, 0)


def test_a_session_of_its_own_process_is_online_while_it_speaks():
    usage = summarize(a_morning())
    assert (figure(usage, "sessions_online"), figure(usage, "users_online")) == (3, 2)
    assert figures(usage, "longest_online_s", "user") == {"alice": 190, "bob": 1}
    client, operation = a_morning().frames()
    carried = pair_sessions(client, None, WINDOW, operation=operation).table
    later = summarize(Log(), carried=carried, window=WINDOW.shifted(1))
    assert figure(later, "sessions_online") == 0  # silent for 400 s and more, though still carried
    assert figure(later, "sessions_online_peak") == 0


def test_the_peak_is_of_sessions_and_of_users_at_one_moment():
    log = Log()
    for socket, (user, begin, end) in enumerate(
        [("a", 0, 10), ("a", 5, 20), ("b", 10, 30), ("c", 30, 40), ("c", 32, 34)]
    ):
        log.on(user, begin, socket=socket + 4)
        log.off(user, end, socket=socket + 4)
    usage = summarize(log)
    assert (figure(usage, "sessions_online_peak"), figure(usage, "users_online_peak")) == (2, 2)


def test_a_refused_client_was_never_online():
    log = Log()
    log.on("banned", 10)
    usage = summarize(log, error_lines=errors(("denied", "banned")))
    assert (figure(usage, "sessions_online_peak"), figure(usage, "users_online_peak")) == (0, 0)


def test_a_crowd_of_an_earlier_window_is_no_peak_of_this_one():
    log = Log()
    for number in range(5):
        log.on(f"u{number}", 10, pid=500 + number, socket=0)
        log.op(number * 100, pid=500 + number)
    client, operation = log.frames()
    carried = pair_sessions(client, None, WINDOW, operation=operation).table
    log = Log()
    log.op(305, pid=500)
    usage = summarize(log, carried=carried, window=WINDOW.shifted(1))
    assert figure(usage, "sessions_online_peak") == 2  # u0, who has spoken again, and u4, whose last line was at 400 s


def test_lines_that_were_collected_after_the_windows_end_are_online_no_negative_time():
    log = Log()
    log.on("alice", 400)
    usage = summarize(log)
    assert (figure(usage, "users_online"), figure(usage, "users_online_peak")) == (1, 1)
    assert figure(usage, "longest_online_s") == 0


def test_sessions_shorter_than_a_second_one_after_another_are_no_crowd():
    log = Log()
    for number in range(30):
        log.on(f"u{number}", 7)
        log.off(f"u{number}", 7)
    log.on("alice", 0, socket=9)
    usage = summarize(log)
    assert (figure(usage, "sessions_online_peak"), figure(usage, "users_online_peak")) == (2, 2)


@pytest.mark.parametrize("seed", range(20))
def test_the_peaks_are_those_of_counting_second_by_second(seed):
    rng = random.Random(seed)
    log, spans = Log(), []
    for number in range(25):
        begin = rng.randrange(280)
        end = begin + rng.choice([0, 0, 1, 5, 40])
        spans.append((rng.choice("abcd"), begin, end))
        log.on(spans[-1][0], begin, socket=number + 4)
        log.off(spans[-1][0], end, socket=number + 4)
    usage = summarize(log)
    sessions = users = 0
    for second in range(330):
        there = [user for user, begin, end in spans if begin <= second < end]
        flash = {user for user, begin, end in spans if begin == end == second}
        sessions = max(sessions, len(there) + bool(flash))
        beyond = {u for u in flash if not any(v == u and b <= second <= e and b < e for v, b, e in spans)}
        users = max(users, len(set(there)) + bool(beyond))
    assert (figure(usage, "sessions_online_peak"), figure(usage, "users_online_peak")) == (sessions, users)


def test_a_moment_at_the_very_start_counts():
    log = Log()
    log.on("alice", 0)
    log.off("alice", 0)
    assert figure(summarize(log), "users_online_peak") == 1


def test_who_was_online_in_each_step_of_a_window():
    log = Log()
    log.on("alice", 10, socket=4)
    log.on("alice", 70, socket=5)
    log.off("alice", 80, socket=5)
    log.on("bob", 130, pid=500, socket=0)
    log.op(200, pid=500)
    log.on("banned", 290, socket=6)
    client, operation = log.frames()
    sessions = pair_sessions(client, None, WINDOW, operation=operation, errors=errors(("denied", "banned"))).table
    steps = online_over_time(sessions, WINDOW, steps=5)
    assert steps["at"].to_list() == [WINDOW.start + timedelta(minutes=minute) for minute in range(5)]
    assert steps["sessions"].to_list() == [1, 2, 2, 2, 1]
    assert steps["users"].to_list() == [1, 1, 2, 2, 1]


def a_crowd(users=250, seed=1):
    rng = random.Random(seed)
    log = Log()
    for number in range(users):
        log.on(f"u{number}", number / 10, pid=1_000 + number, socket=0, address=f"10.0.{number % 7}.1")
        for _ in range(rng.randrange(4)):
            log.op(100, pid=1_000 + number, node=rf"\EAST::N{rng.randrange(300)}", shot=rng.randrange(200))
    return log


def sums_hold(usage):
    for measure in ("connects", "operations", "rejected", "sessions_ended"):
        total = figure(usage, measure)
        for dimension in usage.filter(pl.col("measure") == measure)["dimension"].unique():
            untied = figure(usage, "operations_untied") if measure == "operations" else 0
            missing = untied if dimension in {"user", "host", "country"} else 0
            assert sum(figures(usage, measure, dimension).values()) + missing == total, (measure, dimension)


def test_a_table_is_bounded_and_its_sums_stay_true():
    for top in (3, 10, 1_000):
        usage = summarize(a_crowd(), top=top, reasons=["partial"] * 3)
        sums_hold(usage)
        assert all(len(group) <= top + 1 for _, group in usage.group_by("measure", "dimension"))
    assert len(figures(usage, "connects", "user")) == 250
    assert None not in figures(usage, "connects", "user")


def test_the_keys_that_are_kept_are_the_greatest_and_ties_go_by_name():
    log = Log()
    for number, user in enumerate(["d", "b", "c", "a", "c"]):
        log.on(user, number, socket=number + 4)
    assert figures(summarize(log, top=2), "connects", "user") == {"c": 2, "a": 1, None: 2}


def test_a_name_cannot_pass_for_the_rest_or_for_another_row():
    log = Log()
    names = ["", "None", "null", "other", "all", "<script>", r"\x1b[31m", "u" * 256]
    for number, user in enumerate(names):
        log.on(user, number, socket=number + 4)
    usage = summarize(log)
    assert figures(usage, "connects", "user") == dict.fromkeys(names, 1)


def windows_of_usage(seed, count=6, top=100):
    rng = random.Random(seed)
    carried, parts = None, []
    for number in range(count):
        log = Log()
        for line in range(60):
            at_s = 300 * number + 5 * line
            if rng.random() < 0.3:
                log.on(
                    f"u{rng.randrange(20)}",
                    at_s,
                    pid=rng.randrange(500, 530),
                    socket=0,
                    address=f"10.0.0.{rng.randrange(4)}",
                )
            else:
                log.op(at_s, pid=rng.randrange(500, 535), node=rf"\EAST::N{rng.randrange(30)}")
        window = HOUR_WINDOWS[number]
        client, operation = log.frames()
        sessions = pair_sessions(client, carried, window, operation=operation)
        carried = sessions.table
        parts.append(
            summarize_usage(window, client, operation, carried, rejected("empty"), country_of, server=SERVER, top=top)
        )
    return pl.concat(parts)


HOUR_WINDOWS = [Window(HOUR.start + timedelta(seconds=300 * number), 300) for number in range(12)]


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_is_the_sum_of_its_windows_where_sums_are_true(seed):
    parts = windows_of_usage(seed)
    hour = merge_usage(parts, HOUR)
    check_schema("usage", hour)
    assert set(hour["window"]) == {HOUR.start}
    sums_hold(hour)
    want = Counter()
    for row in parts.iter_rows(named=True):
        key = (row["measure"], row["dimension"], row["key"])
        how = MEASURES[row["measure"]]
        if how == "sum":
            want[key] += row["value"]
        elif how == "max":
            want[key] = max(want[key], row["value"])
        elif row["window"] == parts["window"].max():
            want[key] = row["value"]
    assert dict(want) == {(m, d, k): v for m, d, k, v in hour.select("measure", "dimension", "key", "value").rows()}


@pytest.mark.parametrize("seed", range(5))
def test_windows_that_carry_and_merge_say_what_one_long_window_says(seed):
    log, rng = a_crowd(120, seed), random.Random(seed)
    cuts = [0, *sorted(rng.randrange(len(log.lines)) for _ in range(4)), len(log.lines)]
    carried, parts = None, []
    for window, (first, last) in zip(HOUR_WINDOWS, itertools.pairwise(cuts), strict=False):
        client, operation = log.frames(first, last)
        carried = pair_sessions(client, carried, window, operation=operation).table
        usage = summarize_usage(window, client, operation, carried, rejected(), country_of, server=SERVER, top=999)
        parts.append(usage)
    merged = merge_usage(pl.concat(parts), HOUR, top=999)
    whole = summarize(log, window=HOUR, top=999)
    sums = pl.col("measure").is_in([measure for measure, how in MEASURES.items() if how == "sum"])
    assert merged.filter(sums).equals(whole.filter(sums))


def test_merging_merged_rows_is_merging_once():
    parts = windows_of_usage(9)
    cut = parts["window"].unique().sort()[3]
    halves = [
        merge_usage(parts.filter(pl.col("window") < cut), Window(HOUR.start, 900)),
        merge_usage(parts.filter(pl.col("window") >= cut), Window(HOUR.start + timedelta(seconds=900), 900)),
    ]
    assert merge_usage(pl.concat(halves), HOUR).equals(merge_usage(parts, HOUR))


def test_merged_rows_are_bounded_and_a_total_is_never_lost():
    parts = windows_of_usage(4, top=5)
    hour = merge_usage(parts, HOUR, top=5)
    sums_hold(hour)
    assert all(len(group) <= 6 for _, group in hour.group_by("measure", "dimension"))
    whole = merge_usage(windows_of_usage(4), HOUR)
    for measure in ("connects", "operations"):
        assert figure(hour, measure) == figure(whole, measure)


def test_what_is_online_in_an_hour_is_what_is_online_at_its_end():
    log = Log()
    log.on("alice", -300)
    client, operation = log.frames()
    early = summarize(log, window=WINDOW.shifted(-1))
    sessions = pair_sessions(client, None, WINDOW.shifted(-1), operation=operation).table
    leave = Log()
    leave.off("alice", 10)
    late = summarize(leave, carried=sessions)
    hour = merge_usage(pl.concat([early, late]), HOUR)
    assert (figure(hour, "users_online"), figures(hour, "users_online", "country")) == (0, {})
    assert (figure(hour, "users_online_peak"), figure(hour, "longest_online_s")) == (1, 300)


def test_servers_are_merged_apart():
    parts = windows_of_usage(2)
    both = pl.concat([parts, parts.with_columns(server=pl.lit("west"))])
    hour = merge_usage(both, HOUR)
    for server in (SERVER, "west"):
        one = hour.filter(pl.col("server") == server).drop("server")
        assert one.equals(merge_usage(parts, HOUR).drop("server"))


def test_rows_of_another_hour_are_refused():
    with pytest.raises(StoreError, match="20261121T220000Z"):
        merge_usage(windows_of_usage(1).with_columns(window=pl.col("window") + timedelta(hours=1)), HOUR)
    assert merge_usage(USAGE.to_frame(), HOUR).is_empty()


# Counted in the logs: `grep -ac 'Connection received'`, `grep -ac ' called for tree='`, `grep -ac 'for tree=EAST,'` and
# so on, `grep -ac ') GetNci called'`, `grep -ac 'Connection received from alice@'`.
# The peaks of access-inetd-200x20 by an awk script over each pid's first and last second.
def test_the_usage_of_real_logs_is_what_grep_says():
    path, error_log = log_sample("access-multi.log"), log_sample("errors-multi.log")
    tables = parse_access_log(path, server=SERVER, timezone="UTC")
    said = parse_errors_log(error_log, server=SERVER, window=HOUR, collected_from=None, collected_until=HOUR.end).table
    sessions = pair_sessions(tables.client, None, HOUR, operation=tables.operation, errors=said).table
    usage = summarize_usage(
        HOUR, tables.client, tables.operation, sessions, tables.rejected, country_of, server=SERVER, errors=said
    )
    assert [figure(usage, m) for m in ("connects", "disconnects", "disconnects_unpaired")] == [97, 93, 0]
    assert [figure(usage, m) for m in ("operations", "operations_untied", "rejected")] == [1_385, 1_385, 1]
    assert [figure(usage, m) for m in ("refused", "bad_headers", "sessions_online")] == [1, 6, 2]
    assert figures(usage, "connects", "user")["alice"] == 14
    assert figures(usage, "operations", "tree") == {"PCS_EAST": 679, "EAST": 659, "SUB1": 47}
    assert figures(usage, "operations", "hook_type")["GetNci"] == 642
    assert figures(usage, "rejected", "reason") == {"stray_text": 1}
    sums_hold(usage)


def test_two_hundred_real_sessions_at_once():
    tables = parse_access_log(log_sample("access-inetd-200x20.log"), server=SERVER, timezone="UTC")
    sessions = pair_sessions(tables.client, None, HOUR, operation=tables.operation).table
    usage = summarize_usage(HOUR, tables.client, tables.operation, sessions, tables.rejected, country_of, server=SERVER)
    assert (figure(usage, "connects"), figure(usage, "operations"), figure(usage, "operations_untied")) == (
        200,
        7_511,
        0,
    )
    assert (figure(usage, "sessions_online_peak"), figure(usage, "users_online_peak")) == (120, 12)
    sums_hold(usage)


def a_million_lines():
    rng = np.random.default_rng(1)
    lines = 1_000_000
    is_client = rng.random(lines) < 0.05
    at_us = np.arange(lines) * (299_000_000 // lines) // 1_000_000 * 1_000_000
    start_us = int(WINDOW.start.timestamp()) * 1_000_000
    every = pl.DataFrame(
        {
            "link_time": pl.Series(start_us + at_us).cast(CLIENT["link_time"]),
            "pid": rng.integers(300, 32_768, lines),
            "offset": np.arange(lines) * 100,
        }
    ).with_columns(server=pl.lit(SERVER), socket=pl.lit(0))
    user = rng.integers(0, 1_000, int(is_client.sum()))
    client = every.filter(is_client).with_columns(
        pl.lit("ON").alias("status"),
        user=pl.format("u{}", pl.Series(user)),
        host=pl.lit("pc"),
        address=pl.format("10.0.{}.{}", pl.Series(user // 256), pl.Series(user % 256)),
    )
    count = lines - len(client)
    operation = every.filter(~is_client).with_columns(
        pl.lit("GetData").alias("hook_type"),
        pl.lit("EAST").alias("tree"),
        pl.Series("shot", rng.integers(0, 3_000, count)),
        node_path=pl.format(r"\EAST::TOP:N{}", pl.Series(rng.integers(0, 50_000, count))),
        node_id=None,
        thread=None,
        client_address=None,
    )
    return client.select(CLIENT.names()).cast(CLIENT), operation.select(OPERATION.names()).cast(OPERATION)


def test_a_million_lines_take_seconds_of_one_core():
    client, operation = a_million_lines()
    began = time.process_time()
    sessions = pair_sessions(client, None, WINDOW, operation=operation)
    usage = summarize_usage(WINDOW, client, operation, sessions.table, REJECTED.to_frame(), country_of, server=SERVER)
    spent_s = time.process_time() - began
    assert len(sessions.table) == len(client)
    sums_hold(usage)
    assert len(usage) < 1_000
    assert spent_s < 4  # 0.8 s where it was written
