"""What a message says, and that nothing in it acts."""

from __future__ import annotations

import json
from dataclasses import replace
from email import message_from_bytes, policy

import jsonschema
import pytest

from pingmesh_tasks.alerting.figures import amount, number, span
from pingmesh_tasks.alerting.messages.mail import build_mail
from pingmesh_tasks.alerting.messages.message import compose
from pingmesh_tasks.alerting.messages.wording import table, title
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


def test_spans_change_their_unit_at_two_minutes_two_hours_and_two_days():
    spans = {119: "119 s", 120: "2 min", 7_199: "119 min", 7_200: "2 h 0 min", 11_100: "3 h 5 min"}
    spans |= {172_799: "47 h 59 min", 172_800: "2 d 0 h", 187_200: "2 d 4 h", 9.5: "9.5 s", 10.5: "10 s"}
    assert {seconds: span(seconds) for seconds in spans} == spans


def test_numbers_have_three_digits_whatever_their_size():
    numbers = {99.94: "99.9", 99.96: "100", 100: "100", 9.994: "9.99", 9.996: "10", 0.004: "0.004", -0.001: "-0.001"}
    numbers |= {-5: "-5", -250.4: "-250", float("inf"): "–", float("nan"): "–"}
    assert {value: number(value) for value in numbers} == numbers


def test_microseconds_become_milliseconds_and_seconds():
    shown = {
        999.4: "999 µs",
        999.5: "1 ms",
        999_500: "1 s",
        999.6: "1 ms",
        999_400: "999 ms",
        999_600: "1 s",
        12_500_000: "12.5 s",
    }
    assert {value: amount(value, "us") for value in shown} == shown


def facts_of(notification) -> dict[str, str]:
    lines = compose(notification, notices.LINKS).text.splitlines()
    return dict(line.split(":", 1) for line in lines if line[:1].isupper() and ":" in line)


def test_how_many_pairs_suffer_is_said_of_faults_of_the_mesh_that_more_than_one_pair_feels():
    assert facts_of(notices.notice())["Affected"].strip() == "30 pairs"
    two = replace(notices.HOST_DOWN, affected=2)
    assert facts_of(notices.notice(finding=two))["Affected"].strip() == "2 pairs"
    assert "Affected" not in facts_of(notices.notice(finding=replace(two, affected=1)))
    assert "Affected" not in facts_of(notices.notice(finding=notices.FLOOD, source="data1"))


def test_confidence_is_said_where_there_is_doubt_and_members_up_to_eight():
    assert facts_of(notices.notice())["Confidence"].strip() == "98 %"
    sure = replace(notices.HOST_DOWN, confidence=1.0)
    assert "Confidence" not in facts_of(notices.notice(finding=sure))
    nine = notices.notice(members=tuple(f"m{n}" for n in range(9)), more_members=2)
    assert facts_of(nine)["Part of it"].strip() == "m0, m1, m2, m3, m4, m5, m6, m7, and 3 more"
    eight = notices.notice(members=("m0", "m1"))
    assert facts_of(eight)["Part of it"].strip() == "m0, m1"
    assert "Part of it" not in facts_of(notices.notice())


def test_the_place_names_the_data_server_or_the_dag():
    assert facts_of(notices.notice())["Where"].strip() == "Host host04"
    late = replace(notices.HOST_DOWN, rule="late_data", scope="server", subject="pingmesh")
    assert facts_of(notices.notice(finding=late, source="pingmesh"))["Where"].strip() == "DAG pingmesh"
    assert "Where" not in facts_of(notices.notice(source="alarm"))


def test_value_against_limit_and_normal():
    def how_bad(**changes):
        return facts_of(notices.notice(finding=replace(notices.HOST_DOWN, **changes))).get("How bad", "").strip()

    assert how_bad() == "100 % (limit 90 %, normally 0 %)"
    assert how_bad(normal=0.25) == "100 % (limit 90 %, normally 25 %, 4 × normal)"
    assert how_bad(normal=0.5) == "100 % (limit 90 %, normally 50 %, 2 × normal)"
    assert how_bad(normal=0.6) == "100 % (limit 90 %, normally 60 %)"
    assert how_bad(normal=None, threshold=0.0) == "100 %"
    assert how_bad(unit="") == ""
    assert how_bad(value=2000, unit="us", threshold=500, normal=None) == "2 ms (limit 500 µs)"


def test_the_kind_of_a_notification_is_told_in_its_label_and_its_time():
    assert compose(notices.notice("reminder")).subject.startswith("[Critical, still open]")
    assert "ago)" in facts_of(notices.notice())["Since"]
    over = facts_of(notices.RESOLVED)
    assert "in all)" in over["Since"] and "Was" in over and "How bad" not in over


ENDS = [(None, "answers again"), ("hot", "answers again"), ("window", "answers again")]


