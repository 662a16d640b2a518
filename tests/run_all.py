"""Run all tests in three streams side by side: most wait for real time and servers, not for a core.

    story    the end-to-end test, on real Airflow runs and real windows
    servers  what starts SSH servers, an S3 server, network namespaces, an api-server
    rest     everything else

`python -m tests.run_all [options of pytest]` reports how far each stream is, then its output,
and at the end how many tests were skipped for what they need, with the command that installs it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support import needs
from tests.support.skips import Skips, table

STREAMS = {
    "story": ["tests/integration", "-m", "e2e"],
    "servers": ["tests/integration", "-m", "not e2e"],
    "rest": ["tests", "--ignore=tests/integration"],
}
REPORT_EVERY_S = 30


def last_line(log: Path) -> str:
    return (log.read_text(errors="replace").rstrip().splitlines() or ["starting"])[-1][-80:]


def start(folder: Path, options: list[str]) -> dict[str, subprocess.Popen[bytes]]:
    """Start the streams; each writes NAME.log and, at its end, NAME.json into `folder`."""
    running = {}
    for name, chosen in STREAMS.items():
        command = [sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider"]
        command += ["--results-to", str(folder / f"{name}.json"), *options]
        with (folder / f"{name}.log").open("wb") as log:
            running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    return running


def wait(running: dict[str, subprocess.Popen[bytes]], folder: Path, began: float) -> None:
    """Wait for the end of all streams and report their progress."""
    reported = 0.0
    while any(process.poll() is None for process in running.values()):
        time.sleep(0.5)
        if time.monotonic() - reported < REPORT_EVERY_S:
            continue
        reported = time.monotonic()
        for name, process in running.items():
            state = "running" if process.poll() is None else "done"
            line = last_line(folder / f"{name}.log")
            print(f"{reported - began:4.0f} s  {name:8} {state:8} {line}", flush=True)


def merge(folder: Path) -> tuple[Counter[str], Skips]:
    """Return the counts of outcomes and the skips of all streams that came to their end."""
    counts: Counter[str] = Counter()
    skips: Skips = {}
    for path in sorted(folder.glob("*.json")):
        results = json.loads(path.read_text())
        counts.update(results["counts"])
        for name, tests in results["skips"].items():
            skips.setdefault(name, []).extend(tests)
    return counts, skips


def main(options: list[str]) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running = start(folder, options)
        wait(running, folder, began)
        for stream, process in running.items():
            result = "passed" if process.returncode == 0 else "FAILED"
            print(f"\n======== {stream}: {result}", flush=True)
            sys.stdout.write((folder / f"{stream}.log").read_text(errors="replace"))
        counts, skips = merge(folder)
    if skips:
        # Also what no skip names because something else was found missing first.
        packages = needs.packages_of(needs.missing(needs.NEEDS))
        print("\n======== tests that were skipped, by what they need")
        print("\n".join(table(skips, packages)))
    failed = [stream for stream, process in running.items() if process.returncode]
    result = f"FAILED: {', '.join(failed)}" if failed else "passed"
    figures = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    print(f"\nall tests in {time.monotonic() - began:.0f} s: {result} ({figures})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
