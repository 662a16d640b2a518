import base64
import gzip
import io
import json
import re
import subprocess
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from pingmesh_tasks.matrix.states import State
from pingmesh_tasks.render.mesh_cells import axis_for, build_mesh
from pingmesh_tasks.render.timeline import (
    NO_RTT,
    render_timeline,
    render_timeline_html,
    timeline_format,
    timeline_frames,
)
from pingmesh_tasks.topology.inventory import Host, Inventory
from tests.support.mesh_frames import WINDOW, Faults, inventory_of, mesh_frame
from tests.support.needs import chromium, require


def windows_of(inventory, count, dead_in=()):
    dead = inventory.hosts[len(inventory.hosts) // 2].name
    return [
        (
            WINDOW.shifted(i),
            mesh_frame(inventory, WINDOW.shifted(i), seed=i, faults=Faults(dead=[dead] * (i in dead_in)), ladder=False),
        )
        for i in range(count)
    ]


def page_of(html):
    """Return (page data, bytes of the cells) as the browser sees them."""
    page = json.loads(re.search(r"^const PAGE = (.*);$", html.decode(), re.M)[1])
    return page, gzip.decompress(base64.b64decode(re.search(r'^const BLOB = "(.*)";$', html.decode(), re.M)[1]))


def test_the_animation_has_a_frame_for_each_window_and_is_small():
    inventory = inventory_of(8, per_tor=2)
    data = render_timeline(windows_of(inventory, 12, dead_in=(5, 6)), inventory)
    image = Image.open(io.BytesIO(data))
    assert image.n_frames == 12 and image.format.lower() == timeline_format()
    assert len(data) < 1_000_000


def test_equal_windows_are_still_separate_frames_for_their_time_is_shown():
    inventory = inventory_of(4, per_tor=2)
    pairs = mesh_frame(inventory)
    frames = timeline_frames([(WINDOW.shifted(i), pairs) for i in range(3)], inventory)
    assert all((a != b).any() for a, b in pairwise(frames))


def test_frames_have_one_scale_so_that_a_slow_window_changes_only_its_own_cells():
    inventory = inventory_of(4, per_tor=2)
    a, b = (h.name for h in inventory.hosts[:2])
    calm, slow = mesh_frame(inventory), mesh_frame(inventory, faults=Faults(slow_pairs={(a, b): 100}))
    one, two = timeline_frames([(WINDOW, calm), (WINDOW.shifted(1), slow)], inventory)
    ys, xs = np.nonzero((one[170:] != two[170:]).any(axis=2))
    assert np.ptp(ys) < 64 and np.ptp(xs) < 64, "the header tells the time; below it one cell is different"


def test_the_same_windows_drawn_again_are_the_same_objects():
    inventory = inventory_of(4, per_tor=2)
    windows = windows_of(inventory, 3)
    assert render_timeline(windows, inventory) == render_timeline(windows[::-1], inventory)
    assert render_timeline_html(windows, inventory) == render_timeline_html(windows[::-1], inventory)


def test_the_page_names_no_address_outside_of_itself():
    html = render_timeline_html(windows_of(inventory_of(8), 3), inventory_of(8)).decode()
    assert not re.search(
        r"(https?:)?//[a-z0-9.-]+\.[a-z]", html.replace(re.search(r'BLOB = "(.*)"', html)[1], ""), re.I
    )
    assert not re.search(r"\b(src|href|action)\s*=|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", html)
    assert "default-src 'none'" in html


def test_the_page_carries_every_number_exactly():
    inventory = inventory_of(5, per_tor=5, dcs=1, podsets=1)
    windows = windows_of(inventory, 2, dead_in=(1,))
    page, cells = page_of(render_timeline_html(windows, inventory))
    n = 25
    assert len(cells) == 2 * n * (2 + 4 + 4 + 2 + 2 + 4 + 4 + 4 + 4)
    second = cells[len(cells) // 2 :]
    state = np.frombuffer(second[: 2 * n], dtype="<u2").reshape(5, 5)
    p50 = np.frombuffer(second[2 * n : 6 * n], dtype="<u4").reshape(5, 5)
    sent = np.frombuffer(second[14 * n : 18 * n], dtype="<u4").reshape(5, 5)
    assert page["states"] == {"NOT_PLANNED": 0, "MEASURED": 1, "UNCLEAN": 4093, "NO_DATA": 4094, "FAILED": 4095}
    assert state.tolist() == build_mesh(windows[1][1], axis_for(inventory), "rtt_p50_us").state.tolist()
    assert {*state.ravel().tolist()} == {State.NOT_PLANNED, State.MEASURED, State.NO_DATA, State.FAILED}
    names = page["axis"]["labels"]
    for src, dst, planned_sent, rtt in windows[1][1].select("src", "dst", "sent", "rtt_p50_us").iter_rows():
        at = names.index(src), names.index(dst)
        assert (sent[at], p50[at]) == (planned_sent, NO_RTT if rtt is None else rtt)


def test_a_page_of_a_large_mesh_holds_tors_and_no_more_windows_than_a_browser_bears():
    inventory = inventory_of(4_000, per_tor=10)
    pairs = mesh_frame(inventory_of(2), ladder=False)
    page, cells = page_of(render_timeline_html([(WINDOW.shifted(i), pairs) for i in range(20)], inventory))
    assert page["axis"]["kind"] == "ToR" and len(page["axis"]["labels"]) == 400
    assert len(page["windows"]) == 12 and len(cells) < 70e6
    assert page["windows"][-1]["id"] == WINDOW.shifted(19).id


HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "<img src=x onerror=document.title='owned'>",
)


def hostile_inventory():
    return Inventory(tuple(Host(name, f"10.0.0.{i}", dc=name) for i, name in enumerate(HOSTILE)), has_topology=True)


def test_a_hostile_name_cannot_close_the_script_that_holds_it():
    inventory = hostile_inventory()
    html = render_timeline_html(windows_of(inventory, 2), inventory).decode()
    assert html.lower().count("<script") == 1 == html.lower().count("</script")
    assert "<img" not in html and "<!--" not in html.replace("<!doctype", "")
    assert page_of(html.encode())[0]["axis"]["labels"] == [h.name for h in inventory.hosts]


@pytest.fixture
def opened(tmp_path):
    """Open a page in headless Chromium and return its DOM after `ms` of the page's own time."""
    require("chromium")

    def open_page(html, anchor="", ms=1_500):
        (tmp_path / "page.html").write_bytes(html)
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--hide-scrollbars",
        ]
        command = [
            chromium(),
            *flags,
            f"--virtual-time-budget={ms}",
            "--dump-dom",
            f"file://{tmp_path}/page.html{anchor}",
        ]
        return subprocess.run(command, capture_output=True, timeout=60, check=True, text=True).stdout

    return open_page


