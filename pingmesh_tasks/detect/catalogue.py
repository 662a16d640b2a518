"""The rules: what each looks for, where it is from, and the limits that a rule book may change.

A rule is a name, a paragraph for the operator, and its limits, each with a unit and a default. What is not listed
here cannot be written in a rules file, so this page is its reference. Rates and shares are 0…1.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limit:
    """One figure of a rule. A value outside `least` … `most` cannot be meant."""

    name: str
    unit: str
    default: float
    doc: str
    least: float = 0.0
    most: float = float("inf")


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong. `source` says whose idea it is."""

    name: str
    doc: str
    source: str
    limits: tuple[Limit, ...] = field(default=())

    def limit(self, name: str) -> Limit:
        return next(limit for limit in self.limits if limit.name == name)


def _share(name: str, default: float, doc: str) -> Limit:
    return Limit(name, "ratio", default, doc, least=0.0, most=1.0)


NETWORK_RULES = (
    Rule(
        "host_down",
        "Nobody gets an answer from a host: it is off, cut off, or its agent does not answer.",
        "UdpPinger (Facebook, NetNORAD 2016): a host with no reply is dead, and its probes say nothing of the network",
        (
            _share("share", 0.9, "of the peers that tried, so many got no answer"),
            Limit("min_peers", "peers", 2, "so many peers must have tried", least=1),
        ),
    ),
    Rule(
        "host_isolated",
        "A host's own probes all fail while others reach it: its way out is broken, or its prober.",
        "rpingmesh, analyzer phase 2: UPSIDE, the source's share of bad edges is high and its targets are healthy",
        (_share("share", 0.9, "of the peers that it tried, so many did not answer"),),
    ),
    Rule(
        "no_data",
        "A host that should probe sent no data. It may be healthy: nobody knows, and that is worth saying.",
        "doublezero issue 3173: missing pairs must be listed; Pingmesh shows them white",
    ),
    Rule(
        "tor_down",
        "No host of a rack is reached from outside of it.",
        "UdpPinger: a rack whose every host is dead is a dead rack",
        (_share("share", 0.9, "of the pairs through the ToR, so many must be dead"),),
    ),
    Rule(
        "podset_down",
        "No host of a podset is reached from outside of it.",
        "Pingmesh (SIGCOMM 2015) figure 8: a white cross",
        (_share("share", 0.9, "of the pairs through the podset, so many must be dead"),),
    ),
    Rule(
        "podset_failure",
        "A podset is reached, but slowly: a leaf is overloaded or takes a detour.",
        "Pingmesh (SIGCOMM 2015) figure 8: a red cross",
        (_share("share", 0.2, "of the pairs through the podset, so many must be slow"),),
    ),
    Rule(
        "spine_failure",
        "Pairs between podsets are slow or dead while each podset is well inside.",
        "Pingmesh (SIGCOMM 2015) figure 8: green squares on the diagonal, red elsewhere",
        (_share("share", 0.2, "of the pairs between podsets, so many must be slow, or dead"),),
    ),
    Rule(
        "loss",
        "More probes are dropped (never answered, or only after a retransmit) than is allowed.",
        "Pingmesh (SIGCOMM 2015) 4.3; the suspect is the part that makes it most likely: Kulldorff's scan statistic",
        (
            _share("limit", 0.005, "drops of the probes sent, of a pair, a host or a rack"),
            _share("baseline", 1e-4, "drops that are nothing to speak of; a higher normal of its own counts instead"),
            Limit("min_drops", "probes", 3, "fewer drops are an accident", least=1),
        ),
    ),
    Rule(
        "silent_loss",
        "A switch drops a few packets at random and counts none: seen only by adding up all pairs that cross it.",
        "Pingmesh (SIGCOMM 2015) 5.2: all podsets suffer together, so it is the spine",
        (
            _share("limit", 0.0005, "drops of the probes that cross a rack's, podset's or DC's switches"),
            Limit("min_drops", "probes", 6, "fewer drops are an accident", least=1),
            Limit("min_pairs", "pairs", 3, "so many pairs must suffer", least=1),
        ),
    ),
    Rule(
        "latency_sla",
        "The 99th percentile of the RTT is over a fixed limit: more than one probe of a hundred is slower.",
        "Pingmesh (SIGCOMM 2015) 4.3: P99 above 5 ms is red",
        (
            Limit("intra_tor_us", "us", 5_000, "limit of p99 within a rack", least=1),
            Limit("intra_dc_us", "us", 5_000, "limit of p99 within a DC", least=1),
            Limit("inter_dc_us", "us", 300_000, "limit of p99 between DCs", least=1),
            _share("share", 0.01, "of the probes, so many over the limit: 0.01 makes it a 99th percentile"),
            _share("baseline", 0.002, "of the probes of a healthy mesh, so many are over the limit"),
        ),
    ),
    Rule(
        "latency_normal",
        "RTTs are far above what the same pairs had lately. RTTs have several modes, so quantiles of windows are "
        "compared, in logarithms, with a centre and a deviation that outliers cannot move.",
        "meshping README (mean ± 2σ is wrong); Huber (1964); NetOpsBench's least effects",
        (
            Limit("factor", "times", 1.5, "the median must have grown so much", least=1),
            Limit("rise_us", "us", 50, "and by so much", least=0),
            Limit("deviations", "deviations", 6, "and beyond so many of its own deviations", least=1),
            Limit("min_windows", "windows", 6, "of history, before there is a normal", least=2),
            _share("share", 0.2, "of a host's, rack's or podset's pairs, so many must be slow"),
        ),
    ),
    Rule(
        "black_hole",
        "Some pairs fail always while others of the same hosts never do: a corrupt table entry, by address.",
        "Pingmesh (SIGCOMM 2015) 5.1: type 1; the ToR's score is its share of servers with the symptom",
        (Limit("min_probes", "probes", 5, "fewer failures of a pair prove nothing", least=2),),
    ),
    Rule(
        "port_black_hole",
        "Some connections never come about and none recovers by a retransmit: a hole by address and port.",
        "Pingmesh (SIGCOMM 2015) 5.1: type 2; a deterministic hole swallows retries, random loss does not",
        (
            _share("share", 0.8, "of the drops, so many were never answered"),
            Limit("min_timeouts", "probes", 5, "fewer are no pattern", least=2),
        ),
    ),
)

ACCESS_RULES: tuple[Rule, ...] = (
    Rule(
        "user_rate",
        "One user does too much a minute.",
        "the 2018 access analysis: alert on malicious access",
        (Limit("operations_per_min", "operations/min", 6_000, "operations of one user"),),
    ),
)

RULES = {rule.name: rule for rule in (*NETWORK_RULES, *ACCESS_RULES)}
