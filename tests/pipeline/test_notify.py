"""What is due is collected, composed and delivered, and a fault of a part costs no message."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pingmesh_tasks.alerting.channel import Channels
from pingmesh_tasks.alerting.outbox import post
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.alerting.trace_store import read_traces
from pingmesh_tasks.errors import NotificationError, StoreError
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.fleet.trace_paths import Hop, PathTrace, PortPath
from pingmesh_tasks.pipeline import message_parts
from pingmesh_tasks.pipeline.message_parts import HEATMAP_WINDOWS, collect_parts, worst_pairs
from pingmesh_tasks.pipeline.notify import notify
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_table
from pingmesh_tasks.windows import window_containing
from tests.support import notices
from tests.support.channels import MemoryChannel
from tests.support.memory_store import MemoryObjects

NOW = datetime.now(UTC)
OPENED = notices.notice(at=NOW)
ON_SERVER = notices.notice(id="a1-opened1", incident="a1", finding=notices.FLOOD, source="data1", at=NOW)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    inventory = tmp_path / "inventory.txt"
    inventory.write_text("127.0.0.1\n127.0.0.2\n")
    settings = load_settings({"PINGMESH_INVENTORY": str(inventory), "PINGMESH_TRACE_BUDGET_S": "0"})
    window = window_containing(NOW, settings.window_s)
    return Run(window, settings, MemoryObjects(), SshAccess("nobody", tmp_path / "known_hosts"))


def put(run: Run, *notifications) -> None:
    AlertFile(run.store).update(lambda state: post(state, notifications))


def outbox_of(run: Run) -> list[str]:
    return [entry.notification.id for entry in AlertFile(run.store).load().outbox]


def keep_heatmap(run: Run, ago: int, png: bytes) -> str:
    key = layout.artifact("heatmap", run.window.shifted(-ago), "png")
    run.store.put(key, png)
    return key


def test_every_channel_gets_what_is_due_once_and_the_table_has_a_row(run):
    put(run, OPENED)
    mail, slack = MemoryChannel("mail"), MemoryChannel("slack")
    assert notify(run, Channels([mail, slack], {})) == {"sent": 2}
    assert [m.id for m in mail.messages] == [m.id for m in slack.messages] == [OPENED.id]
    assert outbox_of(run) == []
    assert notify(run, Channels([mail, slack], {})) == {}
    assert read_table(run.store, "notice", run.window)["notice"].to_list() == [OPENED.id]


def test_a_channel_that_fails_is_counted_while_another_takes_the_message(run):
    put(run, OPENED)
    channels = Channels([MemoryChannel("mail"), MemoryChannel("slack", "no route")], {})
    assert notify(run, channels) == {"sent": 1, "failed": 1}
    assert outbox_of(run) == [OPENED.id]


def test_while_every_channel_fails_it_is_an_error_also_where_nothing_is_due_yet(run):
    put(run, OPENED)
    channels = Channels([MemoryChannel("mail", "down"), MemoryChannel("slack", "down")], {})
    with pytest.raises(NotificationError, match="no channel took a message; they wait"):
        notify(run, channels)
    with pytest.raises(NotificationError, match="no channel takes messages; 1 wait"):
        notify(run, channels)


def test_one_channel_that_works_is_no_error_while_the_other_waits_for_its_next_try(run):
    put(run, OPENED)
    channels = Channels([MemoryChannel("mail"), MemoryChannel("slack", "down")], {})
    notify(run, channels)
    assert notify(run, channels) == {}


def test_without_any_channel_notifications_wait_and_that_is_no_error(run, caplog):
    put(run, OPENED)
    assert notify(run, Channels([], {"mail": "there is no connection"})) == {}
    assert outbox_of(run) == [OPENED.id]
    assert "1 notices wait in the outbox: no channel is on" in caplog.text


def test_an_empty_outbox_says_nothing_of_missing_channels(run, caplog):
    assert notify(run, Channels([], {})) == {}
    assert "wait in the outbox" not in caplog.text


def test_only_messages_about_the_mesh_show_the_newest_heatmap(run):
    keep_heatmap(run, 2, b"older")
    key = keep_heatmap(run, 1, b"newest")
    put(run, OPENED, ON_SERVER)
    mail = MemoryChannel()
    notify(run, Channels([mail], {}), "http://airflow")
    mesh, server = mail.messages
    assert (mesh.heatmap, server.heatmap) == (b"newest", None)
    assert mesh.webhook["links"]["object"] == key
    assert server.webhook["links"]["object"] is None
    assert server.webhook["links"]["page"].endswith("#tab=alarms&inc=a1")


@pytest.mark.parametrize(("ago", "is_shown"), [(HEATMAP_WINDOWS, True), (HEATMAP_WINDOWS + 1, False)])
def test_a_heatmap_of_too_many_windows_ago_is_not_shown(run, ago, is_shown):
    keep_heatmap(run, ago, b"png")
    assert (collect_parts(run, [OPENED], None, NOW).heatmap is not None) == is_shown


def test_heatmaps_that_cannot_be_listed_cost_the_picture_alone(run, monkeypatch):
    def refuse(prefix):
        raise StoreError(f"cannot list {prefix}")

    put(run, OPENED)
    monkeypatch.setattr(run.store, "keys", refuse)
    mail = MemoryChannel()
    assert notify(run, Channels([mail], {})) == {"sent": 1}
    assert mail.messages[0].heatmap is None


def pairs(*named):
    rows = tuple({"src": src, "dst": dst} for src, dst in named)
    return replace(OPENED, finding=replace(OPENED.finding, evidence=rows))


def test_the_two_pairs_that_the_evidence_names_first_are_traced_each_once():
    named = pairs(("a", "b"), ("b", "a"), ("c", "a"), ("d", "e"))
    assert worst_pairs(named) == [("a", "b"), ("c", "a")]
    assert worst_pairs(replace(named, kind="escalated")) == [("a", "b"), ("c", "a")]
    for other in (replace(named, kind="reminder"), replace(named, kind="resolved"), replace(named, source="data1")):
        assert worst_pairs(other) == []
    odd = replace(OPENED.finding, evidence=({"src": "a"}, {"dst": "b"}, {"src": "c", "dst": "d"}))
    assert worst_pairs(replace(OPENED, finding=odd)) == [("c", "d")]


def test_a_trace_that_cannot_start_is_told_in_the_message_and_kept_for_the_page(run, tmp_path):
    settings = run.settings.model_copy(update={"trace_budget_s": 1})
    ssh = replace(run.ssh, private_key=tmp_path / "none")
    run = replace(run, settings=settings, ssh=ssh)
    again = replace(OPENED, id="b2-opened1")
    put(run, pairs(("127.0.0.1", "127.0.0.2")), replace(again, finding=replace(OPENED.finding, evidence=())))
    mail = MemoryChannel()
    notify(run, Channels([mail], {}))
    [trace] = mail.messages[0].webhook["traces"]
    assert (trace["src"], trace["dst"]) == ("127.0.0.1", "127.0.0.2")
    assert trace["verdict"].startswith("It was not traced: ")
    assert list(read_traces(run.store)) == [OPENED.incident]


def test_without_a_budget_nothing_is_traced(run, monkeypatch):
    monkeypatch.setattr(message_parts, "trace_pairs", None)
    assert collect_parts(run, [pairs(("a", "b"))], None, NOW).traces == {}


def traced(source: str, destination: str, answered: int, reason: str | None = None) -> PathTrace:
    """A trace over one router to the target, which answers some of forty packets a port."""
    router = Hop(1, "10.0.1.1", 90, "hop", 40, 40)
    target = Hop(2, destination, 90, "open", 40, answered)
    paths = tuple(PortPath(port, True, (router, target)) for port in range(0 if reason else 8))
    return PathTrace(source, destination, paths=paths, reason=reason)


def test_a_notification_gets_the_traces_of_its_pairs_in_both_directions_and_of_no_others(run, monkeypatch):
    asked = []

    def trace_pairs(pairs, *_, **given):
        asked.append((pairs, given["budget_s"]))
        return [
            traced("127.0.0.1", "127.0.0.2", 30),
            traced("127.0.0.2", "127.0.0.1", 40),
            traced("127.0.0.2", "127.0.0.9", 0, "no agent is installed"),
        ]

    monkeypatch.setattr(message_parts, "trace_pairs", trace_pairs)
    run = replace(run, settings=run.settings.model_copy(update={"trace_budget_s": 3}))
    named = pairs(("127.0.0.1", "127.0.0.2"), ("127.0.0.1", "left the inventory"))
    other = replace(pairs(("127.0.0.2", "127.0.0.9")), id="b2-opened1")
    traces = collect_parts(run, [named, other], None, NOW).traces
    assert asked == [([("127.0.0.1", "127.0.0.2")], 3)], "one budget, and only hosts that the inventory has"
    there, back = traces[named.id]
    assert (there.src, there.dst, there.after) == ("127.0.0.1", "127.0.0.2", "10.0.1.1"), there
    assert "Over all traces, " in there.verdict and "loses most (" in there.verdict
    assert there.hops[0]["router"] == "10.0.1.1"
    assert (back.src, back.dst) == ("127.0.0.2", "127.0.0.1")
    assert "Over all traces" not in back.verdict
    assert [trace.verdict for trace in traces[other.id]] == ["no agent is installed"]


def test_where_no_pair_is_named_no_trace_is_started(run, monkeypatch):
    monkeypatch.setattr(message_parts, "trace_pairs", None)
    run = replace(run, settings=run.settings.model_copy(update={"trace_budget_s": 1}))
    assert collect_parts(run, [pairs()], None, NOW).traces == {}


def test_a_sender_that_comes_back_goes_on_with_what_it_had_claimed_and_no_other_does(run):
    from pingmesh_tasks.alerting.outbox import claim, due, set_channels

    put(run, OPENED)
    file, now = AlertFile(run.store), datetime.now(UTC)
    file.update(lambda state: set_channels(state, ["mail"], {}, now))
    file.update(lambda state: claim(state, due(state, now, "one"), "one", now + timedelta(seconds=5)))
    mail = MemoryChannel()
    assert notify(run, Channels([mail], {}), sender="other") == {}
    assert notify(run, Channels([mail], {}), sender="one") == {"sent": 1}