def shown(dom, element):
    return re.search(rf'id="{element}"[^>]*>(.*?)</', dom, re.S)[1]


@pytest.mark.integration
def test_a_permalink_opens_the_page_at_its_window_and_pair(opened):
    inventory = inventory_of(8, per_tor=2)
    html = render_timeline_html(windows_of(inventory, 6, dead_in=(2,)), inventory)
    dom = opened(html, "#window=3&metric=rtt_p99_us&cell=1,5")
    dead = inventory.hosts[4].name
    assert 'data-ready="yes"' in dom and shown(dom, "clock") == "22:15–22:20"
    assert "window 3 of 6" in shown(dom, "totals") and "7 pairs failed" in shown(dom, "totals")
    assert f"{inventory.hosts[0].name} → {dead}" in dom and "no probe was answered" in dom
    assert shown(opened(html), "clock") == "22:30–22:35", "without a permalink the newest window is shown"


@pytest.mark.integration
def test_play_moves_on_and_starts_again_after_the_last_window(opened):
    inventory = inventory_of(4, per_tor=2)
    html = render_timeline_html(windows_of(inventory, 3), inventory)
    moved = {
        int(re.search(r'data-window="(\d)"', opened(html, "#window=3&play", ms))[1]) for ms in (1_500, 2_400, 3_300)
    }
    assert moved >= {1, 2}


@pytest.mark.integration
def test_a_hostile_name_is_text_in_the_browser(opened):
    inventory = hostile_inventory()
    dom = opened(render_timeline_html(windows_of(inventory, 2), inventory), "#cell=1,2")
    assert 'data-ready="yes"' in dom and "<title>Pingmesh timeline</title>" in dom
    assert "<img" not in dom and "&lt;/script&gt;" in dom
