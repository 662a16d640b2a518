"""The Spark jobs on a real Spark: the same tables as the engine of one machine, from files and through S3A."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from pingmesh_tasks.access.grammar import AccessSinks, parse_access_log, write_access_tables
from pingmesh_tasks.demo.access_log import BENCHMARK, generate
from pingmesh_tasks.demo.made_up_sessions import Profile
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.orchestration import spark
from pingmesh_tasks.pipeline.run import Run
from pingmesh_tasks.settings import load_settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.schemas import check_schema
from pingmesh_tasks.windows import Window
from tests.support.needs import lack, require
from tests.support.raw_objects import raw_object
from tests.support.samples import log_names, log_sample

pytestmark = pytest.mark.integration

REPO = Path(__file__).parents[2]
JOB = REPO / "spark_jobs" / "build_access_tables.py"
FIRST = Window.parse("20261121T225500Z", 300)
SECOND = FIRST.shifted(1)  # in the next hour: another partition
TIMEOUT_S = 300


@dataclass(frozen=True)
class Log:
    """A log of one server, and how it is read."""

    window: Window
    data: bytes
    timezone: str = "UTC"
    drop: tuple[str, ...] = ()

    @property
    def reading(self) -> dict:
        return {"timezone": self.timezone, "drop": self.drop}


def logs() -> dict[str, Log]:
    paths = [log_sample(name) for name in log_names()]
    found = {path.stem: Log((FIRST, SECOND)[i % 2], path.read_bytes()) for i, path in enumerate(paths)}
    made = b"".join(generate(lines=40_000, seed=7, profile=BENCHMARK))
    return found | {
        "busy": Log(FIRST, made, "Asia/Shanghai"),
        "busy-filtered": Log(SECOND, made, "America/New_York", (r"GetNci called", r"from user\d+@")),
        "per-connection": Log(
            FIRST, b"".join(generate(users=100, seed=8, profile=Profile(mode="inetd"))), "Europe/Berlin"
        ),
        "noise": Log(FIRST, random.Random(9).randbytes(300_000) + b"\n"),
        "endless": Log(SECOND, b"x" * 5_000_000 + b"\n"),
        "silent": Log(FIRST, b""),
    }


LOGS = logs()


def object_of(log: Log) -> bytes:
    piece = {"path": "/var/log/mdsip.log", "device": 1, "inode": 2, "start": 0, "end": len(log.data), "sha256": ""}
    return raw_object({"kind": "access", "window": log.window.id, "pieces": [piece]}, [log.data])


def keys_of(server: str, window: Window) -> tuple[str, str, str]:
    tables = (layout.table(table, window, server) for table in ("client", "operation"))
    return (*tables, layout.quarantined_lines("access", window, server))


def arguments(root: str, servers: dict[str, Log], end: Window) -> list[str]:
    described = [json.dumps({"name": name, **log.reading}) for name, log in servers.items()]
    window = ["--window-s", "300", "--from", FIRST.id, "--to", end.id]
    return ["--root", root, *window, *(word for text in described for word in ("--server", text))]


@pytest.fixture(scope="module")
def home() -> Path:
    require("java", "spark")
    return spark.spark_home()


@pytest.fixture(scope="module")
def job(home, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The root, and how the job ended that built everything there at once."""
    root = tmp_path_factory.mktemp("objects")
    for name, log in LOGS.items():
        path = root / layout.raw_log("access", name, log.window)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(object_of(log))
    whole = object_of(LOGS["busy"])
    for name, window, data in (("damaged", SECOND, whole[:-100]), ("late", SECOND.shifted(1), whole)):
        path = root / layout.raw_log("access", name, window)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    servers = {**LOGS, "damaged": Log(SECOND, b""), "late": Log(SECOND, b""), "never-collected": Log(FIRST, b"")}
    command = [str(home / "bin" / "spark-submit"), "--master", "local[2]", "--conf", "spark.ui.enabled=false"]
    environment = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
    ended = subprocess.run(
        [*command, str(JOB), *arguments(root.as_uri(), servers, SECOND.shifted(1))],
        env=environment,
        cwd=root.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # spark-submit mixes what a job prints anyway
        text=True,
        timeout=TIMEOUT_S,
    )
    return root, ended


