"""Hot batches: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import json
import random
import struct
from typing import get_args

import pytest
import zstandard

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import MAX_BATCH_BYTES, HotPiece, Kind, decode_batch, encode_batch

PIECES = [
    HotPiece("probe", "host01", "20261121T220500Z", 3, b"PMS1 and so on", 1_795_298_700_000_000, -1200),
    HotPiece("access", "data1", "2049:17.0", 1 << 40, b"line\n\0\xff\n", 1_795_298_700_000_001, skipped_bytes=7),
    HotPiece("lost_contact", "host02", "host", 0, b"", 1_795_298_700_000_002, detail="unreachable: Grüße \u202e"),
]


def frame(header: object, data: bytes = b"") -> bytes:
    packed = json.dumps(header).encode()
    return b"PMH1" + zstandard.compress(struct.pack("<I", len(packed)) + packed + data)


def test_a_batch_comes_back_as_it_was():
    assert decode_batch(encode_batch(PIECES)) == PIECES
    assert decode_batch(encode_batch([])) == []


def test_lines_are_packed():
    lines = HotPiece("access", "data1", "1:1.0", 0, b"Sat Nov 21 22:50:47 2026 (pid 8850) GetData\n" * 10_000, 1)
    assert len(encode_batch([lines])) < len(lines.data) / 50


GOOD = {"kind": "access", "source": "d", "stream": "s", "offset": 0, "read_at_us": 1, "n": 2}
GARBAGE = {
    "nothing": b"",
    "another file": b"PAR1" + b"\0" * 100,
    "no zstd": b"PMH1" + b"\0" * 100,
    "cut short": encode_batch(PIECES)[:-3],
    "no list": frame({}),
    "no piece": frame([1]),
    "no such kind": frame([GOOD | {"kind": "secret"}], b"xx"),
    "no such field": frame([GOOD | {"more": 1}], b"xx"),
    "a field is missing": frame([{"kind": "access", "n": 0}]),
    "a field of another type": frame([GOOD | {"offset": "0"}], b"xx"),
    "a negative length": frame([GOOD | {"n": -1}], b"xx"),
    "a length beyond the end": frame([GOOD | {"n": 3}], b"xx"),
    "bytes that are nobody's": frame([GOOD], b"xxx"),
    "a header beyond the end": b"PMH1" + zstandard.compress(struct.pack("<I", 500) + b"[]"),
    "too many pieces": frame([GOOD | {"n": 0}] * 5_000),
    "a bomb": b"PMH1" + zstandard.compress(bytes(2 * MAX_BATCH_BYTES)),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_with_the_name_of_its_key(data: bytes):
    with pytest.raises(StoreError, match="hot/123-x is no hot batch"):
        decode_batch(data, "hot/123-x")


def test_a_batch_with_any_byte_changed_is_refused_or_read_but_never_worse():
    chance = random.Random(4)
    whole = encode_batch(PIECES)
    refused = 0
    for _ in range(2_000):
        at = chance.randrange(len(whole))
        try:
            pieces = decode_batch(whole[:at] + chance.randbytes(1) + whole[at + 1 :])
        except StoreError:
            refused += 1
        else:
            assert {piece.kind for piece in pieces} <= set(get_args(Kind))
            assert sum(len(piece.data) for piece in pieces) == sum(len(piece.data) for piece in PIECES)
    assert 1_500 < refused < 2_000, "most changes break the frame or the header, a few change the data"


def test_more_than_a_batch_holds_is_refused_at_writing():
    with pytest.raises(StoreError, match="write several"):
        encode_batch([HotPiece("access", "d", "s", 0, bytes(MAX_BATCH_BYTES + 1), 1)])


def test_keys_sort_as_their_times_and_tell_time_and_mark():
    keys = [
        layout.hot_batch(ms, "0123abcd", 7, notable=ms % 2 == 1) for ms in (5, 1_795_298_700_000, 1_795_298_700_001)
    ]
    assert keys == sorted(keys) and len({len(key) for key in keys}) == 1
    assert [layout.hot_facts(key) for key in keys] == [(5, True), (1_795_298_700_000, False), (1_795_298_700_001, True)]
    assert keys[1] > layout.hot_since(1_795_298_700_000) > keys[0]
    assert layout.hot_facts("hot/state.json") is None
