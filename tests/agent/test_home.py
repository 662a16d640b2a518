"""The agent's directory: files are whole or as they were, and one agent has the lock."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest
from pingmesh_agent.errors import StartError
from pingmesh_agent.home import Home, lock_holder, take_lock


@pytest.fixture
def home(tmp_path):
    return Home(str(tmp_path / "deep" / "home"), make=True)


def test_a_home_is_made_private_and_only_where_that_is_wanted(home, tmp_path):
    assert (tmp_path / "deep" / "home").stat().st_mode & 0o777 == 0o700
    Home(home.path, make=True)
    with pytest.raises(FileNotFoundError):
        Home(str(tmp_path / "elsewhere"))


def test_a_file_is_replaced_whole_and_leaves_nothing_behind(home):
    home.append("state.tmp", b"of an agent that was killed")
    home.replace("state", b"first")
    home.replace("state", b"second")
    assert [path.name for path in Path(home.path).iterdir()] == ["state"]
    assert home.open("state").read() == b"second"
    assert home.stat("state").st_mode & 0o777 == 0o600


def test_an_append_that_does_not_fit_leaves_the_file_as_it_was(home):
    home.append("file", b"12345")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        with pytest.raises(OSError, match="No space left"):
            home.append("file", b"67890")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert home.open("file").read() == b"12345"
    home.append("file", b"678")
    assert home.open("file").read() == b"12345678"


def test_names_are_sorted_and_of_one_directory(home):
    home.make_directory("spool")
    home.make_directory("spool")
    for name in ("b", "c", "a"):
        home.append("spool/" + name, b"x")
    assert home.names("spool") == ["a", "b", "c"]
    home.rename("spool/c", "spool/d")
    home.remove("spool/a")
    home.truncate("spool/b", 0)
    assert home.names("spool") == ["b", "d"]
    assert home.stat("spool/b").st_size == 0


def test_a_signature_changes_with_what_a_file_has_and_when_it_is_touched(home):
    assert home.signature("lease") is None
    home.append("lease", b"")
    first = home.signature("lease")
    assert home.signature("lease") == first
    os.utime(Path(home.path, "lease"), ns=(1, 1))
    touched = home.signature("lease")
    home.append("lease", b"x")
    os.utime(Path(home.path, "lease"), ns=(1, 1))
    assert len({first, touched, home.signature("lease")}) == 3


def test_a_directory_that_was_removed_takes_nothing_any_more(home):
    Path(home.path).rmdir()
    Path(home.path).mkdir()
    with pytest.raises(FileNotFoundError):
        home.append("file", b"x")
    assert list(Path(home.path).iterdir()) == []


def test_the_lock_is_held_by_one_and_says_by_whom(home):
    assert lock_holder(home.path) is None
    fd = take_lock(home)
    assert lock_holder(home.path) == os.getpid()
    began_s = time.monotonic()
    with pytest.raises(StartError, match=rf"\(pid {os.getpid()}\) already runs in") as refused:
        take_lock(home)
    assert refused.value.code == 3
    assert time.monotonic() - began_s >= 9 * 0.02  # `status` has it for an instant
    os.close(fd)
    assert lock_holder(home.path) is None
    os.close(take_lock(home))
    assert home.open("agent.lock").read() == b"%d\n" % os.getpid()
    assert lock_holder(home.path + "x") is None
