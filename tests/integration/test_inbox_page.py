"""The demo's inbox as a program: real senders on one side, a real browser on the other."""

from __future__ import annotations

import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.webhook import WebhookClient

from tests.support.browser import headless_chromium
from tests.support.fleet import free_port

pytestmark = pytest.mark.integration
HOSTILE = """<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>"""


@dataclass
class Running:
    root: Path
    smtp_port: int
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "pingmesh_tasks.demo.inbox", "--root", str(self.root)]
        command += ["--smtp-port", str(self.smtp_port), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("ready: "), self.process.communicate()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        said, error = self.process.communicate(timeout=15)
        assert self.process.returncode == 0, said + error

    def messages(self) -> list[dict[str, Any]]:
        return list(httpx.get(f"{self.url}/messages.json").json()["messages"])

    def mail(self, subject: str, html: str | None = None, text: str = "text") -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "pingmesh@example.org", "oncall@example.org", subject
        mail.set_content(text)
        if html is not None:
            mail.add_alternative(html, subtype="html")
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=10) as client:
            client.send_message(mail)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "inbox", free_port(), free_port())
    running.start()
    yield running
    running.stop()


def test_real_senders_are_served_and_a_restart_keeps_what_they_sent(inbox: Running):
    before_us = time.time_ns() // 1000
    inbox.mail("by mail")
    assert WebhookClient(f"{inbox.url}/services/T/B/X").send(text="by webhook").body == "ok"
    answer = WebClient("xoxb-demo", base_url=f"{inbox.url}/api/").chat_postMessage(channel="#net", text="by API")
    assert answer["ok"]
    assert httpx.post(f"{inbox.url}/webhook", json={"title": "by JSON"}).json()["ok"]
    subjects = [message["subject"] for message in inbox.messages()]
    assert subjects == ["by JSON", "by API", "by webhook", "by mail"]
    arrivals = [message["arrived_us"] for message in inbox.messages()]
    assert before_us <= arrivals[-1] <= arrivals[0] <= time.time_ns() // 1000
    inbox.stop()
    inbox.start()
    assert [message["subject"] for message in inbox.messages()] == subjects


def test_a_port_that_is_taken_is_told_in_one_line(inbox: Running, tmp_path: Path):
    command = [sys.executable, "-m", "pingmesh_tasks.demo.inbox", "--root", str(tmp_path / "other")]
    command += ["--smtp-port", str(inbox.smtp_port), "--port", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"port {inbox.smtp_port}: " in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def page(inbox: Running) -> Iterator[Any]:
    """The page in Chromium. Fails the test for an error in the console, but for what a policy blocks on purpose."""
    with headless_chromium() as browser:
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.goto(inbox.url)
        page.wait_for_selector("#live.on")
        yield page
    assert faults == []


def test_a_message_appears_by_itself_newest_first(inbox: Running, page: Any):
    assert "Nothing has arrived yet" in page.inner_text("#reader")
    inbox.mail("host04 does not answer")
    page.wait_for_selector("#list li")
    assert page.inner_text("#reader h2") == "host04 does not answer"
    httpx.post(f"{inbox.url}/services/T/B/X", json={"text": "resolved"})
    page.wait_for_selector("#list li >> nth=1")
    assert page.inner_text("#list li >> nth=0").splitlines()[-1] == "resolved"
    page.click("#tabs button:has-text('E-mail')")
    assert len(page.query_selector_all("#list li")) == 1


def test_slack_blocks_are_drawn(inbox: Running, page: Any):
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "host04 does not answer"}},
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": "*since* `10:00` <https://example.org/a?b=1&amp;c=2|page>"},
        },
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "*Loss*\n100 %"}]},
        {"type": "divider"},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "7 of 56 pairs &lt;suffer&gt;"}]},
    ]
    httpx.post(f"{inbox.url}/services/T/B/X", json={"text": "short", "blocks": blocks})
    page.wait_for_selector(".card")
    assert page.inner_text(".block.head") == "host04 does not answer"
    assert page.inner_text(".card strong >> nth=0") == "since"
    assert page.inner_text(".card code") == "10:00"
    assert page.get_attribute(".card a", "href") == "https://example.org/a?b=1&c=2"
    assert page.inner_text(".block.context").strip() == "7 of 56 pairs <suffer>"


def test_hostile_messages_are_inert(inbox: Running, page: Any):
    """They run nothing, and fetch nothing from a stranger's server, as mail that spies on readers does."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        spy = f"http://127.0.0.1:{stranger.getsockname()[1]}/"
        fetches = f"<img src={spy}><link rel=stylesheet href={spy}><meta http-equiv=refresh content='0;url={spy}'>"
        inbox.mail(HOSTILE, f"<h1>mail</h1>{HOSTILE}{fetches}<style>h1 {{ background: url({spy}) }}</style>")
        page.wait_for_selector("iframe")
        assert page.frame_locator("iframe").locator("h1").inner_text() == "mail"
        blocks: list[Any] = [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"{HOSTILE} <javascript:hurt=1|click> *{HOSTILE}*"}},
            {"type": "image", "image_url": "javascript:hurt=1", "alt_text": HOSTILE},
            {"type": "image", "image_url": spy, "alt_text": "x"},
            {"type": "section", "accessory": 7, "fields": "no list", "text": None},
            {"type": HOSTILE, "elements": [None, 3]},
            None,
        ]
        attachments = [{"color": "red;}", "text": "x"}]
        said = {"text": HOSTILE, "username": HOSTILE, "blocks": blocks, "attachments": attachments}
        httpx.post(f"{inbox.url}/services/T/B/X", json=said)
        page.wait_for_selector(".card")
        assert HOSTILE in page.inner_text(".card")
        assert page.query_selector(".card img, .card script, .card a[href^='javascript']") is None
        httpx.post(f"{inbox.url}/webhook", json={"title": HOSTILE, "__proto__": {"x": HOSTILE}})
        page.wait_for_selector("#list li >> nth=2")
        for number in range(3):
            page.click(f"#list li >> nth={number}")
            for view in range(len(page.query_selector_all(".views button"))):
                page.click(f".views button >> nth={view}")
        assert page.evaluate("window.hurt") is None
        with pytest.raises(TimeoutError):
            stranger.accept()
