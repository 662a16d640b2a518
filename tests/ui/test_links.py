"""Every view is a link, in a real Chromium: what it names is there again, and nothing but the reader changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.made_up_mesh import Mesh, serving

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    with serving(Mesh(8), prefix="/airflow") as address:
        yield address


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
