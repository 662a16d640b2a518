"""One fleet, several workers: which key they log in with, and which host keys they trust. Real
servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from pingmesh_tasks.demo import fleet as demo
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet import private_key
from pingmesh_tasks.fleet.connect import HostOutcome, Session, SshAccess, for_each_host
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.fleet.known_hosts import KnownHosts
from pingmesh_tasks.fleet.live import Logins
from pingmesh_tasks.fleet.private_key import GivenKey, OwnKey
from pingmesh_tasks.fleet.ssh_options import SshOptions
from pingmesh_tasks.fleet.tailing import Follower
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.shared_text import FixedText, TextObject
from pingmesh_tasks.topology.inventory import Inventory
from tests.support.fleet import LIMITS, PASSWORD, FleetOfTest, running_fleet
from tests.support.follow import QUICK

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    with running_fleet(tmp_path) as fleet:
        yield fleet


@pytest.fixture
def record(store: ObjectStore) -> TextObject:
    return TextObject(store, layout.fleet_public_key())


def worker(fleet: FleetOfTest, store: ObjectStore, directory: Path) -> SshAccess:
    """A worker with a directory of its own and the bucket that all share."""
    return replace(
        fleet.access,
        private_key=OwnKey(directory / "id_ed25519", TextObject(store, layout.fleet_public_key())),
        known_hosts=TextObject(store, layout.pinned_host_keys(), directory / "known_hosts"),
    )


async def nothing(session: Session) -> HostOutcome:
    await session.run("exit 0")
    return HostOutcome(session.host.name, "test", "ok")


def log_in(fleet: FleetOfTest, access: SshAccess) -> list[str]:
    return [o.outcome for o in for_each_host(fleet.hosts, nothing, access, LIMITS, stage="test")]


def test_a_second_worker_without_the_key_makes_none_and_says_which_key_the_fleet_has(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path
):
    first, second = (worker(fleet, store, tmp_path / name) for name in ("first", "second"))
    assert [o.outcome for o in ensure_keys(fleet.hosts, first, fleet.bootstrap, LIMITS)] == [
        "ok",
        "ok",
    ]
    fingerprint = first.private_key.load().get_fingerprint()
    for attempt in (
        lambda: ensure_keys(fleet.hosts, second, fleet.bootstrap, LIMITS),
        lambda: ensure_keys(fleet.hosts, second, fleet.bootstrap, LIMITS, dry_run=True),
        lambda: log_in(fleet, second),
    ):
        with pytest.raises(ConfigError) as caught:
            attempt()
        for part in (
            fingerprint,
            layout.fleet_public_key(),
            "`private_key`",
            "pingmesh_ssh",
            "PINGMESH_SSH_DIR",
        ):
            assert part in str(caught.value)
    assert not (tmp_path / "second").exists()


def test_a_second_worker_with_the_key_trusts_the_hosts_that_the_first_pinned(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path
):
    first, second = (worker(fleet, store, tmp_path / name) for name in ("first", "second"))
    ensure_keys(fleet.hosts, first, fleet.bootstrap, LIMITS)
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "id_ed25519").write_bytes((tmp_path / "first" / "id_ed25519").read_bytes())
    assert [o.outcome for o in ensure_keys(fleet.hosts, second, None, LIMITS)] == ["unchanged"] * 2
    assert log_in(fleet, second) == ["ok", "ok"]
    assert not (tmp_path / "first" / "known_hosts").exists()


def test_with_the_key_in_the_connection_no_worker_needs_a_directory(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path
):
    key = asyncssh.generate_private_key("ssh-ed25519")
    text = key.export_private_key("openssh", passphrase="open sesame").decode()
    given = GivenKey("the connection", text, passphrase="open sesame", record=worker_record(store))
    access = replace(worker(fleet, store, tmp_path / "none"), private_key=given)
    assert [o.outcome for o in ensure_keys(fleet.hosts, access, fleet.bootstrap, LIMITS)] == [
        "ok",
        "ok",
    ]
    assert log_in(fleet, access) == ["ok", "ok"]
    assert not (tmp_path / "none").exists()
    without = worker(fleet, store, tmp_path / "none")
    with pytest.raises(ConfigError, match="SHA256:"):
        ensure_keys(fleet.hosts, without, fleet.bootstrap, LIMITS)
    assert text not in repr(access) and "open sesame" not in repr(access)


def worker_record(store: ObjectStore) -> TextObject:
    return TextObject(store, layout.fleet_public_key())


def test_pins_of_one_machine_move_to_the_bucket(fleet: FleetOfTest, store: ObjectStore, tmp_path: Path):
    ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)  # before there was a bucket for them
    pins = fleet.access.known_hosts.read_text()
    moved = worker(fleet, store, fleet.access.known_hosts.parent)
    assert log_in(fleet, moved) == ["ok", "ok"]
    assert store.get(layout.pinned_host_keys()).decode() == pins
    assert [o.outcome for o in ensure_keys(fleet.hosts, moved, None, LIMITS)] == ["unchanged"] * 2
    assert store.get(layout.fleet_public_key()).startswith(b"ssh-ed25519 "), "a key of before is recorded"


def test_a_host_key_that_differs_from_the_pin_in_the_bucket_is_refused_and_its_line_is_named(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    access = worker(fleet, store, tmp_path / "first")
    ensure_keys(fleet.hosts, access, fleet.bootstrap, LIMITS)
    pins = store.get(layout.pinned_host_keys())
    fleet.stop_host("host02")
    (fleet.demo.root / "host02" / "host_key").unlink()
    fleet.start_host("host02")
    asked = []
    monkeypatch.setattr(demo.DemoFleet, "accepts_password", lambda *args: asked.append(args) or True)
    found = ensure_keys(fleet.hosts, access, fleet.bootstrap, LIMITS)
    line = 1 + [b"127.0.0.12" in pin for pin in pins.splitlines()].index(True)
    assert [o.outcome for o in found] == ["unchanged", "host_key_changed"]
    assert f"line {line} of s3://{store.access.bucket}/{layout.pinned_host_keys()}" in found[1].detail
    assert asked == [] and store.get(layout.pinned_host_keys()) == pins


def test_a_password_of_the_fleet_is_offered_to_pinned_hosts_only(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    accepts = demo.DemoFleet.accepts_password
    monkeypatch.setattr(demo.DemoFleet, "accepts_password", lambda *args: asked.append(args[2]) or accepts(*args))
    access = replace(worker(fleet, store, tmp_path / "first"), private_key=None, password=PASSWORD)
    assert log_in(fleet, access) == ["host_key_unknown"] * 2
    assert asked == []
    ensure_keys(fleet.hosts, worker(fleet, store, tmp_path / "first"), fleet.bootstrap, LIMITS)
    asked.clear()
    assert log_in(fleet, access) == ["ok", "ok"]
    assert asked == [PASSWORD] * 2


def test_one_host_key_for_the_whole_fleet_is_taken_as_the_only_one(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path
):
    access = worker(fleet, store, tmp_path / "first")
    ensure_keys(fleet.hosts, access, fleet.bootstrap, LIMITS)
    known = KnownHosts(access.known_hosts.read(), "pins")
    host = fleet.hosts[0]
    key = known.entries.match(host.address, host.address, access.port)[0][0]
    line = f"* {key.export_public_key('openssh').decode()}"
    fixed = replace(access, known_hosts=FixedText(line, "extra host_key"))
    assert log_in(fleet, fixed) == ["ok", "host_key_changed"]


@pytest.mark.parametrize(
    "options",
    [
        SshOptions(ciphers=("aes128-ctr",)),
        SshOptions(compress=True),
        SshOptions(compress=False),
        SshOptions(disabled={"kex": ["curve25519-sha256"], "macs": ["hmac-sha1"], "pubkeys": ["ssh-rsa"]}),
        SshOptions(disabled={"keys": ["rsa-sha2-256"]}),
    ],
    ids=["ciphers", "compress", "no compression", "disabled", "host keys"],
)
def test_algorithms_of_the_connection_are_used(fleet: FleetOfTest, options: SshOptions):
    ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)
    used = {}

    async def look(session: Session) -> HostOutcome:
        connection = session.connection
        used["cipher"] = connection.get_extra_info("send_cipher")
        used["compression"] = connection.get_extra_info("send_compression")
        return HostOutcome(session.host.name, "test", "ok")

    access = replace(fleet.access, options=options)
    found = for_each_host(fleet.hosts[:1], look, access, LIMITS, stage="test")
    assert [(o.outcome, o.detail) for o in found] == [("ok", "")]
    if options.ciphers:
        assert used["cipher"] == "aes128-ctr"
    assert used["compression"] == ("zlib@openssh.com" if options.compress else "none")


# ------------------------------------------------------------------------------------ the first key


def test_workers_that_race_for_the_first_key_agree_on_one_and_the_others_keep_none(
    store: ObjectStore, record: TextObject, tmp_path: Path
):
    def make(number: int) -> asyncssh.SSHKey | None:
        try:
            return OwnKey(tmp_path / str(number) / "id_ed25519", record).ensure()
        except ConfigError:
            return None

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(make, range(6)))
    assert sum(key is not None for key in made) == 1
    assert [(tmp_path / str(n) / "id_ed25519").exists() for n in range(6)] == [key is not None for key in made]
    assert not list(tmp_path.rglob("*.unrecorded"))


@pytest.mark.parametrize("where", ["before it is recorded", "after it was recorded"])
def test_a_worker_that_is_killed_while_it_makes_the_key_goes_on_with_the_same_key(
    record: TextObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    path = tmp_path / "id_ed25519"

    class Killed(BaseException):
        pass

    def kill(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if where == "before it is recorded":
            patch.setattr(TextObject, "update", kill)
        else:
            patch.setattr(Path, "rename", kill)
        with pytest.raises(Killed):
            OwnKey(path, record).ensure()
    candidate = asyncssh.read_private_key(path.with_name("id_ed25519.unrecorded"))
    assert OwnKey(path, record).ensure() == candidate == OwnKey(path, record).load()
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")] == ["id_ed25519"]


def test_a_worker_with_another_key_than_the_fleets_is_told_both(record: TextObject, tmp_path: Path):
    first = OwnKey(tmp_path / "first" / "id", record).ensure()
    other = asyncssh.generate_private_key("ssh-ed25519")
    path = tmp_path / "second" / "id"
    path.parent.mkdir()
    path.write_bytes(other.export_private_key("openssh"))
    for attempt in (OwnKey(path, record).load, OwnKey(path, record).ensure):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert first.get_fingerprint() in str(caught.value) and other.get_fingerprint() in str(caught.value)


def test_a_new_key_in_the_connection_is_the_fleets_key_from_then_on(record: TextObject):
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
    for key in keys:
        GivenKey("the connection", key.export_private_key("openssh").decode(), record=record).ensure()
        assert private_key.public_line(key) == record.read()


# ------------------------------------------------------------------------------------ the triggerer


async def test_logins_for_days_see_a_host_that_another_worker_pinned_meanwhile(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pingmesh_tasks.fleet.live._RECHECK_S", 0)
    access = worker(fleet, store, tmp_path / "first")
    await asyncio.to_thread(ensure_keys, fleet.hosts[:1], access, fleet.bootstrap, LIMITS)
    logins = Logins(access, 5)
    async with logins.session(fleet.hosts[0]):
        pass
    await asyncio.to_thread(ensure_keys, fleet.hosts, access, fleet.bootstrap, LIMITS)
    async with logins.session(fleet.hosts[1]):
        pass


async def test_logins_for_days_go_on_with_what_they_read_while_the_bucket_is_down(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pingmesh_tasks.fleet.live._RECHECK_S", 0)
    access = worker(fleet, store, tmp_path / "first")
    await asyncio.to_thread(ensure_keys, fleet.hosts, access, fleet.bootstrap, LIMITS)
    logins = Logins(access, 5)
    await logins.trust()
    store.put(layout.pinned_host_keys(), b"damaged\n")
    async with logins.session(fleet.hosts[0]):
        pass
    with pytest.raises(ConfigError, match="damaged"):
        await Logins(access, 5).trust()


async def test_a_follower_without_the_fleets_key_reports_no_host_as_lost_and_starts_once_it_has_the_key(
    fleet: FleetOfTest, store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    first, second = (worker(fleet, store, tmp_path / name) for name in ("first", "second"))
    await asyncio.to_thread(ensure_keys, fleet.hosts, first, fleet.bootstrap, LIMITS)
    pieces: list[HotPiece] = []
    follower = Follower("0123abcd", second, lambda piece, notable: pieces.append(piece), QUICK)
    following = asyncio.create_task(follower.run(Inventory(tuple(fleet.hosts))))
    try:
        await asyncio.sleep(2)
        assert pieces == []
        assert "no host is followed" in caplog.text and "SHA256:" in caplog.text
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "id_ed25519").write_bytes((tmp_path / "first" / "id_ed25519").read_bytes())
        async with asyncio.timeout(20):
            while not any(contact.connected for contact in follower.roster.contacts):
                await asyncio.sleep(0.05)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
