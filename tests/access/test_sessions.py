import itertools
import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pingmesh_tasks.access.errors_log import parse_errors_log
from pingmesh_tasks.access.grammar import parse_access_log
from pingmesh_tasks.access.sessions import SessionPolicy, pair_sessions
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.schemas import SESSION, check_schema
from pingmesh_tasks.windows import Window
from tests.support.access_frames import WINDOW, Log, errors
from tests.support.samples import log_names, log_sample


def pair(log, carried=None, window=WINDOW, **options):
    client, operation = log.frames()
    found = pair_sessions(client, carried, window, operation=operation, **options)
    check_schema("session", found.table)
    return found


def rows(found, *columns):
    return found.table.select(columns).rows()


def seconds(found):
    return [None if us is None else us / 1e6 for us in found.table["duration_us"]]


# Real logs. Sessions: `grep -ac 'Connection received'`; ended by disconnect: `grep -ac 'Connection disconnected'`, but
# every one of them, by an awk script that holds (pid, socket), names the user that holds the socket. What else ended
# was found by eye. `tied` of operations: every hook line in the modes with a process per connection.
# -m and -s: `admin` (a forged line in mallory's name, twice) is replaced by its second self on socket 9, `banned` was
# refused, and at the end were connected: the forged admin, and 1 (-m: `last`) or 4 (-s) that SIGTERM cut off.
# inetd: no disconnect line at all; of 41, one is forged and one was refused.
# stress: 116 of 200 have no disconnect line, as its maker says. noflush: 7 of 200 "received" lines begin in the middle
# of a line, and are not client lines; the hook lines of those 7 processes belong to nobody (267 of 7 381).
ONE_PROCESS_FOR_ALL = {
    "access-multi.log": {"disconnect": 93, "reuse": 1, "refusal": 1, None: 2},
    "access-server-mode.log": {"disconnect": 34, "reuse": 1, "refusal": 1, None: 5},
    "access-multi-200x20-stress.log": {"disconnect": 84, None: 116},
    "access-multi-two-contexts.log": {"disconnect": 4},
    "access-multi-tcpv6.log": {"disconnect": 2},
    "access-multi-allhooks.log": {"disconnect": 1},
    "access-multi-udt.log": {None: 1},
}
PROCESS_PER_CONNECTION = {
    "access-inetd.log": (41, 375, 0),
    "access-inetd-200x20.log": (200, 7_511, 0),
    "access-inetd-200x20-noflush.log": (193, 7_114, 267),
    "access-systemd-inetd.log": (4, 54, 0),
}


def of_sample(name):
    window = Window(datetime(2026, 11, 21, 22, tzinfo=UTC), 3_600)
    tables = parse_access_log(log_sample(name), server="east", timezone="UTC")
    error_log = name.replace("access", "errors")
    lines = error_log in log_names() and parse_errors_log(
        log_sample(error_log), server="east", window=window, collected_from=None, collected_until=window.end
    )
    found = pair_sessions(
        tables.client, None, window, operation=tables.operation, errors=lines.table if lines else None
    )
    check_schema("session", found.table)
    return tables, found


@pytest.mark.parametrize("name", ONE_PROCESS_FOR_ALL)
def test_real_sessions_of_one_process_for_all_end_by_their_disconnect_lines(name):
    tables, found = of_sample(name)
    ends = dict(found.table["ended_by"].value_counts().rows())
    assert ends == ONE_PROCESS_FOR_ALL[name]
    assert (found.unpaired, found.untied_refusals) == (0, 0)
    assert set(found.table["attribution"]) == {"none"}
    assert found.unattributed == len(tables.operation)
    assert set(found.table.filter(pl.col("ended_by") == "refusal")["user"]) <= {"banned"}


@pytest.mark.parametrize("name", PROCESS_PER_CONNECTION)
def test_real_sessions_with_a_process_each_have_all_operations(name):
    _, found = of_sample(name)
    own = found.table.filter(pl.col("attribution") == "process")
    sessions, tied, untied = PROCESS_PER_CONNECTION[name]
    assert (len(found.table), own["operations"].sum(), found.unattributed) == (sessions, tied, untied)
    assert "disconnect" not in found.table["ended_by"]


def test_the_refused_client_of_a_real_server_is_found():
    for name in ("access-multi.log", "access-inetd.log", "access-server-mode.log"):
        _, found = of_sample(name)
        refused = found.table.filter(pl.col("ended_by") == "refusal")
        assert refused.select("user", "confidence", "duration_us").rows() == [("banned", "inferred", 0)]


