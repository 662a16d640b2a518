"""PINGMESH_HOME: the one directory on a host that everything of ours lies in."""

from __future__ import annotations

import re

from pingmesh_tasks.errors import ConfigError

DEFAULT_HOME = "~/.pingmesh"
_HOME = re.compile(r"~?(/[A-Za-z0-9._-]+)+")

#: Shell: turns $1 into the absolute path $home and shifts it away. The tilde is the login's home on the host.
RESOLVE_HOME = 'case $1 in "~/"*) home=${HOME:?}/${1#"~/"} ;; *) home=$1 ;; esac; shift\n'


def check_home(home: str) -> str:
    """Return `home` if `clean` may remove it whole, else raise ConfigError.

    The last part of its name must say that it is ours, so that no slip of the pen removes anything else.
    """
    parts = home.split("/")
    if not _HOME.fullmatch(home) or ".." in parts or "." in parts or "pingmesh" not in parts[-1]:
        raise ConfigError(
            f"PINGMESH_HOME {home!r}: must start with ~/ or /, hold only letters, digits and ._- between slashes, "
            f"and end in a name with 'pingmesh' in it, since `clean` removes it; {DEFAULT_HOME} is the default"
        )
    return home
