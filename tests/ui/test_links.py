"""Every view is a link, in a real Chromium: what it names is there again, and nothing but the reader changes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OpenPage = Callable[..., Any]


def test_the_skip_link_leads_to_what_is_shown_and_keeps_the_view(demo: str, open_page: OpenPage):
    page = open_page(demo + "#m=p99")
    focused = "document.activeElement.id"
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "overlay"
    assert page.evaluate("location.hash") == "#m=p99"
    assert page.input_value("#metric") == "p99"
    page.click("#tab-fleet")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "panel-fleet"
    assert "tab=fleet" in page.url


def test_a_link_to_the_data_servers_names_the_window_the_server_and_what_was_searched(demo: str, open_page: OpenPage):
    page = open_page(demo + "#tab=data", ready=False)
    page.locator("#panel-data h2", has_text="02:55–03:00").wait_for()
    page.focus("#slider")
    page.keyboard.press("Home")
    page.locator("#panel-data h2", has_text="01:00–01:05").wait_for()
    page.get_by_role("combobox", name="Data server").select_option("data2")
    page.fill("#panel-data input", "alice")
    page.locator("#panel-data tr", has_text="bob").first.wait_for(state="detached")
    again = open_page(page.url, ready=False)
    again.locator("#panel-data h2", has_text="01:00–01:05").wait_for()
    assert again.inner_text("#panel-data") == page.inner_text("#panel-data")
    assert again.input_value("#panel-data input") == "alice"
    assert again.input_value("#panel-data select") == "data2"
    for name in ("usage", "sessions"):
        link = again.get_attribute(f"#panel-data a[download='pingmesh-{name}.csv']", "href")
        assert f"/api/v1/{name}?window=20261122T010000Z&format=csv" in link


def test_a_window_in_which_no_access_log_was_read_is_said_to_be_one(demo: str, open_page: OpenPage):
    page = open_page(demo, ready=False)
    fault = {"error": {"code": "no_window", "message": "window 20261122T010000Z has no table usage"}}
    for name in ("usage", "sessions"):
        page.route(f"**/api/v1/{name}?window=*", lambda route: route.fulfill(status=404, json=fault))
    page.goto(demo + "#tab=data&w=20261122T010000Z")
    page.get_by_text("No access log was read in this window.").wait_for()
    assert "01:00–01:05" in page.inner_text("#panel-data h2")
    page.click("#live")
    page.locator("#panel-data h2", has_text="02:55–03:00").wait_for()


def test_a_link_to_the_fleet_names_what_was_searched(demo: str, open_page: OpenPage):
    page = open_page(demo + "#tab=fleet", ready=False)
    rows = "#panel-fleet tbody tr"
    page.locator(rows).nth(7).wait_for()
    page.check("#only-bad")
    page.locator(rows).nth(2).wait_for(state="detached")
    page.fill("#panel-fleet input[type=search]", "host03")
    page.locator(rows).nth(1).wait_for(state="detached")
    again = open_page(page.url, ready=False)
    again.locator(rows, has_text="host03").wait_for()
    assert again.locator(rows).count() == 1
    again.uncheck("#only-bad")
    again.fill("#panel-fleet input[type=search]", "")
    again.locator(rows).nth(7).wait_for()
    assert again.url.endswith("#tab=fleet")
