"""The headless Chromium of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import sync_playwright

from tests.support.needs import chromium, require


@contextmanager
def headless_chromium() -> Iterator[Any]:
    """Start a browser and close it at the end. Skips the test where there is none."""
    require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
