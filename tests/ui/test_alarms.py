"""Alarms in a real Chromium: what is wrong and where on the way, what is silenced, and what is asked of Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.made_up_mesh import HOSTILE, Mesh, serving

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
OpenPage = Callable[..., Any]
IMG = HOSTILE[0]
INCIDENT: dict[str, Any] = {
    "id": "a1b2c3d4e5f0",
    "state": "open",
    "source": "mesh",
    "rule": "loss",
    "scope": "host",
    "subject": "host03",
    "severity": "warning",
    "value": 0.31,
    "unit": "share",
    "threshold": 0.01,
    "normal": 0.0005,
    "confidence": 0.9,
    "affected": 14,
    "detail": "probes to host03 are lost",
    "advice": "look at its link",
    "opened_at": "2026-11-22T02:31:07.250000Z",
    "since": "2026-11-22T02:30:00Z",
    "last_seen": "2026-11-22T02:58:00Z",
    "closed_at": None,
    "closed_by": None,
    "acknowledged_by": None,
    "silenced": False,
    "stale": False,
    "notices": 1,
    "returns": 0,
    "merged_into": None,
    "evidence": [{"src": "host01", "dst": "host03", "sent": 30, "lost": 12, "p99_us": 2310}],
    "symptoms": [],
    "unlisted": 0,
    "traces": [
        {
            "src": "host01",
            "dst": "host03",
            "verdict": "after 10.0.2.1; 41 of 120 packets to the target are lost",
            "after": "10.0.2.1",
            "hops": [
                {"hop": 2, "router": "10.0.2.1", "ports": 16, "stop_here": 0, "sent_beyond": 120, "loss_beyond": 0.34},
                {"hop": 1, "router": "10.0.1.1", "ports": 16, "stop_here": 0, "sent_beyond": 240, "loss_beyond": 0.17},
            ],
        }
    ],
}
READER = INCIDENT | {
    "id": "b1b2c3d4e5f0",
    "source": "data1",
    "rule": "user_rate",
    "scope": "user",
    "subject": "mallory",
    "severity": "critical",
    "unit": "reads/min",
    "value": 1188.0,
    "threshold": 200.0,
    "detail": "mallory reads 1188 times a minute",
    "silenced": True,
    "traces": [],
    "evidence": [{"tree": "EAST", "node_path": "\\EAST::IP", "pid": 17970, "per_min": 1188}],
}
SILENCE: dict[str, Any] = {
    "id": "5113ce00",
    "by": "alice",
    "made_at": "2026-11-22T02:40:00Z",
    "until": "2126-11-22T06:40:00Z",
    "reason": "link is being replaced",
    "incident": READER["id"],
    "source": "*",
    "scope": "*",
    "subject": "*",
    "rule": "*",
}
BY_GLOB = SILENCE | {"id": "5113ce01", "incident": None, "scope": "tor", "subject": "dc1/podset2/*", "reason": ""}
OVER = SILENCE | {"id": "5113ce02", "until": "2026-11-22T02:41:00Z", "reason": "is over"}
CHANNELS = [
    {"channel": "email", "on": True, "failures": 3, "since": "2026-11-22T02:10:00Z"},
    {"channel": "slack", "on": True, "failures": 0, "since": None},
    {"channel": "webhook", "on": False, "failures": 0, "since": None},
]


class Alarm:
    """What the alarm remembers, and an Airflow that runs `alert_admin`: it counts what it was asked."""

    def __init__(self, incidents: list[dict[str, Any]] | None = None) -> None:
        self.incidents = [INCIDENT, READER] if incidents is None else incidents
        self.silences, self.channels = [SILENCE, BY_GLOB, OVER], CHANNELS
        self.asked: list[dict[str, Any]] = []
        self.status, self.run_states = 200, ["queued", "running", "success"]

    def answer(self, page: Any) -> None:
        """Answer the page's questions about alarms in place of its server."""
        page.route("**/api/v1/incidents?*", self._incidents)
        page.route("**/api/v1/anomalies?*", lambda route: route.fulfill(json={"anomalies": [], "more": False}))
        page.route("**/api/v2/dags/alert_admin/dagRuns**", self._runs)

    def _incidents(self, route: Any) -> None:
        looked = {"hot mesh": "2026-11-22T02:59:58Z"}
        told = {"incidents": self.incidents, "silences": self.silences, "channels": self.channels, "looked_at": looked}
        route.fulfill(json=told)

    def _runs(self, route: Any) -> None:
        if route.request.method == "POST":
            self.asked.append(route.request.post_data_json)
            detail = [{"msg": "this is what is wrong"}] if self.status == 422 else "refused"
            route.fulfill(status=self.status, json={"dag_run_id": "manual__1"} | {"detail": detail})
        else:
            state = self.run_states.pop(0) if len(self.run_states) > 1 else self.run_states[0]
            route.fulfill(json={"dag_run_id": "manual__1", "state": state})


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(Mesh(8), prefix="/airflow") as address:
        yield address


