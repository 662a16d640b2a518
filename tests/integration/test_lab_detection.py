"""Detection on real probes: 16 hosts in a small Clos network, broken in one way after the other.

Agents run all the time and probe each other five times a second; a fault holds for some seconds, then the network is
well again. Afterwards each time of a fault is summarised like a window, and the rules look at it, with the healthy
time as what is normal. Nothing is simulated but the scale: the packets, the paths, the kernels' repeats are real.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pingmesh_tasks.detect.finding import Evaluation
from pingmesh_tasks.detect.mesh.baseline import update_baseline
from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
from pingmesh_tasks.detect.traces.netbouncer import rank_traces
from pingmesh_tasks.fleet.connect import Answer
from pingmesh_tasks.fleet.trace import parse_trace
from pingmesh_tasks.fleet.trace_paths import PathTrace
from pingmesh_tasks.latency.summary import summarize_pairs
from pingmesh_tasks.windows import Window
from tests.support.lab_agent import AGENT, PROBE_PORT, LabAgent
from tests.support.lab_clos import ClosLab, clos_laboratory
from tests.support.needs import missing, require

pytestmark = [pytest.mark.integration, pytest.mark.lab]

INTERVAL_S, TIMEOUT_S = 0.2, 1.5
HOLD_S = 3.0
WINDOW = Window(datetime(2026, 11, 21, tzinfo=UTC), 300)  # the name under which each time is summarised
SICK_TOR, SICK_PODSET, SICK_HOST = "tor1-2", "podset1", "p2t1h3"

#: Fills a queue: UDP to nobody, from many ports, so that every path gets its share. Arguments: address, Mbit/s.
FLOOD = """
import socket, sys, time
ports = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(32)]
wait_s = 32 * 1028 * 8 / (float(sys.argv[2]) * 1e6)
print("up", flush=True)
while True:
    for port in ports:
        port.sendto(bytes(1000), (sys.argv[1], 9))
    time.sleep(wait_s)
