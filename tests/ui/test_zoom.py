"""A chart is zoomed by dragging across it and by keys, and goes on being clicked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.made_up_mesh import Mesh, serving

OpenPage = Callable[..., Any]
WELL = "20261122T010000Z"
#: Between the sides of a chart of bars and its plot, and between its foot and the plot, in px.
LEFT, RIGHT, FOOT = 62, 18, 74


def at(page: Any, share: float, above: int = 6) -> tuple[float, float]:
    """A place in the bars: so far from the left of the plot, so many px above its foot."""
    box = page.locator("#bars .chart").bounding_box()
    return box["x"] + LEFT + (box["width"] - LEFT - RIGHT) * share, box["y"] + box["height"] - FOOT - above


def click_bar(page: Any, share: float) -> str:
    """Click there; returns the server that is selected then."""
    page.evaluate("() => { history.replaceState(null, '', location.href.replace(/&?sel=[^&]*/, '')); }")
    page.mouse.click(*at(page, share))
    page.wait_for_timeout(250)
    return page.evaluate("decodeURIComponent(location.hash)").partition("sel=")[2].partition(">")[0]


def wait_for_bars(page: Any) -> None:
    """Wait until a click on the first bar selects a server: the canvas is there before its bars."""
    for _ in range(80):
        if click_bar(page, 0.5 / 8):
            return
    raise AssertionError("no click on the first bar selects a server")


def wait_for_bar(page: Any, share: float, server: str) -> None:
    """Wait until a click at `share` selects `server`: a zoom is drawn some frames after it was asked for."""
    selected = [click_bar(page, share)]
    while selected[-1] != server and len(selected) < 40:
        selected.append(click_bar(page, share))
    assert selected[-1] == server, selected


@pytest.mark.parametrize("by", ["dragging", "keys"])
def test_a_part_of_a_chart_is_zoomed_to_and_all_of_it_shown_again(by: str, open_page: OpenPage):
    with serving(Mesh(8)) as address:
        page = open_page(f"{address}#w={WELL}")
        page.evaluate("scrollTo(0, 9999)")
        page.wait_for_selector("#bars canvas")
        wait_for_bars(page)
        servers = [click_bar(page, (i + 0.5) / 8) for i in range(8)]
        assert len(set(servers)) == 8
        if by == "dragging":
            page.mouse.move(*at(page, 0.05, 40))
            page.mouse.down()
            page.mouse.move(*at(page, 0.2, 40), steps=5)
            page.mouse.up()
            seen = servers[:2]
        else:
            page.focus("#bars .chart")
            for key in ("+", "+", *["ArrowRight"] * 9):
                page.keyboard.press(key)
            seen = servers[5:]
        wait_for_bar(page, 0.15, seen[0])
        assert click_bar(page, 0.85) == seen[-1]
        page.focus("#bars .chart")
        page.keyboard.press("0")
        wait_for_bar(page, 9 / 16, servers[4])
