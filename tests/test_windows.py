from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.windows import Window, cron, last_complete_window, window_containing

MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)


def test_two_machines_agree_on_the_window_of_a_moment():
    berlin = datetime(2026, 11, 21, 23, 7, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert window_containing(berlin, 300).id == "20261121T220500Z"


@pytest.mark.parametrize("length_s", [0, -60, 7, 90, 7 * 3600])
def test_a_length_that_does_not_divide_a_day_is_refused_with_a_suggestion(length_s):
    with pytest.raises(ConfigError, match="try 60, 300 or 3600"):
        Window(MIDNIGHT, length_s)


def test_a_start_between_two_windows_is_refused():
    with pytest.raises(ConfigError, match="window_containing"):
        Window(MIDNIGHT.replace(minute=1), 300)


def test_a_start_in_another_zone_is_refused():
    with pytest.raises(ConfigError, match="not in UTC"):
        Window(MIDNIGHT.astimezone(ZoneInfo("Europe/Berlin")), 300)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ConfigError, match="no time zone"):
        window_containing(datetime(2026, 11, 21), 300)  # noqa: DTZ001


@pytest.mark.parametrize("length_s", [60, 300, 3600, 86_400])
def test_a_window_is_found_again_by_its_name(length_s):
    window = window_containing(MIDNIGHT.replace(hour=13, minute=59), length_s)
    assert Window.parse(window.id, length_s) == window
    assert window.shifted(1).start == window.end


def test_what_is_no_name_is_refused():
    with pytest.raises(ConfigError, match="no window id"):
        Window.parse("../../etc", 300)


def test_a_window_that_ends_now_is_complete():
    assert last_complete_window(MIDNIGHT, 300).end == MIDNIGHT


@pytest.mark.parametrize(
    ("length_s", "line"),
    [(60, "* * * * *"), (300, "*/5 * * * *"), (3600, "0 * * * *"), (7200, "0 */2 * * *"), (86_400, "0 0 * * *")],
)
def test_cron_fires_at_each_end_of_a_window(length_s, line):
    assert cron(length_s) == line
