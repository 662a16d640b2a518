"""Faults that are ordered while the demo runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pingmesh_tasks.demo.faults import order, standing
from pingmesh_tasks.errors import ConfigError


def test_an_order_stands_until_it_is_over_and_is_then_removed(tmp_path: Path):
    until_s = order(tmp_path / "faults", "outage", "host04", 60)
    assert standing(tmp_path / "faults", "outage", time.time()) == {"host04": until_s}
    assert standing(tmp_path / "faults", "hammer", time.time()) == {}
    assert standing(tmp_path / "faults", "outage", until_s) == {}
    assert list((tmp_path / "faults").iterdir()) == []


def test_a_new_order_replaces_the_one_before_and_none_for_0_s_ends_it(tmp_path: Path):
    order(tmp_path, "outage", "host04", 10)
    later_s = order(tmp_path, "outage", "host04", 100)
    assert standing(tmp_path, "outage", time.time()) == {"host04": later_s}
    order(tmp_path, "outage", "host04", 0)
    assert standing(tmp_path, "outage", time.time()) == {}


def test_two_hosts_may_be_down(tmp_path: Path):
    order(tmp_path, "outage", "host04", 10)
    order(tmp_path, "outage", "rack-2.host_5", 10)
    assert standing(tmp_path, "outage", time.time()).keys() == {"host04", "rack-2.host_5"}


@pytest.mark.parametrize(("what", "seconds"), [("../x", 10), ("", 10), ("host04", -1), ("host04", 1e9), ("a\nb", 1)])
def test_an_order_that_cannot_be_is_refused(tmp_path: Path, what: str, seconds: float):
    with pytest.raises(ConfigError, match="name a host or user"):
        order(tmp_path, "outage", what, seconds)
    assert list(tmp_path.iterdir()) == []


def test_rubbish_in_the_folder_and_no_folder_are_no_faults(tmp_path: Path):
    (tmp_path / "outage-host01").write_text("soon")
    (tmp_path / "outage-host02").mkdir()
    assert standing(tmp_path, "outage", time.time()) == {}
    assert standing(tmp_path / "none", "outage", time.time()) == {}
