"""Build the access tables on Spark: raw objects of many windows and servers → `client`, `operation`, rejected lines.

    spark-submit spark_jobs/build_access_tables.py --root s3a://pingmesh --window-s 300 \\
        --from 20261121T000000Z --to 20261122T000000Z --server '{"name": "east", "timezone": "Asia/Shanghai"}'

The Python of the driver needs this package; the executors get it from the driver.

Reads `raw/access/…` of the windows that start in [from, to) and writes the three objects of each under the keys that
the stage of one machine writes; those of a window that brought nothing are empty. Run again, it replaces them with the
same bytes.

One grammar, one writer. A regular expression means something else in Java than in Rust, a DataFrame of Spark's has no
unsigned columns, and its writer names files itself. So the executors run `access.grammar.write_access_tables`, as the
stage does: Spark hands out the objects, one whole object to a task's hands at a time, and keeps the finished files on
the executors' disks. The driver puts them in their places through Hadoop's file system, one after the other: they are
some thirtieth of the log, a put replaces a whole object or nothing, and a task that is run twice writes nothing twice.

Memory: an executor holds the packed bytes of an object twice (in the JVM and in Python) and the grammar's few pieces;
the driver holds the files of one task: of TASK_BYTES of packed logs, or of one object. Files in the making lie in the
temporary directory.

Ends with 0 and one line of JSON, the sums; with 1 where a raw object is damaged (the others are built all the same),
with 2 where it was called wrongly.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pingmesh_tasks
from pingmesh_tasks.errors import ConfigError, PingmeshError
from pingmesh_tasks.store import layout
from pingmesh_tasks.windows import Window

PIECE_BYTES = 1 << 20
#: Packed bytes of the objects that one task works through; one that is larger has a task of its own.
TASK_BYTES = 32 << 20
COUNTS = ("lines", "client", "operation", "rejected", "dropped")
FILE_SCHEME, S3_SCHEME = "file:///", "s3a://"


@dataclass(frozen=True)
class LogFormat:
    """How the log of one server is read: what the inventory says of it."""

    name: str
    timezone: str
    format: str = "mdsip"
    drop: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> LogFormat:
        """Read one `--server` and try it on no line at all. Raises ArgumentTypeError that says what is wrong."""
        from pingmesh_tasks.access.grammar import parse_access_log

        try:
            given = json.loads(text)
            log = cls(**{**given, "drop": tuple(given.get("drop", ()))})
            parse_access_log(b"", server=log.name, **log.reading())
        except (ValueError, TypeError, AttributeError, ConfigError) as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from None
        return log

    def reading(self) -> dict[str, Any]:
        """What the grammar wants to know beside the server's name."""
        return {"timezone": self.timezone, "drop": self.drop, "format": self.format}


@dataclass(frozen=True)
class RawObject:
    """One object to build tables of, and their keys."""

    key: str
    log: LogFormat
    client: str
    operation: str
    rejected: str


#: What an executor gives back of an object: (key, bytes) for each piece of the files that it becomes, those of a file
#: in their order; last (raw key, counts), or (raw key, what is wrong with it). Tuples: Spark pickles a class with each.
Item = tuple[str, bytes | dict[str, int] | str]


@dataclass
class Sums:
    """What the job did. lines == client + operation + rejected + dropped.

    Of the `objects` some are `missing`: a window that brought nothing has empty tables. `seconds` are those without the
    start of Spark.
    """

    objects: int = 0
    missing: int = 0
    lines: int = 0
    client: int = 0
    operation: int = 0
    rejected: int = 0
    dropped: int = 0
    damaged: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, source: str, outcome: dict[str, int] | str) -> None:
        self.objects += 1
        if isinstance(outcome, str):
            self.damaged.append(f"{source}: {outcome}")
            return
        for name, count in outcome.items():
            setattr(self, name, getattr(self, name) + count)


def raw_objects(start: Window, end: Window, servers: Iterable[LogFormat]) -> Iterator[RawObject]:
    """Name the objects of every server and every window in [start, end), whether they exist or not."""
    logs = list(servers)
    window = start
    while window < end:
        for log in logs:
            yield RawObject(
                key=layout.raw_log("access", log.name, window),
                log=log,
                client=layout.table("client", window, log.name),
                operation=layout.table("operation", window, log.name),
                rejected=layout.quarantined_lines("access", window, log.name),
            )
        window = window.shifted(1)


def build(raw: RawObject, packed: bytes | None) -> Iterator[Item]:
    """Yield the files of one raw object in pieces, then its counts; empty tables where there is none (None).

    Runs on an executor. A damaged object yields what is wrong with it and no piece: all of it is read before the first.
    """
    from pingmesh_tasks.access.grammar import AccessSinks, write_access_tables
    from pingmesh_tasks.access.raw import RawObjectError, read_raw

    with tempfile.TemporaryDirectory(prefix="pingmesh-") as scratch:
        sinks = AccessSinks(*(Path(scratch, name) for name in ("client", "operation", "rejected")))
        try:
            lines = b"" if packed is None else read_raw(packed)
            counts = write_access_tables(lines, sinks, server=raw.log.name, **raw.log.reading())
        except RawObjectError as error:
            yield raw.key, str(error)
            return
        files = {raw.client: sinks.client, raw.operation: sinks.operation, raw.rejected: sinks.rejected}
        for key, file in files.items():
            with file.open("rb") as opened:
                yield key, opened.read(PIECE_BYTES)
                while data := opened.read(PIECE_BYTES):
                    yield key, data
        yield raw.key, {name: getattr(counts, name) for name in COUNTS}


