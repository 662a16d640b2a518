"""What is shown is of the window, level, metric and selection that are asked for, however late answers come.

Answers are held back by routes of the browser, so that each race is lost for certain where nothing guards against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
