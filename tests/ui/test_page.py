"""The page in a real Chromium, over made-up meshes: what a reader sees, and what no stranger's name may do to it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.made_up_mesh import HOSTILE, Mesh, serving

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    with serving(Mesh(1000, windows=6)) as address:
        yield address


def centre_of_cell(page: Any, row: int, column: int) -> tuple[float, float]:
    """Where a cell of a mesh of eight is on the screen."""
    box = page.locator("#cells").bounding_box()
    side = box["width"] / 8
    return box["x"] + side * (column + 0.5), box["y"] + side * (row + 0.5)


def at_rest(page: Any, expression: str, unlike: Any = None) -> Any:
    """What an expression is once it stays so, and is another than before: the view is written 140 ms after a move."""
    last = unlike
    for _ in range(100):
        now = page.evaluate(expression)
        if now == last != unlike:
            return now
        last = now
        page.wait_for_timeout(200)
    raise AssertionError(f"{expression} is {last!r} all the time, or never the same")


def colours_of_cells(page: Any) -> int:
    """How many colours the map shows: one means that nothing was drawn."""
    return page.evaluate(
        """() => {
        const c = document.getElementById("cells"), image = c.getContext("2d").getImageData(0, 0, c.width, c.height);
        return new Set(new Uint32Array(image.data.buffer)).size; }"""
    )


# ---- the map --------------------------------------------------------------------------------------------------------


def test_the_first_heatmap_is_of_the_newest_window_and_says_in_words_who_is_missing(demo: str, open_page: OpenPage):
    page = open_page(demo)
    assert colours_of_cells(page) > 5
    assert "02:55" in page.inner_text("#clock")
    page.wait_for_selector("#worst li.ringed")
    assert "host03" in page.inner_text("#verdict")
    assert "1 host sends no data: \u2068host06" in page.inner_text("#verdict")
    worst = page.inner_text("#worst").splitlines()
    assert worst[1:3] == ["host03", "unreachable"]


def test_the_tooltip_names_the_pair_its_figure_and_its_probes(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.mouse.move(*centre_of_cell(page, 0, 3))
    page.get_by_text("30 of 30 answered").wait_for()
    tip = page.inner_text("#tip")
    assert "host01 → host04" in tip
    assert "µs" in tip
    page.mouse.move(*centre_of_cell(page, 0, 2))
    page.locator("#tip", has_text="failed: no probe was answered").wait_for()
    page.mouse.move(*centre_of_cell(page, 5, 0))
    page.locator("#tip", has_text="no data: the source sent nothing").wait_for()
    page.mouse.move(*centre_of_cell(page, 4, 4))
    page.locator("#tip", has_text="not planned").wait_for()


def test_the_whole_mesh_is_seen_at_first_and_after_the_window_was_resized(demo: str, open_page: OpenPage):
    page = open_page(demo, reduced_motion="no-preference")
    page.wait_for_selector("#worst li.ringed")
    expression = "JSON.stringify(document.getElementById('cells').getBoundingClientRect())"
    box = page.evaluate(expression)
    for size in ({"width": 1100, "height": 700}, {"width": 1328, "height": 892}):
        page.set_viewport_size(size)
        box = at_rest(page, expression, unlike=box)
        page.mouse.move(*centre_of_cell(page, 7, 0))
        page.locator("#tip", has_text="host08 → host01").wait_for()
        assert page.evaluate("location.hash") == ""


def test_zoom_keeps_the_cell_under_the_pointer_and_pan_moves_it(large: str, open_page: OpenPage):
    page = open_page(large)
    box = page.locator("#cells").bounding_box()
    px, py = box["width"] * 0.7, box["height"] * 0.3
    page.mouse.move(box["x"] + px, box["y"] + py)
    for _ in range(8):
        page.mouse.wheel(0, -240)

    def under_pointer(before: str) -> tuple[float, float, float]:
        x, y, zoom = map(float, at_rest(page, "location.hash", before).split("at=")[1].split("&")[0].split(","))
        return x + px / zoom, y + py / zoom, zoom

    x, y, zoom = under_pointer(before="")
    assert zoom > 8
    assert x == pytest.approx(700, abs=2)
    assert y == pytest.approx(300, abs=2)
    zoomed = page.evaluate("location.hash")
    page.mouse.down()
    page.mouse.move(box["x"] + px - 100, box["y"] + py + 50, steps=5)
    page.mouse.up()
    panned = under_pointer(before=zoomed)
    assert panned[0] - x == pytest.approx(100 / zoom, abs=0.3)
    assert y - panned[1] == pytest.approx(50 / zoom, abs=0.3)


def wait_for_hash(page: Any, part: str, present: bool = True) -> None:
    for _ in range(200):
        if (part in page.evaluate("location.hash")) == present:
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"{part!r} is {'not ' if present else ''}in {page.evaluate('location.hash')}")


def test_a_dead_host_survives_pooling(large: str, open_page: OpenPage):
    page = open_page(large)
    page.wait_for_selector("#worst li.ringed")
    red = page.evaluate(
        """() => {
        const c = document.getElementById("cells"), d = c.getContext("2d").getImageData(0, 0, c.width, 12).data;
        let n = 0;
        for (let i = 0; i < d.length; i += 4) if (d[i] === 200 && d[i + 1] === 30 && d[i + 2] === 58) n++;
        return n; }"""
    )
    assert red > 100


def test_a_double_click_drills_from_dc_to_podset_to_tor_to_the_pair_and_escape_goes_up(large: str, open_page: OpenPage):
    page = open_page(large)
    box = page.locator("#cells").bounding_box()
    x, y = box["x"] + box["width"] * 0.31, box["y"] + box["height"] * 0.66
    depths = []
    link = ""
    for _ in range(4):
        page.mouse.dblclick(x, y)
        link = at_rest(page, "decodeURIComponent(location.hash)", unlike=link)
        depths.append(link.split("sel=")[1].split("&")[0])
    assert depths[0].split(">")[0] == "dc2"
    assert [depth.split(">")[0].count("/") for depth in depths[:3]] == [0, 1, 2]
    assert depths[3].startswith("d2p")
    assert page.locator("#crumbs button").count() == 4
    page.wait_for_selector("#picked dl")
    page.focus("#overlay")
    page.keyboard.press("Escape")
    wait_for_hash(page, "tor")
    page.go_back()
    wait_for_hash(page, "d2p")


def test_every_metric_scale_and_order_draws_and_a_filter_leaves_those_that_match(demo: str, open_page: OpenPage):
    page = open_page(demo)
    for metric in page.evaluate("[...document.querySelectorAll('#metric option')].map((o) => o.value)"):
        page.select_option("#metric", metric)
        page.wait_for_selector("#loading", state="hidden")
        scales = () if page.is_disabled("#scale") else ("linear", "threshold", "log")
        for scale in scales:
            page.select_option("#scale", scale)
            page.wait_for_timeout(30)
            assert colours_of_cells(page) > 2, (metric, scale)
        assert colours_of_cells(page) > 2, metric
    page.select_option("#sort", "worst")
    page.locator("#overlay[aria-label*='8 hosts']").wait_for()
    page.fill("#search", "host04")
    page.locator("#overlay[aria-label*='1 host:']").wait_for()
    page.fill("#search", "nobody at all")
    page.get_by_text("No host matches.").wait_for()


def test_a_block_is_selected_by_dragging_and_compared_with_another_window(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.keyboard.down("Shift")
    page.mouse.move(*centre_of_cell(page, 0, 3))
    page.mouse.down()
    page.mouse.move(*centre_of_cell(page, 1, 4), steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.get_by_text("2 × 2 hosts").wait_for()
    page.select_option("#compare", index=1)
    page.locator("#legend", has_text="change").wait_for()
    page.locator(".ticks", has_text="× 2").wait_for()


def test_keys_alone_move_a_cell_cursor_that_is_read_aloud_and_select_a_pair(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.wait_for_selector("#loading", state="hidden")
    page.focus("#overlay")
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    said = page.inner_text("#cell")
    assert "host02" in said
    assert "host06" in said
    assert "µs" in said
    page.keyboard.press("Enter")
    page.locator("#picked", has_text="30 of 30 answered").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_selector("#picked", state="hidden")


def test_tab_reaches_every_control_and_focus_is_seen(demo: str, open_page: OpenPage):
    page = open_page(demo)
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
        if page.evaluate("document.activeElement === document.body"):
            continue
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")[:120]
    wanted = (
        "tab-mesh copy language theme metric scale low high compare hatch search sort "
        "overlay zoom-in block play slider live range"
    )
    assert set(wanted.split()) <= reached


# ---- time -----------------------------------------------------------------------------------------------------------


def test_the_slider_shows_another_window_and_play_goes_through_them(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.focus("#slider")
    page.keyboard.press("Home")
    page.locator("#clock", has_text="01:00").wait_for()
    page.locator("#verdict", has_text="Everyone reaches everyone.").wait_for()
    assert page.get_attribute("#live", "aria-pressed") == "false"
    page.select_option("#speed", "8")
    page.evaluate(
        """() => {
        const clock = document.getElementById("clock");
        window.shown = [];
        new MutationObserver(() => window.shown.push(clock.textContent)).observe(clock, { childList: true }); }"""
    )
    page.click("#play")
    page.locator("#clock", has_text="02:55").wait_for()
    shown = dict.fromkeys(text.split(", ")[-1][:5] for text in page.evaluate("window.shown"))
    assert list(shown) == [f"{minute // 60:02}:{minute % 60:02}" for minute in range(65, 180, 5)]
    page.click("#play")
    page.locator("#play[aria-pressed=true]").wait_for()
    page.click("#play")
    page.locator("#play[aria-pressed=false]").wait_for()
    page.click("#live")
    page.locator("#clock", has_text="02:55").wait_for()


def test_hours_are_shown_as_windows_are_and_their_links_too(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.focus("#slider")
    page.keyboard.press("ArrowLeft")
    page.locator("#clock", has_text="02:50").wait_for()
    with page.expect_request(lambda request: "matrix?" in request.url and "level=hour" in request.url):
        page.select_option("#level", "hour")
    page.locator("#clock", has_text="02:00–03:00").wait_for()
    assert page.get_attribute("#slider", "max") == "1"
    page.focus("#slider")
    page.keyboard.press("Home")
    page.locator("#clock", has_text="01:00–02:00").wait_for()
    again = open_page(page.url)
    again.locator("#clock", has_text="01:00–02:00").wait_for()
    assert again.input_value("#level") == "hour"
    again.select_option("#level", "window")
    again.locator("#clock", has_text="01:00–01:05").wait_for()
    assert "lv=" not in again.url


def test_a_link_to_a_level_that_has_nothing_shows_the_windows(demo: str, open_page: OpenPage):
    page = open_page(f"{demo}#lv=day")
    page.locator("#clock", has_text="02:55").wait_for()
    page.locator("#level").wait_for()
    assert page.input_value("#level") == "window"


def test_live_mode_follows_a_new_window(open_page: OpenPage):
    mesh = Mesh(8, windows=12)
    with serving(mesh) as address:
        page = open_page(address)
        page.locator("#clock", has_text="02:55").wait_for()
        mesh.end = mesh.end.replace(minute=5)
        mesh.windows = 13
        page.locator("#clock", has_text="03:00").wait_for()


def test_a_view_is_a_link_that_shows_the_same_again(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.select_option("#metric", "p99")
    page.focus("#slider")
    page.keyboard.press("ArrowLeft")
    page.locator("#clock", has_text="02:50").wait_for()
    page.locator("#worst button").nth(3).click()
    page.wait_for_selector("#picked dl")
    again = open_page(page.url)
    again.wait_for_selector("#picked dl")
    assert again.input_value("#metric") == "p99"
    assert "02:50" in again.inner_text("#clock")
    assert again.inner_text("#picked .pair") == page.inner_text("#picked .pair")
    assert again.url == page.url


def test_inside_airflow_a_link_opens_the_same_view_in_airflows_own_window_and_its_dark_mode_holds(
    demo: str, open_page: OpenPage
):
    page = open_page(demo.removesuffix("pingmesh/"), ready=False)
    frame = page.wait_for_selector("iframe").content_frame()
    frame.wait_for_selector("html[data-ready]", state="attached")
    assert frame.evaluate("document.documentElement.dataset.theme") == "dark"
    frame.select_option("#metric", "p99")
    link = frame.evaluate("import(new URL('static/@/state.js', document.baseURI)).then((state) => state.outerLink())")
    assert link == demo.removesuffix("pingmesh/") + "plugin/pingmesh/airflow/pingmesh/#m=p99"


# ---- charts, panels, files ------------------------------------------------------------------------------------------


def test_charts_come_when_they_are_scrolled_to_and_not_before(demo: str, open_page: OpenPage):
    page = open_page(demo)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(demo + "#sel=host01>host02")
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert not any("echarts" in url for url in asked)
    page.locator("#charts").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, 9999)")
    for chart in ("series", "cdf", "bars"):
        page.wait_for_selector(f"#{chart} canvas")
    assert page.get_attribute("#series .chart", "aria-label") or page.inner_text("#series-title")
    assert page.evaluate("document.querySelectorAll('#charts [style*=expression]').length") == 0


def test_the_view_is_saved_as_picture_csv_and_json(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.wait_for_selector("#loading", state="hidden")
    with page.expect_download() as download:
        page.click("#save-png")
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as download:
        page.click("#save-csv")
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert len(rows) == 56
    assert {row["state"] for row in rows} == {"measured", "failed", "missing", "unclean"}
    with page.expect_download() as download:
        page.click("#save-json")
    assert json.loads(Path(download.value.path()).read_text())["metric"] == "p50"


def test_an_alarm_is_shown_with_its_evidence_and_acknowledged_by_a_run_of_alert_admin(open_page: OpenPage):
    mesh = Mesh(8)
    with serving(mesh, prefix="/airflow") as address:
        page = open_page(address + "#tab=alarms", ready=False)
        page.locator("tbody tr", has_text="Host down").click()
        page.locator(".detail table", has_text="host03").wait_for()
        page.fill(".detail input", "looking")
        page.get_by_role("button", name="Acknowledge").click()
        page.get_by_text("acknowledges it").wait_for()
        conf = {"action": "acknowledge", "incident": "a1b2c3d4e5f0", "hours": 1, "by": "admin", "comment": "looking"}
        assert mesh.posts == [{"logical_date": None, "conf": conf}]
        page.click("text=Show on the map")
        page.locator("#picked", has_text="host03").wait_for()


def test_the_fleet_lists_those_in_trouble_first_and_the_data_servers_who_is_there(demo: str, open_page: OpenPage):
    page = open_page(demo + "#tab=fleet", ready=False)
    page.locator("#panel-fleet tbody tr").nth(1).wait_for()
    first = page.inner_text("#panel-fleet tbody tr >> nth=0")
    assert "host03" in first
    assert "No route to host" in first
    page.click("#tab-data")
    page.locator("#panel-data", has_text="Most wanted signals").wait_for()
    assert "EAST::TOP:MAG:BT" in page.inner_text("#panel-data")
    page.locator("#panel-data .tile", has_text="users online").wait_for()


# ---- names of strangers ---------------------------------------------------------------------------------------------


def test_hostile_names_are_shown_as_they_are_and_do_nothing(open_page: OpenPage):
    mesh = Mesh(8, hostile=True)
    with serving(mesh) as address:
        page = open_page(address)
        page.wait_for_selector("#worst li")
        for row in range(8):
            page.mouse.move(*centre_of_cell(page, row, (row + 1) % 8))
            page.wait_for_selector("#tip:not([hidden])")
            page.wait_for_timeout(180)
        assert page.inner_text("#tip").startswith(HOSTILE[7])
        for button in range(min(6, page.locator("#worst button").count())):
            page.locator("#worst button").nth(button).click()
        page.evaluate("scrollTo(0, 9999)")
        page.wait_for_selector("#bars canvas")
        page.click("#tab-alarms")
        page.locator("#panel-alarms tbody tr").nth(1).click()
        page.wait_for_selector(".detail h2")
        page.click("#tab-fleet")
        page.locator("#panel-fleet tbody tr").nth(7).wait_for()
        page.click("#tab-data")
        page.locator("#panel-data", has_text=HOSTILE[0]).wait_for()
        assert page.evaluate("window.hurt") is None
        assert page.locator("img, script:not([src])").count() == 0


def test_a_hostile_link_is_text_too(demo: str, open_page: OpenPage):
    page = open_page(
        demo + "#sel=<img src=x onerror=alert(1)>>x&m=<b>&w=20261122T025500Z&at=NaN,1e99,-5&blk=a,b,c,d&sc=x"
    )
    page.locator("#picked", has_text="is not in this window").wait_for()
    assert page.locator("img").count() == 0
    assert colours_of_cells(page) > 5


# ---- for everyone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tab", "scheme"), [("mesh", "light"), ("mesh", "dark"), ("alarms", "dark"), ("fleet", "light"), ("data", "light")]
)
def test_axe_finds_nothing_serious(demo: str, open_page: OpenPage, tab: str, scheme: str):
    page = open_page(f"{demo}#tab={tab}&inc=a1b2c3d4e5f0&sel=host01>host02", ready=tab == "mesh", color_scheme=scheme)
    page.wait_for_selector(f"#panel-{tab} :is(dl, table)")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    serious = [
        (rule["id"], rule["nodes"][0]["html"][:160], rule["nodes"][0]["failureSummary"][:300])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_dark_mode_follows_the_system_and_the_toggle_wins(demo: str, open_page: OpenPage):
    page = open_page(demo, color_scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(ground) == "rgb(17, 22, 29)"
    page.click("#theme")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


def test_the_page_speaks_chinese_to_those_who_read_it(demo: str, open_page: OpenPage):
    page = open_page(demo, locale="zh-CN")
    page.locator("#tab-alarms", has_text="告警").wait_for()  # how many are open may stand beside it
    assert "台主机不可达" in page.inner_text("#verdict")
    page.select_option("#language", "en")
    page.locator("#tab-alarms", has_text="Alarms").wait_for()
