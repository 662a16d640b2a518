"""Agents on the hosts: bring every host to one release and its own ping list; stop; clean.

One host takes one round trip when nothing is to do: a look that also renews the lease. Only what differs is copied
(by content hash), and only a new release restarts the agent: a ping list is picked up by the running one. Files are
replaced whole, after their hash was checked on the host, so that a cut connection or a full disk leaves the old ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.connect import (
    Answer,
    FanoutLimits,
    HostFault,
    HostOutcome,
    Session,
    SshAccess,
    for_each_host,
    is_disk_full,
    offset_us,
    parse_object,
)
from pingmesh_tasks.fleet.home import DEFAULT_HOME, RESOLVE_HOME, check_home
from pingmesh_tasks.fleet.keys import remove_key as remove_our_key
from pingmesh_tasks.topology.inventory import Host

STAGE = "dispatch"
AGENT_FILE = Path(__file__).parents[2] / "include" / "agent" / "pingmesh_agent" / "agent.py"
#: Tried in this order; the first that is Python 3.8 or later runs the agent.
INTERPRETERS = ("python3", *(f"python3.{minor}" for minor in range(13, 7, -1)), "/usr/bin/python3")
OLDEST_PYTHON = (3, 8)
AGENT_ALREADY_RUNS = 3

#: Python, any version 3: $1 home, $2 its own name, $3 `renew` to renew the lease. Prints what there is, a JSON line;
#: exit 9 from an interpreter that is too old. It looks at the agent's files itself: `agent.py status` says the same but
#: compiles the whole agent first, on every host in every window.
LOOK_PROGRAM = """
import fcntl, hashlib, json, os, sys, time
home, found = sys.argv[1], {"python": "%d.%d.%d" % sys.version_info[:3]}
def read(name):
    try:
        with open(os.path.join(home, name), "rb") as file:
            return file.read()
    except EnvironmentError:
        return None
def digest(data):
    return hashlib.sha256(data).hexdigest() if data is not None else ""
def running():
    try:
        with open(os.path.join(home, "agent.lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except EnvironmentError as exc:
        return exc.errno in (11, 13)
if sys.version_info >= (3, 8):
    try:
        status = json.loads(read("agent.json") or b"{}")
    except ValueError:
        status = {}
    found.update(executable=sys.executable or sys.argv[2], home=home, exists=os.path.isdir(home), status=status,
        agent=digest(read("agent.py")), pinglist=digest(read("pinglist.json")), running=running(),
        pid=(read("agent.lock") or b"").decode("ascii", "replace").strip())
    if sys.argv[3] == "renew":
        try:
            os.utime(os.path.join(home, "lease"))
        except FileNotFoundError:
            pass
        except EnvironmentError as exc:
            found["lease_fault"] = str(exc)
    found["now_us"] = time.time_ns() // 1000
print(json.dumps(found))
sys.exit(0 if sys.version_info >= (3, 8) else 9)
"""

#: $1 home, $2 `renew` or `look`, $3 LOOK_PROGRAM, then interpreters. Prints what the first usable one says; exit 9 with
#: what the last one that is too old said, or with nothing where there is none.
LOOK_SCRIPT = (
    RESOLVE_HOME
    + r"""
renew=$1; look=$2; shift 2; old=
for python; do
  found=$("$python" -I -S -c "$look" "$home" "$python" "$renew" 2>/dev/null)
  case $? in 0) printf '%s\n' "$found"; exit 0 ;; 9) old=$found ;; esac
done
printf '%s\n' "$old"
exit 9
"""
)

#: Python 3.8+: $1 the home. stdin: a JSON line [[name, size, sha256], ...], then the files' bytes one after the other.
INSTALL_PROGRAM = """
import errno, hashlib, json, os, sys
def install(home, stream):
    os.umask(0o077)
    os.makedirs(home, mode=0o700, exist_ok=True)
    os.chmod(home, 0o700)
    for name, size, digest in json.loads(stream.readline() or b"[]"):
        data = stream.read(size)
        if hashlib.sha256(data).hexdigest() != digest:
            raise OSError(errno.EIO, "the transfer was cut short", name)
        temporary = os.path.join(home, ".%s.%d.new" % (name, os.getpid()))
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, os.path.join(home, name))
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
    with open(os.path.join(home, "lease"), "ab"):
        pass
    os.utime(os.path.join(home, "lease"))
try:
    install(sys.argv[1], sys.stdin.buffer)
except OSError as exc:
    sys.stderr.write("%s: %s" % (exc.strerror, exc.filename or sys.argv[1]))
    sys.exit(1)
