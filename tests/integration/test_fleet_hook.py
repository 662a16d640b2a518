"""Deploying the hook library: built by the host's own compiler, on real SSH hosts, and loaded as mdsip loads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pingmesh_tasks.demo.fleet import LOGIN_PATH, demo_hosts
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.connect import Answer, HostFault, HostOutcome
from pingmesh_tasks.fleet.hook import LIBRARY, HookSource, deploy_hook, parse_deploy
from pingmesh_tasks.fleet.keys import ensure_keys
from tests.support.fleet import LIMITS, FleetOfTest, running_fleet
from tests.support.hook import Hook, build, whole_lines

pytestmark = pytest.mark.integration
compiles = pytest.mark.needs("cc", "make")

DIRECTORY = "~/mdsplus/lib"
SOURCE = HookSource.load()
NEXT_SOURCE = replace(SOURCE, code=SOURCE.code + "/* the next release */\n")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    """Two hosts that know our key."""
    with keyed_fleet(tmp_path) as fleet:
        yield fleet


@contextmanager
def keyed_fleet(directory: Path, login_path: str = LOGIN_PATH) -> Iterator[FleetOfTest]:
    with running_fleet(directory, [replace(host, login_path=login_path) for host in demo_hosts(2)]) as fleet:
        assert {o.outcome for o in ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)} == {"ok"}
        yield fleet


def deploy(fleet: FleetOfTest, *, directory: str = DIRECTORY, dry_run: bool = False) -> list[HostOutcome]:
    return deploy_hook(fleet.hosts, fleet.access, LIMITS, directory=directory, dry_run=dry_run)


def place(fleet: FleetOfTest, host: str = "host01") -> Path:
    return fleet.home(host).resolve() / "mdsplus" / "lib"


@contextmanager
def running_mdsip(stubs: Hook, libraries: Path, *options: str) -> Iterator[int]:
    """Run the driver under the name of mdsip, with the deployed library loaded; its pid."""
    program = stubs.directory / "mdsip"
    program.unlink(missing_ok=True)
    shutil.copy(stubs.directory / "driver", program)
    env = {"LD_LIBRARY_PATH": f"{libraries}:{stubs.directory}"}
    with subprocess.Popen([program, LIBRARY, "pause", *options], env=env, stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:  # fmt: skip
        assert server.stderr is not None and server.stderr.readline() == b"ready\n"
        yield server.pid
        server.communicate(b"")


@compiles
def test_a_deploy_builds_a_library_that_a_server_can_load_and_leaves_nothing_else(fleet: FleetOfTest, tmp_path: Path):
    found = deploy(fleet)
    assert [(o.host, o.stage, o.outcome) for o in found] == [("host01", "hook", "ok"), ("host02", "hook", "ok")]
    assert found[0].detail.startswith(f"built {place(fleet)}/{LIBRARY}; ")
    for host in ("host01", "host02"):
        assert [p.name for p in place(fleet, host).iterdir()] == [LIBRARY]
        assert (place(fleet, host) / LIBRARY).stat().st_mode & 0o777 == 0o755
    stubs = build(tmp_path)
    (stubs.directory / LIBRARY).unlink()
    done = stubs.run("call", 7, "EAST", 1, 7, env={"LD_LIBRARY_PATH": f"{place(fleet)}:{tmp_path}"})
    assert whole_lines(done.stdout)[0]["node"].endswith("N000000007")


@compiles
def test_a_second_deploy_changes_nothing(fleet: FleetOfTest):
    deploy(fleet)
    before = (place(fleet) / LIBRARY).stat()
    assert [o.outcome for o in deploy(fleet)] == ["unchanged"] * 2
    after = (place(fleet) / LIBRARY).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@compiles
def test_a_library_that_an_administrator_built_by_hand_of_the_same_source_is_unchanged(
    fleet: FleetOfTest, tmp_path: Path
):
    place(fleet).mkdir(parents=True)
    (tmp_path / "by hand").mkdir()
    shutil.copy(build(tmp_path / "by hand").directory / LIBRARY, place(fleet))
    assert [o.outcome for o in deploy(fleet)] == ["unchanged", "ok"]


@compiles
def test_a_new_source_replaces_the_file_and_names_the_server_that_has_the_old_one(fleet: FleetOfTest, tmp_path: Path):
    stubs = build(tmp_path)
    deploy(fleet)
    with running_mdsip(stubs, place(fleet), "-m") as pid, running_mdsip(stubs, place(fleet)) as per_connection:
        assert str(pid) not in deploy(fleet)[0].detail  # it has what is there
        found = deploy_hook(fleet.hosts, fleet.access, LIMITS, directory=DIRECTORY, source=NEXT_SOURCE)
        assert found[0].outcome == "ok" and f"; restart pid {pid} (" in found[0].detail
        assert str(per_connection) not in found[0].detail
        again = deploy_hook(fleet.hosts, fleet.access, LIMITS, directory=DIRECTORY, source=NEXT_SOURCE)
        assert (
            again[0].outcome == "unchanged"
            and f"restart, unless it has opened no tree yet: pid {pid} (" in again[0].detail
        )
    with running_mdsip(stubs, place(fleet), "-m") as pid:
        again = deploy_hook(fleet.hosts, fleet.access, LIMITS, directory=DIRECTORY, source=NEXT_SOURCE)
        assert str(pid) not in again[0].detail


@compiles
def test_a_dry_run_looks_and_leaves_no_trace(fleet: FleetOfTest):
    found = deploy(fleet, dry_run=True)
    assert [o.outcome for o in found] == ["unchanged"] * 2 and "would build" in found[0].detail
    assert not place(fleet).exists()


@compiles
def test_a_library_of_another_maker_stays(fleet: FleetOfTest):
    place(fleet).mkdir(parents=True)
    theirs = place(fleet) / LIBRARY
    theirs.write_bytes(b"\x7fELF the laboratory's own")
    found = deploy(fleet)
    assert [o.outcome for o in found] == ["failed", "ok"] and "is not ours; move it away" in found[0].detail
    assert theirs.read_bytes() == b"\x7fELF the laboratory's own"


@compiles
def test_a_build_that_fails_says_why_and_leaves_the_old_library(fleet: FleetOfTest):
    deploy(fleet)
    before = (place(fleet) / LIBRARY).read_bytes()
    broken = replace(SOURCE, code=SOURCE.code + "#error the next release\n")
    [found, _] = deploy_hook(fleet.hosts, fleet.access, LIMITS, directory=DIRECTORY, source=broken)
    assert found.outcome == "failed" and "#error the next release" in found.detail
    assert [p.name for p in place(fleet).iterdir()] == [LIBRARY]
    assert (place(fleet) / LIBRARY).read_bytes() == before


@pytest.mark.needs("cc", "make", "mount")
def test_a_full_disk_is_told_as_such(fleet: FleetOfTest):
    full = fleet.home("host01") / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", full], check=True)
    try:
        assert deploy(fleet, directory="~/full")[0].outcome == "disk_full"
        assert list(full.iterdir()) == []
    finally:
        subprocess.run(["umount", full], check=True)


@pytest.mark.parametrize("missing", ["cc", "make"])
def test_a_host_without_a_compiler_or_make_is_told_apart(tmp_path: Path, missing: str):
    tools = tmp_path / "bin"
    tools.mkdir()
    needed = ["sh", "mkdir", "grep", "cat", "rm", "mv", "mktemp", "tr", "cp", "chmod", "head", "sed", "make", "cc"]
    for name in needed:
        if name != missing and (path := shutil.which(name)):
            (tools / name).symlink_to(path)
    python = shutil.which("python3")
    assert python
    (tools / "python3").symlink_to(python)
    with keyed_fleet(tmp_path, str(tools)) as fleet:
        for dry_run in (True, False):
            found = deploy(fleet, dry_run=dry_run)
            assert [o.outcome for o in found] == ["no_compiler"] * 2 and "install gcc and make" in found[0].detail


@compiles
def test_a_directory_that_cannot_be_made_is_a_failure_with_the_reason(fleet: FleetOfTest):
    (fleet.home("host01") / "mdsplus").write_text("a file")
    found = deploy(fleet)
    assert [o.outcome for o in found] == ["failed", "ok"] and "mdsplus" in found[0].detail


@compiles
def test_a_dead_host_does_not_hold_up_the_other(fleet: FleetOfTest):
    fleet.stop_host("host01")
    assert [o.outcome for o in deploy(fleet)] == ["unreachable", "ok"]


@pytest.mark.parametrize("directory", ["lib", "~", "/opt/../etc", "/opt/x y", "/opt/$(id)", "/opt/x\n", ""])
def test_a_directory_that_no_shell_should_see_is_refused_before_any_host_is_touched(fleet: FleetOfTest, directory: str):
    with pytest.raises(ConfigError, match="hook directory"):
        deploy(fleet, directory=directory)


@pytest.mark.parametrize(
    "said", [b"", b"library /x\n", b"library /x\nwhat\n", b"library /x\nold\nserver x other mdsip\n", b"\xff\n\n\n"]
)
def test_an_answer_that_is_none_is_a_failure(said: bytes):
    with pytest.raises(HostFault, match="failed"):
        parse_deploy(Answer(0, said, "", 0))


def test_what_a_compiler_says_on_the_way_is_no_part_of_the_answer():
    servers = b"server 7 other mdsip -p 8000 -m\nserver 8 other mdsip\n"
    said = b"cc: warning: library /opt is odd\nlibrary /x/lib.so\nnone\n" + servers
    state = parse_deploy(Answer(0, said, "", 0))
    assert (state.library, state.found) == ("/x/lib.so", "none")
    assert [(s.pid, s.command, s.must_restart) for s in state.servers] == [
        (7, "mdsip -p 8000 -m", True), (8, "mdsip", False),
    ]  # fmt: skip
