"""The hook library, compiled and loaded as mdsip loads it, against stand-ins for MDSplus' own libraries."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.hook import SOURCE, TEMPLATE, Hook, build, whole_lines

pytestmark = pytest.mark.needs("cc", "make")

TYPES = [
    "OpenTree", "OpenTreeEdit", "RetrieveTree", "WriteTree", "CloseTree", "OpenNCIFileWrite", "OpenDataFileWrite",
    "GetData", "GetNci", "PutData", "PutNci",
]  # fmt: skip
QUIET = {"RetrieveTree", "OpenNCIFileWrite", "OpenDataFileWrite"}
EVERY_TYPE = [word for number in range(11) for word in (number, "EAST", 138001, 263)]
EXTENDED = {"PINGMESH_HOOK_EXTENDED": "on"}
NO_PATH, EMPTY, LONG, HOSTILE, COMES_BACK, CUT_OFF = range(-1, -7, -1)


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Hook:
    return build(tmp_path_factory.mktemp("hook"))


# ------------------------------------------------------------------------ the line


def test_a_line_is_the_one_of_the_grammar_byte_for_byte(hook: Hook):
    done = hook.run("call", 7, "EAST", -1, 263)
    date, _, rest = done.stdout.partition(b" (pid ")
    assert re.fullmatch(rb"\w{3} \w{3} [ 1-3]\d \d\d:\d\d:\d\d \d{4}", date)
    assert re.fullmatch(rb"\d+\) GetData called for tree=EAST, shot=-1, node=\\EAST::TOP\.MAGNETICS:N000000263\n", rest)


def test_the_extended_form_adds_node_id_thread_and_client(hook: Hook):
    done = hook.run("call", 7, "EAST", 1, 263, env=EXTENDED)
    assert re.search(
        rb", node=\\EAST::TOP\.MAGNETICS:N000000263, nid=263, thread=\d+, client=192\.0\.2\.17\n$", done.stdout
    )


def test_the_client_is_not_available_in_a_process_that_is_no_server(hook: Hook):
    [line] = hook.lines("call", 7, "EAST", 1, 263, env=EXTENDED | {"NO_MDSIP": "1"})
    assert line["client"] == "N/A"


def test_types_and_their_order_are_those_of_mdsplus_and_only_node_types_have_a_node(hook: Hook):
    lines = hook.lines("call", *EVERY_TYPE, env={"PINGMESH_HOOK_TYPES": "all"})
    assert [line["type"] for line in lines] == TYPES
    assert [line["node"] != "N/A" for line in lines] == [number >= 7 for number in range(11)]


def test_by_default_the_types_are_those_of_the_template(hook: Hook):
    assert [line["type"] for line in hook.lines("call", *EVERY_TYPE)] == [t for t in TYPES if t not in QUIET]


@pytest.mark.parametrize(
    ("wanted", "types"),
    [("GetData", {"GetData"}), (" putdata,PUTNCI ", {"PutData", "PutNci"}), ("none", set()), ("", set(TYPES) - QUIET)],
)
def test_the_environment_chooses_the_types(hook: Hook, wanted: str, types: set[str]):
    assert {line["type"] for line in hook.lines("call", *EVERY_TYPE, env={"PINGMESH_HOOK_TYPES": wanted})} == types


def test_a_type_that_does_not_exist_is_told_once_and_ignored(hook: Hook):
    done = hook.run("call", *EVERY_TYPE, env={"PINGMESH_HOOK_TYPES": "GetDta,GetNci"})
    assert [line["type"] for line in whole_lines(done.stdout)] == ["GetNci"]
    assert done.stderr == b"libTreeShrHooks: no such type in PINGMESH_HOOK_TYPES, ignored: GetDta\n"


def test_without_node_paths_the_tree_is_never_asked(hook: Hook):
    [line] = hook.lines("call", 7, "EAST", 1, COMES_BACK, env=EXTENDED | {"PINGMESH_HOOK_PATH": "off"})
    assert (line["node"], line["nid"]) == ("N/A", "-5")


def test_a_type_that_mdsplus_may_add_one_day_is_no_line_and_no_crash(hook: Hook):
    assert hook.lines("call", 11, "EAST", 1, 5, -1, "EAST", 1, 5, 4000, "EAST", 1, 5) == []


@pytest.mark.parametrize("nid", [NO_PATH, EMPTY])
def test_a_node_without_a_path_is_not_available(hook: Hook, nid: int):
    assert hook.lines("call", 7, "EAST", 1, nid)[0]["node"] == "N/A"


@pytest.mark.parametrize("tree", ["-", ""])
def test_a_tree_without_a_name_is_not_available(hook: Hook, tree: str):
    assert hook.lines("call", 0, tree, 1, 0)[0]["tree"] == "N/A"


def test_names_cannot_end_a_line_nor_look_like_another_field(hook: Hook):
    forged = "X\r\nSat Nov 21 22:49:07 2026 (pid 1) OpenTree called for tree=Y, shot=1"
    first, second = hook.lines("call", 0, forged, 1, 0, 7, "EAST", 1, HOSTILE)
    assert first["tree"].startswith(r"X\x0D\x0ASat\x20Nov\x2021") and first["tree"].endswith(r"tree=Y\x2C\x20shot=1")
    assert second["node"] == r"\EAST::A\x20B\x2CC\x09D\x0D\x0AE\x1B[31mF\x7FG\xC3\xA4\xFF\x2C\x20nid=7"


def test_a_very_long_name_is_cut_with_a_mark_and_the_line_stays_one_piece_for_a_pipe(hook: Hook):
    done = hook.run("call", 7, "T" * 50_000, -(2**31), LONG, 7, "EAST", 1, CUT_OFF, env=EXTENDED)
    long, cut = whole_lines(done.stdout)
    assert max(map(len, done.stdout.splitlines())) < 4096
    assert long["tree"] == "T" * 252 + "..." and long["node"] == "\\" + "A" * 3067 + "..." == cut["node"]
    assert long["client"] == "192.0.2.17"


def test_an_escape_is_never_cut_in_its_middle(hook: Hook):
    for size in range(240, 260):
        [line] = hook.lines("call", 0, "T" * size + "\n" * 9, 1, 0)
        assert re.fullmatch(r"T+(\\x0A)*(\.\.\.)", line["tree"]) and len(line["tree"]) < 256


def test_the_date_is_local_time_now(hook: Hook):
    tokyo = ZoneInfo("Asia/Tokyo")
    [line] = hook.lines("call", 7, "EAST", 1, 7, env={"TZ": "Asia/Tokyo"})
    said = datetime.strptime(line["date"], "%a %b %d %H:%M:%S %Y").replace(tzinfo=tokyo)
    assert abs(datetime.now(UTC) - said) < timedelta(seconds=20)
    assert line["date"][8] == " " or said.day > 9


@pytest.mark.needs("localedef")
def test_the_date_is_english_in_a_server_that_speaks_another_language(hook: Hook, tmp_path: Path):
    env = {"LOCPATH": str(tmp_path), "LC_TIME": "xx_XX"}
    make_locale(tmp_path)
    done = hook.run("names", env=env)
    assert done.stderr == b"Tag Mond\n", "the C library of the driver does not use the locale"
    assert len(whole_lines(done.stdout)) == 1  # the pattern holds the English names only


def make_locale(directory: Path) -> None:
    """Compile a locale in which every weekday is called Tag and every month Mond."""
    ascii_map = "".join(f"<U{code:04X}> /x{code:02x} X\n" for code in range(128))
    (directory / "map").write_text(
        f"<code_set_name> ANSI_X3.4-1968\n<comment_char> %\n<escape_char> /\nCHARMAP\n{ascii_map}END CHARMAP\n"
    )
    names = {"abday": ("Tag", 7), "day": ("Tag", 7), "abmon": ("Mond", 12), "mon": ("Mond", 12), "am_pm": ("", 2)}
    text = "".join(f"{key} {';'.join([chr(34) + word + chr(34)] * n)}\n" for key, (word, n) in names.items())
    formats = 'd_t_fmt "%c"\nd_fmt "%x"\nt_fmt "%T"\nt_fmt_ampm ""\n'
    (directory / "source").write_text(f"comment_char %\nescape_char /\nLC_TIME\n{text}{formats}END LC_TIME\n")
    command = ["localedef", "-c", "--no-archive", "-i", "source", "-f", "map", "./xx_XX"]
    subprocess.run(command, cwd=directory, check=False, capture_output=True)  # it warns, which is an exit code


# ------------------------------------------------------------------------ threads and processes


def test_threads_and_processes_that_share_a_log_write_whole_lines_each_exactly_once(hook: Hook, tmp_path: Path):
    processes, threads, calls = 8, 8, 400
    log = tmp_path / "access.log"
    with log.open("ab") as stdout:
        done = hook.run("storm", processes, threads, calls, stdout=stdout, env=EXTENDED)
    assert (done.returncode, done.stderr) == (0, b"")
    check_storm(whole_lines(log.read_bytes()), processes, threads, calls)


def test_the_same_through_a_pipe(hook: Hook):
    check_storm(hook.lines("storm", 4, 4, 400, env=EXTENDED), 4, 4, 400)


def check_storm(lines: list[dict[str, str]], processes: int, threads: int, calls: int) -> None:
    assert Counter(int(line["nid"]) for line in lines) == Counter(range(processes * threads * calls))
    assert len({line["pid"] for line in lines}) == processes
    assert len({line["thread"] for line in lines}) == processes * threads
    for line in lines:
        nid = int(line["nid"])
        assert line["node"].endswith(f"N{nid:09d}") and int(line["shot"]) == 138000 + nid % calls
        assert line["client"] == f"192.0.2.{17 + nid // calls}"
    assert len({(line["thread"], line["client"]) for line in lines}) == processes * threads


def test_the_check_sees_the_glued_lines_of_a_hook_that_buffers(hook: Hook, tmp_path: Path):
    log = tmp_path / "access.log"
    with log.open("ab") as stdout:
        done = hook.run("storm", 4, 1, 2000, hook=TEMPLATE, stdout=stdout, env={"TEMPLATE_FLUSH": "0"})
    assert done.returncode == 0
    with pytest.raises(AssertionError, match="not one whole line"):
        whole_lines(log.read_bytes())


@pytest.mark.parametrize("log", [b"", b"x\n", b"{line}{line}\n", b"{half}\n", b"{line}", b"{line}\n{half}{line}\n"])
def test_the_check_takes_nothing_but_whole_lines(hook: Hook, log: bytes):
    line = hook.run("call", 7, "EAST", 1, 7).stdout.rstrip(b"\n")
    assert len(whole_lines(line + b"\n" + line + b"\n")) == 2
    mutated = log.replace(b"{line}", line).replace(b"{half}", line[:70])
    if log:
        with pytest.raises(AssertionError, match=r"not one whole line|mid-line"):
            whole_lines(mutated)


def test_a_forked_child_says_its_own_process_id(hook: Hook):
    done = hook.run("fork")
    parent, child = done.stderr.decode().split()
    assert {(line["pid"], line["node"][-1]) for line in whole_lines(done.stdout)} == {
        (parent, "1"), (child, "2"), (parent, "3"),
    }  # fmt: skip


def test_a_tree_that_comes_back_to_the_hook_makes_one_line(hook: Hook):
    assert len(hook.lines("call", 7, "EAST", 1, COMES_BACK, 7, "EAST", 1, 9)) == 2


def test_a_thread_cancelled_in_the_hook_ends_after_its_line_and_leaks_nothing(hook: Hook):
    assert [line["node"][-2:] for line in hook.lines("cancel")] == ["11", "13"]


@pytest.mark.parametrize(
    ("sanitizer", "storm"),
    [
        pytest.param("address,undefined", (2, 4, 200), marks=pytest.mark.needs("asan")),
        pytest.param("thread", (2, 8, 200), marks=pytest.mark.needs("tsan")),
    ],
    ids=["ASan and UBSan", "TSan"],
)
def test_sanitizers_find_nothing(tmp_path: Path, sanitizer: str, storm: tuple[int, int, int]):
    flags = f"-O1 -g -fsanitize={sanitizer} -fno-sanitize-recover=all"
    built = build(tmp_path, flags)
    # Leaks are the driver's to count: the leak sanitizer's tracer crashes in containers that restrict ptrace.
    env = EXTENDED | {"PINGMESH_HOOK_TYPES": "all", "ASAN_OPTIONS": "detect_leaks=0"}
    check_storm(built.lines("storm", *storm, env=env), *storm)
    every_nid = [w for nid in range(-6, 3) for w in (7, "E\nT", 1, nid)] + [0, "-", 1, 0, 0, "T" * 9000, 1, 0]
    assert len(built.lines("call", *every_nid, env=env)) == 11


# ------------------------------------------------------------------------ a sick log


def test_a_full_disk_is_no_concern_of_the_server(hook: Hook):
    with Path("/dev/full").open("wb") as full:
        done = hook.run("call", *EVERY_TYPE, stdout=full)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_line_that_the_disk_took_half_is_written_whole_when_there_is_space_again(hook: Hook, tmp_path: Path):
    log = tmp_path / "access.log"
    with log.open("ab") as stdout:
        done = hook.run("full", stdout=stdout)
    assert (done.returncode, done.stderr) == (0, b"")  # no SIGXFSZ either
    before, after = log.read_bytes()[:1000], log.read_bytes()[1000:]
    whole, _, piece = before.rpartition(b"\n")
    size = before.index(b"\n") + 1
    assert (len(whole_lines(whole + b"\n")), len(piece)) == divmod(1000, size) and piece
    assert after.startswith(b"\n")
    assert [line["node"][-2:] for line in whole_lines(after[1:])] == ["20", "21", "22"]


def test_a_reader_that_went_away_kills_nobody(hook: Hook):
    read, write = os.pipe()
    os.close(read)
    done = hook.run("call", *EVERY_TYPE, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("moment", "lines"), [("closed", 0), ("swapped", 1), ("late", 0)])
def test_a_file_of_a_tree_that_took_the_place_of_standard_output_stays_as_it_is(
    hook: Hook, tmp_path: Path, moment: str, lines: int
):
    datafile, log = tmp_path / "east_138001.datafile", tmp_path / "access.log"
    datafile.write_bytes(b"precious")
    with log.open("ab") as stdout:
        for done in (hook.run(moment, datafile), hook.run(moment, datafile, stdout=stdout)):
            assert done.returncode == 0 and datafile.read_bytes() == b"precious"
            assert (b"standard output is no log" in done.stderr) == (lines == 0)
            assert len(whole_lines(done.stdout or log.read_bytes())) == lines


def test_a_server_without_standard_output_is_silent_for_good(hook: Hook, tmp_path: Path):
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" libTreeShrHooks.so call 7 EAST 1 7 >&-', hook.directory / "driver"],
        env={"LD_LIBRARY_PATH": str(hook.directory)}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"") and b"is no log" in done.stderr


def test_no_line_gets_into_the_conversation_with_a_client(hook: Hook):
    done = hook.run("inet")
    assert done.returncode == 0 and b"came over the connection: 0 bytes" in done.stderr


def test_a_log_kept_open_for_reading_too_is_a_log_if_it_is_appended_to(hook: Hook, tmp_path: Path):
    log = tmp_path / "access.log"
    with log.open("a+b") as stdout:
        hook.run("call", 7, "EAST", 1, 7, stdout=stdout)
    assert len(whole_lines(log.read_bytes())) == 1


def test_a_process_without_the_tree_library_is_told_and_still_logs(hook: Hook, tmp_path: Path):
    shutil.copy(hook.directory / "libTreeShrHooks.so", tmp_path)
    code = "import ctypes; ctypes.CDLL('./libTreeShrHooks.so').Notify(7, b'EAST', 1, 7)"
    done = subprocess.run(["python3", "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert b"TreeGetPath is not there" in done.stderr
    assert whole_lines(done.stdout)[0]["node"] == "N/A"


# ------------------------------------------------------------------------ the build


def test_the_library_offers_notify_and_nothing_else_and_says_its_source(hook: Hook):
    symbols = subprocess.run(["nm", "-D", "--defined-only", "libTreeShrHooks.so"], cwd=hook.directory,
                             capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    assert symbols[2::3] == ["Notify"]
    marks = re.findall(rb"pingmesh-hook-source=([0-9a-f]{64})", (hook.directory / "libTreeShrHooks.so").read_bytes())
    both = b"".join((SOURCE / name).read_bytes() for name in ("treeshr_hooks.c", "Makefile"))
    assert marks == [hashlib.sha256(both).hexdigest().encode()]


def test_install_puts_the_library_in_place_in_one_step(hook: Hook, tmp_path: Path):
    old = tmp_path / "libTreeShrHooks.so"
    old.write_bytes(b"old")
    with old.open("rb") as mapped:
        subprocess.run(["make", "install", f"DIR={tmp_path}"], cwd=hook.directory, check=True, capture_output=True)
        assert mapped.read() == b"old"
    assert old.read_bytes() == (hook.directory / "libTreeShrHooks.so").read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["libTreeShrHooks.so"]
