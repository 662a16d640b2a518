"""The rules: what each looks for, where it is from, and the limits that a rule book may change.

A rule is a name, a paragraph for the operator, and its limits, each with a unit and a default. What is not listed
here cannot be written in a rules file, so this page is its reference. Rates and shares are 0…1.

`by` tells for which parts a limit, or the off switch of a rule, may differ: by the kinds of place that are known when
the rule asks. A dead rack lies in a podset and a DC, and is no host; who connects too often is a user or a client.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Kinds of place, or several such sets of which one is known at a time.
By = tuple[tuple[str, ...], ...]
_DC: By = (("dc",),)
_PODSET: By = (("dc", "podset"),)
_TOR: By = (("dc", "podset", "tor"),)
_HOST: By = (("dc", "podset", "tor", "host"),)
_SERVER: By = (("server",),)
_USER: By = (("server", "user"),)
_CLIENT: By = (("server", "client"),)
_NODE: By = (("server", "node"),)
_READER: By = (("server", "user", "client"),)
_READS: By = (("server", "user", "client", "node"),)


@dataclass(frozen=True, slots=True)
class Limit:
    """One figure of a rule. A value outside `least` … `most` cannot be meant. `by`: None where it is the rule's."""

    name: str
    unit: str
    default: float
    doc: str
    least: float = 0.0
    most: float = float("inf")
    by: By | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong. `source` says whose idea it is."""

    name: str
    doc: str
    source: str
    limits: tuple[Limit, ...] = field(default=())
    by: By = field(kw_only=True)

    def limit(self, name: str) -> Limit:
        return next(limit for limit in self.limits if limit.name == name)


def _share(name: str, default: float, doc: str, by: By | None = None) -> Limit:
    return Limit(name, "ratio", default, doc, least=0.0, most=1.0, by=by)


NETWORK_RULES = (
    Rule(
        "host_down",
        "Nobody gets an answer from a host: it is off, cut off, or its agent does not answer.",
        "UdpPinger (Facebook, NetNORAD 2016): a host with no reply is dead, and its probes say nothing of the network",
        (
            _share("share", 0.9, "of the peers that tried, so many got no answer"),
            Limit("min_peers", "peers", 2, "so many peers must have tried", least=1),
        ),
        by=_HOST,
    ),
    Rule(
        "host_isolated",
        "A host's own probes all fail while others reach it: its way out is broken, or its prober.",
        "rpingmesh, analyzer phase 2: UPSIDE, the source's share of bad edges is high and its targets are healthy",
        (_share("share", 0.9, "of the peers that it tried, so many did not answer"),),
        by=_HOST,
    ),
    Rule(
        "no_data",
        "A host that should probe sent no data, or nobody can log in to a data server to read its log. It may be "
        "healthy: nobody knows, and that is worth saying.",
        "doublezero issue 3173: missing pairs must be listed; Pingmesh shows them white",
        by=_HOST + _SERVER,
    ),
    Rule(
        "tor_down",
        "No host of a rack is reached from outside of it.",
        "UdpPinger: a rack whose every host is dead is a dead rack",
        (_share("share", 0.9, "of the pairs through the ToR, so many must be dead"),),
        by=_TOR,
    ),
    Rule(
        "podset_down",
        "No host of a podset is reached from outside of it.",
        "Pingmesh (SIGCOMM 2015) figure 8: a white cross",
        (_share("share", 0.9, "of the pairs through the podset, so many must be dead"),),
        by=_PODSET,
    ),
    Rule(
        "network_down",
        "No host of a DC, or of the whole mesh, is reached; or nothing passes between DCs.",
        "UdpPinger: from so many dead racks on it is no matter of racks",
        (_share("share", 0.9, "of the pairs concerned, so many must be dead"),),
        by=_DC,
    ),
    Rule(
        "podset_failure",
        "A podset is reached, but slowly: a leaf is overloaded or takes a detour.",
        "Pingmesh (SIGCOMM 2015) figure 8: a red cross",
        by=_PODSET,
    ),
    Rule(
        "spine_failure",
        "Pairs between podsets are slow or dead while each podset is well inside.",
        "Pingmesh (SIGCOMM 2015) figure 8: green squares on the diagonal, red elsewhere",
        by=_DC,
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
        by=_HOST,
    ),
    Rule(
        "silent_loss",
        "A switch drops a few packets at random and counts none: seen only by adding up all pairs that cross it.",
        "Pingmesh (SIGCOMM 2015) 5.2: all podsets suffer together, so it is the spine",
        (
            _share("limit", 0.0002, "drops of the probes that cross a rack's, podset's or DC's switches"),
            Limit("min_drops", "probes", 6, "fewer drops are an accident", least=1),
            Limit("min_pairs", "pairs", 2, "so many pairs must suffer, each direction by itself", least=1),
        ),
        by=_TOR,
    ),
    Rule(
        "latency_sla",
        "The 99th percentile of the RTT is over a fixed limit. Without topology nobody knows how far apart two hosts "
        "are, so the widest limit holds.",
        "Pingmesh (SIGCOMM 2015) 4.3: P99 above 5 ms is red",
        (
            Limit("intra_tor_us", "us", 5_000, "limit of p99 within a rack", least=1),
            Limit("intra_dc_us", "us", 5_000, "limit of p99 within a DC", least=1),
            Limit("inter_dc_us", "us", 300_000, "limit of p99 between DCs", least=1),
            _share("share", 0.2, "of the pairs of a host, rack, podset or DC, so many must be over the limit"),
            _share("baseline", 0.002, "of the pairs of a healthy mesh, so many are over it in any window"),
        ),
        by=_HOST,
    ),
    Rule(
        "latency_normal",
        "RTTs are far above what the same pairs had lately. RTTs have several modes, so quantiles of windows are "
        "compared, in logarithms, with a centre and a deviation that outliers cannot move.",
        "meshping README (mean ± 2σ is wrong); Huber (1964); NetOpsBench's least effects",
        (
            Limit("factor", "times", 1.5, "the median must have grown so much", least=1),
            Limit("rise_us", "us", 500, "and by so much", least=0),
            Limit("tail_rise_us", "us", 1_000, "or p99 as many times, and by so much", least=0),
            Limit("deviations", "deviations", 6, "and beyond so many of its own deviations", least=1),
            Limit("min_windows", "windows", 6, "of history, before there is a normal", least=2),
            _share("share", 0.2, "of a host's, rack's or podset's pairs, so many must be slow"),
        ),
        by=_HOST,
    ),
    Rule(
        "black_hole",
        "Some pairs fail always while others of the same hosts never do: a corrupt table entry, by address.",
        "Pingmesh (SIGCOMM 2015) 5.1: type 1; the ToR's score is its share of servers with the symptom",
        (Limit("min_probes", "probes", 5, "fewer failures of a pair prove nothing", least=2),),
        by=_HOST,
    ),
    Rule(
        "port_black_hole",
        "Some connections never come about and none recovers by a retransmit: a hole by address and port.",
        "Pingmesh (SIGCOMM 2015) 5.1: type 2; a deterministic hole swallows retries, random loss does not",
        (
            _share("share", 0.8, "of the drops, so many were never answered"),
            Limit("min_timeouts", "probes", 5, "fewer are no pattern", least=2),
        ),
        by=_HOST,
    ),
)


def _own_normal(times: float, least: float, unit: str) -> tuple[Limit, ...]:
    """Limits of a rule that also compares with the same key's normal: quantiles of windows, as use comes in bursts."""
    return (
        Limit("times_normal", "times", times, "so many times its usual busiest minute is too much", least=1),
        Limit("least", unit, least, "less is never too much, however unusual"),
        Limit("min_windows", "windows", 12, "of history, before there is a normal", least=2),
    )


