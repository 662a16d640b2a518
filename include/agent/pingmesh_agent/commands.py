"""The commands."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib

from pingmesh_agent.agent import Agent
from pingmesh_agent.chunk import decode_body, read_chunks
from pingmesh_agent.clock import Clock
from pingmesh_agent.errors import StartError
from pingmesh_agent.home import Home, lock_holder
from pingmesh_agent.outcomes import OK
from pingmesh_agent.spool import Spool
from pingmesh_agent.trace import trace

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import Any


USAGE = """\
usage: agent.py run --home DIR [--detach] [--lab]     probe and answer until stopped
       agent.py status --home DIR                     one line of JSON
       agent.py stop --home DIR                       and wait until it has stopped
       agent.py dump SEGMENT                          the records of a segment, one JSON a line
       agent.py trace --target ADDRESS --port PORT    where on the way packets stop, JSON"""


def run(home: str, detach: bool, lab: bool) -> int:
    os.umask(0o077)
    if detach:
        return run_detached(home, lab)
    agent = Agent(home, lab)
    print(json.dumps({"running": True, **agent.status()}), flush=True)
    return serve(agent)


def serve(agent: Agent) -> int:
    def stop(number: int, _: object) -> None:
        agent.stopping = f"signal {number}"

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        agent.run()
    except Exception as fault:
        import traceback

        agent.log(f"ended by a fault of its own: {traceback.format_exc()}")
        agent.stopping = repr(fault)
        agent.finish()
        return 1
    return 0


def run_detached(home: str, lab: bool) -> int:
    """Start in the background; return when the agent listens, or with its reason why not."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read().decode()
        code, _, text = answer.partition(" ")
        print(
            text or "the agent died as it started",
            file=sys.stderr if code != "0" else sys.stdout,
            flush=True,
        )
        return int(code or 1)
    os.close(reader)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)
    try:
        agent = Agent(home, lab)
    except StartError as fault:
        os.write(writer, f"{fault.code} {fault}".encode())
        os._exit(fault.code)
    os.write(writer, b"0 " + json.dumps({"running": True, **agent.status()}).encode())
    os.close(writer)
    os._exit(serve(agent))


def status(home: str) -> int:
    """Print one line: what the agent last said of itself, whether it runs, and this host's clock."""
    said: dict[str, Any] = {}
    try:
        with open(os.path.join(home, "agent.json"), "rb") as file:
            said = dict(json.loads(file.read()))
    except (OSError, ValueError, TypeError):
        pass
    try:
        segments = Spool(Home(home), lambda _: None).segments()
    except OSError:
        segments = []
    pid = lock_holder(home)
    said.update(
        running=pid is not None, pid=pid, now_us=Clock().wall_us(), python=sys.version.split()[0],
        spool_bytes=sum(size for _, size in segments), spool_segments=len(segments),
    )  # fmt: skip
    print(json.dumps(said))
    return 0


def stop(home: str) -> int:
    """SIGTERM, and SIGKILL after ten seconds; returns when the agent is gone."""
    pid = lock_holder(home)
    if not pid:
        return 0
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return 0
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            if lock_holder(home) != pid:
                return 0
            time.sleep(0.02)
    print(f"the agent (pid {pid}) in {home} does not die", file=sys.stderr)
    return 1


def dump(path: str) -> int:
    """Print the records of a segment as JSON lines, in the order of fields of 2018; RTT is null unless it is clean."""
    table: list[list[Any]] = []
    records = 0
    try:
        with open(path, "rb") as file:
            for header, body in read_chunks(file):
                new_table, columns = decode_body(header, body)
                table = new_table if new_table is not None else table
                for offset_us, index, rtt_us, port, code, retransmits in zip(*columns):  # noqa: B905
                    name, address, dst_port, protocol, scope, size = table[index]
                    sent_us = header["start_us"] + offset_us
                    record = {
                        "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(sent_us // 1_000_000))
                        + f".{sent_us % 1_000_000:06d}Z",
                        "SrcIP": header["ip"], "SrcPort": port, "DstIP": address, "DstPort": dst_port,
                        "Protocol": protocol, "ProbingType": scope, "MsgLen": size,
                        "RTT_us": rtt_us if code == OK and not retransmits else None, "ErrCode": code,
                        "Src": header["host"], "Dst": name, "Retransmits": retransmits,
                    }  # fmt: skip
                    print(json.dumps(record))
                    records += 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has seen enough
        return 0
    except (OSError, ValueError, LookupError, TypeError, zlib.error) as fault:
        print(f"{path}: {fault}; the {records} records before it are whole", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str]) -> int:
    options = [argument for argument in arguments if argument in {"--detach", "--lab"}]
    words = [argument for argument in arguments if argument not in {"--detach", "--lab"}]
    command = words[0] if words else None
    try:
        if command == "trace":
            return trace(arguments[1:])
        if command == "dump" and len(words) == 2 and not options:
            return dump(words[1])
        if len(words) == 3 and words[1] == "--home" and (command == "run" or not options):
            home = os.path.abspath(words[2])
            if command == "run":
                return run(home, "--detach" in options, "--lab" in options)
            if command in {"status", "stop"}:
                return status(home) if command == "status" else stop(home)
    except StartError as fault:
        print(fault, file=sys.stderr)
        return fault.code
    print(USAGE, file=sys.stderr)
    return 2
