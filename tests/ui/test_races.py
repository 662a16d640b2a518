"""What is shown is of the window, level, metric and selection that are asked for, however late answers come.

Answers are held back by routes of the browser, so that each race is lost for certain where nothing guards against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.made_up_mesh import Mesh, serving

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    with serving(Mesh(8)) as address:
        yield address


def settle(page: Any) -> None:
    """Wait until what has arrived is shown."""
    page.wait_for_selector("#loading", state="hidden")
    page.wait_for_timeout(60)


def hold(page: Any, part: str) -> list[Any]:
    """Hold back every answer to what has `part` in its address, until `release`."""
    held: list[Any] = []
    page.route(lambda url: part in url, lambda route: held.append(route))
    return held


def release(page: Any, held: list[Any]) -> None:
    """Let the answers come that were held back, and what they do be shown."""
    assert held
    for route in held:
        with page.expect_response(route.request.url):
            route.continue_()
    settle(page)


# ---- findings -------------------------------------------------------------------------------------------------------


def test_the_window_before_a_fault_does_not_name_it(open_page: OpenPage):
    with serving(Mesh(100, windows=2, podset_down=True)) as address:
        page = open_page(address)
        page.wait_for_selector("#worst li.ringed")
        with page.expect_response("**/anomalies?*") as answer:
            page.click("#back")
        answer.value.finished()
        page.locator("#clock", has_text="02:50").wait_for()
        settle(page)
        assert "Podset down" not in page.inner_text("#verdict")
        assert "Everyone reaches everyone." in page.inner_text("#verdict")


def test_findings_that_come_late_are_not_laid_on_another_window(open_page: OpenPage):
    with serving(Mesh(100, windows=2, podset_down=True)) as address:
        page = open_page(f"{address}#w=20261122T025000Z")
        late = hold(page, "/anomalies?from=20261122T025500Z")
        page.click("#next")
        page.locator("#clock", has_text="02:55").wait_for()
        settle(page)
        page.click("#back")
        page.locator("#clock", has_text="02:50").wait_for()
        settle(page)
        release(page, late)
        assert "Podset down" not in page.inner_text("#verdict")


# ---- figures and charts ---------------------------------------------------------------------------------------------


def test_an_hour_is_asked_for_anew_where_it_has_the_id_of_the_window_that_was_shown(demo: str, open_page: OpenPage):
    page = open_page(f"{demo}#w=20261122T020000Z&sel=host01>host02")
    page.locator("#picked", has_text="30 of 30 answered").wait_for()
    page.evaluate("scrollTo(0, 9999)")
    page.wait_for_selector("#bars canvas")
    with ExitStack() as asked:  # each waits at the end of the block until it was asked
        for question in ("pair?", "series?", "groups?"):
            asked.enter_context(page.expect_request(re.compile(rf"/{re.escape(question)}.*level=hour")))
        asked.enter_context(page.expect_request("**/anomalies?from=20261122T020000Z&to=20261122T030000Z*"))
        page.select_option("#level", "hour")
        page.locator("#clock", has_text="02:00–03:00").wait_for()


def test_a_click_on_a_bar_selects_the_server_of_the_window_that_is_drawn(demo: str, open_page: OpenPage):
    page = open_page(demo)
    page.evaluate("scrollTo(0, 9999)")
    page.wait_for_selector("#bars canvas")
    before = worst_server(page, demo, "20261122T025500Z")
    with page.expect_response("**/groups?*"):
        page.focus("#slider")
        page.keyboard.press("Home")
    settle(page)
    after = worst_server(page, demo, "20261122T010000Z")
    assert after != before
    box = page.locator("#bars .chart").bounding_box()
    page.mouse.click(box["x"] + 62 + (box["width"] - 80) / 16, box["y"] + box["height"] - 74 - 6)
    page.locator("#crumbs", has_text=after).wait_for()


def worst_server(page: Any, address: str, window: str) -> str:
    """The server whose bar comes first: that with the greatest p99 of all its pairs, or with none."""
    groups = page.request.get(f"{address}api/v1/groups?window={window}&of=host").json()["groups"]
    bars = [(group["p99_us"] or float("inf"), group["src"]) for group in groups if group["src"]]
    return max(bars, key=lambda bar: bar[0])[1]


@pytest.mark.parametrize("chart", ["series", "groups", "cdf"])
def test_a_chart_that_comes_late_is_not_drawn_over_a_newer_one(chart: str, demo: str, open_page: OpenPage):
    card = {"groups": "bars"}.get(chart, chart)
    newer = label_of_chart(open_page(f"{demo}#w=20261122T020500Z"), card)
    page = open_page(f"{demo}#w=20261122T020000Z")
    label_of_chart(page, card)
    question = f"/{chart}?" + ("of=host&src" if chart == "series" else "window=20261122T010000Z")
    late = hold(page, question)
    with page.expect_request(lambda request: question in request.url):
        change(page, "sel=host01>" if chart == "series" else "w=20261122T010000Z")
    with page.expect_request("**/groups?window=20261122T020500Z*"):  # the charts ask together
        change(page, "w=20261122T020500Z")
    page.locator(f'#{card} .chart[aria-label="{newer}"]').wait_for()
    release(page, late)
    assert label_of_chart(page, card) == newer


def label_of_chart(page: Any, card: str) -> str:
    """Scroll to the charts, wait for one, and return the text that describes what it shows."""
    page.evaluate("scrollTo(0, 9999)")
    page.wait_for_selector(f"#{card} canvas")
    return page.get_attribute(f"#{card} .chart", "aria-label")


def change(page: Any, link: str) -> None:
    """Follow a link within the page."""
    page.evaluate("link => { location.hash = link; }", link)


# ---- ranges and levels of time --------------------------------------------------------------------------------------


def test_of_two_ranges_the_one_that_was_chosen_last_is_shown(demo: str, open_page: OpenPage):
    page = open_page(demo)
    late = hold(page, "/windows?from=20261115")
    page.select_option("#range", "7d")
    page.select_option("#range", "1h")
    page.wait_for_selector("#slider[max='11']")
    release(page, late)
    assert page.get_attribute("#slider", "max") == "11"


def test_hours_that_come_late_do_not_take_the_place_of_windows(demo: str, open_page: OpenPage):
    page = open_page(demo)
    late = hold(page, "/windows?level=hour")
    page.select_option("#level", "hour")
    page.select_option("#level", "window")
    settle(page)
    release(page, late)
    assert page.get_attribute("#slider", "max") == "23"
    assert "02:55–03:00" in page.inner_text("#clock")


def test_new_windows_that_come_late_are_not_put_among_hours(open_page: OpenPage):
    mesh = Mesh(8)
    with serving(mesh) as address:
        page = open_page(address)
        late = hold(page, "/windows?from=20261122T025500Z")
        page.wait_for_timeout(200)
        mesh.end, mesh.windows = mesh.end.replace(minute=10), 26
        while not late:
            page.wait_for_timeout(100)
        page.select_option("#level", "hour")
        page.locator("#clock", has_text="03:00–04:00").wait_for()
        release(page, late)
        assert "03:00–04:00" in page.inner_text("#clock")
        assert page.get_attribute("#slider", "max") == "2"


# ---- play -----------------------------------------------------------------------------------------------------------


def play(page: Any) -> None:
    """Play from the first window, and see a step of it."""
    page.focus("#slider")
    page.keyboard.press("Home")
    page.locator("#clock", has_text="01:00").wait_for()
    settle(page)
    page.select_option("#speed", "1")
    page.click("#play")
    page.locator("#clock", has_text="01:00").wait_for(state="hidden")


def test_a_metric_that_is_chosen_in_play_ends_it_and_is_shown(demo: str, open_page: OpenPage):
    page = open_page(demo)
    play(page)
    page.select_option("#metric", "loss")
    assert page.get_attribute("#play", "aria-pressed") == "false"
    settle(page)
    box = page.locator("#cells").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 7 / 16, box["y"] + 9)
    page.locator("#tip .big", has_text="%").wait_for()
    assert page.evaluate("document.documentElement.dataset.playing") is None


def test_a_range_that_is_chosen_in_play_ends_it_and_is_shown(demo: str, open_page: OpenPage):
    page = open_page(demo)
    play(page)
    page.select_option("#range", "1h")
    page.wait_for_selector("#slider[max='11']")
    assert page.get_attribute("#play", "aria-pressed") == "false"
    page.locator("#clock", has_text="02:55").wait_for()


def test_play_names_the_hosts_of_the_window_it_shows(open_page: OpenPage):
    with serving(Mesh(8, renamed=3)) as address:
        page = open_page(address)
        play(page)
        assert page.get_attribute("#host-names option >> nth=0", "value") == "old-name"
        page.wait_for_selector("[data-playing] #host-names option:first-child[value=host01]", state="attached")


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_figures_of_the_metric_before_are_not_shown_as_those_of_one_that_does_not_come(open_page: OpenPage):
    mesh = Mesh(8)
    with serving(mesh) as address:
        page = open_page(address)
        settle(page)
        mesh.broken = True
        page.select_option("#metric", "change")
        page.get_by_text("The object store does not answer.").wait_for()
        box = page.locator("#cells").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 7 / 16, box["y"] + 9)
        page.wait_for_timeout(60)
        assert page.is_hidden("#tip")
        assert page.inner_text("#worst") == ""
        mesh.broken = False
        page.click("#notice >> text=Try again")
        settle(page)
        page.mouse.move(box["x"] + box["width"] * 7 / 16, box["y"] + 12)
        page.locator("#tip .big", has_text="×").wait_for()
