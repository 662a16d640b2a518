"""Hours and days on a real S3 server: from the tables of windows to what the page and the report show."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.alerting.channel import Channels
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.matrix.codes import METRICS, decode
from pingmesh_tasks.pipeline import late_data, rollups
from pingmesh_tasks.pipeline.mesh_matrix import build_mesh_map
from pingmesh_tasks.pipeline.run import Part, Run
from pingmesh_tasks.queries import group_series, pairs
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_table, write_table
from pingmesh_tasks.topology.inventory import Inventory
from pingmesh_tasks.topology.pinglist import plan_document, plan_version
from pingmesh_tasks.windows import Window
from tests.support.merged_pairs import merge_pairs
from tests.support.mesh_frames import Faults, inventory_of, mesh_frame
from tests.support.page_api_server import TOKEN, page_app, serving

pytestmark = pytest.mark.integration
HOUR = Window.parse("20261121T220000Z", 3_600)
DAY = Window.parse("20261121T000000Z", 86_400)
INVENTORY = inventory_of(16)
NAMES = [host.name for host in INVENTORY.hosts]
FAULTS = Faults(dead=[NAMES[9]], slow_pairs={(NAMES[1], NAMES[2]): 300.0})
WINDOW_S = 900
WINDOWS = [Window(HOUR.start, WINDOW_S).shifted(step) for step in range(4)]


@pytest.fixture
def run(store, tmp_path):
    settings = load_settings(
        {"PINGMESH_INVENTORY": "unused", "PINGMESH_WINDOW_S": str(WINDOW_S), "PINGMESH_LEASE_S": "3600"}
    )
    access = SshAccess(username="nobody", private_key=tmp_path / "key", known_hosts=tmp_path / "known_hosts")
    return Run(HOUR, settings, store, access)


def measured(window: Window, inventory: Inventory = INVENTORY, faults: Faults = FAULTS) -> pl.DataFrame:
    return mesh_frame(inventory, window, seed=window.start.hour * 60 + window.start.minute, faults=faults)


def leave_window(run: Run, window: Window, inventory: Inventory = INVENTORY, shards: int = 2, **given) -> None:
    """Write what a run of `pingmesh` leaves of a window."""
    plan, names = plan_version(inventory), [host.name for host in inventory.hosts]
    run.store.put(layout.plan(plan), plan_document(inventory))
    frame = measured(window, inventory, **given)
    for i in range(shards):
        mine = names[len(names) * i // shards : len(names) * (i + 1) // shards]
        part = frame.filter(pl.col("src").is_in(mine)).sort("src", "dst", "protocol")
        write_table(run.store, "pair_latency", window, part, layout.shard(i, shards))
    build_mesh_map(replace(run, window=window), Part(plan, layout.shard(0, shards)))


def read_sorted(run: Run, table: str, window: Window) -> pl.DataFrame:
    return read_table(run.store, table, window).sort("src", "dst", "protocol")


def test_an_hour_says_of_every_pair_what_its_windows_say_together(run):
    for window in WINDOWS:
        leave_window(run, window)
    told = rollups.roll_up(run, "hour")
    assert (told["made_of"], told["missing"], told["rows"]) == (4, 0, 4 * 16 * 15)
    merged = read_sorted(run, "pair_latency_hour", HOUR)
    assert merged.equals(merge_pairs([measured(window) for window in WINDOWS], HOUR))
    assert told["pairs"] == merged.height
    assert told["silent"] == (merged["sent"] == 0).sum() == 15


def test_a_day_out_of_hours_is_a_day_out_of_windows(run):
    days_windows = []
    for start in (HOUR.shifted(-5), HOUR):
        windows = [Window(start.start, WINDOW_S).shifted(step) for step in range(4)]
        for window in windows:
            leave_window(run, window)
        rollups.roll_up(replace(run, window=start), "hour")
        days_windows += windows
    told = rollups.roll_up(run, "day")
    assert (told["made_of"], told["missing"]) == (2, 21)
    wanted = merge_pairs([measured(window) for window in days_windows], DAY)
    found = read_sorted(run, "pair_latency_day", DAY)
    assert found.drop("rtt_mean_us").equals(wanted.drop("rtt_mean_us"))
    assert np.allclose(found["rtt_mean_us"], wanted["rtt_mean_us"], rtol=1e-6, equal_nan=True)


def test_windows_that_come_late_are_counted_and_taken_in_by_the_next_run(run):
    for window in WINDOWS[:3]:
        leave_window(run, window)
    assert not rollups.is_ready(run)
    assert rollups.roll_up(run, "hour")["missing"] == 1
    leave_window(run, WINDOWS[3])
    assert rollups.is_ready(run)
    assert rollups.roll_up(run, "hour")["missing"] == 0
    assert read_sorted(run, "pair_latency_hour", HOUR)["sent"].max() == 4 * 30


def test_a_second_run_leaves_equal_objects(run):
    for window in WINDOWS:
        leave_window(run, window)

    def once() -> dict[str, bytes]:
        for level in ("hour", "day"):
            rollups.roll_up(run, level)
        keys = [key for key in run.store.keys("") if "_hour" in key or "_day" in key]
        return {key: run.store.get(key) for key in keys}

    first = once()
    assert once() == first
    assert len(first) == 2 * (2 + 5 + len(METRICS) + 1 + 2)


@pytest.mark.parametrize("shards", [(2, 5), (3, 3)])
def test_an_hour_in_which_the_division_or_the_inventory_changed_loses_and_doubles_nothing(run, shards):
    smaller = Inventory(INVENTORY.hosts[3:], has_topology=True)
    leave_window(run, WINDOWS[0], shards=shards[0])
    leave_window(run, WINDOWS[1], shards=shards[1])
    leave_window(run, WINDOWS[2], smaller, shards=3, faults=Faults())
    leave_window(run, WINDOWS[3], smaller, shards=3, faults=Faults())
    frames = [measured(window) for window in WINDOWS[:2]]
    frames += [measured(window, smaller, Faults()) for window in WINDOWS[2:]]
    rollups.roll_up(run, "hour")
    assert read_sorted(run, "pair_latency_hour", HOUR).equals(merge_pairs(frames, HOUR))
    assert len(run.store.keys(layout.table_prefix("pair_latency_hour", HOUR))) == 3


def test_what_was_made_of_more_windows_than_are_left_is_kept(run):
    for window in WINDOWS:
        leave_window(run, window)
    rollups.roll_up(run, "hour")
    for table in ("pair_latency", "group_latency"):
        run.store.delete(run.store.keys(layout.table_prefix(table, WINDOWS[0])))
    with pytest.raises(rollups.NothingToMerge, match="made of 4 windows, of which only 3 are left"):
        rollups.roll_up(run, "hour")
    assert read_sorted(run, "pair_latency_hour", HOUR)["sent"].max() == 4 * 30


def test_two_runs_that_end_close_what_a_late_one_opened_and_one_that_looks_back_does_not(run):
    file, now = AlertFile(run.store), datetime.now(UTC)
    late = late_data.late_data_finding("latency_rollups", "run", 2_700, now)
    late_data.notify_late_data(run.store, Channels([], {}), late, now, window_s=300)
    for looks_back, still_open in ((True, 1), (False, 1), (True, 1), (False, 0)):
        late_data.run_ended(replace(run, dispatches=not looks_back), "latency_rollups")
        assert len(file.load().open) == still_open


@pytest.mark.parametrize(("window_s", "level"), [(3_600, "hour"), (7_200, "hour"), (86_400, "day")])
def test_a_level_that_is_no_longer_than_a_window_is_left_out_with_the_reason(run, window_s, level):
    settings = run.settings.model_copy(update={"window_s": window_s})
    with pytest.raises(rollups.NothingToMerge, match=f"windows of {window_s} s are as long as a {level}"):
        rollups.roll_up(replace(run, settings=settings), level)


def test_a_day_of_long_windows_is_made_of_them(run):
    run = replace(run, settings=run.settings.model_copy(update={"window_s": 7_200}))
    for start in (0, 11):
        leave_window(run, Window(DAY.start, 7_200).shifted(start))
    assert rollups.roll_up(run, "day")["made_of"] == 2
    assert read_sorted(run, "pair_latency_day", DAY)["sent"].max() == 2 * 30


def test_an_hour_in_which_nothing_was_measured_is_none(run):
    with pytest.raises(rollups.NothingToMerge, match="nothing was measured in the hour 20261121T220000Z"):
        rollups.roll_up(run, "hour")
    assert not run.store.keys("tables/")


def test_the_report_says_who_kept_the_limits(run):
    for window in WINDOWS:
        leave_window(run, window)
    rollups.roll_up(run, "hour")
    report = read_table(run.store, "sla_hour", HOUR)
    assert set(report["kind"]) == {"mesh", "intra_tor", "intra_dc", "inter_dc", "dc", "podset"}
    hour = read_sorted(run, "pair_latency_hour", HOUR)
    judged = hour.filter(pl.col("sent") > 0)
    clean = judged["answered"] - judged["retransmitted"]
    limit = judged["scope"].replace_strict({"intra_tor": 5_000, "intra_dc": 5_000, "inter_dc": 300_000})
    within = ((judged["sent"] - clean) <= 0.005 * judged["sent"]) & (judged["rtt_p99_us"].fill_null(2**31) <= limit)
    mesh = report.filter(kind="mesh").row(0, named=True)
    assert (mesh["pairs"], mesh["within"]) == (judged.height, within.sum())
    assert mesh["loss"] == pytest.approx(judged["lost"].sum() / judged["sent"].sum())
    for kind in ("intra_tor", "intra_dc", "inter_dc"):
        row = report.filter(kind=kind).row(0, named=True)
        of = judged["scope"] == kind
        assert (row["pairs"], row["within"], row["sent"]) == (
            of.sum(),
            (within & of).sum(),
            judged.filter(of)["sent"].sum(),
        )
    for kind in ("dc", "podset"):
        assert report.filter(kind=kind)["within"].sum() == within.sum()
    slow = report.filter(kind="podset", src="dc1/podset1", dst="dc1/podset1").row(0, named=True)
    assert slow["within_share"] < 1
    text = run.store.get(layout.latest_artifact("sla_hour", "csv"))
    assert pl.read_csv(io.BytesIO(text)).height == report.height


def test_an_override_of_the_rules_is_an_override_of_the_report(run, tmp_path):
    leave_window(run, WINDOWS[0], faults=Faults())
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n  loss: {limit: 1.0}\nscopes:\n  - where: {podset: dc1/podset2}\n"
        "    rules: {latency_sla: {intra_tor_us: 1, intra_dc_us: 1, inter_dc_us: 1}}\n"
    )
    strict = replace(run, settings=run.settings.model_copy(update={"rules": str(rules)}))
    rollups.roll_up(strict, "hour")
    podsets = read_table(run.store, "sla_hour", HOUR).filter(kind="podset")
    touched = (podsets["src"] == "dc1/podset2") | (podsets["dst"] == "dc1/podset2")
    assert podsets.filter(touched)["within"].sum() == 0
    assert podsets.filter(~touched)["within_share"].unique().to_list() == [1.0]


def test_the_page_shows_hours_and_days_as_it_shows_windows(run):
    for window in WINDOWS:
        leave_window(run, window)
    page = Page(run.store, run.settings)
    assert page.boot()["levels"] == ["window"]
    for level in ("hour", "day"):
        rollups.roll_up(run, level)
    page = Page(run.store, run.settings)
    assert page.boot()["levels"] == ["window", "hour", "day"]
    exact = {"hour": read_sorted(run, "pair_latency_hour", HOUR), "day": read_sorted(run, "pair_latency_day", DAY)}
    for level, window in (("hour", HOUR), ("day", DAY)):
        told = page.windows(None, None, 10, level)
        assert (told["length_s"], [one["id"] for one in told["windows"]]) == (window.length_s, [window.id])
        at = page.window(window.id, level)
        src, dst = NAMES[12], NAMES[2]
        row = exact[level].filter(src=src, dst=dst).row(0, named=True)
        (shown,) = pairs.pair(page, at, src, dst)["protocols"]
        assert (shown["sent"], shown["rtt_p99_us"]) == (row["sent"], row["rtt_p99_us"]) == (4 * 30, row["rtt_p99_us"])
        codes, about = page.full(at, "p99")
        where = NAMES.index(src), NAMES.index(dst)
        assert decode(codes[where], "log") == pytest.approx(row["rtt_p99_us"], rel=0.0026)
        assert (about["made_of"], about["missing"]) == ((4, 0) if level == "hour" else (1, 22))
        mesh = group_series.groups(page, at, "mesh")["groups"][0]
        points = group_series.series(page, "mesh", None, None, window.start, window.end, 96, level)["points"]
        assert points == [{"window": window.id, **{name: mesh[name] for name in group_series.POINT}}]
        one = pairs.pair_series(page, src, dst, window.start, window.end, 60, level)["points"]
        assert [(point["window"], point["sent"]) for point in one] == [(window.id, 4 * 30)]


def test_the_pages_api_answers_at_every_level(run):
    for window in WINDOWS:
        leave_window(run, window)
    rollups.roll_up(run, "hour")
    with asking(run) as client:
        answer = client.get(f"matrix?window={HOUR.id}&level=hour&metric=p50")
        length = int.from_bytes(answer.content[4:8], "little")
        header = json.loads(answer.content[8 : 8 + length])
        assert (header["window"], header["level"], header["side"]) == (HOUR.id, "hour", 16)
        for path in ("worst?", "groups?of=tor&", "cdf?", f"pair?src={NAMES[0]}&dst={NAMES[1]}&"):
            assert client.get(f"{path}window={HOUR.id}&level=hour").json()["window"] == HOUR.id
        listed = client.get("windows?level=hour&from=20261025T000000Z&to=20261122T000000Z").json()
        assert [one["id"] for one in listed["windows"]] == [HOUR.id]
        assert client.get("windows?level=day").json()["windows"] == []
        answer = client.get(f"matrix?window={WINDOWS[1].id}&level=hour")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_window")


def test_a_level_that_says_what_windows_say_is_not_there(run):
    with asking(run, 3_600) as client:
        answer = client.get("windows?level=hour")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_level")


@contextmanager
def asking(run: Run, window_s: int = WINDOW_S) -> Iterator[httpx.Client]:
    with (
        serving(page_app(run.store, window_s)) as url,
        httpx.Client(base_url=f"{url}/api/v1/", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as client,
    ):
        yield client