@pytest.fixture
def open_alarms(open_page: OpenPage, served: str) -> Callable[..., Any]:
    """`open_alarms(alarm, "&inc=…")`: the tab with what `alarm` remembers."""

    def open_(alarm: Alarm, link: str = "", **options: Any) -> Any:
        page = open_page(f"{served}static/@/icon.svg", ready=False, **options)
        alarm.answer(page)
        page.goto(f"{served}#tab=alarms{link}")
        page.wait_for_selector("#panel-alarms :is(tbody tr, .blank)")
        return page

    return open_


def test_a_trace_is_a_table_of_routers_that_says_where_loss_starts(open_alarms: Callable[..., Any]):
    page = open_alarms(Alarm(), "&inc=a1b2c3d4e5f0")
    trace = page.get_by_role("region", name="Path from")
    assert trace.locator("tbody tr").all_inner_texts() == [
        "1\t10.0.1.1\t16\t0\t17 % of 240",
        "2\t10.0.2.1 loss starts after it\t16\t0\t34 % of 120",
    ]
    page.get_by_text("41 of 120 packets to the target are lost").wait_for()


def test_evidence_leads_to_its_pair_on_the_map_of_the_window_in_which_it_began(open_alarms: Callable[..., Any]):
    page = open_alarms(Alarm(), "&inc=a1b2c3d4e5f0")
    row = page.get_by_role("region", name="Evidence").locator("tbody tr")
    assert row.inner_text().split("\t") == ["host01 → host03", "30", "12", "2.31 ms"]
    row.get_by_role("button").click()
    page.locator("#clock", has_text="02:30–02:35").wait_for()
    page.locator("#picked", has_text="host01 → host03").wait_for()
    page.go_back()
    page.click(".detail >> text=Show on the map")
    page.locator("#picked", has_text="host03 → everyone").wait_for()
    assert "02:30–02:35" in page.inner_text("#clock")


def test_filters_are_part_of_the_link(open_alarms: Callable[..., Any]):
    page = open_alarms(Alarm())
    assert page.locator("#panel-alarms .split > .scroll tbody tr").count() == 2
    page.select_option("select[aria-label=State]", "silenced")
    page.select_option("select[aria-label=Severity]", "critical")
    page.select_option("select[aria-label=Source]", "data")
    page.fill("input[type=search] >> visible=true", "mallory")
    assert page.locator("#panel-alarms .split > .scroll tbody tr").count() == 1
    link = page.evaluate("location.hash").removeprefix("#tab=alarms")
    again = open_alarms(Alarm(), link)
    assert again.locator("#panel-alarms .split > .scroll tbody tr").count() == 1
    assert [again.input_value(f"select[aria-label={name}]") for name in ("State", "Severity", "Source")] == [
        "silenced",
        "critical",
        "data",
    ]
    again.fill("input[type=search] >> visible=true", "nobody")
    again.get_by_text("No alarm matches these filters.").wait_for()
    again.fill("input[type=search] >> visible=true", "")
    again.select_option("select[aria-label=State]", "")
    assert "aq=" not in again.url
    assert "ast=" not in again.url


