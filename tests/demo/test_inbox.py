"""The demo's inbox: it takes what real senders send, keeps it within bounds, and trusts none of it."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pingmesh_tasks.demo import inbox_store as module
from pingmesh_tasks.demo.inbox_http import MAX_POST_BYTES, build_app
from pingmesh_tasks.demo.inbox_store import Inbox, keep_mail

PICTURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox")


@pytest.fixture
def client(inbox: Inbox) -> TestClient:
    return TestClient(build_app(inbox, ["127.0.0.1", "localhost"]), base_url="http://127.0.0.1")


def listed(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    return list(client.get("/messages.json", params=query).json()["messages"])


def test_slacks_incoming_webhook_answers_ok(client: TestClient):
    answer = client.post("/services/T/B/X", json={"text": "host04 is down\nsince 10:00", "blocks": []})
    assert (answer.status_code, answer.text) == (200, "ok")
    [message] = listed(client)
    assert (message["channel"], message["subject"]) == ("slack", "host04 is down")
    assert message["payload"]["text"] == "host04 is down\nsince 10:00"


@pytest.mark.parametrize(
    "sent",
    [
        {"json": {"channel": "#net", "text": "hello", "blocks": [{"type": "divider"}]}},
        {"data": {"channel": "#net", "text": "hello", "blocks": '[{"type": "divider"}]'}},
    ],
)
def test_slacks_api_answers_with_a_time_stamp(client: TestClient, sent):
    answer = client.post("/api/chat.postMessage", **sent).json()
    assert answer["ok"] and answer["channel"] == "#net"
    [message] = listed(client)
    assert message["recipients"] == ["#net"]
    assert message["payload"]["blocks"] == [{"type": "divider"}]
    seconds, micros = map(int, answer["ts"].split("."))
    assert seconds * 1_000_000 + micros == message["arrived_us"]


def test_what_slack_refuses_is_refused_as_slack_does(client: TestClient):
    assert client.post("/services/T/B/X", content=b"not json").text == "invalid_payload"
    assert client.post("/api/chat.postMessage", json={"text": "to nobody"}).json()["error"] == "channel_not_found"
    assert client.post("/api/chat.delete", json={}).json()["error"] == "unknown_method"
    assert listed(client) == []


def test_a_webhook_takes_any_json_and_what_is_none(client: TestClient):
    assert client.post("/webhook", json={"id": "a-1", "title": "loss"}).json()["ok"]
    assert client.post("/webhook/alerts", content=b"\xff{").json()["ok"]
    newest, first = listed(client)
    assert (first["subject"], first["payload"]["id"]) == ("loss", "a-1")
    assert (newest["subject"], newest["payload"]) == ("(no JSON)", None)


def mail(html: str = "<p>hello</p>") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "pingmesh@example.org", "oncall@example.org", "host04 är nere"
    made["Message-ID"] = "<incident-1-opened1@pingmesh>"
    made.set_content("plain words")
    made.add_alternative(html, subtype="html")
    return made


def test_a_mail_is_kept_with_its_texts_and_its_inline_pictures(inbox: Inbox, client: TestClient):
    made = mail('<img src="cid:map1"><img src="https://example.org/x.png">')
    made.get_payload()[1].add_related(PICTURE, "image", "png", cid="<map1>")
    keep_mail(inbox, made.as_bytes(), "pingmesh@example.org", ["oncall@example.org"])
    [message] = listed(client)
    assert (message["subject"], message["text"]) == ("host04 är nere", "plain words\n")
    assert message["headers"]["Message-ID"] == "<incident-1-opened1@pingmesh>"
    assert message["recipients"] == ["oncall@example.org"]
    shown = client.get(f"/messages/{message['id']}/html")
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in shown.text
    assert "plain words" in client.get(f"/messages/{message['id']}/raw").text


def test_a_mails_html_is_shown_where_nothing_runs_and_nothing_is_fetched(inbox: Inbox, client: TestClient):
    message = keep_mail(inbox, mail("<script>alert(1)</script>").as_bytes(), "a", ["b"])
    shown = client.get(f"/messages/{message.id}/html")
    told = shown.headers["content-security-policy"]
    assert "default-src 'none'" in told and "sandbox" in told and "script" not in told
    assert shown.headers["x-content-type-options"] == "nosniff"
    raw = client.get(f"/messages/{message.id}/raw")
    assert raw.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe",
        b"Subject: =?utf-7?q?broken?=\r\nContent-Type: text/plain; charset=no-such\r\n\r\n\xff",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x\r\n",
        b"Subject: " + b"x" * 100_000 + b"\r\n\r\nbody",
        b"From: =?\r\nTo: <<<>>>\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
    ],
)
def test_a_mail_that_is_broken_is_kept_too(inbox: Inbox, client: TestClient, content: bytes):
    keep_mail(inbox, content, None, [])
    [message] = listed(client)
    assert len(message["subject"]) <= 300
    assert client.get(f"/messages/{message['id']}/html").status_code == 200


def test_a_restart_keeps_messages_and_their_numbers_go_on(inbox: Inbox, tmp_path: Path):
    inbox.add("webhook", "first", "")
    (tmp_path / "inbox" / "00000007.json").write_text("{ torn")
    again = Inbox(tmp_path / "inbox")
    assert [one["subject"] for one in again.summaries()] == ["first"]
    again.add("webhook", "second", "")
    assert [one["subject"] for one in Inbox(tmp_path / "inbox").summaries()] == ["second", "first"]


def test_a_program_asks_for_what_is_new(client: TestClient):
    for number in range(3):
        client.post("/webhook", json={"title": f"message {number}"})
    newest, second, first = listed(client)
    assert first["arrived_us"] <= second["arrived_us"] <= newest["arrived_us"]
    assert [one["subject"] for one in listed(client, after=first["id"])] == ["message 2", "message 1"]
    assert [one["subject"] for one in listed(client, limit=1)] == ["message 2"]
    assert client.get("/messages.json").json()["counts"] == {"slack": 0, "email": 0, "webhook": 3}


def test_the_oldest_go_where_there_are_too_many_or_too_much(inbox: Inbox, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    for number in range(5):
        inbox.add("webhook", str(number), "")
    assert [one["subject"] for one in inbox.summaries()] == ["4", "3", "2"]
    monkeypatch.setattr(module, "KEPT_BYTES", 2500)
    inbox.add("webhook", "large", "", raw="x" * 2000)
    assert inbox.summaries()[0]["subject"] == "large"
    assert len(list((tmp_path / "inbox").iterdir())) == len(inbox.summaries()) < 4


def test_a_body_that_is_too_large_is_refused(client: TestClient):
    answer = client.post("/webhook", content=b"x" * (MAX_POST_BYTES + 1))
    assert answer.status_code == 413
    assert listed(client) == []


def test_another_name_for_this_machine_is_refused(inbox: Inbox):
    """A web page elsewhere must not read the inbox through a name of its own that leads here."""
    client = TestClient(build_app(inbox, ["127.0.0.1", "localhost"]), base_url="http://evil.example")
    assert client.get("/messages.json").status_code == 400


def test_the_page_may_run_its_own_script_only(client: TestClient):
    page = client.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for name in ("inbox.js", "inbox.css"):
        assert f"/{name}" in page.text
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/../inbox.py").status_code == 404
    assert client.get("/messages/..%2f..%2fsecrets/raw").status_code == 404
