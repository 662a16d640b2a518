"""The MDSplus hook library on data servers: build it on the host, put it in place, say which servers must restart.

A library says which source it was built from, so a second deploy changes nothing. It is built below its directory and
renamed into place: a server that runs keeps the file it has mapped. Nothing but the library is left on the host, and a
library of the same name that is not ours is never replaced.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
)
from pingmesh_tasks.fleet.home import RESOLVE_HOME
from pingmesh_tasks.topology.inventory import Host

STAGE = "hook"
HOOK_DIRECTORY = bundled.files("include/mdsplus")
LIBRARY = "libTreeShrHooks.so"
#: With one of these mdsip serves all its clients itself and loads the library once; else each connection does.
LONG_RUNNING = frozenset({"-m", "--multi", "-s", "--server"})
_DIRECTORY = re.compile(r"~?(/[A-Za-z0-9._+-]+)+")
_NO_COMPILER, _FOREIGN = 20, 21

#: $1 directory, $2 hash of the source, $3 `build` or `look`, $4 treeshr_hooks.c, $5 Makefile.
#: Prints `library PATH`, then `unchanged`, `old` or `none` (what was there), then a line for each mdsip that runs:
#: `server PID loaded|other COMMAND`, loaded if it has this very file mapped. What tools say comes before it, on stdout:
#: compilers are free to choose. Exit 20: no compiler; 21: not our library. (cat writes the files: unlike a shell's own
#: printf it says that the disk is full.)
DEPLOY_SCRIPT = (
    RESOLVE_HOME
    + r"""
source=$1; action=$2; mark=pingmesh-hook-source=
{
umask 022
if [ "$action" = build ]; then mkdir -p -- "$home" || exit 1; fi
[ ! -d "$home" ] || home=$(cd -- "$home" && pwd -P) || exit 1
library=$home/libTreeShrHooks.so; there=none
if [ -e "$library" ] || [ -L "$library" ]; then
  grep -qF "$mark" "$library" || exit 21
  if grep -qF "$mark$source" "$library"; then there=unchanged; else there=old; fi
fi
if [ $there != unchanged ]; then
  compiler=; for cc in cc gcc clang; do command -v $cc >/dev/null && { compiler=$cc; break; }; done
  command -v make >/dev/null && [ -n "$compiler" ] || exit 20
  if [ "$action" = build ]; then
    work=$(mktemp -d "$home/.hook.XXXXXX") || exit 1
    trap 'rm -rf -- "$work"' EXIT; trap 'exit 1' HUP INT TERM
    printf %s "$3" | cat >"$work/treeshr_hooks.c" && printf %s "$4" | cat >"$work/Makefile" || exit 1
    MAKEFLAGS= make -s -C "$work" CC=$compiler "SOURCE=$source" </dev/null || exit 1
    mv -f -- "$work/libTreeShrHooks.so" "$library" || exit 1
  fi
fi
printf '%s\n' "library $library" $there
for process in /proc/[0-9]*; do
  { read -r name <"$process/comm"; } 2>/dev/null && [ "$name" = mdsip ] || continue
  command=$(tr '\0\n' '  ' <"$process/cmdline" 2>/dev/null) || continue
  if grep -q " $library\$" "$process/maps" 2>/dev/null; then has=loaded; else has=other; fi
  printf '%s\n' "server ${process#/proc/} $has $command"
done
exit 0
} 2>&1
"""
)


@dataclass(frozen=True, slots=True)
class HookSource:
    """What the library is built from. `sha256` is the one that include/mdsplus/Makefile puts into it by itself."""

    code: str
    makefile: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256((self.code + self.makefile).encode()).hexdigest()

    @classmethod
    def load(cls, directory: Path = HOOK_DIRECTORY) -> HookSource:
        """Read the source. Raises ConfigError if it is not there."""
        try:
            return cls((directory / "treeshr_hooks.c").read_text(), (directory / "Makefile").read_text())
        except OSError as exc:
            raise ConfigError(f"the hook's source cannot be read: {exc}; it is in include/mdsplus") from None


@dataclass(frozen=True, slots=True)
class Server:
    """An mdsip that runs on the host; `loaded` if it has the library that is now in place."""

    pid: int
    loaded: bool
    command: str

    @property
    def must_restart(self) -> bool:
        return not self.loaded and not LONG_RUNNING.isdisjoint(self.command.split())


@dataclass(frozen=True, slots=True)
class HookState:
    """What one host answered: the library's path, what was there (`unchanged`, `old`, `none`) and who runs."""

    library: str
    found: str
    servers: tuple[Server, ...]