@pytest.mark.parametrize("name", LOGS)
def test_both_engines_make_the_same_tables(job, name, tmp_path):
    root, ended = job
    log = LOGS[name]
    client, operation, rejected = (root / key for key in keys_of(name, log.window))
    assert client.exists(), ended.stdout[-3000:]

    expected = parse_access_log(log.data, server=name, **log.reading)
    for table, file, frame in (("client", client, expected.client), ("operation", operation, expected.operation)):
        built = pl.read_parquet(file)
        check_schema(table, built)
        assert built.equals(frame)
    assert [json.loads(line) for line in rejected.read_bytes().splitlines()] == expected.rejected.to_dicts()

    sinks = AccessSinks(*(tmp_path / part for part in ("client", "operation", "rejected")))
    write_access_tables(log.data, sinks, server=name, **log.reading)
    for file, twin in ((client, sinks.client), (operation, sinks.operation), (rejected, sinks.rejected)):
        assert file.read_bytes() == twin.read_bytes()


def test_the_sums_account_for_every_line(job):
    sums = json.loads(next(line for line in job[1].stdout.splitlines() if line.startswith('{"objects"')))
    parsed = [parse_access_log(log.data, server=name, **log.reading) for name, log in LOGS.items()]
    assert sums["objects"] == 2 * (len(LOGS) + 3)
    assert sums["objects"] - sums["missing"] == len(LOGS) + 1
    assert sums["lines"] == sum(tables.lines for tables in parsed)
    assert sums["dropped"] == sum(tables.dropped for tables in parsed) > 0
    assert sums["lines"] == sums["client"] + sums["operation"] + sums["rejected"] + sums["dropped"]


def test_a_damaged_object_is_named_and_has_no_tables_and_the_others_have(job):
    root, ended = job
    assert ended.returncode == 1
    assert f"damaged: {layout.raw_log('access', 'damaged', SECOND)}: the raw object" in ended.stdout
    assert not [key for key in keys_of("damaged", SECOND) if (root / key).exists()]


def test_a_window_that_brought_nothing_has_empty_tables(job):
    root, _ = job
    client, operation, rejected = (root / key for key in keys_of("never-collected", SECOND))
    assert [len(pl.read_parquet(table)) for table in (client, operation)] == [0, 0]
    assert rejected.read_bytes() == b""


def test_nothing_outside_the_windows_asked_for_is_written(job):
    root, _ = job
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    servers = [*LOGS, "damaged", "late", "never-collected"]
    wanted = {key for name in servers for window in (FIRST, SECOND) for key in keys_of(name, window)}
    wanted -= set(keys_of("damaged", SECOND))
    assert {file for file in files if not file.startswith("raw/")} == wanted


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--server", '{"name": "east", "timezone": "Asia/Nowhere"}'], "Asia/Nowhere"),
        (["--server", '{"name": "east", "timezone": "UTC", "drop": ["("]}'], "no regular expression"),
        (["--server", '{"name": "east", "timezone": "UTC", "format": "apache"}'], "no format of an access log"),
        (["--server", '{"name": "east"}'], "timezone"),
        (["--server", '{"name": "east", "timezone": "UTC"}', "--to", FIRST.id], "after --from"),
        (["--server", '{"name": "east", "timezone": "UTC"}', "--from", "yesterday"], "no window id"),
    ],
)
def test_a_wrong_call_is_refused_before_any_spark_starts(words, complaint):
    call = [sys.executable, str(JOB), "--root", "s3a://x", "--from", FIRST.id, "--to", SECOND.id, *words]
    ended = subprocess.run(call, capture_output=True, text=True, timeout=60, cwd="/")
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def inventory(tmp_path, monkeypatch) -> None:
    """An inventory with one data server, and a Spark on this machine."""
    file = tmp_path / "inventory.yaml"
    file.write_text(
        "hosts:\n- {name: a, address: 127.0.0.2}\n- {name: b, address: 127.0.0.3}\n"
        "log_servers:\n- {name: busy, address: 127.0.0.2, path: /var/log/mdsip.log, timezone: Asia/Shanghai}\n"
    )
    monkeypatch.setenv("PINGMESH_INVENTORY", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[2]"}')
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))


