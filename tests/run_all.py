"""Run all tests in three streams side by side: most of them wait for real time and real servers, not for a core.

    story    the end-to-end test, on real Airflow runs and real windows
    servers  what starts SSH servers, an S3 server, network namespaces, an api-server
    rest     everything else

`python tests/run_all.py [options of pytest]` tells how far each is and, in the end, what each has said.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

STREAMS = {
    "story": ["tests/integration", "-m", "e2e"],
    "servers": ["tests/integration", "-m", "not e2e"],
    "rest": ["tests", "--ignore=tests/integration"],
}
TOLD_EVERY_S = 30


def last_line(log: Path) -> str:
    return (log.read_text(errors="replace").rstrip().splitlines() or ["starting"])[-1][-80:]


def main(options: list[str]) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        logs = {name: Path(folder, f"{name}.log") for name in STREAMS}
        running = {}
        for name, chosen in STREAMS.items():
            command = [sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider", *options]
            with logs[name].open("wb") as log:
                running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        told = 0.0
        while any(process.poll() is None for process in running.values()):
            time.sleep(0.5)
            if time.monotonic() - told >= TOLD_EVERY_S:
                told = time.monotonic()
                for name, process in running.items():
                    state = "running" if process.poll() is None else "done"
                    print(f"{told - began:4.0f} s  {name:8} {state:8} {last_line(logs[name])}", flush=True)
        for name, process in running.items():
            print(f"\n======== {name}: {'passed' if process.returncode == 0 else 'FAILED'}", flush=True)
            sys.stdout.write(logs[name].read_text(errors="replace"))
    failed = [name for name, process in running.items() if process.returncode]
    print(
        f"\nall tests in {time.monotonic() - began:.0f} s: " + (f"FAILED: {', '.join(failed)}" if failed else "passed")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
