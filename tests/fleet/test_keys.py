"""The key pair of one machine and authorized_keys; the shell scripts run here in a home of their
own."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.keys import INSTALL_SCRIPT, REMOVE_SCRIPT, authorized_line
from pingmesh_tasks.fleet.private_key import key_of

LINE, BLOB = authorized_line(asyncssh.generate_private_key("ssh-ed25519"))


def run(script: str, home: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    command = ["/bin/sh", "-c", script, "sh", BLOB]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=20)


def install(home: Path) -> str:
    answer = run(INSTALL_SCRIPT, home, LINE + "\n")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.mark.needs("ssh-keygen")
def test_a_key_pair_is_made_once_and_private(tmp_path: Path):
    path = tmp_path / "ssh" / "id_ed25519"
    first = key_of(path).ensure()
    assert key_of(path).ensure() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True).returncode == 0


def test_two_runs_that_race_for_the_first_key_agree_on_one(tmp_path: Path):
    path = tmp_path / "id_ed25519"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: key_of(path).ensure(), range(16)))
    assert all(key == keys[0] for key in keys)


def test_a_file_that_is_no_key_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "id_ed25519"
    path.write_text("my notes")
    with pytest.raises(ConfigError, match="id_ed25519"):
        key_of(path).ensure()
    assert path.read_text() == "my notes"


def test_the_key_may_run_commands_and_nothing_else():
    options = asyncssh.import_authorized_keys(LINE).validate(asyncssh.import_public_key(LINE.split(" ", 1)[1]), "", "")
    assert options == {"restrict": True}


def test_the_key_may_be_narrowed_to_where_airflow_runs():
    line, _ = authorized_line(asyncssh.generate_private_key("ssh-ed25519"), ["10.1.0.0/16", "*.example.org"])
    assert line.startswith('restrict,from="10.1.0.0/16,*.example.org" ssh-ed25519 ')
    with pytest.raises(ConfigError, match="no source for a key"):
        authorized_line(asyncssh.generate_private_key("ssh-ed25519"), ['x" ssh-rsa AAAA'])


def test_the_key_is_added_to_a_home_that_never_saw_ssh(tmp_path: Path):
    assert install(tmp_path) == "added"
    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == LINE + "\n"
    assert (tmp_path / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (tmp_path / ".ssh").iterdir()] == ["authorized_keys"]


def test_the_key_is_added_once(tmp_path: Path):
    install(tmp_path)
    assert install(tmp_path) == "present"
    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == LINE + "\n"


def test_a_last_line_without_newline_is_not_damaged(tmp_path: Path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "authorized_keys").write_text("ssh-ed25519 AAAA alice")
    install(tmp_path)
    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == f"ssh-ed25519 AAAA alice\n{LINE}\n"


def test_a_key_that_was_commented_out_is_added_again(tmp_path: Path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "authorized_keys").write_text(f"# {LINE}\n")
    assert install(tmp_path) == "added"


def test_an_authorized_keys_that_is_a_link_stays_one(tmp_path: Path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / ".ssh" / "authorized_keys").symlink_to(tmp_path / "elsewhere")
    install(tmp_path)
    assert (tmp_path / ".ssh" / "authorized_keys").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == LINE + "\n"


def test_runs_that_install_at_the_same_time_add_one_line(tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: install(tmp_path), range(4)))
    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == LINE + "\n"


def test_removing_the_key_leaves_the_others(tmp_path: Path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "authorized_keys").write_text("ssh-ed25519 AAAA alice\n")
    install(tmp_path)
    assert run(REMOVE_SCRIPT, tmp_path).returncode == 0
    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == "ssh-ed25519 AAAA alice\n"
    assert [p.name for p in (tmp_path / ".ssh").iterdir()] == ["authorized_keys"]


def test_removing_the_key_twice_or_from_a_home_without_ssh_is_fine(tmp_path: Path):
    assert run(REMOVE_SCRIPT, tmp_path).returncode == 0
    install(tmp_path)
    assert run(REMOVE_SCRIPT, tmp_path).returncode == 0
    assert run(REMOVE_SCRIPT, tmp_path).returncode == 0
    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == ""