@pytest.mark.parametrize(("closed_by", "end"), ENDS)
def test_the_title_of_an_end_says_what_is_well_again(closed_by, end):
    assert title(notices.notice("resolved", closed_by=closed_by)) == f"Host host04 {end}"
    odd = replace(notices.HOST_DOWN, rule="odd_thing")
    assert title(notices.notice("resolved", odd, closed_by=closed_by)) == "Host host04: odd thing is over"


@pytest.mark.parametrize(
    ("closed_by", "end"),
    [
        ("inventory", "Host host04 is no longer in the inventory"),
        ("rules", "Host host04: host down is switched off"),
        ("eve closed it by hand.", "Host host04: host down was closed by hand"),
    ],
)
def test_the_title_of_an_end_that_nobody_saw_says_who_ended_it(closed_by, end):
    assert title(notices.notice("resolved", closed_by=closed_by)) == end
    of_server = notices.notice("resolved", notices.FLOOD, "data1", closed_by="inventory")
    assert title(of_server) == "Data server data1 is no longer in the inventory"


def test_a_rule_may_have_words_of_its_own_for_a_scope():
    flood = replace(notices.FLOOD, rule="heavy_reads")
    assert title(notices.notice(finding=flood)) == "User bob reads a node too heavily"
    node = replace(flood, scope="node", subject="efit")
    assert title(notices.notice(finding=node)) == "Node efit is read too heavily"


def test_what_alerting_tells_about_itself_has_titles_of_its_own():
    def of(rule, kind="opened", subject="slack"):
        return title(notices.notice(kind, replace(notices.HOST_DOWN, rule=rule, scope="server", subject=subject)))

    assert of("channel_failed") == "Channel slack does not take messages"
    assert of("channel_failed", "resolved") == "Channel slack works again"
    assert of("channel_off") == "No alarms go to slack"
    assert of("messages_dropped", subject="7") == "Messages that did not reach every channel: 7"
    assert of("late_data", subject="pingmesh") == "Data of pingmesh are late"
    assert of("late_data", "resolved", "pingmesh") == "Data of pingmesh come in time again"


def test_a_storm_a_pair_and_the_mesh_are_named_as_such():
    storm = replace(notices.HOST_DOWN, scope="mesh", subject="mesh", unit="findings", value=40.0)
    assert title(notices.notice(finding=storm)) == "The mesh has 40 faults at once: host down"
    pair = replace(notices.HOST_DOWN, rule="loss", scope="pair", subject="a>b")
    assert title(notices.notice(finding=pair)) == "Pair a → b loses probes"


def test_evidence_is_a_table_of_figures_and_words():
    rows = [
        {
            "src": "a",
            "loss": 0.5,
            "loss_beyond": 1.0,
            "rtt_p50_us": None,
            "lost_share": 0.5,
            "share": 2.0,
            "ok": True,
            "n": 3,
        },
        {"src": "b", "loss": 0.25, "rtt_p50_us": 1500, "ok": False, "extra": "x"},
    ]
    shown = table(rows, 2, 9)
    assert [name for name, _ in shown["columns"]] == [
        "src",
        "loss",
        "loss beyond",
        "rtt p50",
        "lost share",
        "share",
        "ok",
        "n",
        "extra",
    ]
    assert [is_figure for _, is_figure in shown["columns"]] == [False, True, True, True, True, True, False, True, False]
    assert shown["rows"] == [
        ["a", "50 %", "100 %", "–", "50 %", "2", "yes", "3", "–"],
        ["b", "25 %", "–", "1.5 ms", "–", "–", "no", "–", "x"],
    ]
    small = table(rows, 1, 2)
    assert (len(small["rows"]), len(small["columns"])) == (1, 2)
    assert table([], 3) == {"columns": [], "rows": []}


def test_a_message_shows_two_traces_in_slack_and_four_in_a_mail_and_says_of_which_pair():
    message = compose(notices.notice(), traces=[notices.TRACE] * 6)
    assert message.text.count("Trace host01 → host04") == 4
    assert json.dumps(message.slack_blocks).count("Trace host01") == 2
    assert len(message.webhook["traces"]) == 6


def test_an_end_asks_for_nothing_and_an_alert_about_alerting_cannot_be_acknowledged():
    assert "Acknowledge or silence" in compose(notices.notice(), notices.LINKS).text
    for own in (notices.RESOLVED, notices.notice(source="alarm")):
        assert "Acknowledge or silence" not in compose(own, notices.LINKS).text
    back = compose(notices.notice("resolved", source="alarm")).text
    assert "It was: " not in back and "Look first" in back


def test_a_rule_that_no_one_has_put_in_words_still_has_a_title():
    assert title(notices.notice(finding=replace(notices.HOST_DOWN, rule="odd_thing"))) == "Host host04: odd thing"


def test_what_was_said_is_a_row_of_the_table_notice():
    rows = notification_rows(CASES.values())
    check_schema("notice", rows)
    assert rows["title"][2] == "ToR dc1/podset1/tor2 is down"
    assert json.loads(rows["evidence"][0])[0]["dst"] == "host04"
