"""PINGMESH_HOME: only what `clean` may remove."""

import subprocess
from pathlib import Path

import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.home import RESOLVE_HOME, check_home


@pytest.mark.parametrize("home", ["~/.pingmesh", "/var/lib/pingmesh", "~/pingmesh-blue", "/srv/a.b/pingmesh_2"])
def test_a_directory_with_our_name_is_taken(home: str):
    assert check_home(home) == home


@pytest.mark.parametrize(
    "home",
    [
        *("", "/", "~", "~/", ".", "..", "//", "pingmesh", "/home/alice", "~alice/pingmesh", "~/pingmesh/"),
        *("~/.pingmesh/..", "/pingmesh/../etc", "/pingmesh/data", "~/pingmesh; rm -rf ~", "~/$HOME/pingmesh"),
        *("~/ping mesh/pingmesh", "~/\n/pingmesh"),
    ],
)
def test_a_directory_that_could_be_anything_else_is_refused(home: str):
    with pytest.raises(ConfigError, match="the default"):
        check_home(home)


def test_the_tilde_becomes_the_home_of_the_login_on_the_host(tmp_path: Path):
    script = RESOLVE_HOME + 'printf "%s|%s" "$home" "$1"'
    for home, expected in (("~/.pingmesh", f"{tmp_path}/.pingmesh"), ("/srv/pingmesh", "/srv/pingmesh")):
        answer = subprocess.run(
            ["/bin/sh", "-c", script, "sh", home, "next"], env={"HOME": str(tmp_path)}, capture_output=True, text=True
        )
        assert answer.stdout == f"{expected}|next"


def test_a_host_that_knows_no_home_gets_no_directory_in_the_root():
    answer = subprocess.run(
        ["/bin/sh", "-c", RESOLVE_HOME + "echo $home", "sh", "~/.pingmesh"], env={}, capture_output=True
    )
    assert answer.returncode != 0 and answer.stdout == b""
