"""The alarm's memory: when it speaks, when it is quiet, and that it loses and doubles nothing."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pingmesh_tasks.alerting import AlertState, Policy, advance
from pingmesh_tasks.alerting.alert_state import Silence
from pingmesh_tasks.alerting.hierarchy import hierarchy_of, members_of
from pingmesh_tasks.alerting.messages.wording import title
from pingmesh_tasks.alerting.silence import acknowledge, silence, unsilence
from pingmesh_tasks.alerting.state_file import MAX_BYTES, from_json, to_json
from pingmesh_tasks.alerting.transition import dismiss
from pingmesh_tasks.detect.finding import MESH, Evaluation, Finding
from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.topology.inventory import Host, Inventory, LogServer

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RULES = frozenset(
    {
        "host_down",
        "loss",
        "tor_down",
        "latency_normal",
        "no_data",
        "podset_down",
        "user_rate",
        "node_rate",
    }
)
INVENTORY = Inventory(
    tuple(
        Host(
            f"host{n:03d}",
            f"10.0.{n // 250}.{n % 250 + 1}",
            podset=f"p{n // 40}",
            tor=f"t{n // 10 % 4}",
        )
        for n in range(120)
    ),
    has_topology=True,
    log_servers=(LogServer("data1", "10.9.0.1", "/log", "UTC"),),
)


def finding(rule="host_down", scope="host", subject="host004", severity="critical", **more) -> Finding:
    given = {
        "value": 1.0,
        "unit": "ratio",
        "threshold": 0.9,
        "since": NOON - timedelta(seconds=20),
        "detail": "dead",
    }
    return Finding(rule, scope, subject, severity, **(given | more))


DEAD = finding()
SLOW = finding("latency_normal", "host", "host004", "warning")
TOR = finding("tor_down", "tor", "dc1/p0/t0", affected=900)
PODSET = finding("podset_down", "podset", "dc1/p0")


class Alarm:
    """Plays looks to the state, one after the other, and keeps what was said. Each state survives its JSON."""

    def __init__(self, **policy) -> None:
        self.state, self.policy, self.now = AlertState(), Policy(**policy), NOON
        self.said = []
        self.use(INVENTORY)

    def use(self, inventory: Inventory) -> None:
        """Look by this inventory from now on."""
        self.wider, self.known = hierarchy_of(inventory), members_of(inventory)

    def look(self, *findings, after=10.0, lane="hot", source=MESH, unjudged=(), judged=RULES, lag=0.0) -> list[str]:
        self.now += timedelta(seconds=after)
        at = self.now - timedelta(seconds=lag)
        evaluation = Evaluation(source, lane, at, judged, findings, dict.fromkeys(unjudged, "too little"))
        return self._take(advance(self.state, evaluation, self.policy, self.now, self.wider, self.known))

    def wait(self, seconds: float) -> list[str]:
        self.now += timedelta(seconds=seconds)
        return self._take(advance(self.state, None, self.policy, self.now, self.wider))

    def _take(self, state: AlertState) -> list[str]:
        state = from_json(to_json(state))
        new = [entry.notification for entry in state.outbox]
        self.said += new
        self.state = replace(state, outbox=())
        return [f"{notice.kind} {notice.finding.subject}" for notice in new]

    @property
    def last(self):
        return self.said[-1]


@pytest.fixture
def alarm() -> Alarm:
    return Alarm()


# ---------------------------------------------------------------- opening and closing


def test_a_dead_host_is_told_at_the_first_look_and_again_when_it_is_over(alarm):
    assert alarm.look(DEAD) == ["opened host004"]
    assert alarm.look(DEAD) == []
    assert [alarm.look(), alarm.look()] == [[], []]
    assert alarm.look() == ["resolved host004"]
    assert alarm.last.note == "It lasted 70 s; the last looks found it clear."
    assert alarm.said[0].incident == alarm.last.incident
    assert not alarm.state.open


def test_a_warning_needs_two_looks_of_three(alarm):
    assert alarm.look(SLOW) == []
    assert alarm.look() == []
    assert alarm.look(SLOW) == ["opened host004"]


def test_one_look_that_is_clear_in_between_ends_nothing(alarm):
    alarm.look(DEAD)
    for _ in range(5):
        assert alarm.look() == alarm.look() == alarm.look(DEAD) == []


def test_a_warning_seen_once_in_a_while_never_speaks(alarm):
    for _ in range(10):
        assert alarm.look(SLOW) == alarm.look() == alarm.look() == []
    assert not alarm.state.pending or len(alarm.state.pending) == 1


def test_silence_of_data_neither_ends_an_alarm_nor_raises_one(alarm):
    alarm.look(DEAD)
    for _ in range(20):
        assert alarm.look(unjudged=[("host", "host004")]) == []
        assert alarm.look(judged=frozenset({"loss"})) == []
    assert len(alarm.state.open) == 1


def test_a_pair_is_not_judged_while_one_of_its_hosts_is_not(alarm):
    lossy = finding("loss", "pair", "host001>host099", "critical")
    assert alarm.look(lossy) == ["opened host001>host099"]
    for _ in range(6):
        assert alarm.look(unjudged=[("host", "host099")]) == []


def test_all_subjects_of_a_scope_can_be_unjudged_at_once(alarm):
    flood = finding("user_rate", "user", "bob", "warning")
    alarm.look(flood, source="data1")
    for _ in range(6):
        assert alarm.look(source="data1", unjudged=[("user", "*")]) == []
    assert [alarm.look(source="data1") for _ in range(3)][-1] == ["resolved bob"]


def without(*names: str, tor: str = "", servers: tuple[LogServer, ...] = ()) -> Inventory:
    """The inventory after some hosts, or all of a ToR, have left it."""
    stay = (host for host in INVENTORY.hosts if host.name not in names and "/".join(host.tor_key) != tor)
    return Inventory(tuple(stay), True, servers)


def test_a_host_that_left_the_inventory_is_told_to_have_left_it_and_not_to_be_well(alarm):
    alarm.look(DEAD)
    alarm.use(without("host004"))
    assert [alarm.look(), alarm.look(), alarm.look()] == [[], [], ["resolved host004"]]
    assert alarm.last.note == "It lasted 60 s; host004 is no longer in the inventory."
    assert title(alarm.last) == "Host host004 is no longer in the inventory"
    assert not alarm.state.open
    assert alarm.state.closed[-1].closed_by == "inventory"


def test_an_inventory_that_is_back_at_once_ends_nothing(alarm):
    """Somebody was writing it, or a run by hand looked by another one."""
    alarm.look(DEAD)
    for _ in range(4):
        alarm.use(without("host004"))
        assert alarm.look() == alarm.look() == []
        alarm.use(INVENTORY)
        assert alarm.look(DEAD) == []
    assert len(alarm.state.open) == 1


def test_windows_alone_see_a_host_leave_too(alarm):
    alarm.look(DEAD, lane="window", after=300)
    alarm.use(without("host004"))
    assert [alarm.look(lane="window", after=300) for _ in range(3)] == [
        [],
        [],
        ["resolved host004"],
    ]


def test_a_window_that_still_knew_the_host_does_not_open_it_again(alarm):
    alarm.look(DEAD)
    alarm.use(without("host004"))
    assert [alarm.look() for _ in range(3)][-1] == ["resolved host004"]
    alarm.use(INVENTORY)
    assert alarm.look(DEAD, lane="window", lag=30) == []


@pytest.mark.parametrize(
    ("fault", "after", "ends"),
    [
        (finding("loss", "pair", "host004>host099"), without("host099"), True),
        (TOR, without(tor="dc1/p0/t0"), True),
        (TOR, without("host004"), False),
        (PODSET, without(tor="dc1/p0/t0"), False),
        (finding("loss", "tier", "dc1/spine"), without("host004"), False),
        (finding("loss", "mesh", "mesh"), without("host004"), False),
    ],
)
def test_what_has_no_host_left_has_left_with_them(alarm, fault, after, ends):
    alarm.look(replace(fault, severity="critical"))
    alarm.use(after)
    alarm.look(fault, source="nobody", after=0)
    said = [alarm.look(*(() if ends else (fault,))) for _ in range(3)]
    assert (said[-1] != []) == ends
    if ends:
        assert alarm.last.note.endswith(f"{fault.subject} is no longer in the inventory.")


def test_what_a_host_that_left_had_hidden_is_told_as_what_is_left(alarm):
    slow = finding("latency_normal", "host", "host005", "critical")
    alarm.look(TOR, slow)
    gone = without(tor=TOR.subject)
    alarm.use(Inventory((*gone.hosts, Host("host005", "10.9.9.9", podset="p1", tor="t0")), True))
    said = [alarm.look(slow) for _ in range(3)]
    assert said[-1] == ["reminder host005"]
    assert alarm.last.note == "tor dc1/p0/t0 is no longer in the inventory; what is left is host host005."


def test_a_data_server_that_left_takes_its_incidents_along_and_no_other_does(alarm):
    east, west = (LogServer(name, "10.9.0.1", "/log", "UTC") for name in ("east", "west"))
    alarm.use(without(servers=(east, west)))
    late = finding("late_data", "server", "pingmesh")
    alarm.look(late, source="pingmesh", judged={"late_data"}, lane="window")
    for source in ("east", "west"):
        alarm.look(finding("user_rate", "user", "bob", "warning"), source=source)
    alarm.use(without(servers=(west,)))
    assert [alarm.look() for _ in range(4)] == [[], [], ["resolved bob"], []]
    assert (alarm.last.source, alarm.last.note.partition("; ")[2]) == (
        "east",
        "east is no longer in the inventory.",
    )
    assert title(alarm.last) == "Data server east is no longer in the inventory"
    assert {incident.source for incident in alarm.state.open} == {"west", "pingmesh"}


def test_what_flaps_is_not_held_open_once_it_has_left(alarm):
    for _ in range(3):
        alarm.look(DEAD)
        for _ in range(3):
            alarm.look()
    alarm.look(DEAD)
    alarm.use(without("host004"))
    assert [alarm.look() for _ in range(3)][-1] == ["resolved host004"]


def test_what_cannot_be_judged_any_more_says_so_once_and_then_hourly(alarm):
    alarm.look(DEAD)
    assert alarm.wait(600) == []
    assert alarm.wait(600) == ["reminder host004"]
    assert "cannot be judged any more" in alarm.last.note
    assert alarm.wait(1800) == []
    assert alarm.wait(1800) == ["reminder host004"]
    assert alarm.look(DEAD) == []


def test_a_reminder_comes_at_most_hourly_and_not_once_somebody_acknowledged(alarm):
    alarm.look(DEAD)
    said = [alarm.look(DEAD, after=60) for _ in range(125)]
    assert sum(map(len, said)) == 2
    alarm.state = acknowledge(alarm.state, alarm.state.open[0].id, "eve", alarm.now)
    assert not any(alarm.look(DEAD, after=60) for _ in range(125))
    assert [alarm.look() for _ in range(3)][-1] == ["resolved host004"]
    assert alarm.last.acknowledged_by.startswith("eve at ")


def test_use_of_a_data_server_is_counted_not_sampled_so_one_look_is_enough(alarm):
    assert alarm.look(finding("user_rate", "user", "bob", "warning"), source="data1") == ["opened bob"]


# ---------------------------------------------------------------- two lanes


def test_the_window_that_holds_the_last_moments_of_a_fault_does_not_open_it_again(alarm):
    alarm.look(DEAD)
    [alarm.look() for _ in range(3)]
    assert not alarm.state.open
    lossy = finding("loss", "pair", "host001>host004", "warning")
    assert alarm.look(DEAD, lossy, lane="window", after=120, lag=60) == []
    assert not alarm.state.open and not alarm.state.pending
    assert alarm.look(DEAD, lane="window", after=900) == ["opened host004"]


def test_the_hot_lane_ends_what_it_has_seen_though_a_window_saw_it_too(alarm):
    alarm.look(DEAD)
    alarm.look(DEAD, finding("loss", "host", "host004", "critical"), lane="window")
    assert [alarm.look() for _ in range(3)][-1] == ["resolved host004"]


def test_what_only_windows_can_see_is_ended_by_windows(alarm):
    rare = finding("loss", "tor", "dc1/p1/t0", "critical")
    assert alarm.look(rare, lane="window") == ["opened dc1/p1/t0"]
    assert not any(alarm.look() for _ in range(20))
    assert alarm.look(lane="window") == []
    assert alarm.look(lane="window") == ["resolved dc1/p1/t0"]


def test_windows_end_what_the_hot_lane_saw_once_that_is_gone(alarm):
    alarm.look(DEAD)
    alarm.wait(1000)
    assert alarm.look(lane="window", after=300) == []
    assert alarm.look(lane="window", after=300) == ["resolved host004"]


def test_an_evaluation_that_is_not_newer_changes_nothing(alarm):
    alarm.look(DEAD)
    before = alarm.state
    assert alarm.look(after=0) == []
    assert alarm.state == before
    assert alarm.look(finding(subject="host009"), lag=3600) == []


# ---------------------------------------------------------------- one fault, one message


def test_one_fault_is_one_message_even_if_500_pairs_suffer(alarm):
    pairs = [finding("loss", "pair", f"host{a:03d}>host{b:03d}") for a in range(10) for b in range(50, 100)]
    hosts = [finding(subject=f"host{n:03d}") for n in range(10)]
    assert alarm.look(*pairs, *hosts, TOR) == ["opened dc1/p0/t0"]
    assert alarm.look(*pairs, *hosts, TOR) == []
    assert len(alarm.last.members) + alarm.last.more_members > 400
    assert [alarm.look() for _ in range(3)][-1] == ["resolved dc1/p0/t0"]
    assert len(alarm.said) == 2


def test_a_host_first_then_its_rack_is_one_incident_that_names_the_rack(alarm):
    alarm.look(DEAD)
    assert alarm.look(DEAD, TOR) == ["escalated dc1/p0/t0"]
    assert "was host host004; now it is tor dc1/p0/t0" in alarm.last.note
    assert alarm.last.incident == alarm.said[0].incident
    assert alarm.look(DEAD, TOR, PODSET) == ["escalated dc1/p0"]
    assert [alarm.look() for _ in range(3)][-1] == ["resolved dc1/p0"]


def test_two_hosts_first_then_their_rack_leave_one_incident_and_one_end(alarm):
    other = finding(subject="host005")
    assert alarm.look(DEAD) == ["opened host004"]
    assert alarm.look(DEAD, other) == ["opened host005"]
    assert alarm.look(DEAD, other, TOR) == ["escalated dc1/p0/t0"]
    assert "takes in 1 earlier incident" in alarm.last.note
    assert [alarm.look() for _ in range(3)][-1] == ["resolved dc1/p0/t0"]
    assert alarm.state.incident(alarm.said[1].incident).merged_into == alarm.said[0].incident


def test_a_rack_that_is_back_but_for_one_host_says_what_is_left(alarm):
    alarm.look(TOR, DEAD)
    assert [alarm.look(DEAD) for _ in range(3)][-1] == ["reminder host004"]
    assert "is well again; what is left is host host004" in alarm.last.note
    assert [alarm.look() for _ in range(3)][-1] == ["resolved host004"]


def test_a_slow_rack_does_not_hide_a_dead_host(alarm):
    slow = finding("latency_normal", "tor", "dc1/p0/t0", "warning")
    alarm.look(slow)
    assert alarm.look(slow) == ["opened dc1/p0/t0"]
    assert alarm.look(slow, DEAD) == ["opened host004"]


def test_hosts_of_another_rack_are_another_fault(alarm):
    alarm.look(TOR)
    assert alarm.look(TOR, finding(subject="host050")) == ["opened host050"]


def test_missing_data_explain_no_loss_but_a_dead_rack_explains_missing_data(alarm):
    missing = finding("no_data", "tor", "dc1/p0/t0")
    assert alarm.look(missing, lane="window") == ["opened dc1/p0/t0"]
    assert alarm.look(missing, DEAD, lane="window") == ["opened host004"]
    racks = Alarm()
    assert racks.look(TOR, finding("no_data", subject="host003"), lane="window") == ["opened dc1/p0/t0"]


def test_a_finding_that_gets_worse_is_told_once(alarm):
    alarm.look(SLOW)
    alarm.look(SLOW)
    assert alarm.look(replace(SLOW, severity="critical")) == ["escalated host004"]
    assert alarm.look(SLOW) == alarm.look(replace(SLOW, severity="critical")) == []


def test_the_user_is_the_suspect_and_the_node_that_he_hammers_is_part_of_it(alarm):
    user = finding("user_rate", "user", "bob", "warning", evidence=({"tree": "efit", "node_path": "\\IP"},))
    node = finding("node_rate", "node", "efit/\\IP", "warning")
    assert alarm.look(user, node, source="data1") == ["opened bob"]
    late = Alarm()
    assert late.look(node, source="data1") == ["opened efit/\\IP"]
    assert late.look(user, node, source="data1") == ["escalated bob"]
    assert late.look(user, finding("user_rate", "user", "eve", "warning"), source="data1") == ["opened eve"]


def test_too_many_at_once_are_one_incident_of_the_whole(alarm):
    many = [finding(subject=f"host{n:03d}") for n in range(0, 120, 3)]
    assert alarm.look(*many) == ["opened mesh"]
    assert "40 findings at once" in alarm.last.finding.detail
    assert alarm.look(*many[:20]) == alarm.look(*many) == []
    assert [alarm.look() for _ in range(3)][-1] == ["resolved mesh"]


def test_an_alarm_while_the_memory_is_full_is_not_lost(alarm):
    alarm.policy = Policy(storm=1000)
    subjects = [f"host{n:03d}" for n in range(100)]
    alarm.look(*(finding(subject=subject) for subject in subjects))
    whole = next(incident for incident in alarm.state.open if incident.lead.finding.scope == "mesh")
    assert len(alarm.state.open) + len(whole.others) + whole.unlisted == len(subjects)
    assert [notice.finding.subject for notice in alarm.said] == ["mesh"]


# ---------------------------------------------------------------- flapping


def test_a_fault_that_comes_back_is_the_same_incident(alarm):
    alarm.look(DEAD)
    [alarm.look() for _ in range(3)]
    assert alarm.look(DEAD, after=120) == ["opened host004"]
    assert alarm.last.incident == alarm.said[0].incident
    assert "It is back: 1 return" in alarm.last.note
    assert len({notice.id for notice in alarm.said}) == len(alarm.said)


def test_a_host_that_flaps_for_an_hour_is_told_a_few_times_and_not_for_each_flap(alarm):
    for _ in range(30):
        alarm.look(DEAD)
        for _ in range(11):
            alarm.look()
    assert len(alarm.said) <= 7
    assert "It flaps" in alarm.said[4].note
    for _ in range(100):
        alarm.look()
    assert alarm.last.kind == "resolved"


# ---------------------------------------------------------------- being told to be quiet


def quiet(alarm, minutes=60, **what) -> Silence:
    return Silence("s1", "eve", alarm.now, alarm.now + timedelta(minutes=minutes), **what)


def test_what_is_silenced_is_tracked_and_told_when_the_silence_ends(alarm):
    alarm.state = silence(alarm.state, quiet(alarm, subject="host00*"), alarm.now)
    for _ in range(30):
        assert alarm.look(DEAD, after=60) == []
    assert len(alarm.state.open) == 1
    assert [alarm.look(DEAD, after=60) for _ in range(30)][-1] == ["opened host004"]
    assert "A silence or a maintenance is over" in alarm.last.note
    assert not alarm.state.silences


def test_a_fault_that_ends_in_silence_is_never_told(alarm):
    alarm.state = silence(alarm.state, quiet(alarm, scope="host"), alarm.now)
    for looks in ([DEAD], [DEAD], [], [], [], []):
        assert alarm.look(*looks) == []
    assert not alarm.state.open


def test_a_fault_that_ends_with_its_silence_is_never_told(alarm):
    alarm.state = silence(alarm.state, quiet(alarm, 1), alarm.now)
    assert alarm.look(DEAD) == alarm.look() == alarm.look() == []
    assert alarm.look(after=60) == []
    assert not alarm.state.open


def test_an_incident_can_be_silenced_by_its_id_and_be_heard_again(alarm):
    alarm.look(DEAD)
    alarm.state = silence(alarm.state, quiet(alarm, 300, incident=alarm.state.open[0].id), alarm.now)
    assert not any(alarm.look(DEAD, after=60) for _ in range(120))
    alarm.state = unsilence(alarm.state, "s1")
    assert alarm.look(DEAD) == ["reminder host004"]


def test_a_silence_of_a_host_does_not_hide_that_its_rack_is_down(alarm):
    alarm.state = silence(alarm.state, quiet(alarm, subject="host004"), alarm.now)
    alarm.look(DEAD)
    assert alarm.look(DEAD, TOR) == ["opened dc1/p0/t0"]


def test_what_gets_worse_is_told_though_somebody_looks_after_it(alarm):
    alarm.look(DEAD)
    alarm.state = acknowledge(alarm.state, alarm.state.open[0].id, "eve", alarm.now)
    assert alarm.look(DEAD, TOR) == ["escalated dc1/p0/t0"]
    assert alarm.state.open[0].acknowledged_by is None


def test_an_incident_can_be_closed_by_hand(alarm):
    alarm.look(DEAD)
    alarm._take(dismiss(alarm.state, alarm.state.open[0].id, "eve", alarm.now))
    assert (alarm.last.kind, "eve closed it by hand" in alarm.last.note) == ("resolved", True)
    assert title(alarm.last) == "Host host004: host down was closed by hand"
    assert not alarm.state.open


def test_a_form_that_cannot_be_meant_is_refused_with_what_there_is(alarm):
    alarm.look(DEAD)
    with pytest.raises(ConfigError, match=r"open are [0-9a-f]{12} \(host host004\)"):
        acknowledge(alarm.state, "nonsense", "eve", alarm.now)
    with pytest.raises(ConfigError, match="is over already"):
        silence(alarm.state, quiet(alarm, -5), alarm.now)
    with pytest.raises(ConfigError, match="too long"):
        silence(alarm.state, quiet(alarm, 60 * 24 * 365), alarm.now)
    with pytest.raises(ConfigError, match="no silence 's9'"):
        unsilence(alarm.state, "s9")


# ---------------------------------------------------------------- the object


def test_the_same_inputs_give_the_same_bytes():
    def play() -> bytes:
        alarm = Alarm()
        for look in ([DEAD], [DEAD, TOR], [], [SLOW], []):
            alarm.look(*look)
        return to_json(alarm.state)

    assert play() == play()


def test_ten_thousand_findings_of_hostile_names_stay_under_a_megabyte():
    random.seed(4)
    alarm = Alarm()
    names = ["\x00\ud800</script>\u202e" + random.choice("äx'\"\\{{") * 900 + str(n) for n in range(10_000)]
    rules = [f"rule{n}" for n in range(800)]
    for turn in range(4):
        found = [
            finding(
                random.choice(rules),
                "host",
                name,
                "critical",
                detail=name * 3,
                advice=name,
                evidence=({name: name},) * 99,
            )
            for name in random.sample(names, 1000)
        ]
        alarm.now += timedelta(seconds=10 + turn)
        evaluation = Evaluation(MESH, "hot", alarm.now, frozenset(rules), tuple(found))
        alarm.state = advance(alarm.state, evaluation, alarm.policy, alarm.now, alarm.wider)
        data = to_json(alarm.state)
        assert len(data) < min(1_200_000, MAX_BYTES)
        assert from_json(data) == alarm.state


def test_the_memory_of_many_sources_with_much_evidence_is_bounded_too():
    alarm, wide = Alarm(), {f"column{n}": "x" * 500 for n in range(40)}
    for number in range(120):
        found = [
            finding(
                f"rule{n}",
                subject=f"{n}" * 300,
                detail="d" * 9000,
                advice="a" * 9000,
                evidence=(wide,) * 90,
            )
            for n in range(14)
        ]
        alarm.now += timedelta(seconds=1)
        evaluation = Evaluation(f"data{number}", "hot", alarm.now, frozenset(), tuple(found))
        alarm.state = advance(alarm.state, evaluation, alarm.policy, alarm.now, alarm.wider)
    assert len(to_json(alarm.state)) < 1_200_000
    assert len({i.source for i in alarm.state.open}) == 120


def test_damaged_or_newer_memory_is_refused_with_what_to_do():
    with pytest.raises(StoreError, match=r"(?s)damaged .* remove it to start anew"):
        from_json(b'{"version": 1, "state": {"open": 3}}')
    with pytest.raises(StoreError, match="version 2"):
        from_json(b'{"version": 2, "state": {}}')
    assert from_json(to_json(AlertState())) == AlertState()


def test_memory_of_an_older_version_that_noted_more_is_read():
    older = json.loads(to_json(AlertState(dropped_notifications=3)))
    older["state"] |= {
        "hot_key": "hot/1795298700000-0a0b0c0d-000001-n",
        "anomaly_keys": ["tables/anomaly/x"],
    }
    assert from_json(json.dumps(older).encode()) == AlertState(dropped_notifications=3)
