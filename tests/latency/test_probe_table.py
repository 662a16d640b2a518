import io
import random

import polars as pl
import pytest

from pingmesh_tasks.errors import SegmentError
from pingmesh_tasks.latency.probe_table import write_probe_table
from pingmesh_tasks.latency.segment import decode_segment
from pingmesh_tasks.store.schemas import PROBE
from tests.support.segments import TABLE, chunk, segment


def random_segment(host, seed, rounds=4, table=TABLE):
    rng = random.Random(f"{host}{seed}")
    chunks = [
        [
            (
                i * 1_000,
                rng.randrange(len(table)),
                rng.randrange(10, 10**6),
                rng.randrange(2**16),
                rng.choice([0, 0, 0, 1]),
                0,
            )
            for i in range(rng.randrange(50))
        ]
        for _ in range(rounds)
    ]
    return segment(chunks, table, host=host, ip=f"10.0.0.{len(host)}")


def written(segments):
    sink = io.BytesIO()
    return write_probe_table(segments, sink), sink.getvalue()


SEGMENTS = [(host, random_segment(host, 1)) for host in ("db-1", "db-10", "db-2")]


def test_the_table_holds_what_the_segments_hold_under_its_own_schema():
    stats, data = written(SEGMENTS)
    table = pl.read_parquet(data)
    assert table.schema == PROBE
    expected = pl.concat([decode_segment(segment) for _, segment in SEGMENTS])
    assert (stats.segments, stats.rows, stats.damaged) == (3, len(expected), ())
    # Within a pair the order is that of the file, which a stable sort keeps.
    assert table.equals(expected.sort("src", "dst", "protocol", maintain_order=True))


def test_the_same_segments_make_the_same_bytes(tmp_path):
    _, first = written(SEGMENTS)
    write_probe_table(SEGMENTS, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == first


def test_a_damaged_segment_is_reported_and_the_others_are_written():
    good, broken, other = SEGMENTS
    flipped = bytearray(broken[1])
    flipped[-10] ^= 1
    stats, data = written([good, (broken[0], bytes(flipped)), ("empty", b""), other])
    assert [(host, type(error), error.chunk) for host, error in stats.damaged] == [
        ("db-10", SegmentError, 3),
        ("empty", SegmentError, 0),
    ]
    assert stats.segments == 2
    assert pl.read_parquet(data)["src"].unique().sort().to_list() == ["db-1", "db-2"]


def test_a_segment_filed_under_another_hosts_name_is_damaged():
    stats, data = written([("db-2", SEGMENTS[0][1])])
    assert "host is db-1, but the segment was filed under db-2" in str(stats.damaged[0][1])
    assert pl.read_parquet(data).is_empty()


@pytest.mark.parametrize("segments", [[], [("db-1", segment([[]], []))], [("db-1", b"nonsense")]])
def test_a_window_without_probes_is_an_empty_table_of_the_right_schema(segments):
    _, data = written(segments)
    assert pl.read_parquet(data).equals(pl.DataFrame(schema=PROBE))


def test_segments_are_taken_one_at_a_time():
    held = []

    def one_by_one():
        for item in SEGMENTS:
            held.append(item)
            yield item
            held.remove(item)
            assert not held

    assert written(one_by_one())[0].segments == 3


def test_more_targets_than_sixteen_bits_can_number_are_sorted_too():
    tables = [[[f"n{base + i}", "10.0.0.9", 1, "tcp", "x", 0] for i in range(40_000)] for base in (40_000, 0)]
    data = chunk([(0, 39_999, 7, 1, 0, 0), (1, 0, 8, 1, 0, 0)], tables[0]) + chunk([(0, 1, 9, 1, 0, 0)], tables[1], 1)
    _, parquet = written([("db-1", data)])
    assert pl.read_parquet(parquet).select("dst", "rtt_us").rows() == [("n1", 9), ("n40000", 8), ("n79999", 7)]
