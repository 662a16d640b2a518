"""How long an hour waits for its windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pingmesh_tasks.orchestration import context, sensors
from pingmesh_tasks.pipeline import rollups


@pytest.fixture
def poke(monkeypatch):
    """Poke for the hour that ended so many seconds ago, its windows being there or not."""

    def poke(ended_s_ago: float, ready: bool) -> bool:
        asked = []
        end = datetime.now(UTC) - timedelta(seconds=ended_s_ago)
        run = SimpleNamespace(window=SimpleNamespace(end=end))
        monkeypatch.setattr(context, "current_run", lambda length_s: asked.append(length_s) or run)
        monkeypatch.setattr(rollups, "is_ready", lambda of: of is run and ready)
        told = sensors.HourSensor(task_id="wait").poke({})
        assert asked == [3_600]
        return told

    return poke


def test_it_waits_for_windows_that_are_missing(poke):
    assert poke(60, ready=False) is False
    assert poke(60, ready=True) is True


def test_after_a_quarter_of_an_hour_it_waits_no_more(poke):
    assert poke(14 * 60, ready=False) is False
    assert poke(15 * 60 + 5, ready=False) is True


def test_it_holds_no_worker_meanwhile():
    sensor = sensors.HourSensor(task_id="wait")
    assert (sensor.mode, sensor.poke_interval) == ("reschedule", 30)
    assert sensor.timeout == 3600 or sensor.timeout == timedelta(hours=1)