def test_a_session_lasts_from_its_received_to_its_disconnected_line():
    log = Log()
    log.on("alice", 1)
    log.on("bob", 2, socket=5)
    log.off("alice", 31)
    found = pair(log)
    assert rows(found, "user", "ended_by", "confidence") == [
        ("alice", "disconnect", "exact"),
        ("bob", None, "open"),
    ]
    assert seconds(found) == [30, None]
    assert found.table["last_time"][0] == WINDOW.start + timedelta(seconds=31)


def test_the_same_user_twice_at_once_is_told_apart_by_the_socket():
    log = Log()
    log.on("alice", 1, socket=4)
    log.on("alice", 2, socket=5)
    log.off("alice", 10, socket=4)
    log.off("alice", 30, socket=5)
    assert seconds(pair(log)) == [9, 28]


def test_a_disconnect_line_that_comes_late_ends_nobody_elses_session():
    log = Log()
    log.on("dave", 1)
    log.on("alice", 3)  # the same socket: dave has gone, whatever the log says later
    log.off("dave", 13)
    log.off("alice", 20)
    found = pair(log)
    assert rows(found, "user", "ended_by", "confidence") == [
        ("dave", "reuse", "at_most"),
        ("alice", "disconnect", "exact"),
    ]
    assert seconds(found) == [2, 17]
    assert found.unpaired == 1


def test_an_end_that_may_be_an_earlier_sessions_is_doubtful_even_windows_later():
    log = Log()
    log.on("alice", 1)
    log.on("alice", 3)
    first = pair(log)
    assert rows(first, "ended_by", "confidence") == [("reuse", "at_most"), (None, "doubtful")]
    later = Log()
    later.off("alice", 305)
    second = pair(later, first.table, WINDOW.shifted(1))
    assert rows(second, "ended_by", "confidence") == [("disconnect", "doubtful")]


def test_a_disconnect_line_without_a_beginning_is_counted():
    log = Log()
    log.off("alice", 1)
    found = pair(log)
    assert (len(found.table), found.unpaired) == (0, 1)


def test_a_process_id_that_wraps_around_ends_the_session_at_its_last_line():
    log = Log()
    log.on("alice", 1, pid=500, socket=0)
    log.op(2, pid=500)
    log.op(9, pid=500)
    log.on("bob", 200, pid=500, socket=0)
    log.op(201, pid=500)
    found = pair(log)
    assert rows(found, "user", "ended_by", "confidence", "operations", "attribution") == [
        ("alice", "reuse", "at_least", 2, "process"),
        ("bob", None, "open", 1, "process"),
    ]
    assert seconds(found) == [8, None]


def test_one_process_for_all_says_that_operations_are_nobodys():
    log = Log()
    log.on("alice", 1)
    log.op(2)
    found = pair(log)
    assert rows(found, "attribution", "operations", "window_operations") == [("none", None, None)]
    assert found.unattributed == 1


def test_the_extended_hook_line_ties_by_address_where_one_session_is_open_from_there():
    log = Log()
    log.on("alice", 1, socket=4, address="10.0.0.1")
    log.on("bob", 2, socket=5, address="10.0.0.2")
    log.op(3, client="10.0.0.1")
    log.op(4, client="10.0.0.2")
    log.op(5, client="10.0.0.1")
    log.op(5, client="10.0.0.9")  # nobody from there
    log.on("carol", 6, socket=6, address="10.0.0.1")
    log.op(7, client="10.0.0.1")  # alice or carol
    log.off("alice", 8, socket=4, address="10.0.0.1")
    log.op(9, client="10.0.0.1")  # carol
    log.op(9, client="10.0.0.1", pid=78)  # another server's
    found = pair(log)
    assert rows(found, "user", "attribution", "operations") == [
        ("alice", "address", 2),
        ("bob", "address", 1),
        ("carol", "address", 1),
    ]
    assert found.unattributed == 3


def test_servers_that_print_no_socket_are_paired_by_name_the_newest_first():
    log = Log()
    log.on("alice", 1, socket=None)
    log.on("alice", 5, socket=None)
    log.on("bob", 6, socket=None)
    log.off("alice", 8, socket=None)
    found = pair(log)
    assert rows(found, "user", "ended_by", "attribution") == [
        ("alice", None, "none"),
        ("alice", "disconnect", "none"),
        ("bob", None, "none"),
    ]


def test_a_clock_that_goes_back_makes_no_negative_duration():
    log = Log()
    log.on("alice", 10)
    log.off("alice", 9)
    assert seconds(pair(log)) == [0]


def refusals(log, *lines):
    found = pair(log, errors=errors(*lines))
    return found.table.filter(pl.col("ended_by") == "refusal")["user"].to_list(), found.untied_refusals


