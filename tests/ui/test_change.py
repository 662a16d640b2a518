"""Change on the page: against normal, between two windows, the pattern in words, and the panel of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.made_up_mesh import Mesh, serving

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
OpenPage = Callable[..., Any]
FIRST, WELL, NEWEST = "20261122T010000Z", "20261122T013000Z", "20261122T025500Z"


@pytest.fixture(scope="module")
def racks() -> Iterator[str]:
    with serving(Mesh(100)) as address:
        yield address


def cell_of(page: Any, row: int, column: int, hosts: int = 100) -> tuple[float, float]:
    """Where a cell is on the screen while the whole mesh is seen."""
    box = page.locator("#cells").bounding_box()
    side = box["width"] / hosts
    return box["x"] + side * (column + 0.5), box["y"] + side * (row + 0.5)


def colour_at(page: Any, row: int, column: int, hosts: int = 100) -> list[int]:
    return page.evaluate(
        """([row, column, hosts]) => {
        const c = document.getElementById("cells"), side = c.width / hosts;
        const at = (i) => Math.floor(side * (i + 0.5));
        return [...c.getContext("2d").getImageData(at(column), at(row), 1, 1).data].slice(0, 3); }""",
        [row, column, hosts],
    )


# ---- against normal -------------------------------------------------------------------------------------------------


def test_change_is_a_metric_with_a_ramp_to_both_sides_and_its_unit(racks: str, open_page: OpenPage):
    page = open_page(racks)
    page.select_option("#metric", "change")
    page.locator("#verdict", has_text="pairs compared").wait_for()
    assert "× their normal" in page.inner_text("#verdict")
    legend = page.inner_text("#legend")
    assert legend.startswith("p50 against normal")
    assert {"÷ 4", "× 1", "× 4"} <= set(legend.splitlines())
    assert "own normal, as it was after Nov 22, 2026, 02:50 UTC" in legend.replace("22 Nov 2026", "Nov 22, 2026")
    assert "nothing to compare with" in legend
    assert page.is_disabled("#scale")
    assert page.is_disabled("#compare")
    red, _, blue = colour_at(page, 0, 90)  # to the slow podset: worse, on the warm side
    assert red > blue + 40


def test_the_tooltip_and_the_panel_hold_a_pair_against_its_normal(racks: str, open_page: OpenPage):
    page = open_page(racks)
    page.mouse.move(*cell_of(page, 3, 60))
    page.locator("#tip", has_text="× its normal of").wait_for()
    page.mouse.click(*cell_of(page, 3, 60))
    page.locator("#picked", has_text="× its normal of").wait_for()
    page.goto(f"{racks}#w=20261122T010500Z&sel=d1p1t01-04>d1p2t02-01")
    page.reload()
    page.locator("#picked", has_text="(of 1 window)").wait_for()


def test_moving_over_the_map_asks_for_no_pair_until_the_pointer_rests(racks: str, open_page: OpenPage):
    page = open_page(racks)
    page.wait_for_selector("#loading", state="hidden")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/pair?" in request.url else None)
    page.mouse.move(*cell_of(page, 40, 10))
    page.mouse.move(*cell_of(page, 40, 90), steps=40)
    page.locator("#tip", has_text="× its normal of").wait_for()
    assert len(asked) <= 3


def test_without_a_normal_yet_the_page_says_when_there_will_be_one(racks: str, open_page: OpenPage):
    page = open_page(f"{racks}#m=change&w={FIRST}")
    page.locator("#verdict", has_text="There is no normal to compare with yet").wait_for()
    page.mouse.move(*cell_of(page, 3, 60))
    page.locator("#tip", has_text="nothing to compare with").wait_for()
    page.get_by_text("30 of 30 answered").wait_for()


def test_a_window_from_before_there_was_change_says_what_can_be_done(open_page: OpenPage):
    with serving(Mesh(8, windows=6, old=2)) as address:
        page = open_page(f"{address}#m=change")
        page.focus("#slider")
        page.keyboard.press("Home")
        page.get_by_text("This window has no such figures.").wait_for()
        assert "build_mesh_map" in page.inner_text("#empty")
        page.keyboard.press("End")
        page.wait_for_selector("#empty", state="hidden")
        page.locator("#verdict", has_text="compared").wait_for()
        page.keyboard.press("Home")
        page.click("text=Show p50 round trip instead")
        page.locator("#verdict", has_text="Everyone reaches everyone.").wait_for()
        assert page.input_value("#metric") == "p50"


def test_change_is_not_offered_of_hours(racks: str, open_page: OpenPage):
    page = open_page(f"{racks}#m=change")
    with page.expect_request(lambda request: "metric=p50" in request.url and "level=hour" in request.url):
        page.select_option("#level", "hour")
    page.locator("#clock", has_text="02:00–03:00").wait_for()
    assert page.input_value("#metric") == "p50"
    assert page.locator("#metric option[value=change]").is_disabled()
    page.select_option("#level", "window")
    page.locator("#verdict", has_text="compared").wait_for()


# ---- against another window -----------------------------------------------------------------------------------------


def test_loss_is_compared_in_percentage_points(racks: str, open_page: OpenPage):
    page = open_page(f"{racks}#m=loss&cmp={WELL}")
    legend = page.inner_text("#legend")
    assert legend.startswith("loss · change")
    assert "percentage points against the same pair at" in legend
    assert "0 pp" in legend
    assert page.locator(".ticks span").first.inner_text().startswith("−")
    page.mouse.move(*cell_of(page, 72, 20))
    page.locator("#tip", has_text=" pp").wait_for()
    assert "against" in page.inner_text("#tip")
    assert all(
        "+" in text or "un" in text or "no data" in text for text in page.locator("#worst .what").all_inner_texts()
    )
    assert "unreachable" in page.inner_text("#worst")


def test_differences_of_shares_are_exact_to_half_a_step_and_never_vanish(racks: str, open_page: OpenPage):
    page = open_page(racks)
    found = page.evaluate(
        """async () => {
        const c = await import(new URL("static/@/map/codes.js", document.baseURI));
        const u16 = (...values) => Uint16Array.from(values), points = (a, b) => {
          const [code] = c.difference(u16(a), u16(b), "points");
          return c.isValue(code) ? c.decode(code, "points") : code; };
        return [points(401, 1), points(1, 401), points(2, 1), points(1, 2), points(77, 77), points(1, 4001),
                points(4095, 1), points(0, 5), points(5, 4094)]; }"""
    )
    assert found == pytest.approx([0.1, -0.1, 0.0005, -0.0005, 0, -1, 4095, 0, 0])


def test_the_scale_of_points_is_as_wide_to_both_sides(racks: str, open_page: OpenPage):
    page = open_page(racks)
    scale, greys = page.evaluate(
        """async () => {
        const { colourAt, fitScale } = await import(new URL("static/@/map/palette.js", document.baseURI));
        const scale = { kind: "points", mode: "linear", ...fitScale(Uint16Array.of(2048, 2048, 2100, 2000), "points") };
        const grey = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
        return [scale, [-1, -0.5, 0, 0.5, 1].map((part) => grey(colourAt(scale, part * scale.high)))]; }"""
    )
    assert scale["low"] == -scale["high"]
    assert scale["high"] == pytest.approx(0.05)
    assert greys == sorted(greys)
    assert min(b - a for a, b in pairwise(greys)) > 10


# ---- the pattern in words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("locale", "says"), [("en-GB", "Podset"), ("zh-CN", "已宕")])
def test_a_podset_that_is_down_is_named_once_and_not_host_by_host(open_page: OpenPage, locale: str, says: str):
    with serving(Mesh(100, windows=4, podset_down=True)) as address:
        page = open_page(address, locale=locale)
        page.wait_for_selector("#worst li.ringed")
        verdict = page.inner_text("#verdict")
        assert says in verdict
        assert verdict.count("dc1/podset1") == 1
        assert "d1p" not in verdict


def test_a_window_of_which_all_is_well_has_no_pattern(racks: str, open_page: OpenPage):
    page = open_page(f"{racks}#w={WELL}")
    page.locator("#verdict", has_text="Everyone reaches everyone.").wait_for()
    assert "down" not in page.inner_text("#verdict")


# ---- for everyone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["m=change", f"m=loss&cmp={WELL}"])
def test_axe_finds_nothing_serious_in_a_change(racks: str, open_page: OpenPage, view: str, scheme: str):
    page = open_page(f"{racks}#{view}&sel=dc1/podset1>dc1/podset1", color_scheme=scheme)
    page.wait_for_selector("#picked .small >> nth=1")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [rule["nodes"][0]["html"] for rule in found if rule["impact"] in ("serious", "critical")] == []


# ---- the panel of a group -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("across", "kind", "path"), [(3, "podset", "dc1/podset2"), (1, "tor", "dc1/podset2/tor1")])
def test_a_click_on_a_bracket_selects_the_group_with_its_series_and_distribution(
    racks: str, open_page: OpenPage, across: int, kind: str, path: str
):
    page = open_page(racks)
    page.wait_for_selector("#loading", state="hidden")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    x, y = cell_of(page, 52, 0)
    page.mouse.click(x - 8 - 11 * across, y)
    page.locator("#picked .pair", has_text=f"{path} → {path}").wait_for()
    page.wait_for_selector("#picked .small >> nth=1")
    for question in ("series", "cdf"):
        assert any(f"/{question}?" in url and f"of={kind}" in url for url in asked), question
    names = [svg.get_attribute("aria-label") for svg in page.locator("#picked .small svg").all()]
    assert names[0].startswith("Over time")
    assert "p99" in names[1]
    assert page.locator("#picked .small path").count() == 3
    page.keyboard.press("Escape")


def test_the_charts_of_a_pair_show_its_distribution(racks: str, open_page: OpenPage):
    page = open_page(f"{racks}#sel=d1p1t01-01>d1p2t01-01")
    page.wait_for_selector("#picked dl")
    page.evaluate("scrollTo(0, 9999)")
    page.wait_for_selector("#cdf canvas")
    assert "/pair?" in page.get_attribute("#cdf a", "href")