def deploy_hook(
    hosts: Iterable[Host],
    access: SshAccess,
    limits: FanoutLimits | None = None,
    *,
    directory: str,
    source: HookSource | None = None,
    dry_run: bool = False,
) -> list[HostOutcome]:
    """See that every host has the hook library, built there of `source`, in `directory` (made if it is not there).

    Outcomes: ok (built), unchanged (this source's library is there, or a dry run), no_compiler, disk_full, failed, or a
    fault of the login. The detail says which servers must be restarted; nothing is restarted here.
    Raises ConfigError for a directory that is not absolute or below `~/`, and if the source cannot be read.
    """
    check_directory(directory)
    source = source or HookSource.load()
    action = "look" if dry_run else "build"

    async def deploy(session: Session) -> HostOutcome:
        files = ("", "") if dry_run else (source.code, source.makefile)
        state = parse_deploy(await session.run(DEPLOY_SCRIPT, directory, source.sha256, action, *files))
        outcome = "unchanged" if dry_run or state.found == "unchanged" else "ok"
        return HostOutcome(session.host.name, STAGE, outcome, _advice(state, dry_run))

    return for_each_host(hosts, deploy, access, limits, stage=STAGE)


def check_directory(directory: str) -> str:
    """Return `directory` if a library may go there, else raise ConfigError."""
    if not _DIRECTORY.fullmatch(directory) or not {".", ".."}.isdisjoint(directory.split("/")):
        raise ConfigError(
            f"hook directory {directory!r}: must start with ~/ or / and hold only letters, digits and ._+- between "
            "slashes; take one in the data server's LD_LIBRARY_PATH, e.g. /usr/local/mdsplus/lib"
        )
    return directory


def parse_deploy(answer: Answer) -> HookState:
    """Parse what DEPLOY_SCRIPT prints. Raises HostFault: no_compiler, disk_full, or failed for any other answer."""
    text = answer.stdout.decode("utf-8", "replace")
    _, _, found = f"\n{text}".partition("\nlibrary /")
    if answer.exit_status == _NO_COMPILER:
        raise HostFault("no_compiler", "no C compiler (cc, gcc, clang) or no make in the PATH; install gcc and make")
    if answer.exit_status == _FOREIGN:
        raise HostFault("failed", f"the {LIBRARY} there is not ours; move it away, or choose another directory")
    lines = found.splitlines()
    words = [line.split(" ", 3) for line in lines[2:]]
    well_formed = (
        len(lines) >= 2
        and lines[1] in {"unchanged", "old", "none"}
        and all(len(w) == 4 and w[0] == "server" and w[1].isdecimal() and w[2] in {"loaded", "other"} for w in words)
    )
    if answer.exit_status != 0 or not well_formed:
        why = f"{text}{answer.stderr}" or f"the build ended with exit {answer.exit_status} without a word"
        raise HostFault("disk_full" if is_disk_full(why) else "failed", _errors(why))
    servers = tuple(Server(int(w[1]), w[2] == "loaded", w[3].strip()) for w in words)
    return HookState(f"/{lines[0]}", lines[1], servers)


def _errors(said: str) -> str:
    """The lines of a tool's output that tell: those with `error`, else the last three."""
    lines = said.splitlines()
    return "\n".join([line for line in lines if "error" in line][:3] or lines[-3:])


def _advice(state: HookState, dry_run: bool) -> str:
    waiting = ", ".join(f"pid {s.pid} ({s.command})" for s in state.servers if s.must_restart)
    if state.found == "unchanged":
        return f"restart, unless it has opened no tree yet: {waiting}" if waiting else ""
    done = f"{'would build' if dry_run else 'built'} {state.library}"
    return f"{done}; restart {waiting}" if waiting else f"{done}; nothing to restart: no mdsip -m or -s runs"
