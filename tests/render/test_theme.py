import numpy as np
import pytest

from pingmesh_tasks.render import theme
from pingmesh_tasks.render.theme import Scale, format_loss, format_us, latency_scale, shorten


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (0, "0 µs"),
        (0.4, "0.4 µs"),
        (83, "83 µs"),
        (83.25, "83.2 µs"),
        (999.4, "999 µs"),
        (999.6, "1 ms"),
        (2_140, "2.14 ms"),
        (999_499, "999 ms"),
        (1_000_000, "1 s"),
        (10_000_000, "10 s"),
        (float("nan"), "–"),
    ],
)
def test_a_time_has_three_digits_and_the_unit_that_fits(us, shown):
    assert format_us(us) == shown


@pytest.mark.parametrize(
    ("ratio", "shown"), [(0, "0 %"), (0.00001, "<0.01 %"), (0.003, "0.3 %"), (0.5, "50 %"), (1, "100 %")]
)
def test_a_loss_is_never_shown_as_zero_unless_it_is(ratio, shown):
    assert format_loss(ratio) == shown


def test_the_scale_spans_the_middle_of_the_values_and_says_that_an_outlier_lies_beyond():
    values = np.array([30.0] * 500 + [2_000.0] * 499 + [9_000_000.0])
    scale = latency_scale(values)
    assert (scale.low, scale.high, scale.beyond) == (20.0, 2_000.0, True)


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [10_000_000.0], [31.0, 33.0], [float("nan")]])
def test_a_scale_of_any_values_is_at_least_a_factor_of_five_wide(values):
    scale = latency_scale(np.array(values))
    assert scale.low >= 1 and scale.high / scale.low >= 5
    assert scale.ticks()


def test_ticks_of_a_scale_cross_from_microseconds_to_milliseconds():
    assert [label for _, label in Scale(20, 5_000).ticks()] == [
        "20 µs", "50 µs", "100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"
    ]  # fmt: skip


def test_the_ramp_grows_lighter_all_the_way_so_that_it_reads_in_grey():
    light = theme.RAMP @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > -0.6).all() and light[-1] - light[0] > 150


def test_no_colour_of_a_state_is_a_colour_of_the_ramp():
    for state in (theme.FAILED, theme.NO_DATA, theme.NOT_PLANNED, theme.UNCLEAN, theme.ZERO_LOSS):
        apart = np.abs(theme.RAMP.astype(int) - theme.rgb_of(state).astype(int)).sum(axis=1)
        assert apart.min() > 60, state


def test_a_long_name_loses_its_middle_and_keeps_what_tells_hosts_apart():
    assert shorten("rack-with-a-very-long-name-0042", 11) == "rack-…-0042"
    assert shorten("short", 11) == "short"
