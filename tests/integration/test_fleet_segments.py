"""Collect: segments from real SSH hosts, whole, damaged, late and absent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pingmesh_tasks.errors import ConfigError, SegmentError, StoreError
from pingmesh_tasks.fleet.connect import HostOutcome
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.fleet.segments import collect_segments
from pingmesh_tasks.latency.segment import verify_segment
from pingmesh_tasks.topology.inventory import Host
from pingmesh_tasks.windows import Window, window_containing
from tests.support.fleet import LIMITS, FleetOfTest, running_fleet
from tests.support.segments import segment

pytestmark = pytest.mark.integration

PAST = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)
ROWS = [(offset * 1000, offset % 3, 100 + offset, 40_000 + offset, 0, 0) for offset in range(50)]


class Collection:
    """What a collection delivered, and what it set aside."""

    def __init__(self) -> None:
        self.delivered: dict[str, bytes] = {}
        self.quarantined: dict[str, tuple[bytes, str]] = {}

    async def deliver(self, host: Host, data: bytes) -> None:
        self.delivered[host.name] = data

    async def quarantine(self, host: Host, data: bytes, reason: str) -> None:
        self.quarantined[host.name] = (data, reason)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    """Two hosts that know our key; no agents: the tests write the spools."""
    with running_fleet(tmp_path) as fleet:
        assert {o.outcome for o in ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)} == {"ok"}
        yield fleet


def good_segment(host: str, window: Window = PAST) -> bytes:
    start_us = int(window.start.timestamp()) * 1_000_000
    return segment([ROWS], host=host, window=window.id, window_s=window.length_s, start_us=start_us)


def spool(fleet: FleetOfTest, name: str, data: bytes, window: Window = PAST, ending: str = "pms") -> Path:
    directory = fleet.home(name) / ".pingmesh" / "spool"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{window.id}.{ending}"
    path.write_bytes(data)
    return path


def status(fleet: FleetOfTest, name: str, **fields: Any) -> None:
    directory = fleet.home(name) / ".pingmesh"
    directory.mkdir(exist_ok=True)
    (directory / "agent.json").write_text(json.dumps(fields))


def collect(
    fleet: FleetOfTest,
    window: Window = PAST,
    into: Collection | None = None,
    check: Callable[[bytes], Any] = verify_segment,
    **more: Any,
) -> list[HostOutcome]:
    into = into or Collection()
    return collect_segments(
        fleet.hosts,
        window,
        fleet.access,
        LIMITS,
        **{"check": check, "deliver": into.deliver, "quarantine": into.quarantine} | more,
    )


def test_every_host_hands_in_its_segment_and_keeps_it(fleet: FleetOfTest):
    segments = {host.name: good_segment(host.name) for host in fleet.hosts}
    paths = [spool(fleet, name, data) for name, data in segments.items()]
    got = Collection()
    found = collect(fleet, into=got)
    assert got.delivered == segments
    assert [(o.outcome, o.scheduled, o.skipped, o.segment_bytes) for o in found] == [
        ("ok", 50, 0, len(segments["host01"]))
    ] * 2
    assert (found[0].agent_version, found[0].pinglist_version) == ("0123456789abcdef", "fedcba9876543210")
    assert all(path.exists() for path in paths)


def test_a_window_collected_twice_is_the_same_bytes(fleet: FleetOfTest):
    for host in fleet.hosts:
        spool(fleet, host.name, good_segment(host.name))
    first, second = Collection(), Collection()
    collect(fleet, into=first)
    collect(fleet, into=second)
    assert first.delivered == second.delivered and len(first.delivered) == 2


def truncated(data: bytes) -> bytes:
    return data[:-5]


def bit_flipped(data: bytes) -> bytes:
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


def empty(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncated, bit_flipped, empty])
def test_a_damaged_segment_is_set_aside_and_the_others_arrive(fleet: FleetOfTest, damage: Callable[[bytes], bytes]):
    damaged = damage(good_segment("host01"))
    spool(fleet, "host01", damaged)
    spool(fleet, "host02", good_segment("host02"))
    got = Collection()
    found = collect(fleet, into=got)
    assert [o.outcome for o in found] == ["segment_damaged", "ok"]
    assert set(got.delivered) == {"host02"}
    assert got.quarantined["host01"] == (damaged, found[0].detail)
    assert "chunk 0" in found[0].detail


def test_a_segment_that_was_damaged_on_the_way_is_fetched_once_more(fleet: FleetOfTest):
    for host in fleet.hosts:
        spool(fleet, host.name, good_segment(host.name))
    seen: list[str] = []

    def check(data: bytes) -> Any:
        facts = verify_segment(data)
        seen.append(facts.host)
        if seen.count(facts.host) == 1:
            raise SegmentError(0, "a bit fell over")
        return facts

    got = Collection()
    assert [o.outcome for o in collect(fleet, into=got, check=check)] == ["ok", "ok"]
    assert sorted(seen) == ["host01", "host01", "host02", "host02"]
    assert got.quarantined == {}


def test_a_segment_of_another_host_or_window_is_not_taken(fleet: FleetOfTest):
    spool(fleet, "host01", good_segment("host02"))
    spool(fleet, "host02", good_segment("host02", PAST.shifted(-1)))
    got = Collection()
    found = collect(fleet, into=got)
    assert [o.outcome for o in found] == ["segment_damaged"] * 2
    assert "do they share ~/.pingmesh" in found[0].detail
    assert PAST.shifted(-1).id in found[1].detail
    assert got.delivered == {}


def test_a_store_that_is_down_ends_the_run_and_is_no_fault_of_a_host(fleet: FleetOfTest):
    spool(fleet, "host01", good_segment("host01"))
    spool(fleet, "host02", b"damaged")

    async def down(*_: Any) -> None:
        raise StoreError("the object store is down")

    with pytest.raises(StoreError, match="is down"):
        collect(fleet, deliver=down)
    with pytest.raises(StoreError, match="is down"):
        collect(fleet, quarantine=down)


def test_an_os_error_on_our_side_is_no_fault_of_a_host_either(fleet: FleetOfTest):
    spool(fleet, "host01", good_segment("host01"))

    async def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        collect(fleet, deliver=full)


def test_a_segment_that_is_not_ready_yet_is_waited_for(fleet: FleetOfTest):
    window = window_containing(datetime.now(UTC), 60).shifted(-1)
    part = spool(fleet, "host01", good_segment("host01", window), window, "part")
    threading.Timer(1.0, part.rename, [part.with_suffix(".pms")]).start()
    status(fleet, "host02", started_us=1)
    started = time.monotonic()
    found = collect(fleet, window, grace_s=8)
    assert [o.outcome for o in found] == ["ok", "no_segment"]
    assert found[0].duration_ms < 6000, "it is taken when it is there, not at the end of the grace"
    assert time.monotonic() - started < 8 + 5


def test_a_past_window_is_not_waited_for(fleet: FleetOfTest):
    status(fleet, "host01", started_us=1, window="20261121T220000Z")
    found = collect(fleet, grace_s=8)
    assert all(o.duration_ms < 3000 for o in found)
    assert [o.outcome for o in found] == ["no_segment"] * 2


def test_why_there_is_no_segment_is_told(fleet: FleetOfTest):
    status(fleet, "host01", started_us=1, last_error="No space left on device")
    found = collect(fleet)
    assert "No space left on device" in found[0].detail
    assert "no agent ever ran" in found[1].detail


def test_a_segment_that_was_begun_and_left_is_told(fleet: FleetOfTest):
    status(fleet, "host01", started_us=1)
    spool(fleet, "host01", b"half", ending="part")
    found = collect(fleet, grace_s=1)[0]
    assert (found.outcome, "not finished" in found.detail) == ("no_segment", True)


def test_an_agent_that_started_later_owes_nothing(fleet: FleetOfTest):
    for host in fleet.hosts:
        status(fleet, host.name, started_us=int(PAST.start.timestamp() * 1e6) + 1)
    spool(fleet, "host02", good_segment("host02"))
    assert [o.outcome for o in collect(fleet)] == ["no_data_yet", "ok"]


def test_a_status_of_nonsense_is_an_outcome(fleet: FleetOfTest):
    (fleet.home("host01") / ".pingmesh").mkdir()
    (fleet.home("host01") / ".pingmesh" / "agent.json").write_text("[" * 15_000)
    status(fleet, "host02", started_us="soon", last_error=["\x1b]0;owned\x07"])
    assert [o.outcome for o in collect(fleet)] == ["no_segment"] * 2


def test_a_segment_that_cannot_be_read_is_an_outcome(fleet: FleetOfTest):
    spool(fleet, "host02", good_segment("host02"))
    directory = fleet.home("host01") / ".pingmesh" / "spool"
    directory.mkdir(parents=True)
    (directory / f"{PAST.id}.pms").symlink_to("/proc/self/mem")
    assert [o.outcome for o in collect(fleet)] == ["failed", "ok"]


def test_a_host_that_sends_without_end_is_cut_off(fleet: FleetOfTest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pingmesh_tasks.fleet.segments.SEGMENT_LIMIT_BYTES", 4 * 1024 * 1024)
    directory = fleet.home("host01") / ".pingmesh" / "spool"
    directory.mkdir(parents=True)
    with (directory / f"{PAST.id}.pms").open("wb") as file:
        file.truncate(1 << 40)
    spool(fleet, "host02", good_segment("host02"))
    found = collect(fleet)
    assert [o.outcome for o in found] == ["failed", "ok"]
    assert "sent more than" in found[0].detail


def test_a_home_elsewhere_is_looked_into(fleet: FleetOfTest, tmp_path: Path):
    path = tmp_path / "data" / "pingmesh"
    (path / "spool").mkdir(parents=True)
    (path / "spool" / f"{PAST.id}.pms").write_bytes(good_segment("host01"))
    fleet.hosts = [replace(fleet.hosts[0])]
    assert collect(fleet, home=str(path))[0].outcome == "ok"
    with pytest.raises(ConfigError, match="pingmesh"):
        collect(fleet, home="/tmp; echo pingmesh")
