"""Start our Spark jobs: the arguments of `SparkSubmitHook`, and the environment of the spark-submit that it starts.

The lock's `pyspark-client` brings no Spark. One comes from `make spark` (`.spark/`: the same version with its jars; the
demo does without) or is the `SPARK_HOME` of a cluster. The driver of a job is a child of the task and runs in the
task's Python, so `spark_default` may be any master in client mode.

S3A is not in a Spark from PyPI. spark-submit fetches `hadoop-aws` from Maven Central once and keeps it; of the AWS SDK
it takes the modules that S3A calls, 14 MB, and not the bundle of all of AWS, 686 MB.

The key pair is in no argument, so in no log, no rendered field and no `ps`: it is in the environment of spark-submit
only, where Spark itself looks for it and hands it to the executors. (The hook's `env_vars` would make arguments of it
on YARN and Kubernetes.) The environment of the task's own process is not changed. Credentials of a
role are those of the moment the job starts, and a job that outlives them fails.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from pingmesh_tasks import bundled
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.topology.inventory import LogServer
from pingmesh_tasks.windows import Window

if TYPE_CHECKING:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    from pingmesh_tasks.pipeline.run import Run
    from pingmesh_tasks.store.objects import S3Access

#: Where `make spark` puts a Spark and what it fetches from Maven Central; nowhere outside of a checkout.
CHECKOUT = bundled.checkout()
OWN_SPARK = CHECKOUT and CHECKOUT / ".spark" / "pyspark"
OWN_IVY = CHECKOUT and CHECKOUT / ".spark" / "ivy"
CONNECTION = "spark_default"
#: The AWS SDK that a Hadoop was built with (its pom says), of the Hadoops that a bundle can be left out for.
AWS_SDK_OF_HADOOP = {"3.5.0": "2.35.4"}
#: What S3A's pom names and Spark has already, or S3A does not need.
LEFT_OUT = ("software.amazon.awssdk:bundle", "io.netty:*", "org.slf4j:*")


@dataclass(frozen=True)
class Submission:
    """How to start a job.

    Attributes:
        application: Path of the program.
        arguments: Of SparkSubmitHook; they are logged.
        environment: What spark-submit gets beside the task's own environment; it holds the key pair.
    """

    application: str
    arguments: dict[str, Any]
    environment: dict[str, str] = field(repr=False)


def access_tables(
    servers: Iterable[LogServer], window: Window, store: S3Access, *, master: str, home: Path
) -> Submission:
    """Return how to start the job that builds one window's access tables of `servers`."""
    formats = [
        {"name": server.name, "timezone": server.timezone, "format": server.format, "drop": list(server.drop)}
        for server in servers
    ]
    return Submission(
        str(bundled.files("spark_jobs") / "build_access_tables.py"),
        {
            "name": f"build_access_tables {window.id}",
            "application_args": [
                *("--root", f"s3a://{store.bucket}", "--window-s", str(window.length_s)),
                *("--from", window.id, "--to", window.shifted(1).id),
                *(word for entry in formats for word in ("--server", json.dumps(entry, separators=(",", ":")))),
            ],
            "conf": _conf(store, home),
            "spark_binary": str(home / "bin" / "spark-submit"),
            **s3a_packages(home),
        },
        _environment(store, master, home),
    )


def s3a_packages(home: Path) -> dict[str, str]:
    """Return what is to be fetched from Maven Central so that the Spark in `home` speaks s3a://."""
    jars = home / "jars"
    if any(jars.glob("hadoop-aws-*.jar")):
        return {}
    versions = [jar.stem.removeprefix("hadoop-client-api-") for jar in jars.glob("hadoop-client-api-*.jar")]
    if not versions:
        raise ConfigError(f"{home} is no Spark with Hadoop 3: it has no jars/hadoop-client-api-*.jar")
    hadoop = versions[0]
    sdk = AWS_SDK_OF_HADOOP.get(hadoop)
    if sdk is None:  # another Spark than ours: its hadoop-aws knows what it needs, all of it
        return {"packages": f"org.apache.hadoop:hadoop-aws:{hadoop}"}
    modules = [f"software.amazon.awssdk:{module}:{sdk}" for module in ("s3", "s3-transfer-manager")]
    return {
        "packages": ",".join([f"org.apache.hadoop:hadoop-aws:{hadoop}", *modules]),
        "exclude_packages": ",".join(LEFT_OUT),
    }


