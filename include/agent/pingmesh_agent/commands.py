"""The commands of the agent: run, status, stop, dump, trace."""

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
from pingmesh_agent.limits import require
from pingmesh_agent.outcomes import OK
from pingmesh_agent.spool import Spool
from pingmesh_agent.trace import DEFAULT_TIMEOUT_S, Trace

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import Any, Iterator

USAGE = """\
usage: agent.py run --home DIR [--detach] [--lab]     probe and answer until stopped
       agent.py status --home DIR                     print the state as one line of JSON
       agent.py stop --home DIR                       stop the agent and wait for its end
       agent.py dump SEGMENT                          print the records, one line of JSON each
       agent.py trace --target ADDRESS --port PORT    print at which hop packets stop, as JSON"""
STOP_SIGNALS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))  # and how long each may take
TRACE_OPTIONS = {
    "--target": str, "--source": str, "--protocol": str, "--port": int, "--ports": int,
    "--base-port": int, "--max-ttl": int, "--rounds": int, "--timeout": float,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code; 2, with the usage, if there is no such command."""
    try:
        code = _run_command(arguments[0], arguments[1:]) if arguments else None
    except StartError as fault:
        print(fault, file=sys.stderr)
        return fault.code
    if code is None:
        print(USAGE, file=sys.stderr)
        return 2
    return code


def _run_command(command: str, words: list[str]) -> int | None:
    if command == "trace":
        return trace(words)
    flags = {word for word in words if word in {"--detach", "--lab"}}
    rest = [word for word in words if word not in flags]
    if command == "dump" and len(rest) == 1 and not flags:
        return dump(rest[0])
    if len(rest) == 2 and rest[0] == "--home":
        home = os.path.abspath(rest[1])
        if command == "run":
            return run(home, "--detach" in flags, "--lab" in flags)
        if command == "status" and not flags:
            return status(home)
        if command == "stop" and not flags:
            return stop(home)
    return None


def run(home: str, detach: bool, lab: bool) -> int:
    """Run the agent of a home, in the background with `detach`.

    Raises:
        StartError: It cannot start (with `detach` its code is returned instead).
    """
    os.umask(0o077)
    if detach:
        return _run_detached(home, lab)
    agent = Agent(home, lab)
    print(json.dumps({"running": True, **agent.status()}), flush=True)
    return _serve(agent)


def _serve(agent: Agent) -> int:
    def stop_agent(number: int, _: object) -> None:
        agent.stopping = f"signal {number}"

    signal.signal(signal.SIGTERM, stop_agent)
    signal.signal(signal.SIGINT, stop_agent)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        agent.run()
    except Exception as fault:
        import traceback

        agent.log(f"ended by an error of the agent: {traceback.format_exc()}")
        agent.stopping = repr(fault)
        agent.finish()
        return 1
    return 0


def _run_detached(home: str, lab: bool) -> int:
    """Start in the background; return when the agent listens, or with the reason why it does not.

    The child reports by a pipe: an exit code, a space, and a line to print.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            code, _, text = pipe.read().decode().partition(" ")
        stream = sys.stdout if code == "0" else sys.stderr
        print(text or "the agent died as it started", file=stream, flush=True)
        return int(code or 1)
    os.close(reader)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    try:
        agent = Agent(home, lab)
    except StartError as fault:
        os.write(writer, f"{fault.code} {fault}".encode())
        os._exit(fault.code)
    os.write(writer, b"0 " + json.dumps({"running": True, **agent.status()}).encode())
    os.close(writer)
    os._exit(_serve(agent))


def status(home: str) -> int:
    """Print the last state that the agent wrote, whether it runs, and this host's clock."""
    state: dict[str, Any] = {}
    try:
        with open(os.path.join(home, "agent.json"), "rb") as file:
            state = dict(json.loads(file.read()))
    except (OSError, ValueError, TypeError):
        pass
    try:
        segments = Spool(Home(home), lambda _: None).segments()
    except OSError:
        segments = []
    pid = lock_holder(home)
    state.update(
        running=pid is not None,
        pid=pid,
        now_us=Clock().wall_us(),
        python=sys.version.split()[0],
        spool_bytes=sum(size for _, size in segments),
        spool_segments=len(segments),
    )
    print(json.dumps(state))
    return 0


def stop(home: str) -> int:
    """End the agent by SIGTERM, and by SIGKILL after ten seconds; return when it is gone."""
    pid = lock_holder(home)
    if not pid:
        return 0
    for number, patience_s in STOP_SIGNALS:
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
    """Print the records of a segment as JSON lines, the fields of 2018 first, in their order."""
    printed = 0
    try:
        for record in _records(path):
            print(json.dumps(record))
            printed += 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has seen enough
        return 0
    except (OSError, ValueError, LookupError, TypeError, zlib.error) as fault:
        print(f"{path}: {fault}; the {printed} records before it are whole", file=sys.stderr)
        return 1
    return 0


def _records(path: str) -> Iterator[dict[str, Any]]:
    table: list[list[Any]] = []
    with open(path, "rb") as file:
        for header, body in read_chunks(file):
            new_table, columns = decode_body(header, body)
            table = new_table if new_table is not None else table
            for row in zip(*columns):
                yield _record(header, table[row[1]], *row)


def _record(
    header: dict[str, Any], target: list[Any],
    offset_us: int, _: int, rtt_us: int, port: int, status: int, retransmits: int,
) -> dict[str, Any]:  # fmt: skip
    name, address, dst_port, protocol, scope, size = target
    seconds, microseconds = divmod(header["start_us"] + offset_us, 1_000_000)
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    clean = status == OK and not retransmits
    return {
        "Timestamp": f"{timestamp}.{microseconds:06d}Z",
        "SrcIP": header["ip"],
        "SrcPort": port,
        "DstIP": address,
        "DstPort": dst_port,
        "Protocol": protocol,
        "ProbingType": scope,
        "MsgLen": size,
        "RTT_us": rtt_us if clean else None,
        "ErrCode": status,
        "Src": header["host"],
        "Dst": name,
        "Retransmits": retransmits,
    }


def trace(words: list[str]) -> int:
    """Trace the path to `--target` and `--port`; print one line of JSON with a walk per port."""
    try:
        print(json.dumps(Trace(**_trace_options(words)).run(), separators=(",", ":")))
    except (ValueError, OSError) as fault:
        print(f"trace: {fault}", file=sys.stderr)
        return 1
    return 0


def _trace_options(words: list[str]) -> dict[str, Any]:
    require(len(words) % 2 == 0, f"{words[-1]} has no value" if words else "")
    options: dict[str, Any] = {}
    for name, value in zip(words[::2], words[1::2]):
        known = ", ".join(TRACE_OPTIONS)
        require(name in TRACE_OPTIONS, f"{name} is not an option; the options are {known}")
        options[name[2:].replace("-", "_")] = TRACE_OPTIONS[name](value)
    options["timeout_s"] = options.pop("timeout", DEFAULT_TIMEOUT_S)
    require("target" in options and "port" in options, "trace needs --target and --port")
    return options
