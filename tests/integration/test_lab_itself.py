"""The laboratory keeps its word: what the other laboratory tests stand on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import SYN, Lab, laboratory
from tests.support.waiting import await_true

pytestmark = [pytest.mark.integration, pytest.mark.lab]

CONNECT = """
import json, socket, struct, sys, time
with socket.socket() as s:
    s.settimeout(3)
    began = time.monotonic()
    error = s.connect_ex((sys.argv[1], int(sys.argv[2])))
    info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    retransmits, = struct.unpack_from("I", info, 100)
    print(json.dumps({"errno": error, "took_s": time.monotonic() - began, "retransmits": retransmits}))
"""
BEGIN_TO_CONNECT = """
import socket, sys
with socket.socket() as s:
    s.setblocking(False)
    print(s.connect_ex((sys.argv[1], int(sys.argv[2]))))
"""
LISTEN = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
while True:
    listener.accept()[0].close()
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory(["a", "b", "c"]) as built:
        yield built


def connect(lab: Lab, source: str, destination: str, port: int = 7) -> dict[str, float]:
    return json.loads(lab.run(source, sys.executable, "-I", "-S", "-c", CONNECT, lab.address(destination), str(port)))


def test_every_host_reaches_every_other_one(lab: Lab):
    for source in lab.addresses:
        for destination in lab.addresses:
            assert len(lab.ping_ms(source, destination, pings=1)) == 1, f"{source} → {destination}"


def test_a_drop_hits_its_pair_only_and_counts_what_it_took(lab: Lab):
    with lab.drop("a", "b") as fault:
        assert lab.ping_ms("a", "b", pings=2) == []
        assert len(lab.ping_ms("a", "c", pings=2)) == 2
        assert fault.packets == 2
    assert len(lab.ping_ms("a", "b", pings=2)) == 2, "the fault outlived its block"


def test_the_first_syn_alone_is_lost_and_the_second_one_connects(lab: Lab):
    with (
        lab.spawn("b", sys.executable, "-I", "-S", "-c", LISTEN, lab.address("b"), "7", until="up"),
        lab.lose_first("a", "b", SYN, "sport") as fault,
    ):
        seen = connect(lab, "a", "b")
        assert (seen["errno"], seen["retransmits"], fault.packets) == (0, 1, 1), seen
        assert 0.9 < seen["took_s"] < 2.5, seen


def test_without_a_route_connect_fails_at_once_with_enetunreach(lab: Lab):
    """A socket that does not block says so in connect() itself: nothing was sent, nothing is awaited."""
    begin = [sys.executable, "-I", "-S", "-c", BEGIN_TO_CONNECT, lab.address("b"), "7"]
    with lab.no_route("a", "b"):
        assert lab.run("a", *begin).split() == ["101"]
    assert lab.run("a", *begin).split() == ["115"], "with the route back, connecting is in progress"
    assert connect(lab, "a", "b")["errno"] == 111, "with the route back, nobody listens: refused"


def test_the_delay_relay_adds_its_delay_to_ping(lab: Lab):
    plain = lab.ping_ms("a", "b", pings=10)
    with lab.delay("a", 2.0):
        lab.ping_ms("a", "b", pings=3)  # the relay's own first packets are slow
        delayed = lab.ping_ms("a", "b", pings=20)
    assert len(delayed) == 20
    seen = f"plain {sorted(plain)} ms, delayed {sorted(delayed)} ms"
    assert min(delayed) >= 2.0, seen
    assert min(delayed) - min(plain) < 3.0, seen


@pytest.mark.usefixtures("lab")  # skipped with it
def test_a_killed_test_leaves_no_process_and_no_namespace(tmp_path: Path):
    """SIGKILL gives no chance to clean up; the kernel does it."""
    alive = tmp_path / "alive"
    body = f"""
import time
from tests.support.lab import PAYLOAD, SYN, SYN_ACK, laboratory
with laboratory(["a"]) as lab:
    lab.run("a", "sh", "-c", "(while :; do date +%N >{alive}; sleep 0.05; done) >/dev/null 2>&1 </dev/null &")
    print("up", flush=True)
    time.sleep(60)
"""
    names_before = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    test = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert test.stdout
    assert test.stdout.readline() == b"up\n"
    test.send_signal(signal.SIGKILL)
    test.wait()

    def is_silent() -> bool:
        last_words = alive.read_text()
        time.sleep(1)
        return alive.read_text() == last_words

    await_true("silent: a process of the laboratory survived the test", is_silent)
    assert subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout == names_before


def test_the_same_laboratory_is_there_without_root():
    with laboratory(["a", "b"], as_root=False) as lab, lab.drop("a", "b"):
        assert lab.ping_ms("a", "b", pings=1) == []


def test_the_machine_outside_is_not_touched(lab: Lab):
    """One address of a lab host or one of its sysctls out here would mean that the tests can cut a machine off."""
    outside = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    assert "10.0.0.1/32" in lab.run("a", "ip", "-4", "addr")
    assert "10.0.0.1/32" not in outside
    assert "10.252.0.1/32" not in outside