def _stranger(name: str, what: str) -> Rule:
    return Rule(
        name,
        f"{what} that this data server never saw before. Judged once there is history, and only where that is rare.",
        "Good (1953), Turing: the share of names seen for the first time tells how likely the next one is new",
        (
            Limit("history_h", "h", 168, "so long must the log have been watched", least=1),
            Limit("usual", "names/window", 0.1, "where so many are new in a window, a new one is no news"),
            Limit("most", "names", 5, "more at once are one finding about the server", least=1),
        ),
        by=_SERVER,
    )


_HOUSE = "the 2018 analysis of a tokamak's access logs: alert on malicious access; figures are ours, see the doc"
ACCESS_RULES: tuple[Rule, ...] = (
    Rule(
        "heavy_reads",
        "The same data (a node of one shot) read over and over, as by a script that polls without a pause: data of a "
        "past shot never change. Or a tree read node by node. Judged for a process or user where the log ties reads to "
        "one; where one process serves everybody (mdsip -m, -s), for the node, and then by its share too. A healthy "
        "server of 300 lines/s shows 33 a process, 203 a user; load tests with real servers 15 and 60.",
        _HOUSE,
        (
            Limit("process_per_min", "reads/min", 200, "of the same data by one process or thread", least=1),
            Limit("process_burst", "reads", 50, "the same in 5 s (hot lane)", least=1),
            Limit("user_per_min", "reads/min", 400, "of the same data by one user from one client", least=1),
            Limit("server_per_min", "reads/min", 600, "of one node, by nobody knows whom", least=1, by=_NODE),
            _share("server_share", 0.12, "and of all reads at least so many", by=_NODE),
            Limit("server_burst", "reads", 60, "the same in 5 s (hot lane), if it is sudden", least=1, by=_NODE),
            _share("server_burst_share", 0.1, "and of all reads in 5 s at least so many", by=_NODE),
            Limit("nodes_per_min", "nodes/min", 1_000, "different nodes of a shot by one process", least=1, by=_READER),
        ),
        by=_READS,
    ),
    Rule(
        "user_rate",
        "One user does too much a minute. Only where the log ties operations to users.",
        _HOUSE,
        (
            Limit("operations_per_min", "operations/min", 6_000, "operations of one user", least=1),
            *_own_normal(4, 1_200, "operations/min"),
        ),
        by=_USER,
    ),
    Rule(
        "client_rate",
        "One client host does too much a minute, by several users. Only where the log ties operations to clients.",
        _HOUSE,
        (
            Limit("operations_per_min", "operations/min", 12_000, "operations from one client host", least=1),
            *_own_normal(4, 2_400, "operations/min"),
        ),
        by=_CLIENT,
    ),
    Rule(
        "node_rate",
        "One node is used too much a minute, by all together: a signal in demand, or many copies of one script.",
        _HOUSE,
        (
            Limit("operations_per_min", "operations/min", 3_000, "operations on one node", least=1),
            *_own_normal(4, 1_200, "operations/min"),
        ),
        by=_NODE,
    ),
    Rule(
        "no_attribution",
        "The server does too much a minute, and its log ties none of it to a user: said of the server, nobody is "
        "accused.",
        "mdsip -m and -s: one process id for all clients",
        (
            Limit("operations_per_min", "operations/min", 60_000, "operations that are tied to nobody", least=1),
            *_own_normal(4, 6_000, "operations/min"),
        ),
        by=_SERVER,
    ),
    Rule(
        "connect_rate",
        "Too many connections a minute: a client that connects for every read, or a search.",
        "Pingmesh's own rule for clients: reuse the connection; load tests with real servers show 200 of one host",
        (
            Limit("user_per_min", "connections/min", 240, "by one user", least=1, by=_USER),
            Limit("client_per_min", "connections/min", 300, "from one client host", least=1, by=_CLIENT),
            Limit("server_per_min", "connections/min", 3_000, "in all", least=1, by=_SERVER),
            *_own_normal(4, 60, "connections/min"),
        ),
        by=_USER + _CLIENT,
    ),
    Rule(
        "concurrency",
        "Too many sessions open at once. A process has 1 024 open files by default: then a server with one for all "
        "accepts nobody. Judged at the end of a window, never in the hot lane.",
        "getrlimit(2), RLIMIT_NOFILE: the soft limit that Linux distributions set",
        (
            Limit("user", "sessions", 200, "of one user", least=1, by=_USER),
            Limit("client", "sessions", 400, "from one client host", least=1, by=_CLIENT),
            Limit("server", "sessions", 900, "in all", least=1, by=_SERVER),
            *_own_normal(4, 50, "sessions"),
        ),
        by=_USER + _CLIENT,
    ),
    Rule(
        "refused_clients",
        "Logins that the server's hosts file turns away, again and again.",
        "mdsip: `Access denied` on stderr",
        (
            Limit("user_per_min", "refusals/min", 6, "of one user name"),
            Limit("server_per_min", "refusals/min", 60, "in all", by=_SERVER),
            Limit("least", "refusals", 10, "fewer are an accident", least=1),
        ),
        by=_USER,
    ),
    _stranger("new_user", "A user name"),
    _stranger("new_client", "A client's address"),
    _stranger("new_country", "A country"),
    Rule(
        "rejected_lines",
        "A burst of lines that are none (another library prints, two processes wrote at once), or of lines that a "
        "client forged: a name with a line break in it makes a line; a date far from its neighbours' gives it away.",
        "mdsip prints the user name as it came; seen in real logs",
        (
            Limit("per_min", "lines/min", 300, "lines that are none", least=1),
            _share("share", 0.05, "and of all lines at least so many"),
            Limit("forged_per_min", "lines/min", 10, "lines with dates that cannot be"),
            *_own_normal(4, 120, "lines/min"),
        ),
        by=_SERVER,
    ),
    Rule(
        "log_silent",
        "The log is gone, was destroyed before it was read, or is silent for longer than ever while the machine is up.",
        "UdpPinger: silence of a live host is a fault of its own",
        (
            Limit("least_s", "s", 120, "silence, or time without contact, that is too short to matter"),
            Limit("times_normal", "times", 4, "so many times its longest silence lately is too long", least=1),
            Limit("min_windows", "windows", 12, "of history, before there is a normal", least=2),
        ),
        by=_SERVER,
    ),
)

RULES = {rule.name: rule for rule in (*NETWORK_RULES, *ACCESS_RULES)}
