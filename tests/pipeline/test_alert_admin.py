"""What the form of `alert_admin` does to the alert state."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import Evaluation, Finding
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline.alert_admin import administer
from pingmesh_tasks.pipeline.incidents import update_incidents
from pingmesh_tasks.pipeline.run import load_run_inventory


@pytest.fixture
def incident(run) -> str:
    """The id of an open incident of host db-4."""
    now = datetime.now(UTC)
    finding = Finding("host_down", "host", "db-4", "critical", 1, "ratio", 0.9, now, "db-4 answers nobody")
    evaluation = Evaluation("mesh", "window", now, frozenset({"host_down"}), (finding,))
    return update_incidents(run, load_run_inventory(run), [(evaluation, now)]).open[0].id


def state(run):
    return AlertFile(run.store).load()


def test_a_list_changes_nothing_and_logs_what_is_open(run, incident, caplog):
    before = state(run)
    with caplog.at_level(logging.INFO):
        assert administer(run, {"action": "list"}) == {"open": 1, "waiting": 1}
    assert state(run) == before
    assert f"open: {incident} mesh host_down: db-4 answers nobody" in caplog.text
    assert "acknowledged" not in caplog.text


def test_an_acknowledgement_names_who_gave_it(run, incident, caplog):
    with caplog.at_level(logging.INFO):
        administer(run, {"action": "acknowledge", "incident": incident, "by": "ann"})
    assert state(run).open[0].acknowledged_by.startswith("ann")
    assert "(acknowledged by ann" in caplog.text


def test_who_gives_no_name_is_someone(run, incident):
    administer(run, {"action": "acknowledge", "incident": incident, "by": None})
    assert state(run).open[0].acknowledged_by.startswith("someone")


def test_a_dismissal_closes_the_incident(run, incident):
    assert administer(run, {"action": "dismiss", "incident": incident, "by": "ann"})["open"] == 0
    assert [one.id for one in state(run).closed] == [incident]


def test_a_silence_holds_for_its_hours_and_patterns(run, caplog):
    form = {"action": "silence", "hours": 2, "source": "mesh", "subject": "db-*", "rule": None, "by": "ann"}
    with caplog.at_level(logging.INFO):
        administer(run, form | {"comment": "rack moves"})
    [silence] = state(run).silences
    assert silence.until - silence.made_at == timedelta(hours=2)
    assert abs(silence.made_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert (silence.source, silence.scope, silence.subject, silence.rule) == ("mesh", "*", "db-*", "*")
    assert (silence.by, silence.reason, silence.incident) == ("ann", "rack moves", None)
    assert "of mesh * db-* * until" in caplog.text and "by ann: rack moves" in caplog.text


def test_a_silence_without_hours_lasts_four(run):
    administer(run, {"action": "silence", "hours": None, "source": "data1"})
    [silence] = state(run).silences
    assert silence.until - silence.made_at == timedelta(hours=4)


def test_a_silence_may_be_of_one_incident(run, incident, caplog):
    with caplog.at_level(logging.INFO):
        administer(run, {"action": "silence", "incident": incident})
    [silence] = state(run).silences
    assert silence.incident == incident
    assert f"of {incident} until" in caplog.text


def test_a_silence_is_ended_by_its_id(run):
    administer(run, {"action": "silence", "source": "data1"})
    administer(run, {"action": "silence", "source": "data2"})
    first, second = state(run).silences
    assert first.id != second.id
    administer(run, {"action": "unsilence", "silence_id": first.id})
    assert [one.id for one in state(run).silences] == [second.id]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"action": "acknowledge"}, "no incident is named"),
        ({"action": "dismiss", "incident": ""}, "no incident is named"),
        ({"action": "acknowledge", "incident": "0123456789ab"}, "0123456789ab"),
        ({"action": "unsilence", "silence_id": None}, "silence"),
        ({"action": "reboot"}, "'reboot' is not known; choose list, acknowledge"),
    ],
)
def test_a_form_that_cannot_be_done_is_refused_and_changes_nothing(run, incident, form, message):
    before = state(run)
    with pytest.raises(ConfigError, match=message):
        administer(run, form)
    assert state(run) == before
