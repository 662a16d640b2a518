"""Tests that the machine cannot run are skipped by name and counted; CI allows those of a list."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import needs, skips

TESTS = """
import pytest
from tests.support.needs import require

@pytest.mark.needs("zstd", "make")
def test_marked(): pass

@pytest.mark.needs("zstd")
def test_marked_too(): pass

@pytest.fixture(scope="module")
def browser():
    require("chromium")

def test_by_a_fixture(browser): pass

def test_for_a_reason_of_its_own():
    pytest.skip("not today")

def test_that_runs(): pass
"""


#: Starts pytest where /sbin has no program either.
START = """
import sys, pytest
from tests.support import needs
needs.PATH = "/nonexistent"
sys.exit(pytest.main())
"""


def run(
    folder: Path, *options: str, tests: str = TESTS, **environment: str
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run pytest on `tests` where no program is on the PATH."""
    (folder / "test_made_up.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    env = {"PATH": "/nonexistent", "PYTHONPATH": str(needs.ROOT)} | environment
    plugins = ["-p", "tests.support.skips", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-c", START, *plugins, *options],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_each_need_is_listed_with_its_number_of_tests_and_one_command_installs_all(tmp_path: Path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^ +(\d+)  (\S[^ ]*)", done.stdout, re.MULTILINE)
    assert rows == [("2", "zstd"), ("1", "chromium"), ("1", "make"), ("1", "not")]
    assert "as root: apt-get install -y chromium make zstd\n" in done.stdout


def test_a_skip_names_the_packages(tmp_path: Path):
    done = run(tmp_path, "-rs")
    assert "needs zstd, make (as root: apt-get install -y make zstd)" in done.stdout


@pytest.mark.parametrize("how", ["CI", "option"])
def test_a_skip_that_is_not_on_the_list_fails_the_run(tmp_path: Path, how: str):
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("# what CI lacks\nzstd: none here\nmake: none here\nchromium: none here\n")
    done = run(tmp_path, CI="true") if how == "CI" else run(tmp_path, "--allowed-skips", str(allowed))
    assert done.returncode == 1
    complaints = done.stdout.partition("skips that are not allowed")[2]
    assert "not today: 1 tests, the first is test_made_up.py::test_for_a_reason_of_its_own" in complaints
    assert ("zstd: 2 tests" in complaints) == (how == "CI")


def test_skips_that_are_on_the_list_pass(tmp_path: Path):
    (tmp_path / "allowed.txt").write_text("zstd: none here\nmake: none here\nchromium: none here\n")
    done = run(tmp_path, "--allowed-skips", "allowed.txt", "-k", "not reason_of_its_own")
    assert done.returncode == 0, done.stdout


def test_results_are_written_for_the_three_streams(tmp_path: Path):
    assert run(tmp_path, "--results-to", "results.json").returncode == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["counts"] == {"passed": 1, "skipped": 4}
    assert [len(results["skips"][name]) for name in ("zstd", "make", "chromium", "not today")] == [2, 1, 1, 1]


@pytest.mark.parametrize("line", ["gcc: no such need", "zstd", "zstd:"])
def test_a_line_of_the_list_that_names_no_need_or_no_reason_is_refused(tmp_path: Path, line: str):
    (tmp_path / "allowed.txt").write_text(f"# comment\n{line}\n")
    done = run(tmp_path, "--allowed-skips", "allowed.txt")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"allowed.txt, line 2: '{line}' is not `need: reason`" in done.stderr


def test_a_need_that_is_not_in_the_table_is_an_error_and_no_skip(tmp_path: Path):
    done = run(tmp_path, tests="import pytest\n@pytest.mark.needs('gcc')\ndef test_it(): pass\n")
    assert done.returncode == 1
    assert "no need called 'gcc'" in done.stdout


def test_a_detail_does_not_hide_the_need():
    with pytest.raises(pytest.skip.Exception) as skipped:
        needs.lack("veth and nftables", detail="Operation (not) permitted\nat all")
    assert skips.needs_of(f"Skipped: {skipped.value}") == ["veth and nftables"]


def test_the_list_of_ci_is_read_and_holds_nothing_that_a_package_brings():
    allowed = skips.read_allowed(skips.ALLOWED)
    assert not needs.packages_of(allowed), "CI installs these packages"


def test_the_table_runs_without_any_package_and_prints_what_is_missing(tmp_path: Path):
    """As `.ci/run` does on a machine that has nothing but Python."""
    command = [sys.executable, "-I", "-S", str(Path(needs.__file__))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == needs.packages_of(needs.missing(needs.NEEDS))
