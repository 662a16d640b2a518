"""What a message says, and that nothing in it acts."""

from __future__ import annotations

import json
from dataclasses import replace
from email import message_from_bytes, policy

import pytest

from pingmesh_tasks.alerting.figures import amount, number, span
from pingmesh_tasks.alerting.messages.mail import build_mail
from pingmesh_tasks.alerting.messages.message import compose
from pingmesh_tasks.alerting.messages.wording import title
from pingmesh_tasks.alerting.notification_table import notification_rows
from pingmesh_tasks.alerting.tracked_finding import trimmed
from pingmesh_tasks.store.schemas import check_schema
from tests.support import notices
from tests.support.slack_preview import slack_page

CASES = {
    "opened": notices.notice(),
    "flood": notices.notice(finding=notices.FLOOD, source="data1"),
    "escalated": notices.ESCALATED,
    "resolved": notices.RESOLVED,
    "hostile": notices.EVIL,
}


@pytest.fixture(params=CASES)
def told(request):
    return CASES[request.param], compose(CASES[request.param], notices.LINKS, b"PNG", [notices.TRACE])


def test_the_first_line_says_what_is_wrong_and_how_bad():
    text = compose(notices.notice()).text.splitlines()
    assert text[0] == "▲ CRITICAL: Host host04 does not answer"
    assert text[1].startswith("None of 15 peers got an answer from host04")


def test_a_message_says_since_when_how_bad_against_normal_and_what_to_look_at_first():
    text = compose(notices.notice(finding=notices.FLOOD, source="data1"), notices.LINKS).text
    assert "Since:        2026-11-22 11:59:54 UTC (6 s ago)" in text
    assert "1\u202f204 operations/min (limit 600, normally 14, 86 × normal)" in text
    assert "User bob, on data server data1" in text
    assert "Look first: Ask whether a script polls" in text
    assert notices.LINKS.page in text and notices.LINKS.admin in text and notices.LINKS.object in text
    assert "incident 10b73f252367" in text


def test_the_end_says_that_it_is_over_and_gives_no_advice():
    message = compose(notices.RESOLVED)
    assert message.text.splitlines()[0] == "✔ RESOLVED: Host host04 answers again"
    assert "It was: None of 15 peers" in message.text and "It lasted 12 min" in message.text
    assert "Look first" not in message.text and "host01" not in message.html


def test_a_trace_says_where_loss_starts():
    text = compose(notices.notice(), traces=[notices.TRACE]).text
    assert "Trace host01 → host04: 3 of 16 ports stop after 10.1.0.2" in text
    assert "router 10.1.0.2, ports 7, stop here 3, sent beyond 28, loss beyond 43 %" in text


def test_no_kind_and_no_severity_is_told_by_colour_alone():
    labels = {compose(case).subject.split("]")[0] for case in CASES.values()}
    assert labels == {"[Critical", "[Warning", "[Critical, got worse", "[Resolved"}


def test_every_channel_carries_the_id(told):
    notice, message = told
    assert notice.id in message.text
    assert notice.id in message.html
    assert notice.id in json.dumps(message.slack_blocks[-1])
    assert message.webhook["id"] == message.id == notice.id


def test_nothing_of_hosts_and_logs_acts_in_any_form():
    message = compose(notices.EVIL, notices.LINKS, b"PNG", [replace(notices.TRACE, verdict=notices.HOSTILE)])
    assert "<script" not in message.html and "<img src=x" not in message.html and "49" not in message.subject
    assert "\u202e" not in message.html + message.text + message.subject + message.slack_text
    assert "\n" not in message.subject and len(message.subject) <= 150
    slack = json.dumps(message.slack_blocks[1:]) + message.slack_text  # the header is plain_text
    assert "<!channel>" not in slack and "<script" not in slack
    slack_page(message.slack_blocks)
    assert len(message.html) < 60_000


def test_the_webhook_fits_its_documented_schema(told, repo):
    jsonschema = pytest.importorskip("jsonschema", reason="Airflow brings it")
    schema = json.loads((repo / "docs" / "webhook.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    body = json.loads(json.dumps(told[1].webhook))
    jsonschema.Draft202012Validator(schema).validate(body)
    assert set(body) == set(schema["properties"])


def test_slack_gets_as_much_as_it_takes(told):
    slack_page(told[1].slack_blocks)


def test_a_mail_has_both_texts_the_heatmap_inside_and_headers_that_name_the_notice():
    message = compose(notices.ESCALATED, notices.LINKS, b"\x89PNG", [notices.TRACE])
    mail = message_from_bytes(
        build_mail(message, "pm@example.org", ["a@example.org", "b@example.org"]).as_bytes(),
        policy=policy.default,
    )
    assert mail["Subject"] == "[Critical, got worse] ToR dc1/podset1/tor2 is down"
    assert mail["X-Pingmesh-Notice-Id"] == message.id and message.id in mail["Message-ID"]
    assert mail["References"] == "<10b73f252367@pingmesh.invalid>"
    assert mail.get_content_type() == "multipart/alternative"
    plain, related = mail.iter_parts()
    assert plain.get_content().splitlines()[0] == message.text.splitlines()[0]
    html, image = related.iter_parts()
    assert 'src="cid:heatmap"' in html.get_content()
    assert (image["Content-ID"], image.get_content(), image.get_content_disposition()) == (
        "<heatmap>",
        b"\x89PNG",
        "inline",
    )


def test_a_mail_of_a_hostile_notice_keeps_its_headers_apart():
    mail = build_mail(compose(notices.EVIL), "pm@example.org", ["a@example.org"])
    parsed = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert set(parsed.keys()) == set(mail.keys())


def test_texts_that_utf_8_cannot_write_are_told_all_the_same():
    finding = trimmed(replace(notices.FLOOD, subject="\ud800bob\udfff", value=float("nan")))
    message = compose(notices.notice(finding=finding))
    json.dumps(message.webhook, allow_nan=False).encode()
    (message.text + message.html).encode()


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0, "ratio", "0 %"),
        (0.00004, "ratio", "0.004 %"),
        (0.126, "ratio", "12.6 %"),
        (83.2, "us", "83.2 µs"),
        (2140, "us", "2.14 ms"),
        (12, "operations/min", "12 operations/min"),
        (90, "s", "90 s"),
        (4000, "s", "66 min"),
    ],
)
def test_amounts_are_written_as_a_person_reads_them(value, unit, words):
    assert amount(value, unit) == words


def test_numbers_and_spans_have_no_more_digits_than_they_need():
    assert [number(v) for v in (0, 0.314159, 12.345, 1204.4, 1e6)] == [
        "0",
        "0.31",
        "12.3",
        "1\u202f204",
        "1\u202f000\u202f000",
    ]
    assert [span(v) for v in (2.5, 59, 600, 9000, 200_000)] == [
        "2.5 s",
        "59 s",
        "10 min",
        "2 h 30 min",
        "2 d 7 h",
    ]


def test_a_rule_that_no_one_has_put_in_words_still_has_a_title():
    assert title(notices.notice(finding=replace(notices.HOST_DOWN, rule="odd_thing"))) == "Host host04: odd thing"


def test_what_was_said_is_a_row_of_the_table_notice():
    rows = notification_rows(CASES.values())
    check_schema("notice", rows)
    assert rows["title"][2] == "ToR dc1/podset1/tor2 is down"
    assert json.loads(rows["evidence"][0])[0]["dst"] == "host04"