"""


@dataclass(frozen=True)
class Seen:
    """One time of the run: its pairs, and what the rules say of them."""

    pairs: pl.DataFrame
    evaluation: Evaluation

    @property
    def suspects(self) -> list[tuple[str, str]]:
        return [(finding.scope, finding.subject) for finding in self.evaluation.findings]

    def __str__(self) -> str:
        return "\n".join(f"{f.rule} {f.scope} {f.subject}: {f.detail}" for f in self.evaluation.findings) or "nothing"


Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Run:
    """The whole run. `spans` are the times in which a fault held."""

    lab: ClosLab
    probes: pl.DataFrame
    planned: pl.DataFrame
    spans: dict[str, Span]

    def pairs(self, name: str) -> pl.DataFrame:
        require(*NEEDS.get(name, ()))
        begin, end = self.spans[name]
        probes = self.probes.filter((pl.col("ts") >= begin) & (pl.col("ts") < end))
        shift = WINDOW.start - begin
        return summarize_pairs(probes.with_columns(pl.col("ts") + shift), WINDOW, self.planned)

    def look(self, name: str) -> Seen:
        normal = update_baseline(None, self.pairs("healthy"), self.lab.inventory)
        pairs, (begin, end) = self.pairs(name), self.spans[name]
        span_s = (end - begin).total_seconds()
        return Seen(pairs, evaluate_mesh(MeshView(pairs, self.lab.inventory, end, span_s, normal=normal)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    root = tmp_path_factory.mktemp("clos")
    with clos_laboratory() as lab:
        agents = {host: LabAgent(lab, host, root / host) for host in lab.addresses}
        planned = [[a, b, "tcp", scope(lab, a, b)] for a in agents for b in agents if a != b]
        targets = {a: [] for a in agents}
        for a, b, protocol, where in planned:
            targets[a].append([b, lab.address(b), PROBE_PORT, protocol, where, 0])
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda host: agents[host].start(targets[host], **SETTINGS), agents))
        time.sleep(1.0)  # whoever probed a peer before it listened was refused
        spans: dict[str, Span] = {}
        for name, fault in FAULTS.items():
            if missing(NEEDS.get(name, ())):
                continue
            with fault(lab, agents):
                begin = datetime.now(UTC)
                time.sleep(HOLD_S + TIMEOUT_S)
                spans[name] = begin, begin + timedelta(seconds=HOLD_S)  # what was sent later may be saved by the end
            time.sleep(0.3)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda agent: agent.stop(), agents.values()))
        probes = pl.concat([agent.probes() for agent in agents.values()])
        plan = pl.DataFrame(planned, schema=["src", "dst", "protocol", "scope"], orient="row")
        yield Run(lab, probes, plan, spans)


SETTINGS = {"interval_s": INTERVAL_S, "timeout_s": TIMEOUT_S, "window_s": 300}


def scope(lab: ClosLab, a: str, b: str) -> str:
    return "intra_tor" if lab.inventory.host(a).tor_key == lab.inventory.host(b).tor_key else "intra_dc"


# ---- the faults, in the order in which they come


Agents = dict[str, LabAgent]


@contextmanager
def nothing(lab: ClosLab, agents: Agents) -> Iterator[None]:
    yield


def rule(match: str, router: str) -> Callable[[ClosLab, Agents], AbstractContextManager[object]]:
    return lambda lab, agents: lab.fault(match, "drop", router=router)


@contextmanager
def slow_leaf(lab: ClosLab, agents: Agents) -> Iterator[None]:
    with lab.delay_in("leaf1-1", 8.0):
        lab.ping_ms("p1t1h1", "p1t2h1", pings=5)  # the relay's own first packets are slow
        yield


@contextmanager
def congested_uplinks(lab: ClosLab, agents: Agents) -> Iterator[None]:
    """Both uplinks of a ToR carry 2 Mbit/s at most, and are asked for three times as much."""
    shape = ["root", "tbf", "rate", "2mbit", "burst", "3200", "latency", "30ms"]
    with ExitStack() as held:
        for link in ("up1", "up2"):
            lab.run(SICK_TOR, "tc", "qdisc", "add", "dev", link, *shape)
            held.callback(lab.run, SICK_TOR, "tc", "qdisc", "del", "dev", link, "root")
        flood = [sys.executable, "-I", "-S", "-c", FLOOD, lab.address("p2t2h4"), "12"]
        held.enter_context(lab.spawn("p1t2h4", *flood, until="up"))
        time.sleep(0.5)  # until the queues are full
        yield


@contextmanager
def frozen_agent(lab: ClosLab, agents: Agents) -> Iterator[None]:
    agents[SICK_HOST].signal("STOP")
    try:
        yield
    finally:
        agents[SICK_HOST].signal("CONT")


FAULTS: dict[str, Callable[[ClosLab, Agents], AbstractContextManager[object]]] = {
    "healthy": nothing,
    "spine_loss": rule("numgen random mod 1000 < 10", "spine1"),
    "address_black_hole": rule("jhash ip saddr . ip daddr mod 8 seed 0xbeef < 1", SICK_TOR),
    "port_black_hole": rule("jhash ip saddr . ip daddr . th sport . th dport mod 16 seed 0xbeef < 1", SICK_TOR),
    "tor_down": rule("meta l4proto tcp", SICK_TOR),
    "congestion": congested_uplinks,
    "slow_leaf": slow_leaf,
    "frozen_agent": frozen_agent,
    "healed": nothing,
}

#: What a fault takes besides the laboratory; without it, its tests are skipped and the others run.
NEEDS = {"slow_leaf": ("iptables", "ping")}


# ---- what is said


@pytest.mark.parametrize("when", ["healthy", "healed"])
def test_a_network_that_is_well_gives_no_finding(run: Run, when: str):
    seen = run.look(when)
    assert not seen.suspects, str(seen)
    assert seen.evaluation.judged, "nothing was judged at all"


def test_one_percent_lost_on_one_of_two_spines_is_the_spines(run: Run):
    """No pair shows it: 30 probes of 1 % are one loss or none."""
    seen = run.look("spine_loss")
    crossing = seen.pairs.filter(pl.col("src").str.head(2) != pl.col("dst").str.head(2))
    assert crossing["retransmitted"].sum() > 5 * crossing["lost"].sum(), "random loss is repaired by repeats"
    assert seen.suspects[:1] == [("tier", "dc1/spine")], str(seen)


def test_a_tor_that_swallows_some_pairs_of_addresses_is_named_not_its_hosts(run: Run):
    seen = run.look("address_black_hole")
    dead = seen.pairs.filter(pl.col("lost") == pl.col("sent"))
    assert 10 <= len(dead) < 60, dead
    assert seen.suspects[:1] == [("tor", "dc1/podset1/tor2")], str(seen)


def test_a_tor_that_swallows_some_ports_is_named(run: Run):
    """Timeouts without repeats that get through: the same ports are dropped each time."""
    seen = run.look("port_black_hole")
    assert seen.pairs["lost"].sum() > 3 * seen.pairs["retransmitted"].sum()
    assert seen.suspects[:1] == [("tor", "dc1/podset1/tor2")], str(seen)


def test_a_tor_that_is_down_is_one_finding_not_one_for_each_of_its_hosts(run: Run):
    seen = run.look("tor_down")
    assert seen.suspects == [("tor", "dc1/podset1/tor2")], str(seen)


def test_full_uplinks_of_a_tor_are_told_as_the_tors(run: Run):
    seen = run.look("congestion")
    leaving = seen.pairs.filter(pl.col("src").str.starts_with("p1t2") & ~pl.col("dst").str.starts_with("p1t2"))
    assert leaving["rtt_p50_us"].median() > 5_000, "the queues were not full"
    assert seen.suspects[:1] == [("tor", "dc1/podset1/tor2")], str(seen)


def test_a_slow_leaf_is_told_as_its_podsets(run: Run):
    """Half the paths of a podset are slow, in each direction: medians of three pairs in four."""
    seen = run.look("slow_leaf")
    assert seen.suspects[:1] == [("podset", "dc1/podset1")], str(seen)


def test_a_frozen_agent_is_a_host_without_data_and_no_network_fault(run: Run):
    """Its kernel goes on shaking hands, so nobody else's probes show anything."""
    seen = run.look("frozen_agent")
    assert seen.pairs.filter(pl.col("src") == SICK_HOST)["sent"].sum() == 0
    assert seen.suspects == [("host", SICK_HOST)], str(seen)


