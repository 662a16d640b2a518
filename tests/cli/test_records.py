"""`pingmesh dump` and `pingmesh import-2018`."""

import json

import polars as pl
import pytest
from click.testing import CliRunner

from pingmesh_tasks.cli.main import main
from pingmesh_tasks.store.schemas import check_schema
from tests.support.segments import segment

ROWS = [(0, 0, 823, 40001, 0, 0), (1_000, 2, 0, 40002, 1, 0)]
ENTRY = [1524502747, "192.168.1.1", 8910, "192.168.1.41", 8911, "tcp", "tor", 0, 0.000823, 0]


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "20261121T220500Z.pms").write_bytes(segment([ROWS]))
    return folder


@pytest.fixture
def records(tmp_path):
    file = tmp_path / "server-1.ndjson"
    file.write_text(json.dumps({"entries": [ENTRY, [*ENTRY[:-1], -1]]}) + "\n")
    return file


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_segment_becomes_lines_in_the_order_of_2018(spool):
    done = run("dump", spool)
    assert done.exit_code == 0
    header, first, second = [line.split("\t") for line in done.stdout.splitlines()]
    assert header[:4] == ["ts", "src_ip", "src_port", "dst_ip"]
    record = dict(zip(header, first, strict=True))
    assert record["ts"] == "2026-11-21T22:05:00.000000+00:00"
    assert (record["src"], record["dst"], record["rtt_us"]) == ("db-1", "db-2", "823")
    assert dict(zip(header, second, strict=True))["rtt_us"] == ""


def test_a_program_gets_one_object_a_record(spool):
    done = run("dump", "--json", spool / "20261121T220500Z.pms")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["rtt_us"] for record in objects] == [823, None]
    assert list(objects[0])[:2] == ["ts", "src_ip"]


def test_a_damaged_segment_is_named_and_the_others_are_printed(spool):
    (spool / "bad.pms").write_bytes(b"PMS0")
    done = run("dump", spool)
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr.startswith(f"error: {spool / 'bad.pms'}: chunk 0: ")
    assert len(done.stderr.splitlines()) == 1
    last = json.loads(run("dump", "--json", spool).stdout.splitlines()[-1])
    assert len(last["faults"]) == 1


def test_a_directory_without_segments_is_a_fault(tmp_path):
    done = run("dump", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == f"error: {tmp_path}: has no file *.pms. Name files, or a directory with some.\n"


def test_records_of_2018_become_a_file_of_the_table_probe(records, tmp_path):
    target = tmp_path / "probe.parquet"
    done = run("import-2018", records, "--output", target)
    assert done.exit_code == 0
    assert done.stdout.startswith("2 records of 1 pairs from 1 files, 2018-04-23T16:59:07+00:00 to")
    probes = pl.read_parquet(target)
    check_schema("probe", probes)
    assert probes["rtt_us"].to_list() == [823, None]


def test_a_program_gets_the_figures_of_an_import(records, tmp_path):
    target = tmp_path / "probe.parquet"
    document = json.loads(run("import-2018", records, "--output", target, "--json").stdout)
    assert (document["records"], document["failed"], document["pairs"]) == (2, 1, 1)
    assert document["written"] == str(target)
    assert document["faults"] == []


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_line_that_is_no_record_of_2018_ends_the_import(records, tmp_path, flags):
    records.write_text("hello\n")
    target = tmp_path / "probe.parquet"
    done = run("import-2018", records, "--output", target, *flags)
    assert done.exit_code == 1
    told = json.loads(done.stdout)["faults"][0] if flags else done.stderr
    assert "server-1.ndjson:1: no record of 2018" in told
    assert not target.exists()


def test_a_file_that_cannot_be_written_is_a_fault(records, tmp_path):
    done = run("import-2018", records, "--output", tmp_path / "no" / "such" / "probe.parquet")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr
