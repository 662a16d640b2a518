"""Text of strangers on one line: nothing in it acts, and it is no longer than its limit."""

from __future__ import annotations

import random

import pytest

from pingmesh_tasks.text import cut, joined_lines, one_line, safe_bytes

HOSTILE = [
    *("\x1b[31mred", "a\u202eb", "a\nb\rc\td", "\ud800", "\U000e0041", "\u200b\u2028\x85"),
    *("\x00" * 300, "ä陈" * 90),
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("limit", [1, 5, 6, 120])
def test_one_line_prints_and_fits_its_limit_whatever_the_text(text, limit):
    for shown in (one_line(text, limit), joined_lines(text, limit)):
        assert shown.isprintable()
        assert len(shown) <= limit
        shown.encode()


def test_characters_that_do_not_print_are_spelled_by_their_code():
    assert one_line("a\u202eb\nc\x1b") == r"a\u202eb\u000ac\u001b"
    assert one_line("\U000e0041") == r"\U000e0041"
    assert one_line("\uffff\U0001000c") == r"\uffff\U0001000c"
    assert one_line("עדי 陈 é") == "עדי 陈 é"


def test_a_text_of_exactly_the_limit_is_whole_and_one_more_character_is_marked():
    assert one_line("a" * 120) == "a" * 120
    assert one_line("a" * 121) == "a" * 119 + "…"
    assert cut("a" * 5, 5) == "aaaaa"
    assert cut("a" * 6, 5) == "aaaa…"


def test_an_escape_is_never_cut_in_two():
    assert one_line("abc\u202edef", 9) == "abc…"
    assert one_line("abc\u202edef", 10) == r"abc\u202e…"
    assert safe_bytes(b"abc\xffdef", 7) == "abc…"
    assert safe_bytes(b"abc\xffdef", 8) == r"abc\xff…"


def test_cut_leaves_line_breaks_and_replaces_what_utf_8_cannot_encode():
    assert cut("a\nb", 9) == "a\nb"
    assert cut("\ud800x", 9) == "?x"


def test_lines_and_runs_of_white_space_become_single_spaces():
    assert joined_lines("  exit 1:\n\tno such\r\nfile ", 99) == "exit 1: no such file"
    assert joined_lines("\x07bell", 99) == r"\u0007bell"


def test_bytes_are_shown_as_utf_8_where_they_are_and_as_hexadecimal_where_not():
    assert safe_bytes("用户".encode(), 99) == "用户"
    assert safe_bytes(b"caf\xe9 \x1b\\x", 99) == r"caf\xe9 \x1b\\x"
    assert safe_bytes("\u202e".encode(), 99) == r"\xe2\x80\xae"


def test_bytes_that_differ_are_shown_differently():
    chance = random.Random(3)
    alphabet = b"\\x41\xe9\xc3\xa9\n"
    raws = {bytes(chance.choices(alphabet, k=chance.randint(1, 5))) for _ in range(3_000)}
    assert len({safe_bytes(raw, 99) for raw in raws}) == len(raws)
