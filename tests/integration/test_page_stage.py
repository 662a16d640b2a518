"""The stage that makes a window ready for the page, from the tables that a run leaves."""

import pytest

from pingmesh_tasks.detect.mesh.baseline import update_baseline
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.matrix.codes import ALL_METRICS, decode
from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.pipeline.mesh_matrix import build_mesh_map
from pingmesh_tasks.pipeline.run import Part, Run
from pingmesh_tasks.queries import group_series, pairs, worst
from pingmesh_tasks.queries.page import Page
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import write_table
from pingmesh_tasks.topology.pinglist import plan_document, plan_version
from tests.support.mesh_frames import WINDOW, Faults, inventory_of, mesh_frame

pytestmark = pytest.mark.integration
INVENTORY = inventory_of(40)
NAMES = [host.name for host in INVENTORY.hosts]
PAIRS = mesh_frame(INVENTORY, faults=Faults(dead=[NAMES[9]], slow_pairs={(NAMES[1], NAMES[2]): 300.0}))


@pytest.fixture
def run(store, tmp_path):
    settings = load_settings({"PINGMESH_INVENTORY": "unused"})
    store.put(layout.plan(plan_version(INVENTORY)), plan_document(INVENTORY))
    for shard in (0, 1):
        names = NAMES[20 * shard : 20 * shard + 20]
        part = PAIRS.filter(PAIRS["src"].is_in(names))
        write_table(store, "pair_latency", WINDOW, part, layout.shard(shard, 2))
    access = SshAccess(username="nobody", private_key=tmp_path / "key", known_hosts=tmp_path / "known_hosts")
    return Run(WINDOW, settings, store, access)


PART = Part(plan_version(INVENTORY), layout.shard(0, 2))


def test_a_run_makes_the_window_ready_for_the_page(run):
    told = build_mesh_map(run, PART)
    page = Page(run.store, run.settings)
    at = page.window(WINDOW.id)
    matrix, about = page.full(at, "p99")
    assert (about["plan"], about["hosts"], about["window"]) == (PART.plan, 40, WINDOW.id)
    assert (matrix[:, 9] == State.FAILED).sum() == 39
    assert told == {
        "hosts": 40,
        "bytes": sum(entry.size for entry in run.store.entries("tables/mesh_map/"))
        + sum(entry.size for entry in run.store.entries("tables/group_latency/")),
    }
    top = worst.worst(page, at, "p99", 1, None, None)
    assert [(cell["src"], cell["dst"]) for cell in top["worst"]] == [(NAMES[1], NAMES[2])]
    assert [host["host"] for host in top["hosts"]] == [NAMES[9]]
    for src, dst in [(NAMES[0], NAMES[1]), (NAMES[25], NAMES[3]), (NAMES[39], NAMES[38])]:
        wanted = PAIRS.filter(src=src, dst=dst).row(0, named=True)
        (exact,) = pairs.pair(page, at, src, dst)["protocols"]
        assert exact["rtt_p99_us"] == wanted["rtt_p99_us"]
    mesh = group_series.groups(page, at, "mesh")["groups"][0]
    assert (mesh["pairs"], mesh["sent"]) == (PAIRS.height, PAIRS["sent"].sum())


def test_a_window_is_held_against_the_normal_of_before_it_and_never_of_itself(run):
    page, at = Page(run.store, run.settings), WINDOW.shifted(-1)
    write_table(run.store, "normal", WINDOW, update_baseline(None, PAIRS, INVENTORY))
    build_mesh_map(run, PART)
    matrix, told = page.full(page.window(WINDOW.id), "change")
    assert (told["normal"], told["cells"]["measured"]) == (None, 0)
    write_table(run.store, "normal", at, update_baseline(None, mesh_frame(INVENTORY, at, seed=3), INVENTORY))
    build_mesh_map(run, PART)
    page = Page(run.store, run.settings)
    matrix, told = page.full(page.window(WINDOW.id), "change")
    assert told["normal"] == at.id
    assert decode(matrix[1, 2:3], "ratio")[0] == pytest.approx(300, rel=0.5)
    assert (matrix[:, 9] == State.FAILED).sum() == 39
    (slow,) = pairs.pair(page, page.window(WINDOW.id), NAMES[1], NAMES[2])["protocols"]
    assert slow["rtt_p50_us"] / slow["normal_p50_us"] == pytest.approx(decode(matrix[1, 2:3], "ratio")[0], rel=0.01)
    assert slow["normal_windows"] == 1


def test_a_second_run_leaves_equal_objects(run):
    build_mesh_map(run, PART)
    before = {key: run.store.get(key) for key in run.store.keys("tables/") if "pair_latency" not in key}
    build_mesh_map(run, PART)
    assert {key: run.store.get(key) for key in before} == before
    assert len(before) == len(ALL_METRICS) + 5


def test_a_mesh_too_large_for_a_map_has_its_groups(run, monkeypatch):
    monkeypatch.setattr("pingmesh_tasks.matrix.build.MOST_HOSTS", 30)
    build_mesh_map(run, PART)
    assert not run.store.keys("tables/mesh_map/")
    assert len(run.store.keys("tables/group_latency/")) == 5
