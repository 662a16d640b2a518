import json
import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pingmesh_tasks.access import grammar, lines
from pingmesh_tasks.access.grammar import AccessSinks, AccessTables, parse_access_log, write_access_tables
from pingmesh_tasks.access.lines import cut_pieces, lines_of
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.store.schemas import check_schema
from pingmesh_tasks.text import safe_bytes
from tests.support.access_lines import reference, split_lines
from tests.support.needs import ROOT
from tests.support.samples import log_sample

DATE = b"Sat Nov 21 22:31:50 2026"
RECEIVED = DATE + b" (4) (pid 7224) Connection received from carol@pc7.lab.example [10.1.0.7]"
GET_DATA = DATE + rb" (pid 7224) GetData called for tree=EAST, shot=138001, node=\EAST::TOP.MAGNETICS:FLUX"

# Lines, client, operation, reasons. Lines are `wc -l`. Client and operation were counted with grep, and by the second
# reading in tests/support/access_lines.py; each test compares with the latter again:
#   client     grep -acE '(received|disconnected) from'       (less 7 in -noflush, see its README: in mid-line)
#   operation  grep -acP '^\w{3} \w{3} [ \d]\d [\d:]{8} \d{4} \(pid \d+\) [A-Za-z]+ called for tree=[^, ]*, shot=-?\d+,
#              node=[^, ]*$'
# Reasons were read line by line where there are few; in -noflush they are what the grammar says, their sum is checked.
SAMPLES = {
    "access-inetd-200x20-noflush.log": (
        7711, 193, 7381, {"glued": 61, "partial": 61, "malformed": 7, "stray_text": 7, "empty": 1},
    ),
    "access-inetd-200x20.log": (7711, 200, 7511, {}),
    "access-inetd.log": (417, 41, 375, {"stray_text": 1}),
    "access-multi-200x20-stress.log": (5606, 284, 5322, {}),
    "access-multi-allhooks.log": (23, 2, 21, {}),
    "access-multi-tcpv6.log": (8, 4, 4, {}),
    "access-multi-tdihook.log": (8, 2, 0, {"stray_text": 6}),
    "access-multi-two-contexts.log": (21, 8, 13, {}),
    "access-multi-udt.log": (1, 1, 0, {}),
    "access-multi.log": (1576, 190, 1385, {"stray_text": 1}),
    "access-server-mode.log": (352, 75, 276, {"stray_text": 1}),
    "access-systemd-inetd.log": (58, 4, 54, {}),
    "errors-inetd.log": (53, 0, 0, {"stray_text": 44, "empty": 6, "partial": 3}),
    "errors-multi.log": (203, 0, 0, {"stray_text": 194, "empty": 6, "partial": 3}),
    "errors-server-mode.log": (90, 0, 0, {"stray_text": 81, "empty": 6, "partial": 3}),
}  # fmt: skip


def parse(log: bytes, timezone: str = "UTC", **more) -> AccessTables:
    tables = parse_access_log(log, server="east", timezone=timezone, **more)
    check_schema("client", tables.client)
    check_schema("operation", tables.operation)
    assert tables.rejected.schema == grammar.REJECTED
    return tables


def reasons(tables: AccessTables) -> list[str]:
    return tables.rejected["reason"].to_list()


def users(*names: bytes) -> list[str]:
    log = b"".join(
        DATE + b" (4) (pid 7) Connection received from %b@localhost [127.0.0.1]\r\n" % name for name in names
    )
    tables = parse(log)
    assert len(tables.client) == len(names)
    return tables.client["user"].to_list()


def assert_same(tables: AccessTables, other: AccessTables) -> None:
    assert tables.client.equals(other.client)
    assert tables.operation.equals(other.operation)
    assert tables.rejected.equals(other.rejected)
    assert (tables.lines, tables.dropped) == (other.lines, other.dropped)


def assert_agrees_with_reference(log: bytes, timezone: str = "UTC") -> AccessTables:
    tables = parse(log, timezone)
    rows = {
        "client": {row["offset"]: row for row in tables.client.iter_rows(named=True)},
        "operation": {row["offset"]: row for row in tables.operation.iter_rows(named=True)},
        "rejected": {row["offset"]: row for row in tables.rejected.iter_rows(named=True)},
    }
    count = 0
    for offset, line in split_lines(log):
        kind, fields = reference(line, timezone)
        row = rows[kind].pop(offset)
        fields |= {name: safe_bytes(value, 256) for name, value in fields.items() if isinstance(value, bytes)}
        assert {name: row[name] for name in fields} == fields, line
        if kind == "rejected":
            assert (row["length"], row["line"]) == (len(line), safe_bytes(line.removesuffix(b"\r"), 500))
        count += 1
    assert not any(rows.values())
    assert tables.lines == count
    return tables


