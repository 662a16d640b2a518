"""What the rule book leaves out, in looks that are real ones: a maintenance neither ends nor repeats an alarm, a rule
that is switched off ends what it had found, and neither says that anything is well."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.hierarchy import hierarchy_of, members_of
from pingmesh_tasks.alerting.messages.wording import title
from pingmesh_tasks.alerting.state_file import from_json, to_json
from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access
from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.topology.inventory import Inventory, LogServer
from tests.support.access_frames import SERVER, WINDOW, Log
from tests.support.pair_rows import PairRows, fabric

MESH_OF = Inventory(fabric(dcs=3).hosts, True, (LogServer(SERVER, "10.9.0.1", "/log", "UTC"),))
WELL = PairRows(MESH_OF)


class Alarm:
    """Looks at a mesh, or at a data server's last minute, by the rules of the moment, and keeps what was said."""

    def __init__(self) -> None:
        self.state, self.now, self.rules, self.notes = AlertState(), WINDOW.end, "", []
        self.last = None

    def mesh(self, rows: PairRows, looks: int = 1, every_s: float = 20) -> list[str]:
        return self._look(looks, every_s, lambda rules: evaluate_mesh(self._mesh_view(rows), rules))

    def server(self, log: Log, looks: int = 1, every_s: float = 20) -> list[str]:
        def seen(rules):
            client, operation = log.frames()
            return evaluate_access(AccessView(SERVER, self.now, 60, "hot", client, operation), rules)

        return self._look(looks, every_s, seen)

    def _mesh_view(self, rows):
        return MeshView(rows.frame(), MESH_OF, self.now, 60, "hot")

    def _look(self, looks, every_s, evaluate) -> list[str]:
        said = []
        for _ in range(looks):
            self.now += timedelta(seconds=every_s)
            evaluation = evaluate(load_rules(self.rules, "rules.yaml"))
            known = hierarchy_of(MESH_OF), members_of(MESH_OF)
            self.state = from_json(to_json(advance(self.state, evaluation, Policy(), self.now, *known)))
            for notice in (entry.notification for entry in self.state.outbox):
                said.append(f"{notice.kind} {notice.finding.subject}")
                self.last = notice
            self.state = replace(self.state, outbox=())
        return said

    def maintain(self, where: str, hours: float = 12) -> None:
        until = self.now + timedelta(hours=hours)
        self.rules = f"maintenance: [{{where: {where}, until: {until.isoformat()}}}]"


@pytest.fixture
def alarm() -> Alarm:
    return Alarm()


def dead(prefix: str) -> PairRows:
    return PairRows(MESH_OF).kill(prefix)


def flood() -> Log:
    log = Log()
    log.on("bob", pid=500, socket=0)
    for number in range(1_000):
        log.op(number / 20, pid=500)
    return log


WIDER = [
    ("d1p1t1h1", "{host: d1p1t1h1}", "d1p1t1h1"),
    ("d1p1t1", "{tor: dc1/podset1/tor1}", "dc1/podset1/tor1"),
    ("d1p1t1", "{host: 'd1p1t1*'}", "dc1/podset1/tor1"),
    ("d1p1", "{podset: dc1/podset1}", "dc1/podset1"),
    ("d1", "{dc: dc1}", "dc1"),
]


@pytest.mark.parametrize(("part", "where", "subject"), WIDER, ids=[f"{part} by {where}" for part, where, _ in WIDER])
class TestAPartThatIsDownWhenItsMaintenanceBegins:
    def test_is_not_told_to_be_well_while_it_is_still_down(self, alarm, part, where, subject):
        assert alarm.mesh(dead(part)) == [f"opened {subject}"]
        alarm.maintain(where)
        assert alarm.mesh(dead(part), looks=10) == []
        assert len(alarm.state.open) == 1

    def test_is_not_repeated_for_all_the_hours_of_it(self, alarm, part, where, subject):
        alarm.mesh(dead(part))
        alarm.maintain(where)
        assert alarm.mesh(dead(part), looks=12, every_s=1_800) == []

    def test_is_told_to_be_still_there_if_it_is_after_it(self, alarm, part, where, subject):
        alarm.mesh(dead(part))
        alarm.maintain(where)
        alarm.mesh(dead(part), looks=10)
        alarm.rules = ""
        assert alarm.mesh(dead(part), looks=10) == [f"reminder {subject}"]
        assert alarm.last.note == "A silence or a maintenance is over, and this is still there."

    def test_is_told_only_to_be_over_if_it_was_repaired_in_it(self, alarm, part, where, subject):
        alarm.mesh(dead(part))
        alarm.maintain(where)
        alarm.mesh(dead(part), looks=10)
        alarm.rules = ""
        assert alarm.mesh(WELL, looks=10) == [f"resolved {subject}"]


