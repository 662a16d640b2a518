import json
from datetime import UTC, datetime

import pytest

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.latency.records_2018 import read_2018
from pingmesh_tasks.latency.summary import summarize_pairs
from pingmesh_tasks.store.schemas import check_schema
from pingmesh_tasks.windows import Window
from tests.support.samples import PINGMESH_2018

ENTRY = [1524502747, "192.168.1.1", 8910, "192.168.1.41", 8911, "tcp", "tor", 0, 0.000823, 0]


def file_of(tmp_path, *lines):
    file = tmp_path / "server-1.ndjson"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_the_responder_of_2018_becomes_the_destination(tmp_path):
    probes = read_2018(file_of(tmp_path, json.dumps({"host": "192.168.1.1", "num": 1, "entries": [ENTRY]})))
    check_schema("probe", probes)
    row = probes.row(0, named=True)
    assert row["ts"] == datetime(2018, 4, 23, 16, 59, 7, tzinfo=UTC)
    assert (row["src"], row["src_ip"], row["src_port"]) == ("192.168.1.41", "192.168.1.41", 8911)
    assert (row["dst"], row["dst_ip"], row["dst_port"]) == ("192.168.1.1", "192.168.1.1", 8910)
    assert (row["scope"], row["rtt_us"], row["err_code"]) == ("intra_tor", 823, 0)


def test_a_failed_probe_of_2018_has_no_round_trip(tmp_path):
    probes = read_2018(file_of(tmp_path, json.dumps({"entries": [[*ENTRY[:-1], -1]]})))
    assert probes.select("rtt_us", "err_code").row(0) == (None, 7)


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"entries": [[1, 2]]}', '{"entries": [[null, 1, 1, 1, 1, 1, 1, 1, 1, 1]]}']
)
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    with pytest.raises(StoreError, match=r"server-1\.ndjson:2: no record of 2018"):
        read_2018(file_of(tmp_path, json.dumps({"entries": [ENTRY]}), line))


def test_the_recordings_of_2018_are_a_full_mesh_of_eight_servers():
    probes = read_2018(PINGMESH_2018)
    assert len(probes) == 224
    pairs = summarize_pairs(probes, Window(datetime(2018, 4, 23, tzinfo=UTC), 86_400))
    assert len(pairs) == 56
    assert (pairs["answered"] == 4).all()
    assert pairs["src"].n_unique() == pairs["dst"].n_unique() == 8
    assert (pairs["src"] != pairs["dst"]).all()
