"""The pinned host keys: read as OpenSSH reads known_hosts, changed only to pin."""

import asyncio
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.known_hosts import HOST_KEY_ALGORITHMS, KnownHosts, Pins, entry_name, without_names
from pingmesh_tasks.store.shared_text import FixedText, TextFile


def new_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def read(path: Path) -> KnownHosts:
    return KnownHosts(TextFile(path).read(), str(path))


def pin(path: Path, address: str, port: int, key: asyncssh.SSHKey) -> bool:
    async def pin_one() -> bool:
        return await Pins(TextFile(path)).pin(address, port, key)

    return asyncio.run(pin_one())


@pytest.mark.needs("ssh-keygen")
def test_a_host_is_named_as_ssh_keygen_looks_for_it(tmp_path: Path):
    path = tmp_path / "known_hosts"
    assert pin(path, "10.0.0.7", 2200, new_key())
    found = subprocess.run(["ssh-keygen", "-F", "[10.0.0.7]:2200", "-f", path], capture_output=True, text=True)
    assert found.returncode == 0 and "ssh-ed25519" in found.stdout
    assert entry_name("10.0.0.7", 22) == "10.0.0.7"


def test_a_pinned_host_is_known_after_a_new_reading_and_others_are_not(tmp_path: Path):
    path = tmp_path / "keys" / "known_hosts"
    pin(path, "10.0.0.7", 2200, new_key())
    known = read(path)
    assert known.knows("10.0.0.7", 2200)
    assert not known.knows("10.0.0.8", 2200)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_pin_of_the_same_key_adds_no_line_and_another_key_is_refused(tmp_path: Path):
    path, key = tmp_path / "known_hosts", new_key()
    assert pin(path, "10.0.0.7", 22, key)
    before = path.read_bytes()
    assert pin(path, "10.0.0.7", 22, key)
    assert not pin(path, "10.0.0.7", 22, new_key())
    assert path.read_bytes() == before


def test_lines_of_the_operator_stay_also_without_a_final_newline(tmp_path: Path):
    path = tmp_path / "known_hosts"
    theirs = f"# ours\n10.9.9.9 {new_key().export_public_key('openssh').decode().strip()}"
    path.write_text(theirs)
    pin(path, "10.0.0.7", 22, new_key())
    assert path.read_text().startswith(theirs + "\n10.0.0.7 ")


@pytest.mark.needs("ssh-keygen")
def test_a_host_is_found_behind_a_hashed_name_and_its_line_is_told(tmp_path: Path):
    path = tmp_path / "known_hosts"
    for address in ("10.0.0.6", "10.0.0.7"):
        pin(path, address, 22, new_key())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    assert "10.0.0.7" not in path.read_text()
    assert read(path).knows("10.0.0.7", 22)
    assert read(path).lines("10.0.0.7", 22) == [2]


def test_runs_that_pin_at_the_same_time_lose_no_line(tmp_path: Path):
    path = tmp_path / "known_hosts"
    keys = {f"10.0.1.{i}": new_key() for i in range(40)}
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda item: pin(path, item[0], 22, item[1]), keys.items()))
    assert all(read(path).knows(address, 22) for address in keys)
    assert len(path.read_text().splitlines()) == 40


def test_a_file_that_is_no_known_hosts_file_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "known_hosts"
    path.write_text("nonsense\n")
    with pytest.raises(ConfigError, match=r"known_hosts.*nonsense.*remove that line"):
        read(path)


def test_the_pinned_kind_of_key_is_asked_for_first_and_the_others_after_it(tmp_path: Path):
    path = tmp_path / "known_hosts"
    pin(path, "10.0.0.7", 22, asyncssh.generate_private_key("ecdsa-sha2-nistp384"))
    asked = read(path).algorithms("10.0.0.7", 22)
    assert asked is not None and asked[0] == "ecdsa-sha2-nistp384" and set(asked) == set(HOST_KEY_ALGORITHMS)
    assert read(path).algorithms("10.0.0.8", 22) == list(HOST_KEY_ALGORITHMS)


