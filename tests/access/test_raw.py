"""The raw object: the log's bytes and where they came from, in one file that zstd can read."""

import json
import subprocess
import tracemalloc

import pytest

from pingmesh_tasks.access.raw import RawObjectError, read_raw, read_raw_header
from tests.support.raw_objects import raw_object

LOG = [b"one\r\n", b"two \xff\x00\n", b"three\n" * 1000]
HEADER = {
    "server": "east-1",
    "kind": "access",
    "window": "20261121T220500Z",
    "pieces": [{"path": "/log", "start": 100, "end": 100 + sum(map(len, LOG))}],
}


@pytest.fixture
def raw() -> bytes:
    return raw_object(HEADER, LOG)


def test_what_goes_in_comes_out_with_its_header(raw):
    assert read_raw_header(raw) == {"v": 1, **HEADER}
    assert b"".join(read_raw(raw)) == b"".join(LOG)


@pytest.mark.needs("zstd")
def test_the_zstd_command_unpacks_it_to_the_log_and_nothing_else(raw, tmp_path):
    (tmp_path / "raw.zst").write_bytes(raw)
    unpacked = subprocess.run(["zstd", "-dc", tmp_path / "raw.zst"], capture_output=True, check=True).stdout
    assert unpacked == b"".join(LOG)


def test_it_is_read_from_a_file_and_in_chunks_of_any_size(raw, tmp_path):
    (tmp_path / "raw.zst").write_bytes(raw)
    chunks = list(read_raw(tmp_path / "raw.zst", chunk_bytes=7))
    assert b"".join(chunks) == b"".join(LOG)
    assert max(map(len, chunks)) <= 7


def test_a_window_without_a_byte_is_an_object_too():
    empty = raw_object(HEADER | {"pieces": []}, [])
    assert list(read_raw(empty)) == []


def test_the_header_is_read_from_the_beginning_alone(raw):
    end = 8 + int.from_bytes(raw[4:8], "little")
    assert read_raw_header(raw[:end])["server"] == "east-1"


def test_half_a_gigabyte_is_read_in_little_memory():
    size = 512 * 2**20
    pieces = [{"start": 0, "end": size}]
    bomb = raw_object({"pieces": pieces}, (bytes(2**20) for _ in range(512)))
    tracemalloc.start()
    assert sum(map(len, read_raw(bomb))) == size
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_what_was_cut_short_or_is_a_stranger_is_refused(raw):
    for end in (0, 5, 20, len(raw) - 30, len(raw) - 5):
        with pytest.raises(RawObjectError):
            list(read_raw(raw[:end]))
    with pytest.raises(RawObjectError, match="no raw object"):
        read_raw_header(b"\x28\xb5\x2f\xfd plain zstd")


def test_a_flipped_bit_never_gives_other_bytes(raw):
    refused = 0
    for place in range(len(raw)):
        flipped = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        try:
            assert b"".join(read_raw(flipped)) == b"".join(LOG)  # a letter of the header, or a bit that means nothing
        except RawObjectError:
            refused += 1
    assert refused > 40


def test_a_later_version_is_refused_by_name():
    text = json.dumps({"v": 2}).encode()
    with pytest.raises(RawObjectError, match="not of version 1"):
        read_raw_header(b"\x50\x2a\x4d\x18" + len(text).to_bytes(4, "little") + text)
