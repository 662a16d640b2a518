"""Collecting a log through a real SSH server into a real S3 server."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pingmesh_tasks.access.collect import CollectLimits, CollectOutcome, collect_log
from pingmesh_tasks.access.raw import read_raw
from pingmesh_tasks.fleet.connect import HostOutcome, Session, for_each_host
from pingmesh_tasks.fleet.keys import ensure_keys
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.windows import Window
from tests.support.fleet import LIMITS, FleetOfTest, running_fleet
from tests.support.log_host import LogHost, collected_lines

pytestmark = pytest.mark.integration
START = Window(datetime(2026, 11, 21, 22, 5, tzinfo=UTC), 300)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetOfTest]:
    with running_fleet(tmp_path, 1) as fleet:
        assert {o.outcome for o in ensure_keys(fleet.hosts, fleet.access, fleet.bootstrap, LIMITS)} == {"ok"}
        yield fleet


@dataclass
class Collection:
    """One log on a demo host, collected window by window."""

    fleet: FleetOfTest
    store: ObjectStore
    path: Path
    limits: CollectLimits = field(default_factory=CollectLimits)
    window: Window = START

    def next(self) -> CollectOutcome:
        """Collect the next window, as the stage does: within the fan-out."""
        found: list[CollectOutcome] = []

        async def work(session: Session) -> HostOutcome:
            found.append(
                await collect_log(session, "east", "access", str(self.path), self.window, self.store, self.limits)
            )
            return HostOutcome(session.host.name, "collect", "ok")

        [outcome] = for_each_host(self.fleet.hosts, work, self.fleet.access, LIMITS, stage="collect")
        assert outcome.outcome == "ok", outcome
        self.window = self.window.shifted(1)
        return found[-1]

    def raw(self) -> list[bytes]:
        return [self.store.get(key) for key in self.store.keys(layout.raw_log_prefix("access", "east"))]


@pytest.fixture
def collection(fleet: FleetOfTest, store: ObjectStore) -> Collection:
    directory = fleet.home(fleet.hosts[0].name) / "mdsplus"
    directory.mkdir()
    return Collection(fleet, store, directory / "access.log")


def test_a_log_comes_over_ssh_into_s3_whatever_its_rotation_does(collection):
    host = LogHost(collection.path.parent, random.Random(7), gzip_command=True)
    happened = []
    for act in (
        lambda: None,
        host.rotate,
        host.copytruncate,
        lambda: host.compress(host.rotated()[0]),
        lambda: host.rotate(create=False),
    ):
        host.append(2000)
        act()
        host.append(500)
        happened.append(collection.next().happened)
    happened.append(collection.next().happened)
    assert happened == ["first", "rotated", "truncated", "grown", "rotated", "quiet"]
    lines = collected_lines(collection.raw())
    assert set(lines.values()) == {1}
    assert set(lines) == host.written


def test_bytes_of_every_kind_come_as_they_were_written(collection):
    data = b"\r\n".join(os.urandom(1000) for _ in range(2000)) + b"\xff\x00\n"
    collection.path.write_bytes(data)
    outcome = collection.next()
    assert (outcome.new_bytes, outcome.backlog_bytes) == (len(data), 0)
    assert b"".join(read_raw(collection.raw()[0])) == data
    assert outcome.key == "raw/access/server=east/date=2026-11-21/hour=22/20261121T220500Z.log.zst"
    assert collection.store.find("control/cursor/east.access.json")


def test_a_gigabyte_without_an_end_is_taken_in_portions_of_bounded_size(collection):
    with collection.path.open("wb") as log:
        log.truncate(2**30)  # a sparse file: nothing but NUL bytes, no line
        log.seek(0)
        log.write(b"a line\n")
    collection.limits = CollectLimits(run_bytes=24 * 2**20)
    outcomes = [collection.next() for _ in range(2)]
    assert [o.new_bytes for o in outcomes] == [24 * 2**20 + 1, 24 * 2**20 + 1]  # and the newline that ends a portion
    assert outcomes[1].backlog_bytes == 2**30 - 48 * 2**20


def test_a_missing_log_and_a_retry_of_a_window_are_outcomes(collection):
    assert collection.next().happened == "missing"
    collection.path.write_bytes(b"one\n")
    first = collection.next()
    collection.path.write_bytes(b"one\ntwo\n")
    collection.window = collection.window.shifted(-1)
    again = collection.next()
    assert (first.happened, again.happened, again.new_bytes) == ("first", "adopted", 4)
    assert collection.next().new_bytes == 4
