"""What tests need of the machine besides Python packages: one table, which every skip and CI read.

    @pytest.mark.needs("cc", "make")     # a test or, as `pytestmark`, a module
    require("chromium")                  # in a fixture or helper

`python3 tests/support/needs.py` prints the Debian packages that this machine lacks, for `.ci/run`;
it needs the standard library only.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]
#: /sbin is not on the PATH of an ordinary user, and has what the laboratory runs.
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
LOCKED_SPARK = ROOT / ".spark" / "pyspark"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
#: Too old for the agent, which says so.
OLD_PYTHONS = ("3.6", "3.7")


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that tests can need.

    Attributes:
        present: Whether the machine has it. None: only the test itself can find out (`lack`).
        packages: The Debian packages that bring it; empty where none does.
        otherwise: What to do where no package brings it.
    """

    present: Callable[[], bool] | None
    packages: tuple[str, ...] = ()
    otherwise: str = ""


def find_tool(name: str) -> str | None:
    """Return the path of a program, also of one that only root has on the PATH."""
    return shutil.which(name, path=PATH)


def chromium() -> str | None:
    """Return the path of a browser of the Chromium family."""
    return next(filter(None, map(find_tool, BROWSERS)), None)


def _tool(name: str, package: str) -> Need:
    return Need(lambda: find_tool(name) is not None, (package,))


def _succeeds(*command: str | Path) -> bool:
    if find_tool(str(command[0])) is None:
        return False
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 0