def test_netbouncer_names_a_lossy_spine_from_traces_between_several_hosts():
    """5 % on the way there, of traces from two hosts to two others: their ways meet in every router.

    What is lost on the way back shows on every way there alike; that is what traces from the other end are for.
    """
    hosts = ["p1t1h1", "p1t2h1", "p2t1h1", "p2t2h1"]
    listen = f"import socket, time; s = socket.create_server(('', {PROBE_PORT}), backlog=1024)"
    listen += "; print('up', flush=True); time.sleep(99)"
    with clos_laboratory() as lab, ExitStack() as held:
        for host in hosts:
            held.enter_context(lab.spawn(host, sys.executable, "-I", "-S", "-c", listen, until="up"))
        held.enter_context(lab.fault("ip daddr 10.2.0.0/16 numgen random mod 100 < 5", "drop", router="spine2"))

        def trace(way: tuple[str, str]) -> PathTrace:
            source, target = way
            asked = {
                "target": lab.address(target),
                "port": PROBE_PORT,
                "source": lab.address(source),
                "ports": 64,
                "rounds": 3,
                "timeout": 10,
            }
            options = [text for name, value in asked.items() for text in (f"--{name}", str(value))]
            said = lab.run(source, sys.executable, "-I", "-S", str(AGENT), "trace", *options)
            return parse_trace(Answer(0, said.encode(), "", 0), PathTrace(source, target, port=PROBE_PORT))

        ways = [(a, b) for a in hosts[:2] for b in hosts[2:]]
        with ThreadPoolExecutor(len(ways)) as pool:
            ranked = rank_traces(pool.map(trace, ways))
    assert lab.routers["spine2"] in ranked[0][0], f"neither the spine nor a link of it: {ranked}"
    assert 0.01 < ranked[0][1] < 0.2, ranked