@pytest.mark.parametrize("name", SAMPLES)
def test_the_lines_of_a_real_log_are_all_accounted_for(name):
    path = log_sample(name)
    tables = assert_agrees_with_reference(path.read_bytes())
    found = (tables.lines, len(tables.client), len(tables.operation), Counter(reasons(tables)))
    assert found == SAMPLES[name]
    assert_same(tables, parse_access_log(path, server="east", timezone="UTC"))


def test_both_kinds_of_line_become_rows():
    tables = parse(RECEIVED + b"\r\n" + GET_DATA + b"\n")
    moment = datetime(2026, 11, 21, 22, 31, 50, tzinfo=UTC)
    assert tables.client.row(0) == (moment, 7224, "carol", "pc7.lab.example", "ON", "east", "10.1.0.7", 4, 0)
    assert tables.operation.row(0) == (
        moment, 7224, "GetData", "EAST", 138001, r"\EAST::TOP.MAGNETICS:FLUX", "east", len(RECEIVED) + 2,
        None, None, None,
    )  # fmt: skip


def test_the_extended_hook_line_tells_node_thread_and_client():
    extended = (
        GET_DATA + b", nid=263, thread=7961, client=192.0.2.17\n" + GET_DATA + b", nid=-1, thread=0, client=N/A\n"
    )
    found = parse(extended).operation.select("node_path", "node_id", "thread", "client_address").rows()
    assert found == [
        (r"\EAST::TOP.MAGNETICS:FLUX", 263, 7961, "192.0.2.17"),
        (r"\EAST::TOP.MAGNETICS:FLUX", -1, 0, None),
    ]


def test_an_operation_on_a_whole_tree_is_of_no_node_whatever_number_the_hook_prints():
    opened = GET_DATA.replace(b"GetData", b"OpenTree").replace(rb"\EAST::TOP.MAGNETICS:FLUX", b"N/A")
    found = parse(opened + b", nid=0, thread=7961, client=192.0.2.17\n").operation
    assert found.select("node_path", "node_id").row(0) == (None, None)


def test_a_connection_line_of_an_old_server_has_no_socket():
    client = parse(RECEIVED.replace(b"(4) ", b"").replace(b"received", b"disconnected")).client
    assert client.select("user", "status", "socket").row(0) == ("carol", "OFF", None)


def test_line_ends_are_lf_or_cr_lf_and_the_last_may_lack():
    for log in (GET_DATA + b"\n" + RECEIVED, GET_DATA + b"\r\n" + RECEIVED + b"\n"):
        tables = parse(log)
        assert (tables.lines, len(tables.client), len(tables.operation)) == (2, 1, 1)


@pytest.mark.parametrize("log", [b"", b"\n", b"\r\n\n\n", b"\0" * 1000, bytes(range(256)) * 20])
def test_a_log_of_nothing_useful_gives_empty_tables(log):
    tables = parse(log)
    assert len(tables.client) == len(tables.operation) == 0
    assert len(tables.rejected) == tables.lines == len(list(split_lines(log)))


def test_a_user_is_split_off_from_the_right():
    names = [b"a@b@c [1.2.3.4]", b"x called for tree=E, shot=1, node=2", b"John Smith", b"", b"?", b"%s%n%x"]
    assert users(*names) == [name.decode() for name in names]


def test_a_user_is_kept_as_text_that_cannot_act():
    wanted = {
        "用户".encode(): "用户",
        b"caf\xe9": r"caf\xe9",
        b"x\x1b[31mred\x07": r"x\x1b[31mred\x07",
        b"back\\slash": r"back\\slash",
        b"\\x41": r"\\x41",
        "\u202eevil\u200b".encode(): r"\xe2\x80\xaeevil\xe2\x80\x8b",
        b"\xed\xa0\x80\xf5": r"\xed\xa0\x80\xf5",
        b"cr\rcr": r"cr\x0dcr",
        b"<script>": "<script>",
    }
    assert users(*wanted) == list(wanted.values())


