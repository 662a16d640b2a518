"""The hook library, built by its own Makefile, stand-ins for MDSplus' libraries, and a driver that plays mdsip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "include" / "mdsplus"
STUBS = ROOT / "tests" / "mdsplus"
HOOK, TEMPLATE = "libTreeShrHooks.so", "libTemplateHook.so"
WARNINGS = "-std=c11 -Wall -Wextra -Werror"

LINE = re.compile(
    rb"(?P<date>(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 1-3]\d "
    rb"\d\d:\d\d:\d\d \d{4}) \(pid (?P<pid>\d+)\) (?P<type>[A-Za-z]+) called for "
    rb"tree=(?P<tree>[!-+\--~]+), shot=(?P<shot>-?\d+), node=(?P<node>[!-+\--~]+)"
    rb"(?:, nid=(?P<nid>-?\d+), thread=(?P<thread>\d+), client=(?P<client>[0-9.]+|N/A))?"
)


@dataclass(frozen=True, slots=True)
class Hook:
    """A directory with libTreeShrHooks.so, libTreeShr.so, libMdsIpShr.so, libTemplateHook.so and the driver."""

    directory: Path

    def run(self, *arguments: object, hook: str = HOOK, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run the driver with `hook` loaded. Its environment is this and `env`; TZ is UTC unless given."""
        env = {"LD_LIBRARY_PATH": str(self.directory), "PATH": os.environ["PATH"], "TZ": "UTC"}
        env |= options.pop("env", {})
        command = [str(self.directory / "driver"), hook, *map(str, arguments)]
        if "stdout" not in options:
            options["stdout"] = subprocess.PIPE
        return subprocess.run(command, env=env, stderr=subprocess.PIPE, timeout=120, check=False, **options)

    def lines(self, *arguments: object, **options: Any) -> list[dict[str, str]]:
        """Run the driver, which must succeed in silence, and return the fields of its lines."""
        done = self.run(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, b""), (done.returncode, done.stderr.decode())
        return whole_lines(done.stdout)


def build(directory: Path, flags: str = "-O2") -> Hook:
    """Build everything in `directory` with `flags`; any warning is an error. Raises CalledProcessError."""

    def cc(*arguments: str) -> None:
        subprocess.run(
            ["cc", *WARNINGS.split(), *flags.split(), "-pthread", f"-L{directory}", *arguments],
            cwd=STUBS, check=True, capture_output=True, text=True,
        )  # fmt: skip

    for name in ("treeshr_hooks.c", "Makefile"):
        shutil.copy(SOURCE / name, directory)
    subprocess.run(
        ["make", "WARNINGS=-Wall -Wextra -Werror -Wshadow -Wconversion", f"CFLAGS={flags}"],
        cwd=directory, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for source, library in (("stub_treeshr.c", "libTreeShr.so"), ("stub_mdsip.c", "libMdsIpShr.so")):
        cc("-shared", "-fPIC", source, "-o", str(directory / library))
    cc("-shared", "-fPIC", "template_hook.c", "-o", str(directory / TEMPLATE), "-lTreeShr")
    cc("driver.c", "-o", str(directory / "driver"), "-ldl")
    return Hook(directory)


def whole_lines(log: bytes) -> list[dict[str, str]]:
    """Return the fields of every line; AssertionError if one is not a line of the hook's from its start to its end."""
    assert log.endswith(b"\n") or not log, f"the log ends in mid-line: {log[-80:]!r}"
    found = []
    for line in log.split(b"\n")[:-1]:
        match = LINE.fullmatch(line)
        assert match, f"not one whole line: {line[:300]!r}"
        found.append({name: value.decode() for name, value in match.groupdict().items() if value is not None})
    return found
