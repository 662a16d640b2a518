"""The known_hosts file: read as OpenSSH does, written only to pin."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.known_hosts import HOST_KEY_ALGORITHMS, KnownHosts, entry_name


def new_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def test_a_host_is_named_as_ssh_keygen_looks_for_it(tmp_path: Path):
    path = tmp_path / "known_hosts"
    assert KnownHosts(path).pin("10.0.0.7", 2200, new_key())
    found = subprocess.run(["ssh-keygen", "-F", "[10.0.0.7]:2200", "-f", path], capture_output=True, text=True)
    assert found.returncode == 0 and "ssh-ed25519" in found.stdout
    assert entry_name("10.0.0.7", 22) == "10.0.0.7"


def test_a_pinned_host_is_known_after_a_new_reading_and_others_are_not(tmp_path: Path):
    path = tmp_path / "keys" / "known_hosts"
    KnownHosts(path).pin("10.0.0.7", 2200, new_key())
    known = KnownHosts(path)
    assert known.knows("10.0.0.7", 2200)
    assert not known.knows("10.0.0.8", 2200)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_pin_of_the_same_key_adds_no_line_and_another_key_is_refused(tmp_path: Path):
    path, key = tmp_path / "known_hosts", new_key()
    assert KnownHosts(path).pin("10.0.0.7", 22, key)
    before = path.read_bytes()
    assert KnownHosts(path).pin("10.0.0.7", 22, key)
    assert not KnownHosts(path).pin("10.0.0.7", 22, new_key())
    assert path.read_bytes() == before


def test_lines_of_the_operator_stay_also_without_a_final_newline(tmp_path: Path):
    path = tmp_path / "known_hosts"
    theirs = f"# ours\n10.9.9.9 {new_key().export_public_key('openssh').decode().strip()}"
    path.write_text(theirs)
    KnownHosts(path).pin("10.0.0.7", 22, new_key())
    assert path.read_text().startswith(theirs + "\n10.0.0.7 ")


def test_a_host_is_found_behind_a_hashed_name_and_its_line_is_told(tmp_path: Path):
    path = tmp_path / "known_hosts"
    for address in ("10.0.0.6", "10.0.0.7"):
        KnownHosts(path).pin(address, 22, new_key())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    assert "10.0.0.7" not in path.read_text()
    assert KnownHosts(path).knows("10.0.0.7", 22)
    assert KnownHosts(path).lines("10.0.0.7", 22) == [2]


def test_runs_that_pin_at_the_same_time_lose_no_line(tmp_path: Path):
    path = tmp_path / "known_hosts"
    keys = {f"10.0.1.{i}": new_key() for i in range(40)}
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda item: KnownHosts(path).pin(item[0], 22, item[1]), keys.items()))
    assert all(KnownHosts(path).knows(address, 22) for address in keys)
    assert len(path.read_text().splitlines()) == 40


def test_a_file_that_is_no_known_hosts_file_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "known_hosts"
    path.write_text("nonsense\n")
    with pytest.raises(ConfigError, match=r"known_hosts.*nonsense.*remove that line"):
        KnownHosts(path)


def test_the_pinned_kind_of_key_is_asked_for_first_and_the_others_after_it(tmp_path: Path):
    path = tmp_path / "known_hosts"
    KnownHosts(path).pin("10.0.0.7", 22, asyncssh.generate_private_key("ecdsa-sha2-nistp384"))
    asked = KnownHosts(path).algorithms("10.0.0.7", 22)
    assert asked is not None and asked[0] == "ecdsa-sha2-nistp384" and set(asked) == set(HOST_KEY_ALGORITHMS)
    assert KnownHosts(path).algorithms("10.0.0.8", 22) == list(HOST_KEY_ALGORITHMS)


def test_a_host_that_an_authority_vouches_for_is_asked_for_its_certificate(tmp_path: Path):
    path = tmp_path / "known_hosts"
    path.write_text(f"@cert-authority 10.0.* {new_key().export_public_key('openssh').decode()}")
    assert KnownHosts(path).knows("10.0.0.7", 22)
    assert KnownHosts(path).algorithms("10.0.0.7", 22) is None
