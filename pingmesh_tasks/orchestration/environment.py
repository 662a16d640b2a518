"""What a DAG file takes from the environment: settings that never stop it from parsing.

A misspelt `PINGMESH_*` variable would otherwise remove the DAGs, the alarms among them, from Airflow. So a DAG file
parses with the valid part of the settings, and the fault is shown: as a banner on the DAG's page, as a tag in the list
of DAGs, as a warning in the DAG processor's log. No task does its work: `context.current_run` raises the fault.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.settings import Settings, valid_settings

FAULT_TAG = "settings-fault"


class SettingsWarning(UserWarning):
    """A DAG file was parsed with settings that have faults."""


@dataclass(frozen=True)
class DagEnvironment:
    """The valid settings, and what is wrong with the others."""

    settings: Settings
    fault: ConfigError | None

    def doc(self, text: str | None) -> str:
        """Return the doc of a DAG, below a banner where the settings have faults."""
        if self.fault is None:
            return text or ""
        return (
            "> **The settings have faults: every run fails until they are mended.**\n\n"
            f"```\n{self.fault}\n```\n\n---\n{text or ''}"
        )

    def tags(self, *names: str) -> list[str]:
        """Return the tags of a DAG."""
        return ["pingmesh", *names, *([FAULT_TAG] if self.fault else [])]


def dag_environment() -> DagEnvironment:
    """Read the environment for a DAG file; warn where it has faults. Never raises."""
    settings, fault = valid_settings()
    if fault is not None:
        warnings.warn(str(fault), SettingsWarning, stacklevel=2)
    return DagEnvironment(settings, fault)