def test_from_a_host_in_trouble_a_link_leads_to_its_alarms_and_back(open_page: OpenPage, served: str):
    page = open_page(f"{served}#tab=fleet", ready=False)
    Alarm().answer(page)
    page.locator("#panel-fleet tbody tr", has_text="host03").get_by_role("button", name="Alarms").click()
    rows = page.locator("#panel-alarms .split > .scroll tbody tr")
    rows.first.wait_for()
    assert rows.count() == 1
    assert page.input_value("#panel-alarms input[type=search]") == "host03"
    page.go_back()
    page.locator("#panel-fleet tbody tr", has_text="host03").wait_for()
    assert "aq=" not in page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_alarms(open_alarms: Callable[..., Any], scheme: str):
    page = open_alarms(Alarm(), "&inc=a1b2c3d4e5f0", color_scheme=scheme)
    page.wait_for_selector(".detail table")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    serious = [
        (rule["id"], rule["nodes"][0]["html"][:160]) for rule in found if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_what_is_silenced_says_by_whom_until_when_and_why_and_is_ended_by_a_button(open_alarms: Callable[..., Any]):
    alarm = Alarm()
    page = open_alarms(alarm)
    rows = page.get_by_role("region", name="Silences").locator("tbody tr")
    assert rows.count() == 2  # one is over
    told = rows.filter(has_text="alice").first.inner_text()
    for word in ("User reads too fast: mallory", "alice", "Nov 22, 06:40:00", "link is being replaced", "left"):
        assert word in told
    assert "scope tor" in rows.nth(1).inner_text()
    assert "dc1/podset2/*" in rows.nth(1).inner_text()
    rows.first.get_by_role("button", name="End").click()
    page.get_by_text("The silence has ended").wait_for()
    conf = {"action": "unsilence", "silence_id": "5113ce00", "by": "admin"}
    assert alarm.asked == [{"logical_date": None, "conf": conf}]


def test_channels_say_whether_they_work_and_since_when_not(open_alarms: Callable[..., Any]):
    alarm = Alarm()
    page = open_alarms(alarm)
    rows = [text.split("\t") for text in page.locator(".channels tr").all_inner_texts()]
    assert rows[0] == ["email", "✕ failed 3 times in a row", "since Nov 22, 02:10:00 UTC"]
    assert [row[:2] for row in rows[1:]] == [["slack", "✓ on"], ["webhook", "off"]]
    page.get_by_text("The alarm looked last at Nov 22, 02:59:58 UTC.").wait_for()
    alarm.channels = [one | {"on": False} for one in CHANNELS]
    page.reload()
    page.get_by_text("No channel is on").wait_for()


def test_an_acknowledgement_is_followed_until_it_is_seen(open_alarms: Callable[..., Any]):
    alarm = Alarm()
    page = open_alarms(alarm, "&inc=a1b2c3d4e5f0")
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("acknowledges it").wait_for()
    alarm.incidents = [INCIDENT | {"acknowledged_by": "admin at 03:00 UTC"}, READER]
    page.get_by_text("Acknowledged.").wait_for()
    page.locator(".detail dl", has_text="admin at 03:00 UTC").wait_for()
    assert page.get_by_role("button", name="Acknowledge").count() == 0


def test_a_silence_of_an_incident_is_seen_before_the_alarm_looks_again(open_alarms: Callable[..., Any]):
    alarm = Alarm([INCIDENT])
    alarm.silences = []
    page = open_alarms(alarm, "&inc=a1b2c3d4e5f0")
    page.fill(".detail input", "a new link")
    page.select_option(".detail select", "24")
    page.get_by_role("button", name="Silence", exact=True).click()
    alarm.silences = [SILENCE | {"incident": INCIDENT["id"]}]
    page.locator(".detail dl", has_text="silenced").wait_for()
    conf = {"action": "silence", "incident": INCIDENT["id"], "hours": 24, "comment": "a new link", "by": "admin"}
    assert [asked["conf"] for asked in alarm.asked] == [conf]
    page.locator("#panel-alarms .split tbody tr", has_text="silenced").wait_for()
    page.get_by_role("button", name="End the silence").click()
    alarm.silences = []
    page.get_by_role("button", name="Silence", exact=True).wait_for()
    assert alarm.asked[-1]["conf"] == {"action": "unsilence", "silence_id": "5113ce00", "comment": "", "by": "admin"}


@pytest.mark.parametrize(
    ("status", "states", "said"),
    [
        (200, ["running", "failed"], "The run \u2068manual__1\u2069 of “alert_admin” failed"),
        (403, [], "You may not run the Dag “alert_admin”."),
        (404, [], "Airflow has no Dag “alert_admin”"),
        (422, [], "this is what is wrong"),
        (401, [], "Your session has expired."),
    ],
)
def test_what_airflow_refuses_is_said(open_alarms: Callable[..., Any], status: int, states: list[str], said: str):
    alarm = Alarm()
    alarm.status, alarm.run_states = status, states
    page = open_alarms(alarm, "&inc=a1b2c3d4e5f0")
    page.get_by_role("button", name="Silence", exact=True).click()
    page.locator("#panel-alarms .said", has_text=said).wait_for()
    assert page.get_by_role("button", name="Silence", exact=True).is_enabled()


def test_hostile_names_in_every_field_of_an_alarm_stay_text(open_alarms: Callable[..., Any]):
    def spoilt(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: value[name] if name in ("id", "state", "until", "on", "incident") else spoilt(value[name])
                    for name in value} | {IMG: IMG}  # fmt: skip
        if isinstance(value, list):
            return [spoilt(one) for one in value]
        return value if isinstance(value, bool | None) else IMG

    alarm = Alarm([json.loads(json.dumps(spoilt(one))) for one in (INCIDENT, READER)])
    alarm.silences, alarm.channels = [spoilt(SILENCE), spoilt(BY_GLOB)], [spoilt(one) for one in CHANNELS]
    page = open_alarms(alarm, f"&inc=a1b2c3d4e5f0&aq={IMG}&ast={IMG}")
    page.wait_for_selector(".detail h2")
    page.fill("input[type=search] >> visible=true", "")
    for row in (1, 0):
        page.locator("#panel-alarms .split > .scroll tbody tr").nth(row).click()
        page.locator(".detail h2", has_text=IMG).wait_for()
    page.get_by_role("button", name="Silence", exact=True).click()
    page.locator(".said", has_text="Silenced.").wait_for()
    assert page.evaluate("window.hurt") is None
    assert page.locator("img, script:not([src])").count() == 0
