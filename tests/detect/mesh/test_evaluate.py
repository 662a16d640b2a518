"""One fault, one finding: what one look at a mesh says of it, and what it keeps to itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from pingmesh_tasks.detect.finding import Evaluation, anomaly_rows
from pingmesh_tasks.detect.mesh.baseline import update_baseline
from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
from pingmesh_tasks.detect.rules import DEFAULT_RULES
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.topology.inventory import Inventory
from tests.support.anomaly_rows import findings_of
from tests.support.pair_rows import PairRows, fabric, flat

AT = datetime(2026, 11, 22, 12, 5, tzinfo=UTC)
SPINE = np.random.default_rng(5)


def look(mesh: PairRows, rules: str = "", normal: pl.DataFrame | None = None, **view) -> Evaluation:
    book = load_rules(rules, "rules.yaml") if rules else DEFAULT_RULES
    seen = MeshView(mesh.frame(), mesh.inventory, AT, **{"span_s": 300, "normal": normal, **view})
    return evaluate_mesh(seen, book)


def named(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    return [(finding.rule, finding.scope, finding.subject) for finding in evaluation.findings]


def normal_of(inventory: Inventory, windows: int = 8, **kw) -> pl.DataFrame:
    normal = None
    for _ in range(windows):
        normal = update_baseline(normal, PairRows(inventory, **kw).frame(), inventory)
    assert normal is not None
    return normal


@pytest.mark.parametrize(
    "inventory", [fabric(), fabric(dcs=2, podsets=3), flat(8), flat(2)], ids=["fabric", "dcs", "flat", "two"]
)
def test_a_healthy_mesh_gives_no_finding(inventory):
    seen = look(PairRows(inventory), normal=normal_of(inventory))
    assert seen.findings == () and not seen.unjudged
    assert {"host_down", "loss", "latency_normal", "no_data"} <= seen.judged


@pytest.mark.parametrize("inventory", [fabric(), flat(8)], ids=["fabric", "flat"])
def test_a_dead_host_is_one_finding_and_its_silence_none(inventory):
    host = inventory.hosts[3].name
    (finding,) = look(PairRows(inventory).kill(host)).findings
    assert (finding.rule, finding.subject, finding.severity) == ("host_down", host, "critical")
    assert finding.affected == len(inventory.hosts) - 1
    assert finding.evidence[0]["dst"] == host and finding.evidence[0]["lost"] == 30


def test_a_host_that_died_within_the_span_is_named_already():
    mesh = PairRows(fabric()).kill("p1t1h2")
    mesh.lost //= 3
    assert [name[1:] for name in named(look(mesh))] == [("host", "p1t1h2")]


@pytest.mark.parametrize("silent", [True, False])
def test_a_dead_rack_is_one_finding(silent):
    assert named(look(PairRows(fabric(podsets=3)).kill("p2t1", silent=silent))) == [
        ("tor_down", "tor", "dc1/podset2/tor1")
    ]


def test_a_rack_that_is_cut_off_is_one_finding_though_it_is_well_inside():
    mesh = PairRows(fabric(podsets=3)).kill("p2t1", silent=False, outside_only=True)
    assert named(look(mesh)) == [("tor_down", "tor", "dc1/podset2/tor1")]


def test_a_dead_podset_is_one_finding():
    assert named(look(PairRows(fabric(podsets=3)).kill("p2"))) == [("podset_down", "podset", "dc1/podset2")]


def test_a_dead_dc_is_one_finding():
    assert named(look(PairRows(fabric(dcs=3)).kill("d2"))) == [("network_down", "dc", "dc2")]


def test_dead_links_between_dcs_are_one_finding():
    mesh = PairRows(fabric(dcs=2))
    mesh.lost[mesh.between("d1", "d2")] = 30
    assert named(look(mesh)) == [("network_down", "tier", "inter_dc")]


def test_dead_spines_are_one_finding():
    mesh = PairRows(fabric(podsets=3))
    for a, b in (("p1", "p2"), ("p1", "p3"), ("p2", "p3")):
        mesh.lost[mesh.between(a, b)] = 30
    assert named(look(mesh)) == [("spine_failure", "tier", "dc1/spine")]


def test_a_mesh_in_which_nothing_answers_is_one_finding():
    mesh = PairRows(fabric(dcs=2))
    mesh.lost[:] = 30
    assert [name[1:] for name in named(look(mesh))] == [("mesh", "mesh")]


@pytest.mark.parametrize("dead", [["p1t1h1", "p2t2h3"], ["p1t1h1", "p1t1h2"], ["p1t1h1", "p1t1h2", "p1t1h3"]])
def test_hosts_that_are_dead_at_once_are_told_one_by_one(dead):
    mesh = PairRows(fabric(podsets=3))
    for host in dead:
        mesh.kill(host)
    assert sorted(named(look(mesh))) == [("host_down", "host", host) for host in dead]


def test_a_second_fault_stays_visible_beside_a_wide_one():
    mesh = PairRows(fabric(podsets=4)).kill("p2").kill("p1t2h4")
    lossy = mesh.between("p3t1", "p") & (mesh.lost == 0) & (mesh.sent > 0)
    mesh.retransmitted[lossy] = 2
    assert named(look(mesh)) == [
        ("podset_down", "podset", "dc1/podset2"),
        ("loss", "tor", "dc1/podset3/tor1"),
        ("host_down", "host", "p1t2h4"),
    ]


def test_an_agent_that_does_not_run_is_told_from_a_dead_host():
    mesh = PairRows(fabric())
    mesh.refused[:, 5] = 30
    mesh.mute("p1t2h2")
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.severity) == ("host_down", "warning")
    assert "agent does not run" in finding.detail


def test_a_host_whose_own_probes_all_fail_while_it_is_reached_is_isolated():
    mesh = PairRows(fabric())
    mesh.lost[5] = 30
    assert named(look(mesh)) == [("host_isolated", "host", "p1t2h2")]


def test_silence_is_a_finding_of_its_own_with_what_collection_said():
    mesh = PairRows(fabric()).mute("p1t2h2")
    status = pl.DataFrame({"host": ["p1t2h2"], "outcome": ["no_segment"]})
    seen = look(mesh, status=status)
    assert named(seen) == [("no_data", "host", "p1t2h2")]
    assert "no_segment" in seen.findings[0].detail
    assert seen.unjudged["host", "p1t2h2"]


@pytest.mark.parametrize(
    ("prefix", "subject"),
    [("p2t1", ("tor", "dc1/podset2/tor1")), ("p2", ("podset", "dc1/podset2")), ("p", ("dc", "dc1"))],
)
def test_silence_of_a_whole_place_is_one_finding(prefix, subject):
    assert named(look(PairRows(fabric()).mute(prefix))) == [("no_data", *subject)]


def test_an_empty_window_is_no_peace():
    inventory = flat(4)
    seen = evaluate_mesh(MeshView(PairRows(inventory).frame().clear(), inventory, AT, 300))
    assert named(seen) == [("no_data", "mesh", "mesh")]
    assert seen.unjudged["mesh", "mesh"]


def test_an_agent_that_just_started_is_expected_to_say_nothing():
    status = pl.DataFrame({"host": ["p1t2h2"], "outcome": ["no_data_yet"]})
    seen = look(PairRows(fabric()).mute("p1t2h2"), status=status)
    assert seen.findings == () and "started after" in seen.unjudged["host", "p1t2h2"]


def test_a_pair_that_fails_always_while_its_hosts_are_well_is_a_black_hole():
    mesh = PairRows(fabric())
    mesh.lost[1, 9] = mesh.lost[9, 1] = 30
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.scope, finding.subject) == ("black_hole", "pair", "p1t1h2>p2t1h2")
    assert "60 probes" in finding.detail


def test_a_pair_that_fails_one_way_only_is_named_as_measured():
    mesh = PairRows(flat(6))
    mesh.lost[4, 1] = 30
    assert named(look(mesh)) == [("black_hole", "pair", "h5>h2")]


@pytest.mark.parametrize(("sent", "told"), [(4, False), (5, True)])
def test_few_probes_prove_no_black_hole(sent, told):
    mesh = PairRows(flat(6), sent=sent)
    mesh.planned = np.roll(np.eye(6, dtype=bool), 1, axis=1) | np.roll(np.eye(6, dtype=bool), 2, axis=1)
    mesh.lost[0, 1] = sent
    assert bool(look(mesh).findings) is told


def test_a_rack_that_swallows_some_addresses_is_one_black_hole():
    mesh = PairRows(fabric(podsets=3, tors=3))
    rack = mesh.between("p2t2", "p")
    hit = rack & (np.random.default_rng(1).random(rack.shape) < 0.08)
    mesh.lost[hit | hit.T] = 30
    assert named(look(mesh)) == [("black_hole", "tor", "dc1/podset2/tor2")]


def test_timeouts_that_no_repeat_cures_are_a_hole_by_port():
    mesh = PairRows(fabric(podsets=3))
    mesh.lost[mesh.between("p2t2", "p")] = 1
    assert named(look(mesh)) == [("port_black_hole", "tor", "dc1/podset2/tor2")]


def test_the_same_share_lost_by_chance_is_loss():
    mesh = PairRows(fabric(podsets=3))
    mesh.retransmitted[mesh.between("p2t2", "p")] = 1
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.subject) == ("loss", "dc1/podset2/tor2")
    assert finding.value == pytest.approx(1 / 30) and finding.normal == pytest.approx(1e-4)


def test_a_few_drops_in_many_pairs_are_seen_only_together():
    """A tenth of a per cent: no pair of 60 probes and no host could show it, the spines do."""
    mesh = PairRows(fabric(podsets=4, tors=4, hosts=8), sent=60)
    across = mesh.planned & ~sum(mesh.between(f"p{p}", f"p{p}") for p in range(1, 5)).astype(bool)
    mesh.retransmitted[across & (SPINE.random(across.shape) < 0.06)] = 1
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.scope, finding.subject) == ("silent_loss", "tier", "dc1/spine")
    assert finding.value == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize("drops", [0.001, 0.003])
def test_a_healthy_share_of_drops_is_nothing(drops):
    """One drop in one or three of a thousand pairs: 2e-5 or 1e-4 of the probes."""
    mesh = PairRows(fabric(podsets=4, tors=4, hosts=8))
    mesh.retransmitted[mesh.planned & (np.random.default_rng(3).random(mesh.planned.shape) < drops)] = 1
    assert look(mesh).findings == ()


def test_probes_that_the_source_could_not_send_say_nothing_of_the_network():
    mesh = PairRows(fabric())
    mesh.local_error[2] = 29
    assert look(mesh).findings == ()


def test_a_slow_podset_is_a_podset_failure():
    mesh = PairRows(fabric(podsets=3, tors=3))
    slow = mesh.between("p2", "p") & ~sum(mesh.between(f"p2t{t}", f"p2t{t}") for t in (1, 2, 3)).astype(bool)
    mesh.p50_us[slow], mesh.p99_us[slow] = 7_000, 9_000
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.scope, finding.subject) == ("podset_failure", "podset", "dc1/podset2")
    assert finding.severity == "critical" and finding.value == 7_000


def test_slow_spines_are_a_spine_failure():
    mesh = PairRows(fabric(podsets=3))
    for a, b in (("p1", "p2"), ("p1", "p3"), ("p2", "p3")):
        mesh.p99_us[mesh.between(a, b)] = 9_000
    assert named(look(mesh)) == [("spine_failure", "tier", "dc1/spine")]


def test_one_late_answer_is_no_slow_pair_but_a_slow_median_is():
    mesh = PairRows(fabric())
    mesh.p99_us[1, 9] = 40_000
    assert look(mesh).findings == ()
    mesh.p50_us[1, 9] = mesh.p50_us[9, 1] = 20_000
    mesh.p99_us[9, 1] = 40_000
    assert named(look(mesh)) == [("latency_sla", "pair", "p1t1h2>p2t1h2")]


def test_a_host_far_above_its_own_normal_is_slow_although_no_limit_is_broken():
    inventory = fabric()
    mesh = PairRows(inventory)
    touched = mesh.between("p1t2h2", "p")
    mesh.p50_us[touched], mesh.p99_us[touched] = 1_500, 2_500
    assert look(mesh).findings == ()
    (finding,) = look(mesh, normal=normal_of(inventory)).findings
    assert (finding.rule, finding.subject, finding.normal) == ("latency_normal", "p1t2h2", pytest.approx(100))


def test_a_normal_of_few_windows_is_none():
    inventory = fabric()
    mesh = PairRows(inventory, p50_us=1_500, p99_us=2_500)
    assert look(mesh, normal=normal_of(inventory, windows=5)).findings == ()
    assert look(mesh, normal=normal_of(inventory, windows=6)).findings != ()


def test_a_limit_can_be_raised_for_a_part():
    mesh = PairRows(fabric())
    touched = mesh.between("p1t2h2", "p")
    mesh.p50_us[touched], mesh.p99_us[touched] = 7_000, 9_000
    raised = "scopes: [{where: {host: p1t2h2}, rules: {latency_sla: {intra_tor_us: 10000, intra_dc_us: 10000}}}]"
    assert named(look(mesh)) == [("latency_sla", "host", "p1t2h2")]
    assert look(mesh, raised).findings == ()


def lossy_rack() -> PairRows:
    """The second rack of the second podset loses one probe of thirty."""
    mesh = PairRows(fabric(podsets=3))
    mesh.retransmitted[mesh.between("p2t2", "p")] = 1
    return mesh


@pytest.mark.parametrize(
    "limits", ["loss: {baseline: 0.05, limit: 0.3}", "silent_loss: {min_drops: 5000}", "silent_loss: {min_pairs: 5000}"]
)
def test_more_drops_can_be_allowed_to_one_rack(limits):
    rack, other = (f"scopes: [{{where: {{tor: dc1/podset2/{tor}}}, rules: {{{limits}}}}}]" for tor in ("tor2", "tor1"))
    told = ("loss", "tor", "dc1/podset2/tor2")
    assert named(look(lossy_rack())) == named(look(lossy_rack(), other)) == [told]
    assert told not in named(look(lossy_rack(), rack))


def test_more_drops_can_be_allowed_to_one_host():
    mesh = PairRows(fabric())
    mesh.retransmitted[mesh.between("p1t2h2", "p")] = 1
    told = ("loss", "host", "p1t2h2")
    assert named(look(mesh)) == [told]
    assert told not in named(look(mesh, "scopes: [{where: {host: p1t2h2}, rules: {loss: {min_drops: 100}}}]"))


def test_more_pairs_of_one_rack_may_be_over_the_limit():
    mesh = PairRows(fabric(podsets=3, tors=3))
    mesh.p99_us[mesh.between("p2t2", "p3") | mesh.between("p2t2", "p1t1")] = 9_000
    assert named(look(mesh)) == [("latency_sla", "tor", "dc1/podset2/tor2")]
    allowed = "scopes: [{where: {tor: dc1/podset2/tor2}, rules: {latency_sla: {share: 0.9}}}]"
    assert look(mesh, allowed).findings == ()


def test_a_rack_can_be_slow_by_nature():
    mesh = PairRows(fabric(podsets=3))
    mesh.p99_us[mesh.between("p2t2", "p")] = 9_000
    assert named(look(mesh)) == [("latency_sla", "tor", "dc1/podset2/tor2")]
    by_nature = "scopes: [{where: {tor: dc1/podset2/tor2}, rules: {latency_sla: {baseline: 0.9}}}]"
    assert look(mesh, by_nature).findings == ()


def test_a_rule_that_is_off_says_nothing_and_is_not_among_the_judged():
    mesh = PairRows(fabric()).kill("p1t2h2")
    seen = look(mesh, "rules: {host_down: off, no_data: off}")
    assert seen.findings == () and not {"host_down", "no_data"} & seen.judged


def test_a_rule_that_is_off_for_one_host_still_looks_at_others():
    mesh = PairRows(fabric(podsets=3)).kill("p1t2h2").kill("p2t1h1")
    seen = look(mesh, "scopes: [{where: {host: p1t2h2}, rules: {host_down: off, no_data: off}}]")
    assert named(seen) == [("host_down", "host", "p2t1h1")]


def test_maintenance_hides_what_lies_within_it_and_says_so():
    mesh = PairRows(fabric(podsets=3)).kill("p1t2").kill("p2t1h1")
    window = "{where: {tor: dc1/podset1/tor2}, from: 2026-11-22T12:00:00Z, until: 2026-11-22T13:00:00Z, note: fans}"
    seen = look(mesh, f"maintenance: [{window}]")
    assert named(seen) == [("host_down", "host", "p2t1h1")]
    assert seen.unjudged["host", "p1t2h3"].endswith("fans")
    over = look(mesh, f"maintenance: [{window.replace('T13:00', 'T12:05')}]")
    assert named(over)[0] == ("tor_down", "tor", "dc1/podset1/tor2")


def test_too_few_probes_give_no_verdict_and_say_so():
    mesh = PairRows(flat(4), sent=2)
    mesh.lost[0, 2] = 2
    seen = look(mesh)
    assert seen.findings == () and seen.unjudged["mesh", "mesh"] and seen.unjudged["host", "h3"]


def test_the_hot_lane_sees_a_dead_host_in_a_minute_of_few_probes():
    mesh = PairRows(fabric(), sent=6).kill("p1t2h2")
    seen = look(mesh, lane="hot", span_s=60)
    assert named(seen) == [("host_down", "host", "p1t2h2")]
    assert seen.findings[0].since == datetime(2026, 11, 22, 12, 4, tzinfo=UTC)


def test_a_ring_sees_a_dead_host_and_a_lossy_one():
    mesh = PairRows(flat(40))
    mesh.planned = sum(np.roll(np.eye(40, dtype=bool), offset, axis=1) for offset in (1, 2, 5, 11)).astype(bool)
    mesh.kill("h17")
    mesh.retransmitted[30], mesh.retransmitted[:, 30] = 2, 2
    mesh.retransmitted[:, 16] = 0
    assert named(look(mesh)) == [("host_down", "host", "h17"), ("loss", "host", "h31")]


def test_hosts_that_left_the_inventory_are_passed_over():
    mesh = PairRows(flat(6)).kill("h6")
    shrunk = Inventory(mesh.inventory.hosts[:5])
    assert evaluate_mesh(MeshView(mesh.frame(), shrunk, AT, 300)).findings == ()


def test_findings_survive_the_table_and_come_in_the_same_words_from_shuffled_rows():
    mesh = PairRows(fabric(podsets=3)).kill("p2").kill("p1t2h4")
    seen = look(mesh)
    assert list(findings_of(anomaly_rows(seen))) == list(seen.findings)
    shuffled = mesh.frame().sample(fraction=1, shuffle=True, seed=4)
    again = evaluate_mesh(MeshView(shuffled, mesh.inventory, AT, 300))
    assert [replace(f, evidence=()) for f in again.findings] == [replace(f, evidence=()) for f in seen.findings]


def test_a_host_that_answered_none_of_the_few_probes_since_it_died_is_down():
    mesh = PairRows(fabric())
    mesh.sent[:, 5], mesh.lost[:, 5] = 1, 1
    (finding,) = look(mesh, lane="hot", span_s=60).findings
    assert (finding.rule, finding.subject, finding.severity) == ("host_down", "p1t2h2", "critical")


def test_a_hole_by_address_that_opened_within_the_span_is_told_from_one_by_port():
    """The same number of timeouts: a third of the probes of a few pairs, not a few of all."""
    mesh = PairRows(fabric(podsets=3, tors=3))
    rack = mesh.between("p2t2", "p")
    hit = rack & (np.random.default_rng(1).random(rack.shape) < 0.08)
    mesh.lost[hit | hit.T] = 10
    assert named(look(mesh)) == [("black_hole", "tor", "dc1/podset2/tor2")]


def test_a_rack_that_died_within_the_span_explains_that_its_hosts_sent_nothing():
    mesh = PairRows(fabric(podsets=3)).kill("p2t1")
    mesh.lost //= 3
    (finding,) = look(mesh).findings
    assert (finding.scope, finding.subject) == ("tor", "dc1/podset2/tor1")
    assert "no_data" not in finding.detail


def test_a_loss_that_lasts_does_not_become_normal():
    inventory = fabric()
    mesh = PairRows(inventory)
    mesh.retransmitted[mesh.between("p1t2h2", "p")] = 1
    normal = None
    for _ in range(20):
        normal = update_baseline(normal, mesh.frame(), inventory)
    assert named(look(mesh, normal=normal)) == [("loss", "host", "p1t2h2")]


def test_two_lossy_racks_are_no_lossy_podset():
    mesh = PairRows(fabric(podsets=2, tors=6))
    mesh.retransmitted[mesh.between("p1t2", "p") | mesh.between("p1t5", "p")] = 2
    assert sorted(named(look(mesh))) == [
        ("loss", "tor", "dc1/podset1/tor2"),
        ("loss", "tor", "dc1/podset1/tor5"),
    ]


def test_half_of_a_racks_hosts_with_dead_pairs_and_nobody_else_blame_the_rack():
    mesh = PairRows(fabric(podsets=3))
    for host, peers in {4: (0, 8, 12, 16), 5: (1, 9, 13)}.items():
        for peer in peers:
            mesh.lost[host, peer] = mesh.lost[peer, host] = 30
    assert named(look(mesh)) == [("black_hole", "tor", "dc1/podset1/tor2")]


# ---- what a finding states: its severity, its figures, its words ----------------------------------------------------


def test_a_rack_that_refuses_every_probe_is_down_and_not_a_stopped_agent():
    mesh = PairRows(fabric(podsets=3))
    mesh.refused[:, mesh.named("p2t1")] = mesh.sent[:, mesh.named("p2t1")]
    mesh.mute("p2t1")
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.scope, finding.severity) == ("tor_down", "tor", "critical")
    assert finding.detail.startswith("nothing passes") and "agent" not in finding.detail


@pytest.mark.parametrize(("refused", "severity"), [(16, "warning"), (15, "critical")])
def test_a_host_that_refuses_more_than_half_of_its_probes_has_no_agent(refused, severity):
    mesh = PairRows(fabric())
    mesh.refused[:, 5], mesh.lost[:, 5] = refused, 30 - refused
    (finding,) = look(mesh.mute("p1t2h2")).findings
    assert (finding.rule, finding.severity) == ("host_down", severity)


def test_probes_that_were_never_sent_are_not_among_those_of_a_black_hole():
    mesh = PairRows(fabric())
    for way in ((1, 9), (9, 1)):
        mesh.local_error[way], mesh.lost[way] = 5, 25
    (finding,) = look(mesh).findings
    assert finding.rule == "black_hole" and "none of 50 probes was answered" in finding.detail
    assert (finding.severity, finding.value, finding.affected) == ("warning", 1.0, 2)


def test_a_dead_host_is_told_with_the_pairs_that_tried_it_and_what_collection_said():
    status = pl.DataFrame({"host": ["p1t1h4"], "outcome": ["unreachable"]})
    (finding,) = look(PairRows(fabric()).kill("p1t1h4"), status=status).findings
    assert "15 of 15 pairs have no answer at all; collection says unreachable" in finding.detail
    assert (finding.value, finding.threshold, finding.unit) == (1.0, 0.9, "ratio")


def test_hosts_are_silent_on_their_own_in_a_rack_that_is_only_a_little_lossy():
    mesh = PairRows(fabric(podsets=3))
    mesh.retransmitted[mesh.between("p2t2", "p")] = 2
    mesh.mute("p2t2h3")
    assert sorted(named(look(mesh))) == [
        ("loss", "tor", "dc1/podset2/tor2"),
        ("no_data", "host", "p2t2h3"),
    ]


def test_two_silent_hosts_of_one_rack_are_not_a_silent_rack():
    mesh = PairRows(fabric()).mute("p1t1h1").mute("p1t1h2")
    seen = look(mesh)
    assert named(seen) == [("no_data", "host", "p1t1h1"), ("no_data", "host", "p1t1h2")]
    assert {finding.severity for finding in seen.findings} == {"warning"}


@pytest.mark.parametrize(("prefix", "severity"), [("p2t1", "warning"), ("p2", "critical")])
def test_a_silent_podset_is_critical_and_a_silent_rack_is_not(prefix, severity):
    (finding,) = look(PairRows(fabric(podsets=3)).mute(prefix)).findings
    assert finding.severity == severity
    hosts = {"p2t1": 4, "p2": 8}[prefix]
    assert f"none of its {hosts} hosts sent data" in finding.detail
    assert (finding.value, finding.affected, len(finding.evidence)) == (hosts, hosts, min(hosts, 5))


@pytest.mark.parametrize(("again", "severity"), [(1, "warning"), (2, "critical")])
def test_a_lossy_rack_is_critical_from_a_twentieth_on(again, severity):
    mesh = PairRows(fabric(podsets=3))
    mesh.retransmitted[mesh.between("p2t2", "p")] = again
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.severity) == ("loss", severity)
    touched = int(mesh.between("p2t2", "p").sum())
    words = f"{again * touched} of {30 * touched} probes dropped (0 never answered, {again * touched} sent again)"
    assert words in finding.detail


def test_the_evidence_is_the_five_worst_pairs_with_their_counts_and_round_trips():
    mesh = PairRows(fabric(podsets=3))
    mesh.retransmitted[mesh.between("p2t2", "p")] = 2
    mesh.retransmitted[1, mesh.named("p2t2")[0]] = 9
    (finding,) = look(mesh).findings
    assert len(finding.evidence) == 5
    assert finding.evidence[0] == {
        "src": "p1t1h2", "dst": "p2t2h1", "sent": 30, "retransmitted": 9, "p50_us": 100, "p99_us": 300,
    }  # fmt: skip
    assert all(row["retransmitted"] == 2 for row in finding.evidence[1:])


def test_a_slow_host_is_told_with_its_median_its_normal_and_the_limit():
    inventory = fabric()
    mesh = PairRows(inventory)
    touched = mesh.between("p1t2h2", "p")
    mesh.p50_us[touched], mesh.p99_us[touched] = 1_500, 2_500
    (finding,) = look(mesh, normal=normal_of(inventory)).findings
    assert finding.detail == "30 of 30 pairs are slow: median 1,500 µs, normal 100 µs, limit 150 µs"
    assert (finding.severity, finding.unit, finding.value) == ("warning", "us", 1_500)
    assert finding.threshold == pytest.approx(150)


def test_a_rack_over_the_limit_is_told_with_its_p99_and_is_critical():
    mesh = PairRows(fabric(podsets=3))
    mesh.p99_us[mesh.between("p2t2", "p")] = 9_000
    (finding,) = look(mesh).findings
    assert (finding.severity, finding.value, finding.threshold) == ("critical", 9_000, 5_000)
    assert "p99 9,000 µs, no normal yet, limit 5,000 µs" in finding.detail


@pytest.mark.parametrize(("p99_us", "is_slow"), [(5_000, False), (5_001, True)])
def test_the_limit_itself_is_kept(p99_us, is_slow):
    mesh = PairRows(fabric(podsets=3))
    mesh.p99_us[mesh.between("p2t2", "p")] = p99_us
    assert bool(look(mesh).findings) is is_slow


@pytest.mark.parametrize(
    ("inventory", "limit_us"),
    [(fabric(dcs=2), 300_000), (flat(12), 300_000), (fabric(), 5_000)],
    ids=["between DCs", "no topology", "within a DC"],
)
def test_the_limit_is_that_of_the_distance_and_the_widest_without_topology(inventory, limit_us):
    mesh = PairRows(inventory)
    ends = ("d1", "d2") if inventory.hosts[-1].dc == "dc2" else ("", "")
    mesh.p99_us[mesh.between(*ends)] = limit_us
    assert look(mesh).findings == ()
    mesh.p99_us[mesh.between(*ends)] = limit_us + 1
    assert look(mesh).findings[0].threshold == limit_us


@pytest.mark.parametrize(
    ("p50_us", "p99_us", "is_slow"),
    [(600, 600, False), (601, 601, True), (100, 1_300, False), (100, 1_301, True)],
)
def test_a_median_must_rise_by_half_a_millisecond_and_a_p99_by_a_whole_one(p50_us, p99_us, is_slow):
    inventory = fabric()
    mesh = PairRows(inventory)
    touched = mesh.between("p1t2h2", "p")
    mesh.p50_us[touched], mesh.p99_us[touched] = p50_us, p99_us
    assert bool(look(mesh, normal=normal_of(inventory)).findings) is is_slow


def test_one_subject_with_two_faults_is_one_finding_that_tells_of_both():
    mesh = PairRows(fabric(podsets=3, tors=3))
    touched = mesh.between("p2t2", "p")
    mesh.retransmitted[touched], mesh.p99_us[touched] = 1, 9_000
    (finding,) = look(mesh).findings
    assert (finding.rule, finding.subject, finding.severity) == ("loss", "dc1/podset2/tor2", "critical")
    assert "; latency_sla: " in finding.detail


def test_critical_findings_come_before_warnings_and_wide_ones_before_narrow_ones():
    mesh = PairRows(fabric(podsets=4)).kill("p2").kill("p1t2h4")
    mesh.lost[0, 28] = mesh.lost[28, 0] = 30
    assert [finding.severity for finding in look(mesh).findings] == ["critical", "critical", "warning"]
    assert [finding.affected for finding in look(mesh).findings] == sorted(
        (finding.affected for finding in look(mesh).findings), reverse=True
    )
