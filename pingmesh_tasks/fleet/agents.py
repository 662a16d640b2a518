"""Agents on the hosts: bring every host to one release and its own ping list; stop; clean.

One host takes one round trip when nothing is to do: a look that also renews the lease. Only what differs is copied
(by content hash), and only a new release restarts the agent: a ping list is picked up by the running one.

A release is the files of one package. They are installed in `releases/VERSION/pingmesh_agent/` of
the home, where nothing uses them yet; then `agent.py`, a symbolic link to the release's
`__main__.py`, is switched by one rename, and the other releases are removed. The host checks the
hash of every file before it writes the first one. So a cut connection, a full disk or a kill leaves
the old release or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pingmesh_tasks import bundled
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
from pingmesh_tasks.fleet.private_key import key_of
from pingmesh_tasks.topology.inventory import Host

STAGE = "dispatch"
AGENT_PACKAGE = bundled.files("include/agent") / "pingmesh_agent"
#: Tried in this order; the first that is Python 3.8 or later runs the agent.
INTERPRETERS = ("python3", *(f"python3.{minor}" for minor in range(13, 7, -1)), "/usr/bin/python3")
OLDEST_PYTHON = (3, 8)
AGENT_ALREADY_RUNS = 3

#: Python, any version 3: $1 home, $2 its own name, $3 `renew` to renew the lease. Prints what there is, a JSON line;
#: exit 9 from an interpreter that is too old. `release` is the version of the installed files, ""
#: without any; it is computed here, since a damaged agent cannot report it.
LOOK_PROGRAM = r"""
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
def release():
    package = os.path.dirname(os.path.realpath(os.path.join(home, "agent.py")))
    try:
        names = sorted(name for name in os.listdir(package) if name.endswith(".py"))
    except EnvironmentError:
        names = []
    listing = "".join("%s  %s\n" % (digest(read(os.path.join(package, name))), name) for name in names)
    return digest(listing.encode())[:16] if names else ""
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
        release=release(), pinglist=digest(read("pinglist.json")), running=running(),
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

