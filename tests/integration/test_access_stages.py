"""The stages of the access logs on a real SSH host, with logs of a real MDSplus server, and a real S3 server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.pipeline import access_logs, usage_pictures
from pingmesh_tasks.pipeline.evaluate_windows import evaluate_access_window
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.tables import read_table
from pingmesh_tasks.windows import Window
from tests.support.fleet import FleetOfTest, running_fleet

pytestmark = pytest.mark.integration
SAMPLES = Path(__file__).parents[1] / "samples" / "mdsplus"
WINDOW = Window.parse("20261121T220500Z", 300)
LINES = (SAMPLES / "access-inetd.log").read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetOfTest]:
    with running_fleet(tmp_path_factory.mktemp("fleet"), 1) as fleet:
        yield fleet


@pytest.fixture
def logs(fleet: FleetOfTest) -> Iterator[Path]:
    """The data server's folder of logs, empty at first."""
    folder = fleet.home("host01") / "mdsip"
    folder.mkdir()
    yield folder
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.fixture
def run(fleet: FleetOfTest, store: ObjectStore, logs: Path, tmp_path: Path) -> Run:
    [host] = fleet.hosts
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        f"hosts: [{{name: {host.name}, address: {host.address}}}]\n"
        f"log_servers: [{{name: data1, address: {host.address}, path: {logs}/access.log, "
        f"errors_path: {logs}/errors.log, timezone: UTC}}]\n"
    )
    settings = load_settings({"PINGMESH_INVENTORY": str(inventory), "PINGMESH_SSH_TIMEOUT_S": "15"})
    return Run(WINDOW, settings, store, fleet.access, fleet.bootstrap)


def all_stages(run: Run) -> dict[str, int]:
    access_logs.collect_logs(run, "data1")
    counts = access_logs.build_access_tables(run, "data1")
    access_logs.pair_sessions(run, "data1")
    access_logs.summarize_usage(run, "data1")
    return counts


def rows(run: Run, table: str) -> int:
    return sum(read_table(run.store, table, run.window.shifted(step)).height for step in range(-1, 4))


def test_every_line_of_a_real_log_becomes_a_row_or_a_reject_once_whatever_the_windows_are(run, logs):
    half = len(LINES) // 2
    (logs / "access.log").write_bytes(b"".join(LINES[:half]))
    (logs / "errors.log").write_bytes((SAMPLES / "errors-inetd.log").read_bytes())
    first = all_stages(run)
    print(read_table(run.store, "log_status", WINDOW).rows(), run.store.keys("raw/"))
    with (logs / "access.log").open("ab") as log:
        log.write(b"".join(LINES[half:]) + b"a line that is still being wri")
    second = all_stages(replace(run, window=WINDOW.shifted(1)))
    assert first["lines"] == half
    assert first["lines"] + second["lines"] == len(LINES)
    for counts in (first, second):
        assert counts["lines"] == counts["client"] + counts["operation"] + counts["rejected"] + counts["dropped"]
    assert rows(run, "operation") == sum(b" called for tree=" in line for line in LINES)
    status = read_table(run.store, "log_status", WINDOW.shifted(1))
    assert status["backlog_bytes"].sum() == status["lost_bytes"].sum() == 0


def test_a_window_that_is_run_again_leaves_equal_objects(run, logs, store):
    (logs / "access.log").write_bytes(b"".join(LINES))

    def once() -> dict[str, bytes]:
        all_stages(run)
        kept = [key for root in ("raw/", "tables/", "quarantine/") for key in store.keys(root)]
        return {key: store.get(key) for key in kept if "/log_status/" not in key}  # which says adopted the second time

    assert once() == once()


def test_a_rotation_between_two_windows_loses_and_doubles_no_line(run, logs):
    third = len(LINES) // 3
    (logs / "access.log").write_bytes(b"".join(LINES[:third]))
    all_stages(run)
    with (logs / "access.log").open("ab") as log:
        log.write(b"".join(LINES[third : 2 * third]))
    (logs / "access.log").rename(logs / "access.log.1")
    (logs / "access.log").write_bytes(b"".join(LINES[2 * third :]))
    all_stages(replace(run, window=WINDOW.shifted(1)))
    assert rows(run, "operation") == sum(b" called for tree=" in line for line in LINES)