def test_a_host_that_an_authority_vouches_for_is_asked_for_its_certificate(tmp_path: Path):
    path = tmp_path / "known_hosts"
    path.write_text(f"@cert-authority 10.0.* {new_key().export_public_key('openssh').decode()}")
    assert read(path).knows("10.0.0.7", 22)
    assert read(path).algorithms("10.0.0.7", 22) is None


async def test_hosts_that_are_pinned_at_once_share_a_write(tmp_path: Path):
    changes = []

    class Counting(TextFile):
        def update(self, change):
            changes.append(1)
            return super().update(change)

    pins = Pins(Counting(tmp_path / "known_hosts"))
    keys = {f"10.0.1.{i}": new_key() for i in range(50)}
    assert all(await asyncio.gather(*(pins.pin(address, 22, key) for address, key in keys.items())))
    assert all(read(tmp_path / "known_hosts").knows(address, 22) for address in keys)
    assert len(changes) == 2, "the first pin, then all that came meanwhile"


async def test_a_pin_that_another_worker_was_quicker_with_is_seen_from_then_on(tmp_path: Path):
    path = tmp_path / "known_hosts"
    here, there = Pins(TextFile(path)), Pins(TextFile(path))
    assert await there.pin("10.0.0.7", 22, new_key())
    assert not await here.pin("10.0.0.7", 22, new_key())
    assert here.known.lines("10.0.0.7", 22) == [1]


async def test_a_write_that_fails_is_an_error_for_each_host_that_waits_for_it():
    pins = Pins(FixedText("", "the connection"))
    waiting = [pins.pin(f"10.0.0.{i}", 22, new_key()) for i in range(5)]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, ConfigError) for answer in answers)


def test_the_lines_of_a_host_are_told_among_names_patterns_and_other_ports():
    blob = new_key().export_public_key("openssh").decode().strip()
    text = "\n".join([f"10.0.0.7,db {blob}", f"10.0.0.* {blob}", f"[10.0.0.7]:2200 {blob}", "# 10.0.0.7", ""])
    known = KnownHosts(text, "text")
    assert known.lines("10.0.0.7", 22) == [1, 2]
    assert known.lines("10.0.0.7", 2200) == [2, 3]
    assert known.lines("10.0.1.7", 22) == []


def test_ten_thousand_refusals_index_the_text_once():
    blob = new_key().export_public_key("openssh").decode().strip()
    known = KnownHosts("\n".join(f"10.0.{i >> 8}.{i & 255} {blob}" for i in range(2_500)), "text")
    assert [known.lines(f"10.0.{i % 9}.{i % 250}", 22) for i in range(10_000)][-1] == [9999 % 9 * 256 + 249 + 1]


def test_a_comment_in_another_encoding_is_kept_as_it_is(tmp_path: Path):
    path = tmp_path / "known_hosts"
    theirs = b"10.9.9.9 " + new_key().export_public_key("openssh").strip() + b" r\xe9seau\n"
    path.write_bytes(theirs)
    pin(path, "10.0.0.7", 22, new_key())
    assert path.read_bytes().startswith(theirs)
    assert read(path).knows("10.9.9.9", 22)


def test_a_name_is_forgotten_and_other_names_and_lines_stay():
    text = "# 10.0.0.7\n10.0.0.7 k 1\n10.0.0.6,10.0.0.7 k 2\n[10.0.0.7]:2200 k 3\n10.0.0.* k 4\n"
    kept = "# 10.0.0.7\n10.0.0.6 k 2\n[10.0.0.7]:2200 k 3\n10.0.0.* k 4\n"
    assert without_names(text, {"10.0.0.7"}) == kept
    assert without_names(text, {"10.0.0.8"}) == text