"""

#: $1 home, $2 interpreter, $3 INSTALL_PROGRAM, $4 keep, start or restart, then options for `run`.
INSTALL_SCRIPT = (
    RESOLVE_HOME
    + r"""
python=$1; install=$2; action=$3; shift 3
"$python" -I -S -c "$install" "$home" || exit
[ "$action" != keep ] || exit 0
if [ "$action" = restart ]; then "$python" -I -S "$home/agent.py" stop --home "$home" >/dev/null || exit; fi
exec "$python" -I -S "$home/agent.py" run --home "$home" --detach "$@" </dev/null
"""
)

#: $1 home, $2 interpreter, $3 `stop` or `clean`. After `clean` the home is gone.
STOP_SCRIPT = (
    RESOLVE_HOME
    + r"""
[ ! -f "$home/agent.py" ] || "$1" -I -S "$home/agent.py" stop --home "$home" >/dev/null || exit
[ "$2" = clean ] || exit 0
rm -rf -- "$home" && [ ! -e "$home" ]
"""
)


@dataclass(frozen=True, slots=True)
class AgentRelease:
    """The agent to run. `version` is the first 16 hex digits of the file's SHA-256: the agent reports the same."""

    source: bytes

    @property
    def version(self) -> str:
        return hashlib.sha256(self.source).hexdigest()[:16]

    @classmethod
    def load(cls, path: Path = AGENT_FILE) -> AgentRelease:
        """Read the release. Raises ConfigError if there is no such file."""
        try:
            return cls(path.read_bytes())
        except OSError as exc:
            raise ConfigError(f"the agent cannot be read: {exc}; it is include/agent/pingmesh_agent/agent.py") from None


@dataclass(frozen=True, slots=True)
class HostState:
    """What one look found. Hashes are whole SHA-256 hex, "" where there is no file."""

    executable: str
    home: str
    home_exists: bool
    agent_sha256: str
    pinglist_sha256: str
    running: bool
    running_version: str
    running_pinglist: str
    pid: str
    clock_offset_us: int | None


def dispatch_agents(
    hosts: Iterable[Host],
    documents: Mapping[str, bytes],
    release: AgentRelease,
    access: SshAccess,
    limits: FanoutLimits | None = None,
    *,
    home: str = DEFAULT_HOME,
    lab: bool = False,
    interpreters: Sequence[str] = INTERPRETERS,
    dry_run: bool = False,
) -> list[HostOutcome]:
    """See that every host runs `release` with its `documents[host.name]` (pinglist.json), and renew its lease.

    Outcomes: unchanged, ok (detail says what was done), or what is in the way. `lab` lets the agent probe more often
    than its own lower limit. A dry run only looks, and renews no lease. Raises ConfigError if a document is missing.
    """
    check_home(home)
    hosts = list(hosts)
    if missing := [h.name for h in hosts if h.name not in documents]:
        raise ConfigError(f"no ping list was planned for {', '.join(missing[:10])}; plan for the same hosts")

    async def dispatch(session: Session) -> HostOutcome:
        document = documents[session.host.name]
        state = await _look(session, home, interpreters, renew=not dry_run)
        files = {
            name: data
            for name, data, there in (
                ("agent.py", release.source, state.agent_sha256),
                ("pinglist.json", document, state.pinglist_sha256),
            )
            if hashlib.sha256(data).hexdigest() != there
        }
        action = "start"
        if state.running:
            action = "keep" if "agent.py" not in files and state.running_version == release.version else "restart"
        if (files or action != "keep") and not dry_run:
            await _install(session, home, state, files, action, ["--lab"] if lab else [])
        steps = [f"copy {name}" for name in files] + [f"{action} the agent"] * (action != "keep")
        return HostOutcome(
            session.host.name,
            STAGE,
            "ok" if steps and not dry_run else "unchanged",
            ("would " if dry_run and steps else "") + ", ".join(steps),
            clock_offset_us=state.clock_offset_us,
            agent_version=release.version if not dry_run else state.running_version or None,
            pinglist_version=_document_version(document) if not dry_run else state.running_pinglist or None,
        )

    return for_each_host(hosts, dispatch, access, limits, stage=STAGE)


def stop_agents(
    hosts: Iterable[Host],
    access: SshAccess,
    limits: FanoutLimits | None = None,
    *,
    home: str = DEFAULT_HOME,
    interpreters: Sequence[str] = INTERPRETERS,
    dry_run: bool = False,
) -> list[HostOutcome]:
    """Stop the agents; their files and segments stay. Outcomes: ok (it ran), unchanged (none ran), or a fault."""
    check_home(home)

    async def stop(session: Session) -> HostOutcome:
        state = await _look(session, home, interpreters)
        if not state.running:
            return HostOutcome(session.host.name, STAGE, "unchanged", "no agent runs")
        if not dry_run:
            await _stop(session, home, state, "stop")
        done = f"stop the agent (pid {state.pid})"
        return HostOutcome(
            session.host.name, STAGE, "unchanged" if dry_run else "ok", f"would {done}" if dry_run else done
        )

    return for_each_host(hosts, stop, access, limits, stage=STAGE)