def test_open_sessions_are_carried_into_the_next_window(run, logs, store):
    (logs / "access.log").write_bytes(b"".join(LINES))
    all_stages(run)
    later = replace(run, window=WINDOW.shifted(1))
    all_stages(later)
    still_open = read_table(store, "session", WINDOW).filter(pl.col("ended_by").is_null())["session"].to_list()
    assert set(still_open) == set(read_table(store, "session", later.window)["session"].to_list())
    assert still_open


def test_a_log_that_is_missing_and_a_server_that_is_down_are_rows_of_log_status(run, fleet, store):
    access_logs.collect_logs(run, "data1")
    assert set(read_table(store, "log_status", WINDOW)["outcome"]) == {"missing"}
    fleet.stop_host("host01")
    try:
        access_logs.collect_logs(replace(run, window=WINDOW.shifted(1)), "data1")
    finally:
        fleet.start_host("host01")
    assert set(read_table(store, "log_status", WINDOW.shifted(1))["outcome"]) == {"unreachable"}
    assert access_logs.build_access_tables(run, "data1")["lines"] == 0


def test_a_server_that_is_down_is_a_finding_of_every_such_window(run, fleet, logs, store):
    (logs / "access.log").write_bytes(b"".join(LINES))
    fleet.stop_host("host01")
    try:
        all_stages(run)
    finally:
        fleet.start_host("host01")
    assert evaluate_access_window(run, "data1")["findings"] == 1
    [finding] = read_table(store, "anomaly", WINDOW).to_dicts()
    assert (finding["rule"], finding["scope"], finding["subject"]) == ("no_data", "log", "data1")
    assert "collection says unreachable" in finding["detail"]
    later = replace(run, window=WINDOW.shifted(1))
    all_stages(later)
    assert evaluate_access_window(later, "data1")["findings"] == 0


def test_a_maintenance_of_the_machine_is_one_of_the_data_server_on_it(run, logs, tmp_path):
    all_stages(run)
    assert evaluate_access_window(run, "data1")["findings"] == 1
    rules = tmp_path / "rules.yaml"
    rules.write_text("maintenance: [{where: {host: host01}, until: 2030-01-01T00:00:00Z}]")
    quiet = replace(run, settings=run.settings.model_copy(update={"rules": str(rules)}))
    seen = evaluate_access_window(quiet, "data1")
    assert (seen["findings"], seen["not_evaluated"]) == (0, 1)


def test_an_object_store_that_takes_nothing_is_not_told_of_the_server(run, logs, store):
    class Full:
        def __getattr__(self, name):
            return getattr(store, name)

        def create(self, key, data):
            raise StoreError("the object store is full")

    (logs / "access.log").write_bytes(b"".join(LINES))
    with pytest.raises(StoreError, match="is full"):
        access_logs.collect_logs(replace(run, store=Full()), "data1")
    assert read_table(store, "log_status", WINDOW).is_empty(), "there is nothing to judge"


def test_usage_is_drawn_for_the_window_and_its_day(run, logs, store):
    (logs / "access.log").write_bytes(b"".join(LINES))
    all_stages(run)
    keys = usage_pictures.draw_usage(run)
    for key in (layout.artifact("usage", WINDOW, "png"), layout.latest_artifact("usage_day", "html")):
        assert key in keys
        assert len(store.get(key)) > 1000


def test_usage_cannot_be_drawn_of_nothing(run):
    with pytest.raises(ConfigError, match="no usage to draw"):
        usage_pictures.draw_usage(run)


def test_a_server_that_left_the_inventory_is_named(run):
    with pytest.raises(ConfigError, match="no longer has the log server 'data9'"):
        access_logs.build_access_tables(run, "data9")
