"""The links of a message: to what it speaks of, in the frame that Airflow puts around the page."""

from __future__ import annotations

from pingmesh_tasks.alerting.messages.links import links_of
from pingmesh_tasks.alerting.messages.message import Links
from pingmesh_tasks.alerting.outbox import ALARM
from tests.support.notices import LINKS, notice

PICTURE = "artifacts/heatmap/date=2026-11-22/hour=11/20261122T115500Z.png"


def test_a_message_leads_to_its_incident_and_to_the_window_of_its_picture():
    assert links_of(notice(), "http://localhost:8080", PICTURE) == LINKS


def test_a_prefix_of_airflow_is_in_the_frames_address_too():
    links = links_of(notice(), "https://example.org/over/here", PICTURE)
    assert links.page.startswith("https://example.org/over/here/plugin/pingmesh/over/here/pingmesh/#tab=alarms&inc=")
    assert links.heatmap.startswith("https://example.org/over/here/plugin/pingmesh/over/here/pingmesh/#w=")


def test_what_the_alarm_says_of_itself_leads_to_the_channels():
    assert links_of(notice(source=ALARM), "http://airflow").page.endswith("#tab=alarms")


def test_where_airflow_does_not_say_where_it_is_the_key_of_the_picture_is_all():
    assert links_of(notice(), None, PICTURE) == Links(object=PICTURE)
