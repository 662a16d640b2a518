"""Files that are shipped with the package are found in a checkout and in a wheel; the wheel: test_package.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from pingmesh_tasks import bundled
from pingmesh_tasks.errors import ConfigError

REPO = Path(__file__).parents[1]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package `shipped` with one folder beside its modules and one in its bundle."""
    for folder in ("shipped/static", "shipped/bundle/include/agent"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "shipped" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shipped", raising=False)
    return tmp_path / "shipped"


def test_in_a_checkout_a_folder_lies_under_its_path_in_the_repository():
    assert bundled.files("include/agent") == REPO / "include" / "agent"
    assert bundled.files("dags") == REPO / "dags"
    assert bundled.checkout() == REPO


def test_in_an_installed_package_it_lies_in_the_bundle_under_the_same_path(installed):
    assert bundled.files("include/agent", "shipped") == installed / "bundle" / "include" / "agent"


def test_a_folder_of_a_package_lies_beside_its_modules(installed):
    assert bundled.files("static", "shipped") == installed / "static"


def test_a_folder_that_is_missing_is_named_with_what_to_do(installed):
    with pytest.raises(ConfigError, match=r"the folder include/hook of shipped is missing in .*Install"):
        bundled.files("include/hook", "shipped")


def test_no_other_module_looks_for_its_files_by_its_own_path():
    folders = (REPO / "pingmesh_tasks", REPO / "plugins", REPO / "spark_jobs", REPO / "dags")
    modules = [file for folder in folders for file in folder.rglob("*.py")]
    assert len(modules) > 100
    by_path = [file for file in modules if "Path(__file__)" in file.read_text()]
    assert by_path == []


def test_an_uninstalled_checkout_brings_the_plugin_by_its_plugins_folder(tmp_path):
    code = (
        "import runpy, sys, importlib.metadata as m; sys.path.insert(0, 'plugins')\n"
        "real = m.distribution\n"
        "def distribution(name):\n"
        "    if name != 'pingmesh-airflow': return real(name)\n"
        "    if sys.argv[1] == 'missing': raise m.PackageNotFoundError(name)\n"
        "m.distribution = distribution\n"
        "print('PingmeshPlugin' in runpy.run_path('plugins/pingmesh_plugin.py'))"
    )
    for state, expected in (("installed", "False"), ("missing", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code, state],
            cwd=REPO,
            env={"PYTHONPATH": str(REPO), "AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split()[-1] == expected, done.stderr
