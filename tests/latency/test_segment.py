import json
import random
import time
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pingmesh_tasks.errors import SegmentError
from pingmesh_tasks.latency import segment as reader
from pingmesh_tasks.latency.segment import decode_segment, read_columns, verify_segment
from pingmesh_tasks.store.schemas import PROBE, check_schema
from tests.support.segments import START_US, TABLE, WINDOW_ID, chunk, forged_chunk, header, packed, segment

START = datetime(2026, 11, 21, 22, 5, tzinfo=UTC)
ROWS = [(10, 0, 250, 40_000, 0, 0), (20, 1, 300, 40_001, 0, 0), (-5, 2, 0, 40_002, 1, 2)]
SMALL = segment([ROWS, [(7, 2, 1_000, 40_003, 0, 1)]])


def random_rows(random, targets):
    return [
        (
            random.randint(-(2**31), 2**31 - 1),
            random.randrange(targets),
            random.randrange(2**32),
            random.randrange(2**16),
            random.choice([0, 0, 0, random.randrange(256)]),
            random.choice([0, 0, random.randrange(256)]),
        )
        for _ in range(random.randrange(200))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_what_the_agent_encodes_is_what_is_decoded(seed):
    rng = random.Random(seed)
    chunks = [random_rows(rng, len(TABLE)) for _ in range(rng.randrange(1, 6))]
    probes = decode_segment(segment(chunks))
    check_schema("probe", probes)
    expected = [
        {
            "ts": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US + i * 10_000_000 + offset),
            "src": "db-1",
            "src_ip": "10.0.0.1",
            "src_port": port,
            "dst": TABLE[target][0],
            "dst_ip": TABLE[target][1],
            "dst_port": TABLE[target][2],
            "protocol": TABLE[target][3],
            "scope": TABLE[target][4],
            "msg_len": TABLE[target][5],
            "rtt_us": rtt if status == 0 and retransmits == 0 else None,
            "err_code": status,
            "retransmits": retransmits,
        }
        for i, rows in enumerate(chunks)
        for offset, target, rtt, port, status, retransmits in rows
    ]
    assert probes.to_dicts() == expected


def test_the_headers_add_up_without_the_columns_being_unpacked(monkeypatch):
    data = chunk(ROWS, TABLE, scheduled=5, skipped={"rate": 2}, agent="old") + chunk(
        [], number=1, scheduled=4, sent=1, skipped={"rate": 1, "sockets": 2}, agent="new", pinglist="second"
    )
    targets = read_columns(data).targets
    monkeypatch.setattr(reader, "_unpack_columns", None)
    summary = verify_segment(data)
    assert (summary.host, summary.address, summary.window.id) == ("db-1", "10.0.0.1", WINDOW_ID)
    assert (summary.window.start, summary.window.length_s) == (START, 300)
    assert (summary.chunks, summary.rows, summary.scheduled, summary.sent) == (2, 3, 9, 4)
    assert summary.skipped == {"rate": 3, "sockets": 2}
    assert (summary.agent, summary.pinglist) == ("new", "second")
    assert summary.targets.names == ("db-2", "db-2", "db-3")
    assert summary.targets == targets


def test_a_window_in_which_nothing_was_due_is_a_segment_without_rows():
    data = segment([[]], table=[])
    assert decode_segment(data).equals(pl.DataFrame(schema=PROBE))
    assert len(verify_segment(data).targets) == 0


def test_a_new_ping_list_renames_the_targets_from_its_chunk_on():
    other = [["web-9", "fd00::9", 80, "tcp", "inter_dc", 0]]
    data = b"".join(
        [
            chunk([ROWS[0]], TABLE, 0),
            chunk([(0, 0, 9, 1, 0, 0)], other, 1),
            chunk([(0, 0, 8, 1, 0, 0)], None, 2),
            chunk([ROWS[2]], TABLE, 3),
        ]
    )
    assert decode_segment(data)["dst"].to_list() == ["db-2", "web-9", "web-9", "db-3"]
    assert verify_segment(data).targets.names == ("db-2", "db-2", "db-3", "web-9")
    with pytest.raises(SegmentError, match="chunk 2: target 1 of a table of 1"):
        decode_segment(
            data[: len(data)].replace(chunk([(0, 0, 8, 1, 0, 0)], None, 2), chunk([(0, 1, 8, 1, 0, 0)], None, 2))
        )


