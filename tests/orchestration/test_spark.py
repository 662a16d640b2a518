"""How a Spark job is started, without a Spark: the command, and the environment that holds the key pair."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pingmesh_tasks import bundled
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.orchestration import spark
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store.objects import ObjectStore, S3Access
from pingmesh_tasks.topology.inventory import LogServer
from pingmesh_tasks.windows import Window

WINDOW = Window.parse("20261121T220500Z", 300)
ACCESS = S3Access("bucket", "key", "s3cret", "http://127.0.0.1:8333", "eu-north-1")
SERVER = LogServer("east", "10.0.0.9", "/log", "Asia/Shanghai", drop=("ping",))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Spark whose spark-submit writes down how it was called, and a Java."""
    home = tmp_path / "spark"
    for folder in ("bin", "jars"):
        (home / folder).mkdir(parents=True)
    (home / "jars" / "hadoop-client-api-3.5.0.jar").touch()
    submit = home / "bin" / "spark-submit"
    submit.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$0.called"\nenv > "$0.env"\n[ ! -f "$0.say" ] || { cat "$0.say"; exit 1; }\n'
    )
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.touch()
    for file in (submit, java):
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[2]"}')
    return home


@pytest.fixture
def run(tmp_path: Path) -> Run:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        "hosts: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}]\n"
        "log_servers: [{name: east, address: 10.0.0.9, path: /log, timezone: Asia/Shanghai}]\n"
    )
    settings = load_settings({"PINGMESH_INVENTORY": str(inventory)})
    return Run(WINDOW, settings, ObjectStore(ACCESS), SshAccess("nobody", tmp_path / "known_hosts"))


def job(home: Path, master: str = "local[2]", store: S3Access = ACCESS) -> spark.Submission:
    return spark.access_tables([SERVER], WINDOW, store, master=master, home=home)


def called(home: Path) -> list[str]:
    return (home / "bin" / "spark-submit.called").read_text().splitlines()


