"""How good the alarm is: faults of known kind and place in simulated meshes, and what it said of them.

    python benchmarks/detection_quality.py                                      # about 5 min: 120 cases, a day
    python benchmarks/detection_quality.py --cases 400 --hosts 64 512 2500      # the whole of it, about an hour
    python benchmarks/detection_quality.py --seed 9 --kinds slow_pair --show    # every wrong answer of one kind

Each case is one fault (or two, or none) in a mesh of its own noise (`tests/support/mesh_faults.py`): two windows well,
six with the fault, six well again, every one through `evaluate_mesh` and `state.advance` as in production. In the
table, a row a kind:

    cases      faults that were there
    recall     share of them that an incident named rightly
    precision  right incidents of all incidents that were opened (a second message of the same fault is a wrong one)
    first      share of the faults whose first message named the right suspect
    looks      share of single looks whose first finding was right, without the state's memory
    open       windows from the fault's first to the right message: median and worst. 1 is the window it began in
    close      windows from its last one to the message that it is over
    beside     messages about those who feel the fault but are not it; false: about nobody who feels anything

The peer is the rule of NetOpsBench (`_detector_analysis.py`, mean + 3 sigma a pair), on the same frames: "seen" is a
look with an anomaly at somebody who feels the fault, "place" that most anomalies are at the right rack, "alarms" the
pairs it flags in a window that is well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import repeat
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pingmesh_tasks.alerting import AlertState, advance
from pingmesh_tasks.detect.finding import Lane
from tests.support.mesh_cases import BEFORE, FAINT, KINDS, Case, draw_case, place
from tests.support.mesh_clos import SHAPES, Mesh, Seen
from tests.support.mesh_score import WARM_UP, Outcome, Watch

MESHES = 8  # networks of each size, each with habits of its own
DAY = 288
BARS = {"precision": 0.98, "recall": 0.97, "first": 0.95}


@dataclass
class Tally:
    """What is known of one kind of fault. `spent_s`: of the looks alone."""

    outcomes: list[Outcome] = field(default_factory=list)
    peer_seen: int = 0
    peer_placed: int = 0
    peer_looks: int = 0

    def row(self, kind: str) -> str:
        def spread(values: list[int]) -> str:
            return f"{median(values):.0f} … {max(values)}" if values else "–"

        opened = [windows for outcome in self.outcomes for windows in outcome.opened]
        closed = [windows for outcome in self.outcomes for windows in outcome.closed]
        beside, false = (sum(len(getattr(o, name)) for o in self.outcomes) for name in ("beside", "false"))
        first, top = (share(*count(getattr(o, name) for o in self.outcomes)) for name in ("first_right", "top"))
        peer = f"{share(self.peer_seen, self.peer_looks):>6} {share(self.peer_placed, self.peer_looks):>6}"
        return (
            f"{kind:20} {self.truths:5} {share(self.right, self.truths):>7} {share(self.right, self.messages):>9} "
            f"{first:>6} {top:>6} {spread(opened):>8} {spread(closed):>8} {beside:6} {false:5}   {peer}"
        )

    @property
    def truths(self) -> int:
        return sum(len(outcome.case.truths) for outcome in self.outcomes)

    @property
    def right(self) -> int:
        return sum(len(outcome.right) for outcome in self.outcomes)

    @property
    def messages(self) -> int:
        return sum(len(o.right) + len(o.beside) + len(o.false) for o in self.outcomes)


class Peer:
    """NetOpsBench's rule on its own baseline: the windows that a `Watch` warms up on.

    Latency if cur > max(μ+3σ, μ+2 ms) and cur > 1.3 μ; loss if cur ≥ max(5 %, base + 5 %); jitter (max − min; ms) if
    cur > max(μ+3σ, μ+2 ms) and > 2 μ; a pair of the baseline that is absent now is unreachable. The baseline drops
    samples with loss ≥ 95 % or no RTT. With fewer than 3 points: 1.5 μ and +2 ms. What TCP had to send again counts as
    lost, else it would see no loss below a black hole.
    """

    def __init__(self, mesh: Mesh, windows: Iterable[Seen]) -> None:
        self.mesh = mesh
        ms, jitter_ms, loss, valid = (
            np.array(rows) for rows in zip(*(self._measure(seen) for seen in windows), strict=True)
        )
        self.points = valid.sum(axis=0)
        weight = np.where(valid, 1.0, np.nan)
        with np.errstate(all="ignore"):
            self.ms, self.sigma = np.nanmean(ms * weight, axis=0), np.nanstd(ms * weight, axis=0)
            self.jitter, self.jitter_sigma = (
                np.nanmean(jitter_ms * weight, axis=0),
                np.nanstd(jitter_ms * weight, axis=0),
            )
            self.loss = np.nan_to_num(np.nanmean(loss * weight, axis=0))

    def anomalies(self, seen: Seen) -> np.ndarray:
        """Return which pairs it flags."""
        ms, jitter_ms, loss, valid = self._measure(seen)
        enough = self.points >= 3
        limit = np.where(enough, np.maximum(self.ms + 3 * self.sigma, self.ms + 2), self.ms + 2)
        late = (ms > limit) & (ms > np.where(enough, 1.3, 1.5) * self.ms)
        shaky = (jitter_ms > np.maximum(self.jitter + 3 * self.jitter_sigma, self.jitter + 2)) & (
            jitter_ms > 2 * self.jitter
        )
        lossy = loss >= np.maximum(0.05, self.loss + 0.05)
        return (valid & (late | shaky)) | lossy | ((seen.pairs["sent"].to_numpy() == 0) & (self.points > 0))

    def racks(self, flagged: np.ndarray) -> int | None:
        """Return the rack that most of the flagged pairs begin or end in: its count by leaf."""
        tors = self.mesh.tor
        counts = np.bincount(np.concatenate([tors[self.mesh.src[flagged]], tors[self.mesh.dst[flagged]]]))
        return int(counts.argmax()) if counts.any() else None

    @staticmethod
    def _measure(seen: Seen) -> tuple[np.ndarray, ...]:
        sent, answered, again = (
            seen.pairs[name].to_numpy().astype(float) for name in ("sent", "answered", "retransmitted")
        )
        loss = np.where(sent > 0, 1 - (answered - again) / np.maximum(sent, 1), 0.0)
        mean, low, high = (
            seen.pairs[name].fill_null(0).to_numpy().astype(float) / 1000
            for name in ("rtt_mean_us", "rtt_min_us", "rtt_p99_us")
        )
        return mean, high - low, loss, (mean > 0) & (loss < 0.95)


@cache
def watch_of(hosts: int, seed: int, lane: Lane) -> tuple[Watch, Peer]:
    mesh = Mesh(SHAPES[hosts], seed, probes=30 if lane == "window" else 6)
    return Watch(mesh, lane), Peer(mesh, [mesh.window(number) for number in range(WARM_UP)])


def run_case(
    number: int, seed: int, hosts: int, lane: Lane, kind: str
) -> tuple[int, str, Outcome, tuple[int, int, int]]:
    """Play one case; return it with the peer's (looks that saw it, that placed it, looks)."""
    mesh_seed = seed * 1_000 + number % MESHES
    watch, peer = watch_of(hosts, mesh_seed, lane)
    case = draw_case(watch.mesh, kind, seed * 10_000 + number)
    outcome = watch.run(case)
    slim = replace(outcome, case=case)
    return hosts, kind, slim, judge_peer(peer, watch, case)