def test_a_segment_cut_anywhere_is_refused_and_the_cut_chunk_named():
    second_chunk = len(segment([ROWS]))
    for length in range(len(SMALL)):
        if length == second_chunk:
            continue  # cut between two chunks: what is left is a segment
        for read in (decode_segment, verify_segment):
            with pytest.raises(SegmentError) as error:
                read(SMALL[:length])
            assert error.value.chunk == (length > second_chunk)


def test_every_flipped_bit_is_noticed_in_its_chunk():
    second_chunk = len(segment([ROWS]))
    for bit in range(len(SMALL) * 8):
        damaged = bytearray(SMALL)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SegmentError) as error:
            verify_segment(bytes(damaged))
        assert error.value.chunk == (bit // 8 >= second_chunk)


@pytest.mark.parametrize("seed", range(200))
def test_damage_under_a_good_checksum_is_a_segment_error_or_a_segment(seed):
    rng = random.Random(seed)
    table, columns = bytearray(packed(TABLE)), bytearray(zlib.compress(rng.randbytes(14 * 3)))
    fields = header(rows=3, scheduled=3, sent=3)
    for victim in rng.choices([table, columns, fields], k=2):
        if victim is fields:
            fields[rng.choice(list(fields))] = rng.choice([None, -1, 2**70, "", "a\n", [], {}, {"x": -1}, 1.5, True])
        else:
            victim[rng.randrange(len(victim))] ^= 1 << rng.randrange(8)
    try:
        check_schema("probe", decode_segment(forged_chunk(fields, bytes(table), bytes(columns))))
    except SegmentError as error:
        assert error.chunk == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "format version 2"),
        ({"chunk": 1}, "says it is chunk 1"),
        ({"host": "../../etc"}, "host '../../etc' does not match"),
        ({"host": "db-1\n"}, "does not match"),
        ({"host": None}, "host is None, not of type str"),
        ({"ip": "$(reboot)"}, "does not match"),
        ({"agent": "x" * 65}, "does not match"),
        ({"window": "20261121T220501Z"}, "multiple of 300 s"),
        ({"window": "../20261121T22"}, "no window id"),
        ({"window": "2026112T220500Z"}, "is spelt 20261102T220500Z"),
        ({"window_s": 7}, "try 60, 300 or 3600"),
        ({"rows": -1}, "rows is -1"),
        ({"rows": 2**40}, "rows is 1099511627776"),
        ({"rows": 2_000_000_000}, "more than 4000000 probes"),
        ({"rows": 1}, "columns of 0 bytes, not of 1 rows"),
        ({"rows": True}, "rows is True"),
        ({"body_bytes": 2**31}, "cut short"),
        ({"body_bytes": 0}, "in a body of 0"),
        ({"table_bytes": -5}, "table_bytes is -5"),
        ({"start_us": 2**62}, "not a time of this century"),
        ({"scheduled": 5, "sent": 3, "skipped": {"rate": 1}}, "no sum"),
        ({"skipped": {"rate": -1}}, "rate is -1"),
        ({"skipped": {"<script>": 0}}, "does not match"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(changes, reason):
    with pytest.raises(SegmentError, match=f"chunk 0: .*{reason}"):
        decode_segment(forged_chunk(header(**changes), packed(TABLE)))


@pytest.mark.parametrize("fields", [b"", b"[]", b"\xff", b"[" * 60_000, b'{"v": ' + b"9" * 5_000 + b"}"])
def test_a_header_that_is_no_json_object_is_refused(fields):
    with pytest.raises(SegmentError, match="chunk 0: "):
        verify_segment(forged_chunk(fields))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([["db-2", "10.0.0.2", 8765, "tcp", "intra_tor"]], "rows of 6"),
        ([["a", "::1", 1, "tcp", "x", 0], {}], "rows of 6"),
        ({"db-2": 1}, "rows of 6"),
        ([["-rf", "10.0.0.2", 8765, "tcp", "intra_tor", 0]], "name '-rf' does not match"),
        ([["a\nb", "10.0.0.2", 8765, "tcp", "intra_tor", 0]], "does not match"),
        ([["a", "example.org", 8765, "tcp", "intra_tor", 0]], "address 'example.org' does not match"),
        ([["a", "10.0.0.2", 65_536, "tcp", "intra_tor", 0]], "not in 0…65535"),
        ([["a", "10.0.0.2", 1.0, "tcp", "intra_tor", 0]], "a port that is not of type int"),
        ([["a", "10.0.0.2", 1, "TCP", "intra_tor", 0]], "protocol 'TCP' does not match"),
        ([["a", "10.0.0.2", 1, "tcp", None, 0]], "a scope that is not of type str"),
        ([["a", "10.0.0.2", 1, "tcp", "intra_tor", True]], "a payload_bytes that is not of type int"),
    ],
)
def test_a_target_table_that_no_inventory_can_make_is_refused(table, reason):
    with pytest.raises(SegmentError, match=f"chunk 0: target table.*{reason}"):
        verify_segment(forged_chunk(header(), packed(table)))


