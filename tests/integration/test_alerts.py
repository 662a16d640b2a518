"""The alarm's stages on a real S3 server and a real SMTP server: from tables and hot batches to mails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.errors import ConfigError, NotificationError, StoreError
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.fleet.tailing import Contact, Roster
from pingmesh_tasks.orchestration.channels import open_channels
from pingmesh_tasks.pipeline import alert_admin, evaluate_hot, evaluate_windows
from pingmesh_tasks.pipeline.notify import notify
from pingmesh_tasks.pipeline.plan import plan_window, read_inventory
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.hot_batch import HotPiece
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.schemas import HOST_STATUS
from pingmesh_tasks.store.tables import read_table, write_table
from pingmesh_tasks.windows import window_containing
from tests.support.fleet import free_port
from tests.support.hot_mesh import (
    HOSTS,
    INVENTORY,
    LOG_SERVERS,
    hammered,
    put_log,
    put_missed_minutes,
    put_pieces,
    put_probes,
)
from tests.support.mesh_frames import Faults, mesh_frame

pytestmark = pytest.mark.integration


class Inbox:
    """What the SMTP server took, in order."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server, session, envelope):  # aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        return [mail["Subject"] for mail in self.mails]


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, "127.0.0.1", port)
    controller.start()
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "pingmesh@example.org"}
    mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_SMTP", json.dumps(mail))
    yield inbox
    controller.stop()


@pytest.fixture
def run(store: ObjectStore, tmp_path: Path) -> Run:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(INVENTORY + LOG_SERVERS)
    settings = load_settings(
        {
            "PINGMESH_INVENTORY": str(inventory),
            "PINGMESH_WINDOW_S": "60",
            "PINGMESH_TRACE_BUDGET_S": "0",
            "PINGMESH_ALERT_EMAIL_TO": "oncall@example.org",
        }
    )
    window = window_containing(datetime.now(UTC), 60).shifted(-20)
    return Run(window, settings, store, SshAccess("nobody", tmp_path / "known_hosts"))


def judge(run: Run, step: int, *dead: str) -> dict[str, int]:
    """Write the tables of the run's window and `step` more, with hosts that are dead, and look at them."""
    run = replace(run, window=run.window.shifted(step))
    [part] = plan_window(run)
    inventory = read_inventory(run, part)
    frame = mesh_frame(inventory, run.window, step, Faults(dead=dead), full=True)
    write_table(run.store, "pair_latency", run.window, frame, part.shard)
    status = [
        dict.fromkeys(HOST_STATUS)
        | {"window": run.window.start, "host": host, "stage": "collect", "detail": ""}
        | {"outcome": "unreachable" if host in dead else "ok"}
        for host in HOSTS
    ]
    write_table(run.store, "host_status", run.window, pl_frame(status), f"collect-{part.shard}")
    return evaluate_windows.evaluate_mesh_window(run, part)


def notify_all(run: Run, ui_url: str | None = None) -> dict[str, int]:
    """Notify through the channels of Airflow's connections."""
    return notify(run, open_channels(run.settings), ui_url)


def pl_frame(rows):
    import polars as pl

    return pl.DataFrame(rows, schema=HOST_STATUS, orient="row")


def about(inbox: Inbox, what: str) -> list[str]:
    return [subject for subject in inbox.subjects if what in subject]


def test_a_dead_host_is_one_mail_and_its_return_another(run, inbox):
    for step in range(3):
        judge(run, step)
    assert notify_all(run) == {"sent": 1}, "only that the other channels are off"
    assert judge(run, 3, "host04")["open"] == 1
    assert notify_all(run) == {"sent": 1}
    assert notify_all(run) == {}
    judge(run, 4, "host04")
    assert notify_all(run) == {}, "it is said already"
    for step in range(5, 9):
        judge(run, step)
        notify_all(run)
    told = about(inbox, "host04")
    assert len(told) == 2, told
    assert "Resolved" in told[1] or "RESOLVED" in told[1].upper()
    assert len({mail["Message-ID"] for mail in inbox.mails}) == len(inbox.mails)
    history = [read_table(run.store, "notice", window_containing(datetime.now(UTC), 60).shifted(-n)) for n in (0, 1)]
    assert sum(rows["subject"].str.contains("host04").sum() for rows in history) == 2


def test_what_was_found_is_a_row_of_anomaly_and_what_is_normal_is_learnt(run):
    judge(run, 0)
    judge(run, 1, "host04")
    window = run.window.shifted(1)
    found = read_table(run.store, "anomaly", window)
    assert found.select("rule", "scope", "subject", "severity").rows()[0][1:3] == ("host", "host04")
    assert read_table(run.store, "normal", window).height == len(HOSTS) * (len(HOSTS) - 1)
    assert judge(run, 1, "host04")["findings"] == found.height, "a second look replaces the first"


