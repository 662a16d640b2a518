"""Steps of the alarm in processes of their own, which may be told to die in the middle of them.

    python -m tests.support.alarm_step

reads a line of JSON, a list of orders `{"access": {…}, "do": "look" | "deliver", "die_at": "sent", "folder": "…", …}`,
does them at once in a process each and prints how these ended, line by line. Processes are forked off one that has
imported everything and started no thread. The channel is a folder: a message is a file named after its id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pingmesh_tasks.alerting import AlertState, Policy, transition
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.messages.message import AlertMessage, compose
from pingmesh_tasks.alerting.outbox import set_channels
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.detect.finding import Evaluation, Finding
from pingmesh_tasks.store.objects import ObjectStore, S3Access

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Folder:
    """A channel that keeps each message as a file, as often as it comes."""

    name = "folder"

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: AlertMessage) -> None:
        with (self._path / message.id).open("a") as file:
            file.write(f"{os.getpid()}\n")


def main(order: dict) -> None:
    file = AlertFile(ObjectStore(S3Access(**order["access"])))

    def step(name: str) -> None:
        if name == order.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    if order["do"] == "look":
        look(file, order, step)
    else:
        now = datetime.now(UTC) + timedelta(seconds=order.get("later_s", 0))
        file.update(lambda before: set_channels(before, ["folder"], {}, NOON))
        folder = Folder(Path(order["folder"]))
        deliver(file, [folder], compose, Policy(), lambda: now, sender=order.get("sender", "one"), step=step)


def look(file: AlertFile, order: dict, step) -> None:
    """Take in looks number `from` … `to`; each sees the hosts that are dead at that time."""
    for number in range(order["from"], order["to"]):
        at = NOON + timedelta(seconds=10 * number)
        found = tuple(
            Finding("host_down", "host", host, "critical", 1.0, "ratio", 0.9, NOON, "dead")
            for host, (first, last) in order["dead"].items()
            if first <= number < last
        )
        evaluation = Evaluation(order["source"], "hot", at, frozenset({"host_down"}), found)

        def change(before: AlertState, evaluation=evaluation, at=at) -> AlertState:
            step("loaded")
            return transition.advance(before, evaluation, Policy(), at)

        file.update(change)
        step("saved")


def start(order: dict) -> int:
    child = os.fork()
    if child:
        return child
    try:
        main(order)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    for line in sys.stdin:
        children = [start(order) for order in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