#: Python 3.8+: $1 the home. stdin: a line of JSON, {"version", "release": [[name, size, sha256],
#: ...], "files": [...]}, then the bytes of all files in that order. An empty `release` leaves the
#: installed one as it is.
INSTALL_PROGRAM = """
import errno, fcntl, hashlib, json, os, shutil, sys
def receive(stream, table):
    files = {}
    for name, size, digest in table:
        files[name] = stream.read(size)
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise OSError(errno.EIO, "the transfer was cut short", name)
    return files
def holds(path, data):
    try:
        with open(path, "rb") as file:
            return file.read() == data
    except FileNotFoundError:
        return False
def replace(path, make):
    temporary = "%s.%d.new" % (path, os.getpid())
    try:
        make(temporary)
        os.replace(temporary, path)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
def write(path, data):
    def make(temporary):
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    replace(path, make)
def install_release(home, version, files):
    releases, entry = os.path.join(home, "releases"), os.path.join(home, "agent.py")
    target = os.path.join("releases", version, "pingmesh_agent", "__main__.py")
    package = os.path.dirname(os.path.join(home, target))
    in_use = os.path.islink(entry) and os.readlink(entry) == target
    try:
        os.makedirs(package, mode=0o700, exist_ok=True)
        wrong = [name for name in files if not holds(os.path.join(package, name), files[name])]
        for name in wrong:
            write(os.path.join(package, name), files[name])
        surplus = [name for name in os.listdir(package) if name not in files and name != "__pycache__"]
        for name in surplus:
            os.unlink(os.path.join(package, name))
        if wrong or surplus:
            shutil.rmtree(os.path.join(package, "__pycache__"), ignore_errors=True)
    except OSError:
        if not in_use:
            shutil.rmtree(os.path.join(releases, version), ignore_errors=True)
        raise
    if not in_use:
        replace(entry, lambda temporary: os.symlink(target, temporary))
    for name in os.listdir(releases):
        if name != version:
            shutil.rmtree(os.path.join(releases, name), ignore_errors=True)
    shutil.rmtree(os.path.join(home, "__pycache__"), ignore_errors=True)  # of a release that was one file
def install(home, stream):
    os.umask(0o077)
    os.makedirs(home, mode=0o700, exist_ok=True)
    os.chmod(home, 0o700)
    try:
        header = json.loads(stream.readline())
    except ValueError:
        raise OSError(errno.EIO, "the transfer was cut short", "its header")
    release, files = receive(stream, header["release"]), receive(stream, header["files"])
    with open(os.path.join(home, "install.lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(home):
            if name.endswith(".new"):  # of an install that was killed
                os.unlink(os.path.join(home, name))
        if release:
            install_release(home, header["version"], release)
        for name in files:
            write(os.path.join(home, name), files[name])
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
    """The agent to run: the files of its package by name, e.g. `prober.py`."""

    files: Mapping[str, bytes]

    @property
    def version(self) -> str:
        """First 16 hex digits of the SHA-256 of what `sha256sum *.py` prints; a running agent reports the same."""
        names = sorted(self.files)
        listing = "".join(f"{hashlib.sha256(self.files[name]).hexdigest()}  {name}\n" for name in names)
        return hashlib.sha256(listing.encode()).hexdigest()[:16]

    @classmethod
    def load(cls, package: Path = AGENT_PACKAGE) -> AgentRelease:
        """Read the release. Raises ConfigError if `package` is not one or cannot be read."""
        try:
            files = {path.name: path.read_bytes() for path in sorted(package.glob("*.py"))}
        except OSError as exc:
            raise ConfigError(f"the agent cannot be read: {exc}") from None
        if "__main__.py" not in files:
            raise ConfigError(f"no agent in {package}: include/agent/pingmesh_agent of this package belongs there")
        return cls(files)


@dataclass(frozen=True, slots=True)
class HostState:
    """What one look found. `release` is a version, `pinglist_sha256` whole hex; both "" where there is no file."""

    executable: str
    home: str
    home_exists: bool
    release: str
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

    version = release.version

    async def dispatch(session: Session) -> HostOutcome:
        document = documents[session.host.name]
        state = await _look(session, home, interpreters, renew=not dry_run)
        new_release = release if state.release != version else None
        new_list = document if hashlib.sha256(document).hexdigest() != state.pinglist_sha256 else None
        action = "start"
        if state.running:
            action = "keep" if new_release is None and state.running_version == version else "restart"
        steps = [f"install release {version}"] * (new_release is not None)
        steps += ["copy pinglist.json"] * (new_list is not None)
        steps += [f"{action} the agent"] * (action != "keep")
        if steps and not dry_run:
            await _install(session, home, state, _transfer(new_release, new_list), action, ["--lab"] if lab else [])
        return HostOutcome(
            session.host.name,
            STAGE,
            "ok" if steps and not dry_run else "unchanged",
            ("would " if dry_run and steps else "") + ", ".join(steps),
            clock_offset_us=state.clock_offset_us,
            agent_version=version if not dry_run else state.running_version or None,
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
    key = key_of(access.private_key).load() if remove_key and access.private_key is not None else None

    async def clean(session: Session) -> HostOutcome:
        state = await _look(session, home, interpreters)
        steps = [f"stop the agent (pid {state.pid})"] * state.running + [f"remove {state.home}"] * state.home_exists
        if steps and not dry_run:
            await _stop(session, home, state, "clean")
        if key is not None:
            steps.append("remove the key from authorized_keys")
            if not dry_run:
                await remove_our_key(session, key)
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
        release=_text(found, "release"),
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


def _transfer(release: AgentRelease | None, pinglist: bytes | None) -> bytes:
    """What INSTALL_PROGRAM reads from stdin."""

    def table(files: Mapping[str, bytes]) -> list[tuple[str, int, str]]:
        return [(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()]

    modules = release.files if release else {}
    files = {"pinglist.json": pinglist} if pinglist is not None else {}
    header = {"version": release.version if release else "", "release": table(modules), "files": table(files)}
    return b"".join([json.dumps(header).encode(), b"\n", *modules.values(), *files.values()])


async def _install(
    session: Session, home: str, state: HostState, transfer: bytes, action: str, options: Sequence[str]
) -> None:
    answer = await session.run(
        INSTALL_SCRIPT, home, state.executable, INSTALL_PROGRAM, action, *options, stdin=transfer
    )
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
