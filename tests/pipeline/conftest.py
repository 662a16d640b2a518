"""A run of six hosts in two shards and a data server, without a server: objects in memory, hosts that are played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.windows import Window
from tests.support.fake_fleet import FakeFleet
from tests.support.memory_store import MemoryObjects

WINDOW = Window.parse("20261121T220500Z", 300)
HOSTS = [f"db-{number}" for number in range(1, 7)]
SERVER = "data1"


@pytest.fixture
def store() -> ObjectStore:
    return MemoryObjects()


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@pytest.fixture
def inventory_file(tmp_path: Path) -> Path:
    file = tmp_path / "inventory.yaml"
    hosts = [f"  - {{name: {name}, address: 10.0.0.{number}}}" for number, name in enumerate(HOSTS, 1)]
    server = (
        f"  - {{name: {SERVER}, address: 10.0.0.9, ssh_port: 2222, ssh_user: mds, path: {tmp_path}/access.log, "
        f"errors_path: {tmp_path}/errors.log, timezone: UTC}}"
    )
    file.write_text("\n".join(["hosts:", *hosts, "log_servers:", server, ""]))
    return file


@pytest.fixture
def new_run(inventory_file: Path, store: ObjectStore, fleet: FakeFleet, tmp_path: Path) -> Callable[..., Run]:
    """Return a run of WINDOW with some settings changed."""

    def new(window: Window = WINDOW, **changes: object) -> Run:
        environ = {
            "PINGMESH_INVENTORY": str(inventory_file),
            "PINGMESH_SHARD_SIZE": "3",
            "PINGMESH_COLLECT_GRACE_S": "7",
        } | {f"PINGMESH_{name.upper()}": str(value) for name, value in changes.items()}
        access = SshAccess("nobody", tmp_path / "known_hosts")
        return Run(window, load_settings(environ), store, access, stand_in=fleet)

    return new


@pytest.fixture
def run(new_run: Callable[..., Run]) -> Run:
    return new_run()
