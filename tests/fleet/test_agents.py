"""Installing a release on a host: the programs that run there, on directories of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.agents import INSTALL_PROGRAM, LOOK_PROGRAM, AgentRelease, _transfer

OLD = AgentRelease({"__main__.py": b"print('old')\n", "both.py": b"old = 1\n", "gone.py": b"old = 2\n"})
NEW = AgentRelease({"__main__.py": b"print('new')\n", "both.py": b"new = 1\n", "more.py": b"new = 2\n"})

#: Ends the program, as a kill does, before its call number $2 of a function that changes a name on the disk.
DIE_BEFORE_A_CALL = """
import os, sys
calls = int(sys.argv[2])
def counted(function):
    def call(*arguments, **options):
        global calls
        calls -= 1
        if calls < 0:
            os._exit(99)
        return function(*arguments, **options)
    return call
for name in ("makedirs", "replace", "unlink", "rmdir", "symlink", "utime"):
    setattr(os, name, counted(getattr(os, name)))
"""


def install(home: Path, stdin: bytes, before: str = "", *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-S", "-c", before + INSTALL_PROGRAM, str(home), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def look(home: Path) -> dict[str, Any]:
    command = [sys.executable, "-I", "-S", "-c", LOOK_PROGRAM, str(home), "python3", "look"]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def output_of_the_agent(home: Path) -> str:
    return subprocess.run(
        [sys.executable, home / "agent.py"], capture_output=True, text=True, check=True
    ).stdout.strip()


def installed(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}


def whole(release: AgentRelease) -> set[str]:
    return {"agent.py", "install.lock", "lease"} | {
        f"releases/{release.version}/pingmesh_agent/{name}" for name in release.files
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "pingmesh home"


def test_a_release_is_installed_and_recognized(home: Path):
    assert look(home)["release"] == ""
    done = install(home, _transfer(OLD, b"{}"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert installed(home) == whole(OLD) | {"pinglist.json"}
    assert look(home)["release"] == OLD.version
    assert output_of_the_agent(home) == "old"
    assert {path.stat().st_mode & 0o077 for path in home.rglob("*")} == {0}


def test_the_next_release_replaces_it_whole(home: Path):
    install(home, _transfer(OLD, None))
    assert install(home, _transfer(NEW, None)).returncode == 0
    assert installed(home) == whole(NEW)
    assert (look(home)["release"], output_of_the_agent(home)) == (NEW.version, "new")


def test_a_ping_list_alone_leaves_the_release_as_it_is(home: Path):
    install(home, _transfer(OLD, None))
    before = {path: path.stat().st_mtime_ns for path in (home / "releases").rglob("*")}
    install(home, _transfer(None, b'{"version": "x"}'))
    assert (home / "pinglist.json").read_bytes() == b'{"version": "x"}'
    assert {path: path.stat().st_mtime_ns for path in (home / "releases").rglob("*")} == before


def test_a_host_with_the_release_that_was_one_file_is_upgraded(home: Path):
    (home / "__pycache__").mkdir(parents=True)
    (home / "__pycache__" / "agent.cpython-311.pyc").write_bytes(b"bytecode")
    (home / "agent.py").write_text("print('one file')")
    (home / "agent.json").write_text('{"agent_version": "0123456789abcdef"}')
    assert look(home)["release"] not in {"", NEW.version}
    assert install(home, _transfer(NEW, None)).returncode == 0
    assert installed(home) == whole(NEW) | {"agent.json"}
    assert output_of_the_agent(home) == "new"


@pytest.mark.parametrize("before", [None, OLD])
def test_a_kill_at_any_moment_leaves_the_old_release_or_the_new_one(tmp_path: Path, before: AgentRelease | None):
    """And the next dispatch completes what was begun."""
    states = set()
    for calls in range(40):
        home = tmp_path / f"killed at {calls}"
        if before:
            install(home, _transfer(before, None))
        done = install(home, _transfer(NEW, None), DIE_BEFORE_A_CALL, str(calls))
        states.add(look(home)["release"])
        if done.returncode == 0:
            break
        assert done.returncode == 99
        if look(home)["release"]:
            assert output_of_the_agent(home) in {"old", "new"}
        assert install(home, _transfer(NEW, None)).returncode == 0
        assert installed(home) == whole(NEW)
    else:
        pytest.fail("the program never came to its end")
    assert calls > 8
    assert states == {before.version if before else "", NEW.version}


def test_a_damaged_release_is_seen_and_repaired(home: Path):
    install(home, _transfer(OLD, None))
    package = home / "releases" / OLD.version / "pingmesh_agent"
    damages = [
        lambda: (package / "both.py").write_bytes(b""),
        lambda: (package / "both.py").unlink(),
        lambda: (package / "surplus.py").write_bytes(b""),
        lambda: (home / "agent.py").unlink(),
        lambda: (package.parent).rename(home / "elsewhere"),
    ]
    for damage in damages:
        damage()
        assert look(home)["release"] != OLD.version
        assert install(home, _transfer(OLD, None)).returncode == 0
        assert look(home)["release"] == OLD.version
        assert output_of_the_agent(home) == "old"


def test_stale_bytecode_does_not_outlive_the_file_it_was_made_of(home: Path):
    install(home, _transfer(OLD, None))
    cache = home / "releases" / OLD.version / "pingmesh_agent" / "__pycache__"
    cache.mkdir()
    install(home, _transfer(OLD, None))
    assert cache.exists()
    (cache.parent / "both.py").write_bytes(b"xxx = 1\n")
    install(home, _transfer(OLD, None))
    assert not cache.exists()


@pytest.mark.parametrize("cut", [1, 20, 500])
def test_a_transfer_that_was_cut_short_changes_nothing(home: Path, cut: int):
    install(home, _transfer(OLD, b"old list"))
    before = installed(home)
    done = install(home, _transfer(NEW, b"x" * 400)[:-cut])
    assert done.returncode != 0
    assert b"the transfer was cut short" in done.stderr
    assert installed(home) == before
    assert (home / "pinglist.json").read_bytes() == b"old list"


def test_installs_at_the_same_time_leave_one_whole_release(home: Path):
    for _ in range(3):
        running = []
        for release in (OLD, NEW, OLD, NEW):
            command = [sys.executable, "-I", "-S", "-c", INSTALL_PROGRAM, str(home)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            running.append((process, _transfer(release, None)))
        for process, stdin in running:
            assert process.stdin
            process.stdin.write(stdin)
            process.stdin.close()
        assert [process.wait() for process, _ in running] == [0] * 4
        version = look(home)["release"]
        assert installed(home) == whole(OLD if version == OLD.version else NEW)


def test_the_release_of_this_package_starts_from_its_installed_files(home: Path):
    release = AgentRelease.load()
    install(home, _transfer(release, None))
    for command in ([sys.executable], [sys.executable, "-I", "-S"]):
        words = [*command, home / "agent.py", "status", "--home", home]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["running"] is False


def test_a_directory_without_an_agent_is_not_a_release(tmp_path: Path):
    with pytest.raises(ConfigError, match="no agent in"):
        AgentRelease.load(tmp_path)
