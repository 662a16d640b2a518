"""The plugin, for an Airflow whose plugins folder is this one.

An installed package brings the plugin by its entry point `airflow.plugins`. Airflow reports a plugin
that it meets twice as an import error, so then this file defines none.
"""

from importlib.metadata import PackageNotFoundError, distribution

try:
    distribution("pingmesh-airflow")
except PackageNotFoundError:
    from pingmesh_ui.plugin import PingmeshPlugin  # noqa: F401  # Airflow looks for classes here
