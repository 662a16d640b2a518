"""`make` says what is missing before it installs anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """A clone's Makefile and lock, nothing installed, and a `python3` that a test can break."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    return tmp_path


def setup(checkout: Path, python: str | None) -> subprocess.CompletedProcess[str]:
    if python is not None:
        fake = checkout / "bin" / "python3.fake"
        fake.write_text(f"#!/bin/sh\n{python}\n")
        fake.chmod(0o755)
    environment = os.environ | {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    command = ["make", "-C", str(checkout), "setup", "PYTHON=python3.fake"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_no_python_at_all_is_said(checkout):
    done = setup(checkout, None)
    assert done.returncode != 0
    assert "there is no python3.fake; install Python 3.11 or newer" in done.stdout


def test_an_old_python_is_said(checkout):
    done = setup(checkout, 'case "$2" in *version_info*) exit 1;; esac')
    assert done.returncode != 0
    assert "is too old; 3.11 or newer is needed" in done.stdout
    assert not (checkout / ".venv").exists()


def test_a_python_that_makes_no_virtual_environments_is_said_with_the_package(checkout):
    done = setup(checkout, 'case "$2" in *ensurepip*) exit 1;; esac')
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stdout
    assert not (checkout / ".venv").exists()


def test_help_comes_first_and_names_every_command(checkout):
    done = subprocess.run(["make", "-C", str(checkout)], capture_output=True, text=True, check=True)
    for command in ("demo", "stop", "test", "lint", "bench", "clean"):
        assert f"make {command}" in done.stdout
