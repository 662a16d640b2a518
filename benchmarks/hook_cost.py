"""What the hook library costs a data server: ns for each read of a node, against no hook and printf + fflush.

A loop in C calls the hook as TreeShr does, with a stand-in for TreeGetPath that allocates and formats a path; the log
is a file opened for appending. "No hook" is the same loop without a library. The peer is the hook that a site writes
after MDSplus' own template: printf with date and process id, then fflush (without it lines are glued and lost). Every
round runs each of them once, in turn; the figure is CPU time (the kernel's part too, so that it holds on a busy
machine), the median over the rounds less the median without a hook. All of our lines are counted and checked.

    python benchmarks/hook_cost.py [--calls 200000] [--rounds 7]

Exit 1 if a call with path costs more than 5 µs in one thread, the bar.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.hook import HOOK, TEMPLATE, Hook, build, whole_lines

BAR_NS = 5000
GET_DATA = 7
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "no hook": ("-", {}),
    "hook library": (HOOK, {}),
    "  without node path": (HOOK, {"PINGMESH_HOOK_PATH": "off"}),
    "  extended form": (HOOK, {"PINGMESH_HOOK_EXTENDED": "on"}),
    "  type switched off": (HOOK, {"PINGMESH_HOOK_TYPES": "OpenTree"}),
    "template: printf + fflush": (TEMPLATE, {}),
}


def cost_ns(hook: Hook, name: str, calls: int, threads: int) -> float:
    """Run one variant once; return CPU ns a call."""
    library, env = VARIANTS[name]
    log = hook.directory / "access.log"
    log.unlink(missing_ok=True)
    with log.open("ab") as stdout:
        done = hook.run("cost", calls // threads, threads, GET_DATA, hook=library, stdout=stdout, env=env)
    assert done.returncode == 0, done.stderr
    expected = 0 if library == "-" or "PINGMESH_HOOK_TYPES" in env else calls // threads * threads
    assert len(whole_lines(log.read_bytes())) == expected
    return float(done.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    costs: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as directory:
        hook = build(Path(directory))
        for threads in (1, 4):
            found: dict[str, list[float]] = {name: [] for name in VARIANTS}
            for _ in range(options.rounds):
                for name, values in found.items():
                    values.append(cost_ns(hook, name, options.calls, threads))
            base = statistics.median(found["no hook"])
            costs |= {(name, threads): statistics.median(values) - base for name, values in found.items()}
    print(f"{options.calls} GetData calls, median of {options.rounds} rounds, CPU ns a call above no hook")
    print(f"{'':28}{'1 thread':>10}{'to peer':>9}{'4 threads':>11}{'to peer':>9}")
    for name in VARIANTS:
        row = f"{name:28}"
        for threads, width in ((1, 10), (4, 11)):
            ns = costs[name, threads]
            row += f"{ns:{width}.0f}{ns / costs['template: printf + fflush', threads]:9.2f}"
        print(row)
    passed = costs["hook library", 1] <= BAR_NS
    print(f"bar: a call with path costs at most {BAR_NS} ns in one thread: {'met' if passed else 'MISSED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
