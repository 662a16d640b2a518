"""Airflow for the demo and the end-to-end test: its four processes on SQLite, all of it below one directory.

Not `airflow standalone`, which does not notice when one of them ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pingmesh_tasks import bundled
from pingmesh_tasks.demo.daemon import Daemon
from pingmesh_tasks.errors import PingmeshError

USER = "admin"
#: What Airflow gets of our own environment.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "SPARK_HOME")
PROCESSES = ("scheduler", "dag-processor", "api-server", "triggerer")
EXECUTOR = "pingmesh_tasks.orchestration.executor.RevocableLocalExecutor"
START_TIMEOUT_S = 240
#: How long a process waits for another's write to SQLite; with five seconds, the default, a busy machine loses tasks.
#: Below the time-outs of those who ask the API.
LOCK_PATIENCE_S = 20


@dataclass(frozen=True, slots=True)
class DemoAirflow:
    """Airflow with its home in `root`, reached on loopback only. `extra` are variables that our DAGs read."""

    root: Path
    port: int
    password: str
    jwt_secret: str
    extra: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def daemon(self) -> Daemon:
        return Daemon(self.root, "airflow")

    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        binaries = str(Path(sys.executable).parent)
        return {
            **inherited,
            "PATH": f"{binaries}:{inherited.get('PATH', os.defpath)}",
            **_package_environment(),
            "AIRFLOW_HOME": str(self.root),
            "AIRFLOW__CORE__DAGS_FOLDER": str(bundled.files("dags")),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.root / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": EXECUTOR,
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.root / 'airflow.db'}?timeout={LOCK_PATIENCE_S}",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API_AUTH__JWT_SECRET": self.jwt_secret,
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            # How soon a task goes on whose worker or scheduler was killed while it ran, or before it began: without
            # this it is five minutes, five, and ten.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # also how late a worker may notice that its task ended
            "PYTHONWARNINGS": "ignore",
            **self.extra,
        }

    def start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        passwords = self.root / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        airflow = str(Path(sys.executable).with_name("airflow"))
        command = [sys.executable, "-m", "pingmesh_tasks.demo.supervise", airflow, "db", "migrate"]
        for process in PROCESSES:
            command += ["--", airflow, process]
        self.daemon.start(command, self.environment(), cwd=self.root)

    def is_up(self) -> bool:
        """Whether the API answers. Raises PingmeshError when Airflow has ended."""
        if self.daemon.pid is None:
            raise PingmeshError(f"Airflow ended; the end of {self.daemon.log}:\n{self.daemon.last_lines()}")
        with suppress(httpx.HTTPError, KeyError):
            answer = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            return bool(answer["scheduler"]["status"] == "healthy")
        return False

    def stop(self) -> bool:
        return self.daemon.stop()

    def log_in(self) -> httpx.Client:
        """Return a client of the REST API that is logged in. Raises httpx.HTTPError."""
        client = httpx.Client(base_url=self.url, timeout=30)
        answer = client.post("/auth/token", json={"username": USER, "password": self.password}).raise_for_status()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, oldest first. Raises httpx.HTTPError."""
        query: dict[str, str | int] = {"limit": 100, "order_by": "run_after"}
        with closing(self.log_in()) as client:
            answer = client.get(f"/api/v2/dags/{dag_id}/dagRuns", params=query).raise_for_status()
        return list(answer.json()["dag_runs"])

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Make a pool unless there is one of that name. Raises httpx.HTTPError."""
        pool = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        with closing(self.log_in()) as client:
            if client.get(f"/api/v2/pools/{name}").status_code == httpx.codes.NOT_FOUND:
                client.post("/api/v2/pools", json=pool).raise_for_status()

    def await_up(self, timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.is_up():
            if time.monotonic() > deadline:
                raise PingmeshError(f"Airflow did not answer within {timeout_s:.0f} s; see {self.daemon.log}")
            time.sleep(0.5)


def _package_environment() -> dict[str, str]:
    """Return where Airflow finds this package and its plugin: a source checkout need not be installed."""
    preloads = str(bundled.files("include/airflow"))
    if root := bundled.checkout():
        plugins = str(bundled.files("plugins"))
        return {"PYTHONPATH": f"{root}:{preloads}", "AIRFLOW__CORE__PLUGINS_FOLDER": plugins}
    return {"PYTHONPATH": preloads}
