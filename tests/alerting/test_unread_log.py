"""A data server whose log cannot be read: told once, not for a moment's absence, not twice where its machine is dead,
and nothing that went on there is said to be over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.hierarchy import hierarchy_of, members_of
from pingmesh_tasks.alerting.messages.wording import title
from pingmesh_tasks.alerting.state_file import from_json, to_json
from pingmesh_tasks.detect.access.baseline import update_access_baseline
from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access
from pingmesh_tasks.detect.finding import MESH, Evaluation, Finding
from pingmesh_tasks.store.schemas import LOG_STATUS
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer
from tests.support.access_frames import SERVER, WINDOW, Log

ALONE = Inventory(
    tuple(Host(f"h{n}", f"10.0.0.{n}", "dc1", "p1", f"t{n % 2}") for n in range(1, 9)),
    True,
    (LogServer(SERVER, "10.9.0.1", "/log", "UTC"),),
)
#: The same where the data server is a host of the mesh, h4.
ON_H4 = replace(ALONE, log_servers=(replace(ALONE.log_servers[0], address="10.0.0.4"),))


def flood(reads: int = 1_000) -> Log:
    log = Log()
    log.on("bob", pid=500, socket=0)
    for number in range(reads):
        log.op(number / 20, pid=500)
    return log


#: The log was read before.
USUAL = update_access_baseline(None, AccessView(SERVER, WINDOW.end, 300, "window", *flood(9).frames()), WINDOW)
MESH_RULES = frozenset({"host_down", "tor_down", "network_down", "no_data", "loss"})


class Alarm:
    """Plays looks at a data server and at the mesh, and keeps what was said."""

    def __init__(self, inventory: Inventory = ALONE) -> None:
        self.state, self.now, self.last = AlertState(), WINDOW.end, None
        self.inventory = inventory

    def window(self, outcome: str, count: int = 1, log: Log | None = None, span_s: int = 300) -> list[str]:
        """Windows in which collecting the log ended like this."""
        return self._play(count, span_s, lambda: self._server("window", span_s, log, outcome))

    def hot(self, outcome: str = "", count: int = 1, log: Log | None = None, silent_s: float = 600) -> list[str]:
        """Looks at the last minute, in contact or, with an outcome, out of it for `silent_s`."""
        more = {"up": not outcome, "silent_s": silent_s if outcome else 1.0}
        return self._play(count, 20, lambda: self._server("hot", 60, log, outcome, **more))

    def mesh(self, *findings: Finding, count: int = 1) -> list[str]:
        return self._play(count, 20, lambda: Evaluation(MESH, "hot", self.now, MESH_RULES, findings))

    def _server(self, lane, span_s, log, outcome, **more) -> Evaluation:
        client, operation = (log or Log()).frames()
        row = dict.fromkeys(LOG_STATUS) | {
            "server": SERVER,
            "kind": "access",
            "outcome": outcome,
            "detail": "why",
        }
        status = pl.DataFrame([row], schema=LOG_STATUS, orient="row") if outcome else None
        view = AccessView(
            SERVER,
            self.now,
            span_s,
            lane,
            client,
            operation,
            log_status=status,
            normal=USUAL,
            **more,
        )
        return evaluate_access(view)

    def _play(self, count, every_s, evaluate) -> list[str]:
        said = []
        for _ in range(count):
            self.now += timedelta(seconds=every_s)
            around = hierarchy_of(self.inventory), members_of(self.inventory)
            self.state = from_json(to_json(advance(self.state, evaluate(), Policy(), self.now, *around)))
            for notice in (entry.notification for entry in self.state.outbox):
                said.append(f"{notice.kind} {notice.finding.rule} {notice.finding.subject}")
                self.last = notice
            self.state = replace(self.state, outbox=())
        return said


def finding(rule: str, scope: str, subject: str, severity: str = "critical") -> Finding:
    return Finding(
        rule,
        scope,
        subject,
        severity,
        1.0,
        "ratio",
        0.9,
        WINDOW.end,
        "nobody gets an answer from it",
    )


H4 = finding("host_down", "host", "h4")
OPENED, RESOLVED = f"opened no_data {SERVER}", f"resolved no_data {SERVER}"


@pytest.mark.parametrize("outcome", ["unreachable", "auth_failed", "host_key_changed", "timeout"])
def test_windows_alone_tell_of_a_server_that_lets_nobody_in_and_of_its_return(outcome):
    alarm = Alarm()
    alarm.window("grown", 3)
    assert [alarm.window(outcome) for _ in range(4)] == [[], [], [OPENED], []]
    assert title(alarm.last) == "The log of east cannot be read"
    assert [alarm.window("grown") for _ in range(2)] == [[], [RESOLVED]]
    assert title(alarm.last) == "The log of east can be read again"


@pytest.mark.parametrize("span_s", [60, 300])
def test_a_server_that_is_out_of_reach_for_two_windows_now_and_then_is_no_alarm(span_s):
    alarm = Alarm()
    for _ in range(5):
        assert alarm.window("grown", 2, span_s=span_s) == alarm.window("unreachable", 2, span_s=span_s) == []


def test_the_hot_lane_tells_of_it_after_two_minutes_and_ends_it():
    alarm = Alarm()
    alarm.hot(count=3)
    said = [(second, alarm.hot("unreachable", silent_s=second)) for second in range(10, 200, 20)]
    assert [second for second, notices in said if notices] == [150], "the second look after two minutes"
    assert [alarm.hot() for _ in range(3)] == [[], [], [RESOLVED]]


def test_a_log_that_is_new_and_has_no_history_ends_it_too():
    alarm = Alarm()
    alarm.window("unreachable", 3)
    assert alarm.window("quiet", 2) == [RESOLVED]


def test_a_log_that_is_gone_when_its_server_is_back_is_told_as_what_is_left():
    alarm = Alarm()
    alarm.window("unreachable", 3)
    alarm.window("missing", 4)
    [incident] = alarm.state.open
    assert incident.lead.finding.rule == "log_silent"


@pytest.mark.parametrize("outcome", ["unreachable", "missing"])
def test_a_flood_that_took_its_server_down_is_not_told_to_be_over(outcome):
    alarm = Alarm()
    assert alarm.window("grown", log=flood()) == ["opened heavy_reads bob"]
    assert not [said for said in alarm.window(outcome, 6) if said.startswith("resolved")]
    again = Log()
    again.on("eve")
    assert "resolved heavy_reads bob" in alarm.window("grown", 3, again)
    assert not alarm.state.open


def test_a_flood_is_not_told_to_be_over_while_the_follower_is_in_no_contact():
    alarm = Alarm()
    assert alarm.hot(log=flood()) == ["opened heavy_reads bob"]
    assert alarm.hot("unreachable", 5, silent_s=50) == []


@pytest.mark.parametrize(
    "fault",
    [
        H4,
        finding("tor_down", "tor", "dc1/p1/t0"),
        finding("network_down", "mesh", "mesh"),
        finding("no_data", "mesh", "mesh"),
    ],
    ids=["its host", "its rack", "the mesh", "our own connection"],
)
def test_a_data_server_that_is_dead_as_a_host_is_one_message(fault):
    alarm = Alarm(ON_H4)
    said = [*alarm.mesh(fault, count=2)]
    for _ in range(20):
        said += alarm.mesh(fault) + alarm.hot("unreachable")
    for _ in range(3):
        said += alarm.window("unreachable") + alarm.mesh(fault)
    assert said == [f"opened {fault.rule} {fault.subject}"]
    for _ in range(3):  # its host is back; the follower, which waits longer and longer, is not yet
        said += alarm.mesh() + alarm.hot("unreachable")
    said += alarm.hot(count=3)
    assert said == [f"{kind} {fault.rule} {fault.subject}" for kind in ("opened", "resolved")]
    assert not alarm.state.open


@pytest.mark.parametrize(
    "fault",
    [
        finding("host_down", "host", "h5"),
        finding("host_down", "host", "h4", "warning"),
        finding("loss", "host", "h4"),
    ],
    ids=["another host", "only its agent", "loss"],
)
def test_what_does_not_explain_it_hides_nothing(fault):
    alarm = Alarm(ON_H4)
    alarm.mesh(fault, count=2)
    assert alarm.hot("unreachable", 2) == [OPENED]


def test_a_data_server_that_cannot_be_read_long_after_its_host_is_back_is_told():
    alarm = Alarm(ON_H4)
    alarm.mesh(H4)
    alarm.hot("unreachable", 5)
    alarm.mesh(count=3)
    said = [(alarm.now - WINDOW.end, notice) for _ in range(60) for notice in alarm.hot("unreachable")]
    assert [notice for _, notice in said] == [OPENED]
    assert timedelta(minutes=10) < said[0][0] < timedelta(minutes=15)


def test_a_data_server_that_left_the_inventory_takes_it_along():
    alarm = Alarm()
    alarm.window("unreachable", 3)
    alarm.inventory = replace(ALONE, log_servers=())
    assert alarm.mesh(count=4) == [RESOLVED]
    assert alarm.last.closed_by == "inventory"