@pytest.mark.parametrize("unit", [b"u", b"\\", b"\x00", "户".encode(), b"\xff\x01a"])
def test_a_user_of_thousands_of_bytes_is_cut_and_marked(unit):
    (user,) = users(unit * 3000)
    assert 250 < len(user) <= 256
    assert user.endswith("…")
    whole = safe_bytes(unit * 3000, 10**6)
    assert whole.startswith(user[:-1])
    assert user[:-1].endswith(safe_bytes(unit[-1:], 9)) or len(unit) > 1
    assert len(safe_bytes(unit * 256, 256)) <= 256


def test_a_forged_line_stays_a_line_of_its_own_and_does_nothing_else():
    forged = b"mallory@h [10.9.9.9]\r\n" + RECEIVED.replace(b"carol", b"admin") + b"\r\n<script>alert(1)</script>"
    tables = parse(DATE + b" (4) (pid 7) Connection received from " + forged + b"@localhost [127.0.0.1]\r\n" + GET_DATA)
    assert tables.client["user"].to_list() == ["mallory", "admin"]
    assert tables.rejected["line"].to_list() == ["<script>alert(1)</script>@localhost [127.0.0.1]"]
    assert len(tables.operation) == 1
    (one,) = users(b"m [1.1.1.1] " + RECEIVED)
    assert one.startswith("m [1.1.1.1] Sat Nov 21")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty"),
        (b"this is not yet supported", "stray_text"),
        (rb"GetData hook called for tree=EAST, shot=1, node=\E::X", "undated_template"),
        (GET_DATA[:40] + RECEIVED, "glued"),
        (GET_DATA + GET_DATA, "glued"),
        (RECEIVED[:-1], "partial"),
        (RECEIVED[5:], "partial"),
        (GET_DATA[:60], "partial"),
        (GET_DATA[70:], "partial"),
        (GET_DATA.replace(b"FLUX", b"MY FLUX"), "malformed"),
        (GET_DATA.replace(b"138001", b"1380O1"), "malformed"),
        (GET_DATA + b", nid=1", "malformed"),
        (RECEIVED.replace(b"lab.example", b"lab\xff"), "malformed"),
        (GET_DATA.replace(b"22:31", b"25:31"), "bad_date"),
        (GET_DATA.replace(b"Sat", b"Sun"), "bad_date"),
        (GET_DATA.replace(b"Sat Nov 21", b"sat nov 21"), "bad_date"),
        (RECEIVED.replace(b"22:31:50", b"22:31:60"), "bad_date"),
        (GET_DATA.replace(b"7224", b"4294967296"), "bad_number"),
        (GET_DATA.replace(b"138001", b"9" * 30), "bad_number"),
        (RECEIVED.replace(b"(4)", b"(18446744073709551616)"), "bad_number"),
        (RECEIVED.replace(b"carol", b"c" * (64 << 10)), "too_long"),
    ],
)
def test_a_line_that_is_neither_is_kept_with_the_reason(line, reason):
    tables = parse(GET_DATA + b"\n" + line + b"\r\n" + GET_DATA + b"\n")
    assert tables.rejected.rows() == [
        ("east", len(GET_DATA) + 1, reason, len(line) + 1, safe_bytes(line, 500)),
    ]
    assert len(tables.operation) == 2


def test_local_time_becomes_utc_by_the_zone_of_the_server():
    assert parse(GET_DATA, "Asia/Shanghai").operation["link_time"].item() == datetime(
        2026, 11, 21, 14, 31, 50, tzinfo=UTC
    )
    padded = GET_DATA.replace(b"Sat Nov 21", b"Sun Nov  1")
    assert parse(padded).operation["link_time"].item() == datetime(2026, 11, 1, 22, 31, 50, tzinfo=UTC)


def test_an_hour_that_comes_twice_is_taken_as_the_first_and_one_that_is_missing_is_no_time():
    def at(date: bytes) -> AccessTables:
        return parse(GET_DATA.replace(DATE, date), "America/New_York")

    assert at(b"Sun Nov  1 01:30:00 2026").operation["link_time"].item() == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    assert reasons(at(b"Sun Mar  8 02:30:00 2026")) == ["no_such_time"]


@pytest.mark.parametrize("zone", ["Europe/Hefei", "", "+08:00", "../etc/passwd", "asia/shanghai", "CSTish"])
def test_a_time_zone_that_is_none_is_refused(zone):
    with pytest.raises(ConfigError, match="tz database, such as Asia/Shanghai"):
        parse(b"", zone)