def judge_peer(peer: Peer, watch: Watch, case: Case) -> tuple[int, int, int]:
    seen = placed = looks = 0
    mesh, middle = watch.mesh, range(BEFORE + 1, BEFORE + case.lasts - 1)
    names = np.array(mesh.names)
    for at, (number, faults) in enumerate(case.windows()):
        if at not in middle or not case.truths:
            continue
        flagged = peer.anomalies(mesh.window(number, faults))
        rack = peer.racks(flagged)
        for truth in case.truths:
            felt = np.isin(names, list(truth.hosts))
            looks += 1
            seen += bool((flagged & (felt[mesh.src] | felt[mesh.dst])).any())
            if rack is not None:
                at_rack = int(np.flatnonzero(mesh.tor == rack)[0])
                placed += any(("tor", place(mesh, at_rack, 3)) == suspect for suspect in truth.suspects)
    return seen, placed, looks


def run_day(hosts: int, seed: int, windows: int) -> tuple[list[str], float, int, float]:
    """Let a healthy mesh run; return what was said, the looks' seconds, and the pairs that the peer flags."""
    watch, peer = watch_of(hosts, seed, "window")
    state, normal = AlertState(), watch.normal
    said: list[str] = []
    flagged, spent_s = 0, 0.0
    for number in range(WARM_UP, WARM_UP + windows):
        seen = watch.mesh.window(number)
        begin = time.perf_counter()
        evaluation = watch.look(seen, normal)
        spent_s += time.perf_counter() - begin
        state = advance(state, evaluation, watch.policy, seen.at, watch.wider)
        said += [
            f"{told.kind} {told.finding.rule} {told.finding.subject}: {told.finding.detail}"
            for told in (entry.notification for entry in state.outbox)
        ]
        state = replace(state, outbox=())
        normal = watch.learn(normal, seen)
        flagged += int(peer.anomalies(seen).sum())
    return said, spent_s / windows, flagged, len(watch.mesh.src)