def environment(home: Path) -> dict[str, str]:
    lines = (home / "bin" / "spark-submit.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_spark_submit_gets_the_window_and_its_servers(run, home):
    spark.BuildAccessTables(task_id="build").submit(run)
    words = called(home)
    at = words.index(str(bundled.files("spark_jobs") / "build_access_tables.py"))
    arguments = words[at + 1 :]
    assert arguments[:8] == [
        *("--root", "s3a://bucket", "--window-s", "300"),
        *("--from", "20261121T220500Z", "--to", "20261121T221000Z"),
    ]
    described = json.loads(arguments[9])
    assert described == {"name": "east", "timezone": "Asia/Shanghai", "format": "mdsip", "drop": []}
    assert words[words.index("--master") + 1] == "local[2]"
    assert "spark.hadoop.fs.s3a.endpoint=http://127.0.0.1:8333" in words
    assert words[words.index("--name") + 1] == "build_access_tables 20261121T220500Z"


def test_the_key_pair_is_in_the_environment_of_spark_submit_only(run, home, capfd):
    before = dict(os.environ)
    operator = spark.BuildAccessTables(task_id="build")
    operator.submit(run)
    assert environment(home)["AWS_SECRET_ACCESS_KEY"] == "s3cret"
    assert environment(home)["AWS_ACCESS_KEY_ID"] == "key"
    assert environment(home)["PATH"] == os.environ["PATH"]
    assert dict(os.environ) == before
    assert "s3cret" not in " ".join(called(home)) + "".join(capfd.readouterr()) + repr(vars(operator))
    assert "s3cret" not in repr(job(home))


@pytest.mark.parametrize("master", ["yarn", "k8s://https://cluster", "spark://head:7077"])
def test_on_a_cluster_the_key_pair_is_in_no_argument_either(run, home, monkeypatch, master):
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", "host": master}))
    try:
        spark.BuildAccessTables(task_id="build").submit(run)
    except Exception as error:  # on Kubernetes the hook looks for a driver that is not there
        assert master.startswith("k8s"), error
    if (home / "bin" / "spark-submit.called").exists():
        assert "s3cret" not in " ".join(called(home))
        assert environment(home)["AWS_SECRET_ACCESS_KEY"] == "s3cret"


def test_jars_that_cannot_be_fetched_are_named_with_what_to_do(run, home):
    (home / "bin" / "spark-submit.say").write_text("Exception: UNRESOLVED DEPENDENCIES\n[unresolved dependency: x]\n")
    with pytest.raises(ConfigError, match=r"hadoop-aws:3\.5\.0.*run it once where Maven Central is reached"):
        spark.BuildAccessTables(task_id="build").submit(run)


def test_a_job_that_fails_says_how_it_ended(run, home):
    (home / "bin" / "spark-submit.say").write_text("damaged: raw/access/…\n")
    with pytest.raises(Exception, match="damaged: raw/access") as caught:
        spark.BuildAccessTables(task_id="build").submit(run)
    assert not isinstance(caught.value, ConfigError)


def test_a_task_that_is_killed_ends_its_job():
    operator = spark.BuildAccessTables(task_id="build")
    operator.on_kill()  # nothing runs yet
    ended = []
    operator._hook = type("Hook", (), {"on_kill": lambda self: ended.append(True)})()
    operator.on_kill()
    assert ended == [True]


def test_without_a_connection_no_default_cluster_is_asked(run, home, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    with pytest.raises(ConfigError, match="define the Airflow connection 'spark_default'"):
        spark.BuildAccessTables(task_id="build").submit(run)
    assert not (home / "bin" / "spark-submit.called").exists()


def test_only_a_local_master_gets_this_machines_python(home):
    assert "PYSPARK_PYTHON" in job(home).environment
    assert job(home).environment["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert not {"PYSPARK_PYTHON", "SPARK_LOCAL_IP"} & set(job(home, "yarn").environment)
    assert job(home).environment["SPARK_HOME"] == str(home)
    assert job(home).environment["PYTHONPATH"] == str(spark.CHECKOUT)


def test_aws_needs_no_endpoint(home):
    conf = job(home, store=S3Access("bucket", "key", "s3cret", None, "eu-north-1")).arguments["conf"]
    assert not [name for name in conf if name.endswith(("endpoint", "path.style.access"))]
    assert conf["spark.hadoop.fs.s3a.endpoint.region"] == "eu-north-1"
    assert conf["spark.ui.enabled"] == "false"
    assert job(home).arguments["conf"]["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert "spark.jars.ivy" not in conf


def test_our_own_spark_keeps_its_jars_beside_it(home, monkeypatch):
    monkeypatch.setattr(spark, "OWN_SPARK", home)
    assert job(home).arguments["conf"]["spark.jars.ivy"] == str(spark.OWN_IVY)


def test_of_the_aws_sdk_only_what_s3a_calls_is_fetched(home):
    wanted = spark.s3a_packages(home)
    assert wanted["packages"].split(",") == [
        "org.apache.hadoop:hadoop-aws:3.5.0",
        "software.amazon.awssdk:s3:2.35.4",
        "software.amazon.awssdk:s3-transfer-manager:2.35.4",
    ]
    assert "software.amazon.awssdk:bundle" in wanted["exclude_packages"].split(",")


def test_another_hadoop_fetches_what_its_pom_says_and_one_with_s3a_nothing(home):
    (home / "jars" / "hadoop-client-api-3.5.0.jar").rename(home / "jars" / "hadoop-client-api-3.4.9.jar")
    assert spark.s3a_packages(home) == {"packages": "org.apache.hadoop:hadoop-aws:3.4.9"}
    (home / "jars" / "hadoop-aws-3.4.9.jar").touch()
    assert spark.s3a_packages(home) == {}


def test_a_spark_without_hadoop_is_refused(home):
    (home / "jars" / "hadoop-client-api-3.5.0.jar").unlink()
    with pytest.raises(ConfigError, match="is no Spark with Hadoop 3"):
        spark.s3a_packages(home)


def test_a_spark_or_a_java_that_is_missing_is_named(home, tmp_path):
    assert spark.spark_home(os.environ) == home
    with pytest.raises(ConfigError, match="make spark"):
        spark.spark_home({"SPARK_HOME": str(tmp_path)})
    with pytest.raises(ConfigError, match="Java 17"):
        spark.spark_home({"SPARK_HOME": str(home), "JAVA_HOME": str(tmp_path / "none")})