def test_a_window_of_long_ago_alarms_nobody(run):
    past = replace(run, dispatches=False)
    for step in range(3):
        judge(past, step, "host04")
    assert AlertFile(run.store).load().open == ()
    assert read_table(run.store, "anomaly", run.window.shifted(2)).height > 0


def test_hot_batches_tell_of_a_dead_host_before_any_window_does(run, store, inbox):
    now = datetime.now(UTC)
    put_probes(store, now, dead=lambda second: second > 45)
    seen = evaluate_hot.evaluate_hot(run)
    assert seen["findings"] >= 1
    notify_all(run)
    assert len(about(inbox, "host04")) == 1
    [incident] = AlertFile(store).load().open
    assert (incident.lead.finding.rule, incident.lead.finding.subject) == ("host_down", "host04")


def test_what_came_and_went_while_nobody_looked_is_told_and_that_it_is_over(run, store, inbox):
    """As when the run before hung: a worker was killed, and the scheduler that would have noticed."""
    put_missed_minutes(store, datetime.now(UTC))
    evaluate_hot.evaluate_hot(run)
    notify_all(run)
    assert len(about(inbox, "host04")) == 2, inbox.subjects
    assert "Resolved" in about(inbox, "host04")[1]


def test_the_past_does_not_hold_the_present_up(run, store, monkeypatch):
    monkeypatch.setattr(evaluate_hot, "CATCH_UP_BUDGET_S", 0)
    put_missed_minutes(store, datetime.now(UTC))
    assert evaluate_hot.evaluate_hot(run)["findings"] == 0
    assert AlertFile(store).load().last_evaluated["hot mesh"] > datetime.now(UTC) - timedelta(seconds=30)


def test_a_host_that_is_back_is_judged_by_what_it_answers_now(run, store):
    now = datetime.now(UTC)
    put_probes(store, now, dead=lambda second: 10 < second < 40)
    assert evaluate_hot.evaluate_hot(run)["findings"] == 0


def test_a_dead_host_that_is_taken_out_of_the_inventory_is_told_to_have_left_it(run, store, inbox):
    now = datetime.now(UTC)
    put_probes(store, now, dead=lambda second: second > 45)
    evaluate_hot.evaluate_hot(run)
    notify_all(run)
    inventory = Path(run.settings.inventory)
    inventory.write_text("".join(line for line in inventory.open() if "host04" not in line))
    for _ in range(3):
        assert len(AlertFile(store).load().open) == 1
        evaluate_hot.evaluate_hot(run)
    assert AlertFile(store).load().open == ()
    notify_all(run)
    assert about(inbox, "host04")[1] == "[Resolved] Host host04 is no longer in the inventory"


def test_a_fleet_that_was_never_heard_of_is_not_missed(run, store):
    contacts = tuple(Contact(name, "host", 0, False, None, "failed: no key yet") for name in HOSTS)
    now = datetime.now(UTC)
    at_us = round(now.timestamp() * 1e6)
    put_pieces(store, now, [HotPiece("roster", "follow", "0a0b0c0d", 0, Roster(contacts, 0).encode(), at_us)])
    for _ in range(3):
        assert evaluate_hot.evaluate_hot(run)["findings"] == 0


def test_a_look_at_nothing_raises_no_alarm_and_clears_none(run, store):
    judge(run, 0)
    judge(run, 1, "host04")
    before = AlertFile(store).load().open
    assert len(before) == 1
    for _ in range(5):
        evaluate_hot.evaluate_hot(run)
    assert [incident.id for incident in AlertFile(store).load().open] == [incident.id for incident in before]


def test_a_user_who_reads_one_node_over_and_over_is_named_within_the_minute(run, store, inbox):
    now = datetime.now(UTC)
    put_log(store, now, hammered(now))
    evaluate_hot.evaluate_hot(run)
    notify_all(run)
    assert [subject for subject in inbox.subjects if "bob" in subject or "IP" in subject], inbox.subjects


def test_a_flood_that_is_silenced_is_one_row_of_anomaly_all_the_same(run, store, inbox):
    now = datetime.now(UTC)
    alert_admin.administer(run, {"action": "silence", "hours": 1, "source": "data1", "by": "ann"})
    for _ in range(2):
        put_log(store, now, hammered(now))
        evaluate_hot.evaluate_hot(run)
    notify_all(run)
    assert not [subject for subject in inbox.subjects if "bob" in subject or "IP" in subject]
    windows = [window_containing(now, 60).shifted(step) for step in (0, 1)]
    [row] = [row for window in windows for row in read_table(store, "anomaly", window).to_dicts()]
    assert (row["lane"], row["source"], row["rule"]) == ("hot", "data1", "heavy_reads")