def test_a_refusal_marks_the_one_session_that_it_can_mean():
    log = Log()
    log.on("banned", 1)
    log.on("alice", 2)
    assert refusals(log, ("denied", "banned"), ("connected", "alice")) == (["banned"], 0)


def test_a_refusal_that_fits_two_sessions_stays_a_count():
    log = Log()
    log.on("banned", 1)
    log.on("banned", 2, socket=5)
    assert refusals(log, ("denied", "banned")) == ([], 1)


def test_who_worked_or_said_goodbye_was_not_refused():
    log = Log()
    log.on("bob", 1, pid=500, socket=0)
    log.op(2, pid=500)
    log.on("bob", 3, pid=501, socket=0)
    log.on("carol", 4)
    log.off("carol", 5)
    found = pair(log, errors=errors(("denied", "bob"), ("connected", "bob"), ("denied", "carol")))
    assert rows(found, "user", "pid", "ended_by") == [
        ("bob", 500, None),
        ("bob", 501, "refusal"),
        ("carol", 77, "disconnect"),
    ]
    assert found.untied_refusals == 1


def test_a_session_that_may_be_the_one_that_was_let_in_is_not_marked():
    log = Log()
    log.on("bob", 1)  # and the line of bob's other connection is not here
    assert refusals(log, ("denied", "bob"), ("connected", "bob")) == ([], 1)


def test_a_refusal_is_of_this_windows_connections():
    log = Log()
    log.on("bob", 1)
    carried = pair(log).table
    found = pair(Log(), carried, WINDOW.shifted(1), errors=errors(("denied", "bob"), window=WINDOW.shifted(1)))
    assert (rows(found, "ended_by"), found.untied_refusals) == ([(None,)], 1)


def test_an_open_session_is_carried_until_its_line_comes_and_then_no_more():
    log = Log()
    log.on("alice", 1)
    first = pair(log)
    second = pair(Log(), first.table, WINDOW.shifted(1))
    assert second.table.drop("window").equals(first.table.drop("window"))
    end = Log()
    end.off("alice", 700)
    third = pair(end, second.table, WINDOW.shifted(2))
    assert rows(third, "session", "ended_by") == [(first.table["session"][0], "disconnect")]
    assert seconds(third) == [699]
    assert len(pair(Log(), third.table, WINDOW.shifted(3)).table) == 0


def test_a_rerun_gives_the_same_rows():
    first, second = random_log(5), random_log(6)
    carried = pair(first).table
    assert pair(second, carried, WINDOW.shifted(1)).table.equals(pair(second, carried, WINDOW.shifted(1)).table)


def test_who_is_silent_for_too_long_is_given_up_at_the_last_line():
    log = Log()
    log.on("alice", 1, pid=500, socket=0)
    log.op(100, pid=500)
    log.on("bob", 200, pid=501, socket=0)
    log.on("carol", 3, socket=4)
    policy = SessionPolicy(idle_s=150, abandoned_s=10_000)
    found = pair(log, policy=policy)
    assert rows(found, "user", "ended_by", "confidence") == [
        ("alice", "silence", "at_least"),
        ("carol", None, "open"),
        ("bob", None, "open"),
    ]
    assert seconds(found) == [99, None, None]
    later = pair(Log(), found.table, WINDOW.shifted(40), policy=policy)
    assert rows(later, "user", "ended_by") == [("carol", "silence"), ("bob", "silence")]


def test_who_still_works_is_not_given_up_however_old_the_session():
    log = Log()
    log.on("alice", -20_000, pid=500, socket=0)
    log.op(10, pid=500)
    assert rows(pair(log), "ended_by") == [(None,)]


def test_the_order_of_rows_does_not_matter_the_order_of_the_log_does():
    log = random_log(3)
    client, operation = log.frames()
    shuffled = (frame.sample(fraction=1, shuffle=True, seed=1) for frame in (client, operation))
    table = pair_sessions(next(shuffled), None, WINDOW, operation=next(shuffled)).table
    assert table.equals(pair(log).table)


def test_nobody_is_given_up_while_there_is_a_backlog():
    log = Log()
    log.on("alice", -100_000, pid=500, socket=0)
    assert rows(pair(log, caught_up=False), "ended_by") == [(None,)]
    assert rows(pair(log), "ended_by") == [("silence",)]


def test_what_is_carried_is_bounded_and_the_longest_silent_go_first():
    log = Log()
    for number in range(50):
        log.on(f"u{number}", number, socket=number + 4)
    found = pair(log, policy=SessionPolicy(carried_max=10))
    assert found.table.filter(pl.col("ended_by").is_null())["user"].to_list() == [f"u{n}" for n in range(40, 50)]