def spark_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the Spark to use: `SPARK_HOME`, else that of `make spark`. Raises ConfigError where it cannot run."""
    chosen = environ.get("SPARK_HOME") or OWN_SPARK
    if not chosen:
        raise ConfigError("SPARK_HOME is not set; set it to the directory of the Spark that runs the job")
    home = Path(chosen)
    if not (home / "bin" / "spark-submit").exists():
        raise ConfigError(f"there is no Spark in {home}; `make spark` installs one, or set SPARK_HOME to yours")
    java = Path(environ["JAVA_HOME"], "bin", "java") if environ.get("JAVA_HOME") else shutil.which("java")
    if not java or not Path(java).exists():
        raise ConfigError("Spark needs Java 17, and there is no java; apt install openjdk-17-jre-headless")
    return home


def _conf(store: S3Access, home: Path) -> dict[str, str]:
    conf = {
        "spark.ui.enabled": "false",  # a port that shows everything to everyone
        "spark.log.level": "WARN",
        "spark.hadoop.fs.s3a.endpoint.region": store.region,
    }
    if store.endpoint:
        conf |= {"spark.hadoop.fs.s3a.endpoint": store.endpoint, "spark.hadoop.fs.s3a.path.style.access": "true"}
    if OWN_IVY and home == OWN_SPARK:
        conf["spark.jars.ivy"] = str(OWN_IVY)
    return conf


def _environment(store: S3Access, master: str, home: Path) -> dict[str, str]:
    credentials = store.credentials()
    environment = {
        "SPARK_HOME": str(home),
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        # Empty means none to the SDK: a token of the worker's environment belongs to other keys.
        "AWS_SESSION_TOKEN": credentials.session_token or "",
    }
    if CHECKOUT:  # which need not be installed
        environment["PYTHONPATH"] = str(CHECKOUT)
    if master.startswith("local"):  # elsewhere the executors' Python and addresses are the cluster's business
        environment |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    return environment


class BuildAccessTables(BaseOperator):
    """Build the window's access tables on the Spark of the connection `spark_default`."""

    _hook: SparkSubmitHook | None = None

    def execute(self, context: Any) -> None:
        """Run the job of the task's window to its end. Raises what `submit` does."""
        from pingmesh_tasks.orchestration.context import current_run

        self.submit(current_run())

    def submit(self, run: Run) -> None:
        """Run the job to its end.

        Raises:
            ConfigError: There is no Spark, no provider, no Java, no connection, or Maven Central is out of reach.
            InventoryError: The inventory has faults.
            AirflowException: The job failed; the end of its output is in the message.
        """
        from airflow.sdk.exceptions import AirflowException

        from pingmesh_tasks.pipeline.run import load_run_inventory

        servers = load_run_inventory(run).log_servers
        home = spark_home()
        job = access_tables(servers, run.window, run.store.access, master=_master(), home=home)
        self._hook = _hook_class()(conn_id=CONNECTION, **job.arguments)
        try:
            self._hook.submit(job.application, env={**os.environ, **job.environment})
        except AirflowException as error:
            if "unresolved dependenc" in str(error).lower():
                raise ConfigError(
                    f"Spark could not get {job.arguments['packages']} from Maven Central, and its cache has not all of "
                    f"it; run it once where Maven Central is reached, or put these jars into {home / 'jars'}"
                ) from error
            raise

    def on_kill(self) -> None:
        """End the job with its task."""
        if self._hook is not None:
            self._hook.on_kill()


def _hook_class() -> type[SparkSubmitHook]:
    """Return the hook of Airflow's Spark provider, which is an extra of this package. Raises ConfigError."""
    try:
        from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
    except ModuleNotFoundError:
        raise ConfigError(
            "the engine spark needs Airflow's Spark provider; install it: pip install 'pingmesh-airflow[spark]'"
        ) from None
    return SparkSubmitHook


def _master() -> str:
    """Return the master of the connection; without a connection the hook would silently take `yarn`."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return str(Connection.get(CONNECTION).host or "")
    except AirflowNotFoundException:
        raise ConfigError(
            f"define the Airflow connection {CONNECTION!r}, e.g. AIRFLOW_CONN_SPARK_DEFAULT="
            '\'{"conn_type": "spark", "host": "local[2]"}\''
        ) from None