def clean_hosts(
    hosts: Iterable[Host],
    access: SshAccess,
    limits: FanoutLimits | None = None,
    *,
    home: str = DEFAULT_HOME,
    remove_key: bool = False,
    interpreters: Sequence[str] = INTERPRETERS,
    dry_run: bool = False,
) -> list[HostOutcome]:
    """Stop the agents and remove `home` whole; with `remove_key` take our key out of authorized_keys, as the last act.

    Outcomes: ok, unchanged (nothing was there, or a dry run: its detail says what would be done), or a fault.
    """
    check_home(home)
    if remove_key and access.private_key is None:
        raise ConfigError("remove_key needs the private_key that was installed")

    async def clean(session: Session) -> HostOutcome:
        state = await _look(session, home, interpreters)
        steps = [f"stop the agent (pid {state.pid})"] * state.running + [f"remove {state.home}"] * state.home_exists
        if steps and not dry_run:
            await _stop(session, home, state, "clean")
        if remove_key and access.private_key is not None:
            steps.append("remove the key from authorized_keys")
            if not dry_run:
                await remove_our_key(session, access.private_key)
        outcome = "ok" if steps and not dry_run else "unchanged"
        return HostOutcome(
            session.host.name, STAGE, outcome, ("would " if dry_run and steps else "") + ", ".join(steps)
        )

    return for_each_host(hosts, clean, access, limits, stage=STAGE)


def parse_look(answer: Answer) -> HostState:
    """Parse what LOOK_SCRIPT prints. Raises HostFault: no_python, python_too_old, or failed for any other answer."""
    found = parse_object(answer.stdout)
    if answer.exit_status == 9:
        if found:
            oldest = ".".join(map(str, OLDEST_PYTHON))
            raise HostFault("python_too_old", f"the newest is Python {found.get('python')}; the agent needs {oldest}")
        raise HostFault("no_python", "no python3 in the PATH of a login without a terminal, nor in /usr/bin")
    if answer.exit_status != 0 or not found:
        raise HostFault("failed", answer.stderr or f"the first look ended with exit {answer.exit_status}")
    if fault := _text(found, "lease_fault"):
        raise HostFault("failed", f"the lease cannot be renewed: {fault}")
    said = found.get("status")
    status: dict[str, Any] = said if isinstance(said, dict) else {}
    now_us = found.get("now_us")
    return HostState(
        executable=_text(found, "executable"),
        home=_text(found, "home"),
        home_exists=found.get("exists") is True,
        agent_sha256=_text(found, "agent"),
        pinglist_sha256=_text(found, "pinglist"),
        running=found.get("running") is True,
        running_version=_text(status, "agent_version"),
        running_pinglist=_text(status, "pinglist_version"),
        pid=_text(found, "pid"),
        clock_offset_us=offset_us(now_us, answer) if isinstance(now_us, int) and 0 < now_us < 1 << 52 else None,
    )


async def _look(session: Session, home: str, interpreters: Sequence[str], *, renew: bool = False) -> HostState:
    mode = "renew" if renew else "look"
    return parse_look(await session.run(LOOK_SCRIPT, home, mode, LOOK_PROGRAM, *interpreters))


async def _install(
    session: Session, home: str, state: HostState, files: Mapping[str, bytes], action: str, options: Sequence[str]
) -> None:
    table = [[name, len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()]
    stdin = json.dumps(table).encode() + b"\n" + b"".join(files.values())
    answer = await session.run(INSTALL_SCRIPT, home, state.executable, INSTALL_PROGRAM, action, *options, stdin=stdin)
    if answer.exit_status not in (0, AGENT_ALREADY_RUNS):  # another run may have started it a moment before
        raise _agent_fault(answer)


async def _stop(session: Session, home: str, state: HostState, what: str) -> None:
    answer = await session.run(STOP_SCRIPT, home, state.executable, what)
    if answer.exit_status != 0:
        raise _agent_fault(answer)


def _agent_fault(answer: Answer) -> HostFault:
    said = answer.stderr or f"exit {answer.exit_status} without a word"
    return HostFault("disk_full" if is_disk_full(said) else "agent_failed", "\n".join(said.splitlines()[-3:]))


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _document_version(document: bytes) -> str | None:
    return _text(parse_object(document), "version") or None
