"""Ranges of time and what a window is compared with: counted from the newest window, and named as they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.support.made_up_mesh import DAY, Mesh, serving

OpenPage = Callable[..., Any]


def options(page: Any, select: str) -> list[str]:
    return page.locator(f"{select} option").all_inner_texts()


def test_the_last_hour_is_that_before_the_newest_window_and_not_that_before_the_page_was_opened(open_page: OpenPage):
    mesh = Mesh(8)
    with serving(mesh) as address:
        page = open_page(address)
        mesh.end += timedelta(hours=8)
        mesh.windows += 96
        page.select_option("#range", "1h")
        page.locator("#clock", has_text="10:55–11:00").wait_for()
        assert page.get_attribute("#slider", "max") == "11"
        page.select_option("#range", "")
        page.wait_for_selector("#slider[max='119']")
        page.select_option("#level", "hour")
        page.wait_for_selector("#slider[max='9']")
        page.select_option("#level", "window")
        page.wait_for_selector("#slider[max='119']")


def test_a_range_of_more_windows_than_a_list_has_says_so(open_page: OpenPage):
    with serving(Mesh(8, most=12)) as address:
        page = open_page(address)
        page.select_option("#range", "7d")
        page.locator("#range option", has_text="Last 7 days: only the newest 12 windows").wait_for(state="attached")
        page.select_option("#range", "1h")
        page.wait_for_selector("#range option:text-is('Last 7 days')", state="attached")
        assert not any("only" in text for text in options(page, "#range"))


def test_an_hour_before_is_not_offered_where_nothing_was_measured_then(open_page: OpenPage):
    with serving(Mesh(8, windows=3)) as address:
        page = open_page(address)
        assert options(page, "#compare") == ["nothing", "the window before (02:50)", "this window, pinned (02:55)"]


def test_a_day_before_is_offered_though_the_range_begins_later(open_page: OpenPage):
    with serving(Mesh(8, windows=DAY + 12)) as address:
        page = open_page(address)
        page.wait_for_selector("#compare option[value='20261121T025500Z']", state="attached")
        assert options(page, "#compare")[1:4] == [
            "the window before (02:50)",
            "an hour before (01:55)",
            "a day before (02:55)",
        ]
        page.select_option("#compare", label="a day before (02:55)")
        page.locator("#legend", has_text="change").wait_for()


def test_a_pinned_window_is_what_the_next_ones_are_compared_with(open_page: OpenPage):
    with serving(Mesh(8)) as address:
        page = open_page(f"{address}#w=20261122T013000Z")
        page.select_option("#compare", label="this window, pinned (01:30)")
        page.locator("#legend", has_text="change").wait_for()
        page.click("#next")
        page.locator("#clock", has_text="01:35").wait_for()
        assert page.input_value("#compare") == "20261122T013000Z"
        assert "cmp=20261122T013000Z" in page.url