def publish(items: Iterable[Item], target: Root, scratch: Path, sums: Sums | None = None) -> Sums:
    """Put the files in their places, an object's three when all of them are whole, and return the sums with them."""
    sums = sums or Sums()
    held: dict[str, Path] = {}
    for key, content in items:
        if isinstance(content, bytes):
            file = held.setdefault(key, scratch / f"held-{len(held)}")
            with file.open("ab") as opened:
                opened.write(content)
            continue
        for place, file in held.items():
            target.put(place, file)
            file.unlink()
        held.clear()
        sums.add(key, content)
    return sums


class Root:
    """The objects below an `s3a://bucket` or a `file:///directory`, through Hadoop's file system."""

    def __init__(self, context: Any, root: str) -> None:
        if not root.startswith((FILE_SCHEME, S3_SCHEME)):
            raise ConfigError(f"--root {root!r} is neither {S3_SCHEME}bucket nor {FILE_SCHEME}directory")
        self.root = root.rstrip("/")
        self._hadoop = context._jvm.org.apache.hadoop.fs
        self._files = self._path("").getFileSystem(context._jsc.hadoopConfiguration())

    def existing(self, raws: Iterable[RawObject]) -> dict[str, RawObject]:
        """Return those that are there, by their URIs. A folder is listed once, however many of them lie in it."""
        there: set[str] = set()
        folders: set[str] = set()
        found = {}
        for raw in raws:
            folder = raw.key.rpartition("/")[0]
            if folder not in folders:
                folders.add(folder)
                there.update(self._list(folder))
            if raw.key in there:
                found[f"{self.root}/{raw.key}"] = raw
        return found

    def put(self, key: str, file: Path) -> None:
        """Replace one object by a local file: as a whole, or not at all."""
        if not self.root.startswith(FILE_SCHEME):
            source = self._hadoop.Path(file.as_uri())
            self._files.copyFromLocalFile(False, True, source, self._path(key))
            return
        target = Path(self.root.removeprefix("file://"), key)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(file, part)
        part.replace(target)

    def _list(self, folder: str) -> Iterator[str]:
        path = self._path(folder)
        if self._files.exists(path):
            for status in self._files.listStatus(path):
                yield f"{folder}/{status.getPath().getName()}"

    def _path(self, key: str) -> Any:
        return self._hadoop.Path(f"{self.root}/{key}")


def run(context: Any, options: argparse.Namespace) -> Sums:
    """Build the tables of what there is in the range."""
    target = Root(context, options.root)
    wanted = list(raw_objects(options.start, options.end, options.server))
    found = target.existing(wanted)
    there = {raw.key for raw in found.values()}
    missing = [raw for raw in wanted if raw.key not in there]
    with tempfile.TemporaryDirectory(prefix="pingmesh-") as scratch:
        sums = publish((item for raw in missing for item in build(raw, None)), target, Path(scratch))
        sums.missing = len(missing)
        if found:
            context.addPyFile(str(_package(Path(scratch))))
            plan = {_plain(uri): raw for uri, raw in found.items()}
            objects = context.binaryFiles(",".join(found), 4 * context.defaultParallelism)
            built = objects.flatMap(lambda item: build(plan[_plain(item[0])], item[1])).persist(_disk_only())
            built.foreachPartition(lambda items: None)  # all at once; toLocalIterator goes through them one by one
            publish(built.toLocalIterator(), target, Path(scratch), sums)
        return sums


def _plain(uri: str) -> str:
    """Hadoop writes `file:/x` for `file:///x`."""
    return uri.replace(FILE_SCHEME, "file:/")


def _disk_only() -> Any:
    from pyspark import StorageLevel

    return StorageLevel.DISK_ONLY


def _package(directory: Path) -> Path:
    """Zip this package for the executors: they run the driver's grammar, not one that lies about there."""
    package = Path(pingmesh_tasks.__file__).parent
    with zipfile.ZipFile(directory / "pingmesh_tasks.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            archive.write(file, file.relative_to(package.parent))
    return directory / "pingmesh_tasks.zip"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return root, start and end (windows), server. Ends the process where they are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="s3a://bucket or file:///directory")
    parser.add_argument("--from", required=True, dest="start", metavar="WINDOW", help="id of the first window")
    parser.add_argument("--to", required=True, dest="end", metavar="WINDOW", help="id of the window after the last")
    parser.add_argument("--window-s", type=int, default=300)
    parser.add_argument(
        "--server",
        required=True,
        action="append",
        type=LogFormat.parse,
        metavar="JSON",
        help='{"name", "timezone", and if need be "format" and "drop"}; once for each',
    )
    options = parser.parse_args(arguments)
    try:
        options.start = Window.parse(options.start, options.window_s)
        options.end = Window.parse(options.end, options.window_s)
    except ConfigError as error:
        parser.error(str(error))
    if not options.start < options.end:
        parser.error("--to is the window after the last: it is after --from")
    return options


def main() -> int:
    options = parse_arguments(sys.argv[1:])
    from pyspark import SparkConf, SparkContext

    context = SparkContext.getOrCreate(SparkConf().set("spark.files.maxPartitionBytes", str(TASK_BYTES)))
    started = time.monotonic()
    try:
        sums = run(context, options)
        sums.seconds = round(time.monotonic() - started, 3)
    except PingmeshError as error:
        print(f"build_access_tables: {error}", file=sys.stderr)
        return 2
    finally:
        context.stop()
    print(json.dumps(asdict(sums)))
    for fault in sums.damaged:
        print(f"build_access_tables: damaged: {fault}", file=sys.stderr)
    return bool(sums.damaged)


if __name__ == "__main__":
    sys.exit(main())
