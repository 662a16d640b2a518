"""Messages as a reader sees them, drawn by a browser: nothing may run, leave the page, or be cut off."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from pingmesh_tasks.alerting.messages.message import AlertMessage, compose
from tests.support import notices
from tests.support.browser import headless_chromium
from tests.support.slack_preview import slack_page

pytestmark = pytest.mark.integration
CASES = {
    "opened": notices.notice(),
    "flood": notices.notice(finding=notices.FLOOD, source="data1"),
    "escalated": notices.ESCALATED,
    "resolved": notices.RESOLVED,
    "hostile": notices.EVIL,
}


@pytest.fixture(scope="module")
def browser():
    with headless_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Where the pictures go: set PINGMESH_TEST_PICTURES to look at them."""
    folder = Path(os.environ.get("PINGMESH_TEST_PICTURES") or tmp_path_factory.mktemp("messages"))
    folder.mkdir(exist_ok=True)
    return folder


def message_of(case: str, repo: Path) -> AlertMessage:
    heatmap = (repo / "docs" / "heatmap.png").read_bytes() if case == "opened" else None
    traces = [notices.TRACE] if case == "escalated" else []
    return compose(CASES[case], notices.LINKS, heatmap, traces)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("look", "width"), [("light", 800), ("dark", 800), ("light", 375)])
def test_an_e_mail_fits_its_page_and_runs_nothing(browser, pictures, repo, case, look, width):
    message = message_of(case, repo)
    page = browser.new_page(viewport={"width": width, "height": 600}, color_scheme=look)
    page.on("dialog", lambda dialog: pytest.fail("something ran"))
    html = message.html
    if message.heatmap:
        html = html.replace("cid:heatmap", f"data:image/png;base64,{base64.b64encode(message.heatmap).decode()}")
    page.set_content(html)
    page.screenshot(path=pictures / f"mail-{case}-{look}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == (1 if message.heatmap else 0)
    page.close()


@pytest.mark.parametrize("case", CASES)
def test_slack_blocks_are_within_what_slack_takes(browser, pictures, repo, case):
    page = browser.new_page(viewport={"width": 680, "height": 400})
    page.set_content(slack_page(message_of(case, repo).slack_blocks))
    page.screenshot(path=pictures / f"slack-{case}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    page.close()