def count(lists: Iterable[list[bool]]) -> tuple[int, int]:
    flat = [value for each in lists for value in each]
    return sum(flat), len(flat)


def share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "–"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=120, help="for each size; the kinds take turns")
    parser.add_argument("--hosts", type=int, nargs="+", default=[64, 512], choices=SHAPES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lane", choices=["window", "hot"], default="window", help="hot: looks at 60 s each")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--day", type=int, default=DAY, help="windows of the healthy day of 512 hosts; 0: none")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print every answer that is wrong")
    options = parser.parse_args()

    tallies: dict[tuple[int, str], Tally] = defaultdict(Tally)
    begin = time.perf_counter()
    work = [(n, hosts, options.kinds[n % len(options.kinds)]) for hosts in options.hosts for n in range(options.cases)]
    work.sort(key=lambda item: (item[1], item[0] % MESHES))  # the cases of one mesh in one process: it learns once
    with ProcessPoolExecutor(options.jobs) as pool:
        numbers, sizes, kinds = zip(*work, strict=True)
        results = pool.map(
            run_case,
            numbers,
            repeat(options.seed),
            sizes,
            repeat(options.lane),
            kinds,
            chunksize=max(1, options.cases // MESHES),
        )
        for hosts, kind, outcome, (seen, placed, looks) in results:
            tally = tallies[hosts, kind]
            tally.outcomes.append(outcome)
            tally.peer_seen, tally.peer_placed = tally.peer_seen + seen, tally.peer_placed + placed
            tally.peer_looks += looks
            if options.show:
                show(hosts, outcome)

    head = (
        f"{'fault':20} {'cases':>5} {'recall':>7} {'precision':>9} {'first':>6} {'looks':>6} {'open':>8} {'close':>8}"
    )
    print(f"{head} {'beside':>6} {'false':>5}   peer: seen place")
    for hosts in options.hosts:
        print(f"---- {hosts} hosts, lane {options.lane}")
        for kind in options.kinds:
            print(tallies[hosts, kind].row(kind))
    loud = Tally([o for (_, kind), tally in tallies.items() if kind not in FAINT for o in tally.outcomes])
    everything = Tally([o for tally in tallies.values() for o in tally.outcomes])
    print("----")
    print(everything.row("all"))
    print(loud.row("all, 1 % and above"))
    first_right, mentioned = count(o.first_right for o in loud.outcomes)
    figures = {
        "precision": everything.right / max(everything.messages, 1),
        "recall": loud.right / max(loud.truths, 1),
        "first": first_right / max(mentioned, 1),
    }
    met = all(figures[name] >= bar for name, bar in BARS.items())
    print(", ".join(f"{name} {figures[name]:.3f} (bar {bar})" for name, bar in BARS.items()))
    print(f"{len(work)} cases in {time.perf_counter() - begin:.0f} s, seed {options.seed}")

    if options.day:
        said, look_s, flagged, pairs = run_day(512, options.seed, options.day)
        for line in said:
            print("  ", line)
        print(
            f"healthy, 512 hosts, {options.day} windows: {len(said)} messages (bar 0), {look_s:.3f} s a look; "
            f"the peer flags {flagged} pairs, {flagged / options.day:.1f} of {pairs} a window"
        )
        met = met and not said
    return 0 if met else 1


def show(hosts: int, outcome: Outcome) -> None:
    wrong = outcome.missed or outcome.beside or outcome.false or not all(outcome.first_right) or outcome.still_open
    if not wrong:
        return
    case = outcome.case
    print(f"{hosts} {case.kind} at {case.first}: {case.faults} truth {[sorted(t.suspects) for t in case.truths]}")
    for name in ("right", "beside", "false"):
        for told in getattr(outcome, name):
            print(f"     {name}: {told}: {told.notice.finding.detail}")
    if outcome.still_open:
        print(f"     {outcome.still_open} still open")


if __name__ == "__main__":
    sys.exit(main())