def test_a_format_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="there are mdsip"):
        parse(b"", format="apache")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("absent", "loop", "."):
        with pytest.raises(OSError, match=str(tmp_path / name).rstrip(".")):
            parse_access_log(tmp_path / name, server="east", timezone="UTC")


def test_lines_that_nobody_wants_are_dropped_and_counted():
    probe = RECEIVED.replace(b"carol", "监控".encode())
    log = b"\r\n".join([RECEIVED, probe, GET_DATA, b"this is not yet supported", b""])
    tables = parse(log, drop=["from 监控@", "not yet supported$", r"node=\\NONE"])
    assert (tables.lines, tables.dropped, len(tables.client), len(tables.operation)) == (4, 2, 1, 1)
    assert len(tables.rejected) == 0
    with pytest.raises(ConfigError, match=r"drop filter '\(' is no regular expression"):
        parse(b"", drop=["("])


def test_another_format_is_one_entry(monkeypatch):
    monkeypatch.setitem(
        grammar.FORMATS, "upside_down", lambda lines, zone: grammar.FORMATS["mdsip"](lines, "Asia/Tokyo")
    )
    assert parse(GET_DATA, format="upside_down").operation["link_time"].item().hour == 13


def test_a_format_that_loses_a_line_is_found_out(monkeypatch):
    def careless(lines, zone):
        return grammar.FORMATS["mdsip"](lines.head(1), zone)

    monkeypatch.setitem(grammar.FORMATS, "careless", careless)
    with pytest.raises(RuntimeError, match="1 rows of 2 lines at byte 0"):
        parse(GET_DATA + b"\n" + GET_DATA, format="careless")


FRAGMENTS = [
    b"\n", b"\r\n", b"\r", b" ", b"@", b" [", b"]", b", ", b"=", b"(", b") ", b"\0", b"\xff\xfe", "户".encode(), b"\\",
    b"N/A", b"9" * 25, b"-", DATE, b"Sun Mar  8 02:30:00 2026", b" (pid 7) ", b" called for tree=",
    b", nid=1, thread=2, client=::1",
]  # fmt: skip


def noisy_log(rng: random.Random, whole: list[bytes], count: int) -> bytes:
    """Real lines: as they are, cut, glued, with something put into them, or beside noise."""
    made = []
    for _ in range(count):
        line = rng.choice(whole)
        at = rng.randrange(len(line) + 1)
        match rng.randrange(8):
            case 0:
                line = line[:at]
            case 1:
                line = line[at:]
            case 2 | 3:
                line = line[:at] + rng.choice(FRAGMENTS) + line[at + rng.randrange(3) :]
            case 4:
                line = rng.randbytes(rng.randrange(60)) + rng.choice(FRAGMENTS)
            case 5:
                line = line.removesuffix(b"\n")
        made.append(line)
    return b"".join(made)


@pytest.fixture(scope="module")
def whole_lines() -> list[bytes]:
    log = b"".join(
        log_sample(f"{name}.log").read_bytes() for name in ("access-multi", "access-multi-tcpv6", "access-inetd")
    )
    log += GET_DATA + b", nid=263, thread=7961, client=192.0.2.17\n" + RECEIVED.replace(b"(4) ", b"") + b"\r\n"
    return sorted(set(log.splitlines(keepends=True)))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_log_is_nothing_is_raised_and_every_line_is_what_the_reference_says(seed, whole_lines):
    rng = random.Random(seed)
    zone = rng.choice(["UTC", "America/New_York", "Asia/Shanghai"])
    tables = assert_agrees_with_reference(noisy_log(rng, whole_lines, 600), zone)
    assert min(len(tables.client), len(tables.operation), len(tables.rejected)) > 20


def in_chunks(rng: random.Random, log: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(log) + 1) for _ in range(rng.randrange(40)))
    return [log[a:b] for a, b in zip([0, *cuts], [*cuts, len(log)], strict=True)]


