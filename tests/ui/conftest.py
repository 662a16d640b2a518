"""A real Chromium, and pages that notice what must never happen: a CSP violation, a script error, a foreign request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.browser import headless_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """`open_page(address, **context options)`: a page that shows its first heatmap, unless `ready=False`."""
    faults: list[str] = []
    contexts = []

    def open_(address: str, *, ready: bool = True, **options: Any) -> Any:
        context = browser.new_context(
            **{"viewport": {"width": 1328, "height": 892}, "locale": "en-GB", "reduced_motion": "reduce"} | options
        )
        contexts.append(context)
        origin = urlsplit(address).netloc
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        page.on(
            "request",
            lambda request: (
                None
                if urlsplit(request.url).netloc == origin or request.url.startswith(("blob:", "data:"))
                else faults.append(f"request off the origin: {request.url}")
            ),
        )
        page.set_default_timeout(30_000)
        page.goto(address)
        if ready:
            page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not faults
