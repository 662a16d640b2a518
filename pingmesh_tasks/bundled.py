"""The files that are shipped with the package and are not its modules: the agent, the hook, DAGs, examples.

A file is named by its path in the repository. A source checkout has it there. A wheel has files of a
package beside its modules, and everything else below `pingmesh_tasks/bundle/`, under the same path
(`[tool.hatch.build.targets.wheel.sources]` of pyproject.toml). No other module computes such a path.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pingmesh_tasks.errors import ConfigError

PACKAGE = "pingmesh_tasks"
BUNDLE = "bundle"


def files(folder: str, package: str = PACKAGE) -> Path:
    """Return a folder that is shipped with a package.

    Args:
        folder: Its path in the repository, such as `include/agent`, or below the folder of `package`.
        package: The package that it belongs to, such as `pingmesh_tasks.alerting.messages`.

    Raises:
        ConfigError: The installation is not complete.
    """
    modules = _folder_of(package)
    for found in (modules / folder, modules / BUNDLE / folder, modules.parent / folder):
        if found.is_dir():
            return found
    raise ConfigError(
        f"the folder {folder} of {package} is missing in {modules}: the installation is not complete. "
        "Install the package pingmesh-airflow again, or check out the whole repository."
    )


def checkout() -> Path | None:
    """Return the root of the source checkout that this package runs from, None if it is installed."""
    root = _folder_of(PACKAGE).parent
    return root if (root / "pyproject.toml").is_file() and (root / "dags").is_dir() else None


def _folder_of(package: str) -> Path:
    return Path(str(resources.files(package)))