def test_dead_links_between_dcs_are_not_well_because_one_dc_is_left(alarm):
    rows = PairRows(MESH_OF)
    for one, other in (("d1", "d2"), ("d1", "d3"), ("d2", "d3")):
        rows.lost[rows.between(one, other)] = 30
    assert alarm.mesh(rows) == ["opened inter_dc"]
    alarm.maintain("{dc: 'dc[23]'}")
    assert alarm.mesh(rows, looks=10) == []


def test_what_is_beside_a_maintenance_still_opens_and_ends(alarm):
    alarm.mesh(dead("d1p1t1"))
    alarm.maintain("{tor: dc1/podset1/tor1}")
    assert alarm.mesh(dead("d1p1t1").kill("d2p2t2h4"), looks=3) == ["opened d2p2t2h4"]
    assert alarm.mesh(dead("d1p1t1"), looks=5) == ["resolved d2p2t2h4"]


def test_a_user_or_a_data_server_in_maintenance_is_not_told_to_have_stopped(alarm):
    for where in ("{user: b*}", f"{{server: {SERVER}}}"):
        alarm = Alarm()
        assert alarm.server(flood()) == ["opened bob"]
        alarm.maintain(where)
        assert alarm.server(flood(), looks=10) == []
        assert alarm.server(flood(), looks=6, every_s=3_000) == []
        alarm.rules = ""
        assert alarm.server(flood(), looks=1) == ["reminder bob"]
        assert alarm.server(Log(), looks=5) == ["resolved bob"]


OFF = [
    ("rules: {host_down: off, no_data: off}", "everywhere"),
    ("scopes: [{where: {host: d1p1t1h1}, rules: {host_down: off, no_data: off}}]", "there"),
]


@pytest.mark.parametrize("rules", [rules for rules, _ in OFF], ids=[where for _, where in OFF])
def test_a_rule_that_is_switched_off_ends_what_it_had_found_and_says_why(alarm, rules):
    alarm.mesh(dead("d1p1t1h1"))
    alarm.rules = rules
    assert alarm.mesh(dead("d1p1t1h1"), looks=200, every_s=60) == ["resolved d1p1t1h1"]
    assert alarm.last.note == "It lasted 2 min; its rule is off now."
    assert title(alarm.last) == "Host d1p1t1h1: host down is switched off"
    assert alarm.state.closed[-1].closed_by == "rules"


def test_a_rule_of_data_servers_that_is_switched_off_for_a_user_ends_his_incident_only(alarm):
    alarm.server(flood())
    alarm.rules = "scopes: [{where: {user: eve}, rules: {heavy_reads: off}}]"
    assert alarm.server(flood(), looks=5) == []
    alarm.rules = "scopes: [{where: {user: bob}, rules: {heavy_reads: off}}]"
    assert alarm.server(flood(), looks=5) == ["resolved bob"]
    assert alarm.last.closed_by == "rules"


def test_what_a_rule_that_was_switched_off_had_hidden_is_told_as_what_is_left(alarm):
    rows = dead("d1p1t1")
    alarm.mesh(rows)
    alarm.rules = "rules: {tor_down: off}"
    lossy = PairRows(MESH_OF)
    lossy.lost[:, rows.index["d1p1t1h1"]] = 9
    assert alarm.mesh(lossy, looks=5) == ["reminder d1p1t1h1"]
    assert alarm.last.note == "tor dc1/podset1/tor1 is left out by the rules; what is left is host d1p1t1h1."