def _compiles(*flags: str) -> bool:
    """Whether `cc` makes a program with `flags` that runs: without the C library it makes none."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text("#include <stdio.h>\nint main(void) { return 0; }\n")
        return _succeeds("cc", *flags, source, "-o", program) and _succeeds(program)


def _makes_world(*more: str) -> bool:
    mounts = "mount -t tmpfs none /run && mount -t sysfs none /sys"
    isolate = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", *more]
    return _succeeds(*isolate, "sh", "-c", mounts)


def _has_ipv6() -> bool:
    import socket

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def find_python(version: str) -> str | None:
    """Return a Python of this version, or None.

    Asks PINGMESH_TEST_PYTHONS (paths, colon-separated), then pyenv, then the PATH.
    """
    candidates = os.environ.get("PINGMESH_TEST_PYTHONS", "").split(":")
    if shutil.which("pyenv"):
        asked = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        candidates += map(str, Path(asked.stdout.strip()).glob(f"versions/{version}.*/bin/python"))
    candidates.append(shutil.which(f"python{version}") or "")
    check = "import sys; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])"
    fitting = (path for path in candidates if path and _succeeds(path, "-c", check, version))
    return next(fitting, None)


def _has_python(version: str) -> bool:
    return find_python(version) is not None


def _has_spark(home: str | Path) -> bool:
    return Path(home, "bin", "spark-submit").exists()


def _has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return Path(home, "bin", "java").exists() if home else shutil.which("java") is not None


_AS_ROOT = "run the tests as root"
_AS_USER = ("--user", "--map-root-user")

NEEDS: dict[str, Need] = {
    "chromium": Need(lambda: chromium() is not None, ("chromium",)),
    # A C compiler that makes programs; its sanitizers; make
    "cc": Need(_compiles, ("gcc", "libc6-dev")),
    "asan": Need(lambda: _compiles("-fsanitize=address,undefined"), ("gcc", "libc6-dev"),
                 "a compiler with -fsanitize=address and a kernel on which its programs start"),
    "tsan": Need(lambda: _compiles("-fsanitize=thread"), ("gcc", "libc6-dev"),
                 "a compiler with -fsanitize=thread and a kernel on which its programs start"),
    "make": _tool("make", "make"),
    "localedef": _tool("localedef", "libc-bin"),
    # OpenSSH
    "ssh-keygen": _tool("ssh-keygen", "openssh-client"),
    "ssh-agent": Need(lambda: None not in map(find_tool, ("ssh-agent", "ssh-add")),
                      ("openssh-client",)),
    "sshd": _tool("sshd", "openssh-server"),
    # The laboratory: hosts that are network namespaces
    "ip": _tool("ip", "iproute2"),
    "nft": _tool("nft", "nftables"),
    "iptables": _tool("iptables-legacy", "iptables"),
    "ping": _tool("ping", "iputils-ping"),
    "namespaces": Need(lambda: _makes_world(*([] if os.geteuid() == 0 else _AS_USER)),
                       otherwise=f"{_AS_ROOT}, or where users may make namespaces"),
    "user namespaces": Need(lambda: _makes_world(*_AS_USER),
                            otherwise="run the tests where users may make namespaces"),
    "veth and nftables": Need(None, otherwise="a kernel with veth pairs and nf_tables"),
    "ipv6": Need(_has_ipv6, otherwise="a kernel with the address ::1"),
    # Spark
    "java": Need(_has_java, ("default-jre-headless",)),
    "spark": Need(lambda: _has_spark(os.environ.get("SPARK_HOME") or LOCKED_SPARK),
                  otherwise="make spark"),
    "locked spark": Need(lambda: "SPARK_HOME" not in os.environ and _has_spark(LOCKED_SPARK),
                         otherwise="make spark, and unset SPARK_HOME"),
    "maven central": Need(None, otherwise="let Spark reach Maven Central once"),
    # What packs logs on a host, and the shells of hosts
    "bzip2": _tool("bzip2", "bzip2"),
    "xz": _tool("xz", "xz-utils"),
    "zstd": _tool("zstd", "zstd"),
    "busybox": _tool("busybox", "busybox"),
    "pgrep": _tool("pgrep", "procps"),
    "setpriv": _tool("setpriv", "util-linux"),
    # Rights
    "root": Need(lambda: os.geteuid() == 0, otherwise=_AS_ROOT),
    "mount": Need(lambda: _succeeds("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"),
                  otherwise=f"{_AS_ROOT}, where it may mount"),
    # The rest
    "recorded environment": Need(None, otherwise="a CPU and packages as in "
                                 "tests/golden/expected/environment.json"),
    "git checkout": Need(lambda: _succeeds("git", "ls-files", "--error-unmatch", "Makefile"),
                         ("git",), "run the tests in a clone"),
    "docker compose": Need(lambda: _succeeds("docker", "compose", "version"),
                           otherwise="install Docker with its compose plugin"),
} | {
    f"python{version}": Need(functools.partial(_has_python, version),
                             otherwise=f"uv python install {version}, or name one in "
                                       "PINGMESH_TEST_PYTHONS")
    for version in (*OLD_PYTHONS, *PYTHONS)
}  # fmt: skip


@functools.cache
def is_present(name: str) -> bool:
    """Whether the machine has what `name` stands for in the table.

    Raises:
        LookupError: Nothing in the table is called so.
    """
    if name not in NEEDS:
        raise LookupError(f"tests/support/needs.py has no need called {name!r}; add it to NEEDS, or correct the name")
    present = NEEDS[name].present
    return present is None or present()


def missing(names: Iterable[str]) -> list[str]:
    """Return those of `names` that this machine lacks, in order."""
    return [name for name in dict.fromkeys(names) if not is_present(name)]


def packages_of(names: Iterable[str]) -> list[str]:
    """Return the Debian packages that bring `names`, sorted."""
    return sorted({package for name in names for package in NEEDS[name].packages})


def remedy(names: Iterable[str]) -> str:
    """Return what to do about the lack of `names`: one command for all packages, then the rest."""
    names = list(names)
    steps = [NEEDS[name].otherwise for name in names if NEEDS[name].otherwise]
    if packages := packages_of(names):
        steps.insert(0, f"as root: apt-get install -y {' '.join(packages)}")
    return "; ".join(dict.fromkeys(steps))


def require(*names: str) -> None:
    """Skip the running test if the machine lacks any of `names`."""
    if lacking := missing(names):
        lack(*lacking)


def lack(*names: str, detail: str = "") -> NoReturn:
    """Skip the running test, which found out that the machine lacks `names`; `detail` says how."""
    import pytest

    pytest.skip(f"needs {', '.join(names)} ({remedy(names)}){f': {detail}' if detail else ''}")


if __name__ == "__main__":
    print(*packages_of(missing(NEEDS)))
    sys.exit()
