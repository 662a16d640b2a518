"""The segment as the agent writes it: chunks that explain themselves and show every damage."""

from __future__ import annotations

import io
import json
from array import array
from pathlib import Path

import pytest
from pingmesh_agent.chunk import MAGIC, Damaged, decode_body, encode_chunk, read_chunks, window_id
from pingmesh_agent.commands import main

TABLE = [
    ["b", "127.0.0.22", 8765, "tcp", "intra_tor", 0],
    ["naïve; rm -rf /\n\ud83d", "::1", 1, "udp", "intra_dc", 64],
]
COLUMNS = [
    array("i", [-5, 1_000_000]),
    array("H", [0, 1]),
    array("I", [0, 0xFFFFFFFF]),
    array("H", [1, 65535]),
    array("B", [0, 9]),
    array("B", [0, 255]),
]
START_US = 1_795_298_700_000_000
HEADER = {
    "host": "a",
    "ip": "127.0.0.21",
    "window": "20261121T220500Z",
    "window_s": 60,
    "start_us": START_US,
}


def chunks(data: bytes) -> list[object]:
    return list(read_chunks(io.BytesIO(data)))


def test_a_chunk_gives_back_header_table_and_columns():
    data = encode_chunk(HEADER, TABLE, *COLUMNS)
    [(header, body)] = read_chunks(io.BytesIO(data))
    assert header.items() >= {**HEADER, "v": 1, "rows": 2}.items()
    assert decode_body(header, body) == (TABLE, COLUMNS)
    assert (
        len(data) == 8 + len(json.dumps(header, separators=(",", ":"))) + header["body_bytes"] + 4
    )


def test_a_chunk_without_a_table_says_so():
    [(header, body)] = read_chunks(io.BytesIO(encode_chunk(HEADER, None, *COLUMNS)))
    assert header["table_bytes"] == 0
    assert decode_body(header, body)[0] is None


def test_every_cut_and_every_flipped_byte_is_found_and_the_chunks_before_it_are_kept():
    sound = encode_chunk(HEADER, TABLE, *COLUMNS)
    torn = encode_chunk(HEADER, None, *COLUMNS)
    for at in range(1, len(torn)):
        damaged = torn[:at], torn[:at] + bytes([torn[at] ^ 0x40]) + torn[at + 1 :]
        for tail in damaged:
            reader = read_chunks(io.BytesIO(sound + tail))
            assert next(reader)[0]["rows"] == 2
            with pytest.raises(Damaged, match=f"chunk 1 at byte {len(sound)}: "):
                next(reader)


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b"[]", b"{}", b'{"body_bytes":-1}', b'{"body_bytes":"x"}', b"\xff"]
)
def test_a_header_that_is_not_one_is_damage_not_a_crash(header):
    with pytest.raises(Damaged):
        chunks(MAGIC + len(header).to_bytes(4, "little") + header + b"\0" * 100)


def test_windows_are_named_by_their_start():
    assert window_id(START_US) == "20261121T220500Z"


def test_dump_prints_the_fields_of_2018_first_and_stops_at_the_damage(tmp_path: Path, capsys):
    path = tmp_path / "20261121T220500Z.pms"
    path.write_bytes(encode_chunk(HEADER, TABLE, *COLUMNS) + b"PMS1 torn")
    assert main(["dump", str(path)]) == 1
    printed = capsys.readouterr()
    first, second = (json.loads(line) for line in printed.out.splitlines())
    assert list(first)[:10] == [
        "Timestamp",
        "SrcIP",
        "SrcPort",
        "DstIP",
        "DstPort",
        "Protocol",
        "ProbingType",
        "MsgLen",
        "RTT_us",
        "ErrCode",
    ]
    assert first["Timestamp"] == "2026-11-21T22:04:59.999995Z"
    assert (second["Dst"], second["RTT_us"], second["ErrCode"], second["Retransmits"]) == (
        TABLE[1][0],
        None,
        9,
        255,
    )
    assert "chunk 1 at byte" in printed.err
    assert "the 2 records before it are whole" in printed.err


def test_dump_of_what_is_no_segment_says_which_file(tmp_path: Path, capsys):
    assert main(["dump", str(tmp_path / "none.pms")]) == 1
    assert "none.pms" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["run"], ["fly", "--home", "x"], ["dump"], ["stop", "--home", "x", "--lab"]]
)
def test_a_command_that_does_not_exist_is_answered_with_the_usage(arguments, capsys):
    assert main(arguments) == 2
    assert "run --home DIR" in capsys.readouterr().err