@pytest.mark.parametrize("tail", [b"x", packed([])])
def test_bytes_after_the_end_of_a_compressed_part_are_refused(tail):
    with pytest.raises(SegmentError, match="chunk 0: columns: its compressed bytes are too many"):
        decode_segment(forged_chunk(header(), packed(TABLE), zlib.compress(b"") + tail))


def test_a_first_chunk_without_a_target_table_is_refused():
    with pytest.raises(SegmentError, match="chunk 0: no target table"):
        decode_segment(chunk(ROWS))


@pytest.mark.parametrize("name", ["host", "ip", "window", "window_s"])
def test_a_chunk_of_another_host_or_window_is_refused(name):
    stranger = {"host": "db-7", "ip": "10.0.0.7", "window": "20261121T221000Z", "window_s": 60}[name]
    with pytest.raises(SegmentError, match=f"chunk 1: {name} is .*chunk 0 says"):
        verify_segment(chunk(ROWS, TABLE) + chunk(ROWS, number=1, **{name: stranger}))


def test_a_missing_chunk_is_refused():
    with pytest.raises(SegmentError, match="chunk 1: header: says it is chunk 2"):
        verify_segment(chunk(ROWS, TABLE) + chunk(ROWS, number=2))


@pytest.mark.parametrize("victim", ["table", "columns"])
def test_a_zip_bomb_costs_no_memory(victim):
    bomb = zlib.compress(bytes(100 << 20), 6)
    parts = {"table": packed(TABLE), victim: bomb}
    tracemalloc.start()
    with pytest.raises(SegmentError, match=r"chunk 0: .* bytes when unpacked"):
        decode_segment(forged_chunk(header(rows=10, scheduled=10, sent=10), **parts))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_ten_thousand_tiny_tables_do_not_take_a_quadratic_time():
    chunks = [forged_chunk(header(i), packed([[f"n{i}", "::1", 1, "tcp", "x", 0]])) for i in range(3_000)]
    started = time.process_time()
    assert len(verify_segment(b"".join(chunks)).targets) == 3_000
    assert time.process_time() - started < 2


def test_only_a_clean_answer_has_a_round_trip():
    rows = [
        (i, 0, 100 + i, 1, status, retransmits)
        for i, (status, retransmits) in enumerate([(0, 0), (0, 1), (1, 0), (6, 3)])
    ]
    data = segment([rows])
    assert decode_segment(data)["rtt_us"].to_list() == [100, None, None, None]
    assert read_columns(data).clean.tolist() == [True, False, False, False]


def test_unknown_header_fields_of_a_later_agent_are_no_fault():
    assert verify_segment(segment([ROWS], errors={"6": 1}, clock_step_us=-5, colour="blue")).rows == 3


def test_a_header_of_a_megabyte_is_not_even_parsed():
    with pytest.raises(SegmentError, match="a header of 1000000 bytes"):
        verify_segment(forged_chunk(json.dumps({"v": 1}).encode().ljust(1_000_000)))
