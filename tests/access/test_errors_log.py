import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pingmesh_tasks.access.errors_log import MAX_NAME_CHARS, MAX_TEXT_CHARS, parse_errors_log
from pingmesh_tasks.store.schemas import check_schema
from pingmesh_tasks.windows import Window
from tests.support.samples import log_sample

WINDOW = Window(datetime(2026, 11, 21, 22, 50, tzinfo=UTC), 300)
UNTIL = WINDOW.end + timedelta(seconds=7)


def parse(source, collected_from=WINDOW.start):
    found = parse_errors_log(source, server="east", window=WINDOW, collected_from=collected_from, collected_until=UNTIL)
    check_schema("server_error", found.table)
    assert found.lines == len(found.table) + found.blank
    return found


def kinds(found):
    return Counter(found.table["kind"])


# Counted with `wc -l`, `grep -c '^$'`, `grep -ac '^Connected: '` and so on; `other` is the second line of the user name
# that holds a line break (mallory), and in the -m sample a `send_bytes:` of the client killed in a large read.
COUNTS = {
    "errors-inetd.log": (53, 6, {"connected": 39, "denied": 1, "bad_header": 6, "other": 1}),
    "errors-multi.log": (203, 6, {"connected": 94, "dispatched": 94, "denied": 1, "bad_header": 6, "other": 2}),
    "errors-server-mode.log": (90, 6, {"connected": 38, "dispatched": 38, "denied": 1, "bad_header": 6, "other": 1}),
}


@pytest.mark.parametrize("sample", COUNTS)
def test_every_line_of_a_real_errors_log_is_what_grep_says(sample):
    found = parse(log_sample(sample))
    assert (found.lines, found.blank, dict(kinds(found))) == COUNTS[sample]
    assert found.table.filter(pl.col("kind") == "denied")["user"].to_list() == ["banned"]
    assert "a@b@c [1.2.3.4]" in found.table["user"]
    assert set(found.table["address"].drop_nulls()) <= {"127.0.0.1"}


def test_a_line_carries_the_interval_it_was_collected_in_and_its_offset():
    rows = parse(b"Connected: alice\n\n\r\nAccess denied: bob\n").table
    assert rows["offset"].to_list() == [0, 20]
    assert set(rows["collected_from"]) == {WINDOW.start}
    assert set(rows["collected_until"]) == {UNTIL}
    assert parse(b"x\n", collected_from=None).table["collected_from"].to_list() == [None]


def test_an_empty_log_has_no_rows():
    assert (parse(b"").lines, len(parse(b"").table)) == (0, 0)


def test_user_names_are_stored_as_those_of_the_access_log_are():
    long = b"u" * 3_000
    rows = parse(
        b"Connected: caf\xe9\\\x1b[31m\nAccess denied: \nConnected: "
        + long
        + b"\nConnected: \xe7\x94\xa8\nConnected:  J S \n"
    ).table
    assert rows["user"].to_list() == [r"caf\xe9\\\x1b[31m", "", "u" * (MAX_NAME_CHARS - 1) + "…", "用", " J S "]


def test_a_forged_line_in_a_user_name_is_no_line_of_its_kind_unless_it_reads_like_one():
    rows = parse(
        b"Connected: m@h [1.1.1.1]\r\nSat Nov 21 22:00:00 2026 (9) (pid 1) Connection received from root\n"
    ).table
    assert rows["kind"].to_list() == ["connected", "other"]
    assert rows["user"].to_list() == [r"m@h [1.1.1.1]\x0d", None]


@pytest.mark.parametrize("line", [b" Connected: a", b"connected: a", b"Access denied:a", b"dispatched client", b"\x00"])
def test_what_only_resembles_a_known_line_is_other_and_kept(line):
    assert dict(kinds(parse(line + b"\n"))) == {"other": 1}


def test_a_line_of_megabytes_is_one_bounded_row():
    found = parse(b"x" * (9 << 20) + b"\nConnected: alice\n")
    assert found.table["kind"].to_list() == ["other", "connected"]
    assert len(found.table["text"][0]) == MAX_TEXT_CHARS


def test_no_bytes_raise_or_lose_a_line_and_how_they_arrive_changes_nothing():
    rng = random.Random(7)
    pieces = [
        b"Connected: ",
        b"Access denied: ",
        b"dispatched client ",
        b"\n",
        b"\r\n",
        b"\xff",
        b"\x00",
        b"\xe7\x94",
        b"a\\",
    ]
    for _ in range(60):
        data = b"".join(rng.choice([*pieces, rng.randbytes(rng.randrange(6))]) for _ in range(rng.randrange(80)))
        found = parse(data)
        assert found.lines == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(4))
        chunks = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert parse(iter(chunks)).table.equals(found.table)