@pytest.fixture
def ran_window(inventory, store) -> Run:
    return Run(window=FIRST, settings=load_settings(), store=store, ssh=None)


class ProcessWatch(threading.Thread):
    """Reads the command lines of all processes until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.1):
            self.seen.update(self._command_lines())

    def stop(self) -> None:
        self._done.set()
        self.join()

    @staticmethod
    def _command_lines() -> Iterator[str]:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                yield process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue


def test_the_operator_builds_the_tables_through_s3a_and_shows_no_secret(home, ran_window, store, tmp_path, capfd):
    log = LOGS["busy"]
    store.put(layout.raw_log("access", "busy", FIRST), object_of(log))
    store.put(layout.table("client", FIRST, "busy"), b"what an earlier run left")
    operator = spark.BuildAccessTables(task_id="build_access_tables")
    watch = ProcessWatch()
    watch.start()
    try:
        operator.submit(ran_window)
    except ConfigError as error:
        if "Maven Central" in str(error):
            lack("maven central")
        raise
    finally:
        watch.stop()

    sinks = AccessSinks(*(tmp_path / part for part in ("client", "operation", "rejected")))
    write_access_tables(log.data, sinks, server="busy", **log.reading)
    written = dict(zip(keys_of("busy", FIRST), (sinks.client, sinks.operation, sinks.rejected), strict=True))
    for key, twin in written.items():
        assert store.get(key) == twin.read_bytes()
    assert store.keys("") == sorted([layout.raw_log("access", "busy", FIRST), *written])

    secret = store.access.secret_access_key
    assert any("SparkSubmit" in line and str(JOB) in line for line in watch.seen)
    assert not [line for line in watch.seen if secret in line]
    logged = "".join(capfd.readouterr())
    assert "Spark-Submit cmd" in logged
    assert secret not in logged
    assert secret not in repr(vars(operator))
    assert secret not in os.environ.values()


@pytest.mark.needs("locked spark")
def test_where_maven_central_is_not_reached_the_error_says_what_to_do(home, ran_window, tmp_path, monkeypatch):
    monkeypatch.setattr(spark, "OWN_IVY", tmp_path / "ivy")
    nowhere = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1"
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", f"{nowhere} -Duser.home={tmp_path}")
    with pytest.raises(ConfigError, match="run it once where Maven Central is reached"):
        spark.BuildAccessTables(task_id="build_access_tables").submit(ran_window)


def test_without_a_connection_nothing_is_sent_to_a_default_cluster(home, ran_window, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    with pytest.raises(ConfigError, match="define the Airflow connection 'spark_default'"):
        spark.BuildAccessTables(task_id="build_access_tables").submit(ran_window)


def test_without_a_spark_the_error_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match="make spark"):
        spark.spark_home({"SPARK_HOME": str(tmp_path)})


@pytest.mark.needs("locked spark")
def test_the_packages_fit_the_hadoop_of_the_locked_spark(home):
    assert "exclude_packages" in spark.s3a_packages(home)
    client = next(line for line in (REPO / "requirements.lock").read_text().splitlines() if "pyspark-client==" in line)
    assert client.split()[0].replace("pyspark-client", "pyspark") in (REPO / "requirements-spark.lock").read_text()
