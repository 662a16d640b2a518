"""The task that notifies, as Airflow runs it."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from pingmesh_tasks.errors import NotificationError, StoreError
from pingmesh_tasks.orchestration import alerts


class StandInRun:
    settings = "settings"


@pytest.fixture
def calls(monkeypatch):
    seen = []
    monkeypatch.setattr(alerts, "current_run", StandInRun)
    monkeypatch.setattr(alerts, "open_channels", lambda settings: f"channels by {settings}")
    monkeypatch.setattr(alerts, "ui_url", lambda: "http://airflow")
    monkeypatch.setattr(alerts, "notify", lambda run, *rest, **named: seen.append((rest, named)) or {"sent": 1})
    return seen


def test_the_use_case_gets_the_channels_the_url_and_the_id_of_the_run(calls):
    assert alerts.notify_channels("run 1") == {"sent": 1}
    assert calls == [(("channels by settings", "http://airflow"), {"sender": "run 1"})]


@pytest.mark.parametrize(
    ("fault", "raised"), [(NotificationError("nobody"), AirflowFailException), (StoreError("down"), StoreError)]
)
def test_while_no_channel_works_the_task_fails_without_a_retry_and_else_with_one(calls, monkeypatch, fault, raised):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(alerts, "notify", fail)
    with pytest.raises(raised, match=str(fault)):
        alerts.notify_channels("run 1")