def test_tables_of_two_servers_are_refused_by_name():
    log = Log("west")
    log.on("alice")
    one, _ = log.frames()
    other, _ = (east := Log(), east.on("bob"), east.frames())[-1]
    with pytest.raises(StoreError, match="east, west"):
        pair_sessions(pl.concat([one, other]), None, WINDOW)


def test_a_frame_of_another_shape_is_refused():
    with pytest.raises(StoreError, match="client"):
        pair_sessions(pl.DataFrame({"pid": [1]}), None, WINDOW)


def random_log(seed, size=160):
    """Connections of every kind, interleaved at random, with lines that are late, lost, doubled or nobody's."""
    rng = random.Random(seed)
    log = Log()
    for number in range(size):
        at_s = number * 2 - rng.choice([0, 0, 0, 1, 3])
        address = f"10.0.0.{rng.randrange(3)}"
        user, pid = rng.choice("abcd"), rng.choice([77, 78])
        match rng.randrange(8):
            case 0 | 1:
                log.on(user, at_s, pid=pid, socket=rng.choice([4, 5, 6]), address=address)
            case 2 | 3:
                log.off(user, at_s, pid=pid, socket=rng.choice([4, 5, 6]), address=address)
            case 4:
                log.on(user, at_s, pid=rng.randrange(500, 504), socket=0, address=address)
            case 5:
                log.on(user, at_s, pid=pid, socket=None, address=address, status=rng.choice(["ON", "OFF"]))
            case 6:
                log.op(at_s, pid=rng.randrange(500, 505))
            case _:
                log.op(at_s, pid=pid, client=rng.choice([address, None]))
    return log


@pytest.mark.parametrize("seed", range(40))
def test_every_line_counts_once_whatever_the_order(seed):
    log = random_log(seed)
    client, operation = log.frames()
    found = pair(log)
    table = found.table
    assert len(table) == (client["status"] == "ON").sum() == table["session"].n_unique()
    assert (table["ended_by"] == "disconnect").sum() + found.unpaired == (client["status"] == "OFF").sum()
    assert table["operations"].sum() + found.unattributed == len(operation)
    assert table.filter(pl.col("duration_us") < 0).is_empty()
    assert table["end_time"].is_null().equals(table["ended_by"].is_null().alias("end_time"))
    held = table.filter(pl.col("ended_by").is_null() & pl.col("socket").is_not_null())
    assert not held.select("pid", "socket").is_duplicated().any()


@pytest.mark.parametrize("seed", range(40))
def test_windows_that_carry_give_the_sessions_of_one_long_window(seed):
    log = random_log(seed)
    rng = random.Random(seed)
    cuts = [0, *sorted(rng.randrange(len(log.lines)) for _ in range(rng.randrange(1, 12))), len(log.lines)]
    whole = pair(log)
    carried, newest, unpaired, untied, operations = SESSION.to_frame(), {}, 0, 0, 0
    for number, (first, last) in enumerate(itertools.pairwise(cuts)):
        client, operation = log.frames(first, last)
        found = pair_sessions(client, carried, WINDOW.shifted(number), operation=operation)
        carried = found.table
        newest |= {row["session"].partition(".")[2]: row for row in found.table.iter_rows(named=True)}
        unpaired, untied = unpaired + found.unpaired, untied + found.unattributed
        operations += found.table["window_operations"].sum()
    for row in whole.table.iter_rows(named=True):
        other = newest.pop(row["session"].partition(".")[2])
        for name in set(SESSION) - {"window", "session", "window_operations"}:
            assert other[name] == row[name], (name, row, other)
    assert newest == {}
    assert (unpaired, untied) == (whole.unpaired, whole.unattributed)
    assert operations == whole.table["operations"].sum()


@pytest.mark.parametrize("seed", range(10))
def test_a_faithful_log_gives_back_every_session_as_it_was(seed):
    """A server gives the lowest free socket to each connection, as Linux does; lines come in the order of events."""
    rng = random.Random(seed)
    log, free, connected, truth = Log(), set(range(4, 40)), [], []
    for moment in range(300):
        if connected and (len(connected) > 30 or rng.random() < 0.45):
            user, socket, begun, number = connected.pop(rng.randrange(len(connected)))
            log.off(user, moment, socket=socket)
            free.add(socket)
            truth[number] = (user, moment - begun)
        else:
            user, socket = rng.choice("abc"), min(free)
            free.remove(socket)
            log.on(user, moment, socket=socket)
            connected.append((user, socket, moment, len(truth)))
            truth.append((user, None))
    found = pair(log)
    assert list(zip(found.table["user"], seconds(found), strict=True)) == truth
    assert set(found.table["confidence"]) <= {"exact", "open"}