def test_a_flood_that_ends_is_told_to_be_over_also_where_little_is_known_of_who_is_usual(run, store, inbox):
    now = datetime.now(UTC)
    evaluate_windows.evaluate_access_window(replace(run, window=run.window.shifted(1)), "data1")
    put_log(store, now, hammered(now))
    evaluate_hot.evaluate_hot(run)
    notify_all(run)
    [incident] = AlertFile(store).load().open
    store.delete(store.keys(layout.HOT))  # a minute later it is out of sight
    quiet = (
        f"{now:%a %b %e %H:%M:%S %Y} (pid 4711) GetData called for tree=east, shot=12345, node=\\EAST::TOP.DATA:TE\n"
    )
    put_log(store, now, quiet.encode())
    for _ in range(4):
        evaluate_hot.evaluate_hot(run)
    assert incident.id not in [still.id for still in AlertFile(store).load().open]


def test_a_silenced_host_is_remembered_and_not_told(run, store, inbox):
    form = {"action": "silence", "hours": 1, "scope": "host", "subject": "host0*", "by": "ann"}
    judge(run, 0)
    alert_admin.administer(run, form)
    judge(run, 1, "host04")
    notify_all(run)
    assert not about(inbox, "host04")
    [incident] = AlertFile(store).load().open
    alert_admin.administer(run, {"action": "acknowledge", "incident": incident.id, "by": "ann"})
    assert AlertFile(store).load().open[0].acknowledged_by.startswith("ann")


def test_a_form_that_cannot_be_meant_says_why(run):
    with pytest.raises(ConfigError, match="no incident 'x' is open"):
        alert_admin.administer(run, {"action": "acknowledge", "incident": "x"})
    with pytest.raises(ConfigError, match="no incident is named"):
        alert_admin.administer(run, {"action": "dismiss"})


def test_while_every_channel_refuses_the_task_is_an_error_and_the_notice_waits(run, store, monkeypatch):
    mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": free_port(), "extra": {"from_email": "a@example.org"}}
    mail["extra"] |= {"disable_ssl": True, "disable_tls": True}
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_SMTP", json.dumps(mail))
    judge(run, 0)
    judge(run, 1, "host04")
    for _ in range(2):  # nothing is due the second time
        with pytest.raises(NotificationError, match="wait in the outbox"):
            notify_all(run)
    assert [entry for entry in AlertFile(store).load().outbox if entry.notification.finding.subject == "host04"]


def test_a_trace_that_cannot_start_holds_no_message_up_and_says_why(run, inbox, tmp_path):
    settings = run.settings.model_copy(update={"trace_budget_s": 1})
    run = replace(run, settings=settings, ssh=replace(run.ssh, private_key=tmp_path / "none"))
    judge(run, 0)
    judge(run, 1, "host04")
    notify_all(run)
    [mail] = [mail for mail in inbox.mails if "host04" in mail["Subject"]]
    assert "It was not traced: no private key" in mail.get_body(("plain",)).get_content()


def test_heatmaps_that_cannot_be_listed_cost_a_message_its_picture_alone(run, store, inbox, monkeypatch):
    def refuse(prefix: str) -> list[str]:
        raise StoreError(f"cannot list {prefix}")

    judge(run, 0)
    judge(run, 1, "host04")
    monkeypatch.setattr(store, "keys", refuse)
    notify_all(run)
    assert len(about(inbox, "host04")) == 1


def test_a_message_leads_to_the_very_picture_that_it_shows(run, store, inbox):
    window = window_containing(datetime.now(UTC), 60).shifted(-1)
    store.put(layout.artifact("heatmap", window, "png"), b"\x89PNG")
    judge(run, 0)
    judge(run, 1, "host04")
    notify_all(run, "http://airflow")
    [mail] = [mail for mail in inbox.mails if "host04" in mail["Subject"]]
    text = mail.get_body(("plain",)).get_content()
    assert layout.artifact("heatmap", window, "png") in text
    assert f"http://airflow/plugin/pingmesh/pingmesh/#w={window.id}" in text
    [incident] = AlertFile(store).load().open
    assert f"http://airflow/plugin/pingmesh/pingmesh/#tab=alarms&inc={incident.id}" in text


def test_rules_that_cannot_be_read_name_the_setting(run, tmp_path):
    bad = replace(run, settings=run.settings.model_copy(update={"rules": str(tmp_path / "none.yaml")}))
    with pytest.raises(ConfigError, match="PINGMESH_RULES"):
        judge(bad, 0)
