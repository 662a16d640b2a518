"""A minute of probes, cut at the moment when a host died or came back."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.detect.mesh.recent import last_changes

START = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)


def probes(fails, sources=("a", "b", "c", "d"), dst="x", span_s=60, every_s=2.0) -> pl.DataFrame:
    """Probes to `dst`; `fails(seconds, source)` tells which of them fail."""
    rows = [
        {"ts": START + timedelta(seconds=float(second)), "src": src, "dst": dst, "answered": not fails(second, src)}
        for number, src in enumerate(sources)
        for second in np.arange(number * 0.3, span_s, every_s)
    ]
    return pl.DataFrame(rows)


def since_last_change(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the probes that are left when those from before a change are gone."""
    joined = frame.join(last_changes(frame), on="dst", how="left")
    return joined.filter(pl.col("ts") >= pl.col("start").fill_null(pl.col("ts")))


def share(frame: pl.DataFrame) -> float:
    return 1 - frame["answered"].mean()


def test_a_host_that_died_ten_seconds_ago_is_judged_by_these_ten_seconds():
    assert share(since_last_change(probes(lambda s, _: s > 50))) == 1


def test_a_host_that_came_back_is_judged_by_what_it_answered_since():
    assert share(since_last_change(probes(lambda s, _: 10 < s < 45))) == 0


def test_a_host_that_was_dead_for_the_whole_span_stays_dead():
    frame = probes(lambda s, _: True)
    assert since_last_change(frame).height == frame.height


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.3])
def test_loss_at_random_is_left_as_it_is(loss):
    chance = np.random.default_rng(7)
    frame = probes(lambda s, _: chance.random() < loss)
    assert since_last_change(frame).height == frame.height


def test_the_failures_of_one_source_kill_no_host():
    frame = probes(lambda s, src: src == "a" and s > 20)
    assert since_last_change(frame).height == frame.height


def test_one_source_alone_may_judge_where_there_is_no_other():
    assert share(since_last_change(probes(lambda s, _: s > 40, sources=("a",)))) == 1


def test_the_probes_to_other_hosts_are_left_alone():
    dead, fine = probes(lambda s, _: s > 50), probes(lambda s, _: False, dst="y")
    cut = since_last_change(pl.concat([dead, fine]))
    assert cut.filter(pl.col("dst") == "y").height == fine.height


def test_where_nothing_was_probed_nothing_changed():
    assert last_changes(probes(lambda s, _: False).clear()).is_empty()