@pytest.mark.parametrize("seed", range(8))
def test_how_the_bytes_arrive_and_where_pieces_are_cut_changes_nothing(seed, whole_lines, monkeypatch, tmp_path):
    rng = random.Random(seed)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 200)
    monkeypatch.setattr(grammar, "MAX_LINE_BYTES", 200)
    log = noisy_log(rng, [*whole_lines, b"x" * 700 + b"\n", b"y" * 350], 60)
    wanted = parse(log)
    assert "too_long" in reasons(wanted)
    for piece_bytes in (201, rng.randrange(400, 3000)):
        monkeypatch.setattr(lines, "PIECE_BYTES", piece_bytes)
        found = parse(in_chunks(rng, log))
        assert_same(found, parse(log))
        assert found.lines == wanted.lines
        same = pl.col("reason") != "too_long"  # of which a shorter beginning is kept when it does not fit a piece
        assert found.client.equals(wanted.client)
        assert found.operation.equals(wanted.operation)
        assert found.rejected.drop("line").equals(wanted.rejected.drop("line"))
        assert found.rejected.filter(same).equals(wanted.rejected.filter(same))


def test_pieces_are_whole_lines_cut_by_content_alone(monkeypatch):
    monkeypatch.setattr(lines, "PIECE_BYTES", 64)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 32)
    rng = random.Random(3)
    log = b"".join(b"z" * rng.randrange(50) + b"\n" for _ in range(200)) + b"end"
    pieces = list(cut_pieces(log))
    assert b"".join(piece.data for piece in pieces) == log + b"\n"
    assert all(piece.data.endswith(b"\n") and len(piece.data) <= 64 for piece in pieces)
    assert list(cut_pieces(in_chunks(rng, log))) == pieces
    table = pl.concat(lines_of(piece) for piece in pieces)
    assert [(o, n) for o, n, _ in table.rows()] == [(o, len(line)) for o, line in split_lines(log)]


def sinks(folder: Path) -> AccessSinks:
    folder.mkdir(exist_ok=True)
    return AccessSinks(folder / "client.parquet", folder / "operation.parquet", folder / "rejected.ndjson")


def test_what_is_written_is_what_is_parsed_and_the_bytes_are_always_the_same(monkeypatch, tmp_path, whole_lines):
    monkeypatch.setattr(grammar, "ROW_GROUP_ROWS", 500)
    monkeypatch.setattr(lines, "PIECE_BYTES", 100_000)
    log = noisy_log(random.Random(1), whole_lines, 6000)
    (tmp_path / "log").write_bytes(log)
    tables = parse(log)
    outputs = []
    for source in (tmp_path / "log", in_chunks(random.Random(2), log)):
        there = sinks(tmp_path / type(source).__name__)
        counts = write_access_tables(source, there, server="east", timezone="UTC")
        assert pl.read_parquet(there.client).equals(tables.client)
        assert pl.read_parquet(there.operation).equals(tables.operation)
        rejected = [json.loads(line) for line in there.rejected.read_text().splitlines()]
        assert rejected == tables.rejected.to_dicts()
        assert counts.reasons == Counter(reasons(tables))
        assert counts.lines == tables.lines == counts.client + counts.operation + counts.rejected + counts.dropped
        outputs.append([path.read_bytes() for path in (there.client, there.operation, there.rejected)])
    assert outputs[0] == outputs[1]


def test_a_log_without_lines_is_written_as_empty_tables(tmp_path):
    there = sinks(tmp_path)
    assert write_access_tables(b"", there, server="east", timezone="UTC").lines == 0
    check_schema("client", pl.read_parquet(there.client))
    check_schema("operation", pl.read_parquet(there.operation))
    assert there.rejected.read_bytes() == b""


ENDLESS = """
import resource, sys
from pathlib import Path
from pingmesh_tasks.access.grammar import parse_access_log
from pingmesh_tasks.text import safe_bytes
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tables = parse_access_log(Path(sys.argv[1]), server="east", timezone="UTC")
grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(tables.lines, len(tables.operation), *tables.rejected.select("offset", "reason", "length").row(0), grown_mb)
"""


def test_a_line_of_a_gigabyte_without_an_end_takes_no_memory(tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as file:  # what a truncation leaves of a log that is not opened for appending: a hole
        file.write(GET_DATA + b"\n")
        file.truncate(1 << 30)
    ran = subprocess.run([sys.executable, "-c", ENDLESS, log], cwd=ROOT, capture_output=True, text=True, check=True)
    *found, grown_mb = ran.stdout.split()
    start = len(GET_DATA) + 1
    assert found == ["2", "1", str(start), "too_long", str((1 << 30) - start)]
    assert float(grown_mb) < 60
