"""`pingmesh dump`, `pingmesh import-2018`: measurements as records, and old records as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pingmesh_tasks.cli.output import json_option, progress, show, show_faults, wants_json
from pingmesh_tasks.errors import ConfigError, SegmentError
from pingmesh_tasks.settings import load_settings

if TYPE_CHECKING:
    import polars as pl

#: The fields of a record in the order of 2018; names and retransmits, which it had not, last.
FIELDS = (
    *("ts", "src_ip", "src_port", "dst_ip", "dst_port"),
    *("protocol", "scope", "msg_len", "rtt_us", "err_code"),
    *("src", "dst", "retransmits"),
)
_Path = click.Path(exists=True, readable=True, path_type=Path)


@click.command()
@click.argument("segments", nargs=-1, required=True, type=_Path)
@json_option
def dump(segments: tuple[Path, ...]) -> None:
    """Print the records of SEGMENTS: .pms files, or directories with such files.

    One record a line: tab-separated values under a line of names, or JSON objects with --json. A
    damaged segment is left out and reported at the end.
    """
    from pingmesh_tasks.latency.segment import decode_segment

    as_json = wants_json()
    if not as_json:
        click.echo("\t".join(FIELDS))
    faults = []
    with progress("segments", list(_files(segments, "*.pms"))) as files:
        for file in files:
            try:
                _print_records(decode_segment(file.read_bytes()), as_json)
            except SegmentError as error:
                faults.append(f"{file}: {error}. Fetch the segment again, or leave it out.")
            except OSError as error:
                faults.append(f"{file}: cannot be read ({error.strerror}). Check its permissions.")
    if faults:
        show_faults(faults, as_json)
        click.get_current_context().exit(1)


@click.command("import-2018")
@click.argument("records", nargs=-1, required=True, type=_Path)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write one Parquet file of the table `probe`, and nothing to the bucket.",
)
@json_option
def import_2018(records: tuple[Path, ...], output: Path | None) -> None:
    """Import RECORDS of the Pingmesh of 2018: .ndjson files, or directories with such files.

    They become the tables `probe` and `pair_latency` of their windows (PINGMESH_WINDOW_S) in the
    bucket, replacing what an earlier import wrote. Its round trips were measured in user space:
    compare them with each other, and not with those of an agent.
    """
    import polars as pl

    from pingmesh_tasks.latency.records_2018 import read_2018

    files = list(_files(records, "*.ndjson"))
    with progress("reading", files) as reading:
        probes = pl.concat([read_2018(file) for file in reading]).sort("ts", "src", "dst")
    if probes.is_empty():
        raise ConfigError(f"{files[0]}: has no record. Name files with records of 2018.")
    facts = {
        "files": len(files),
        "records": probes.height,
        "failed": int((probes["err_code"] != 0).sum()),
        "first": probes["ts"][0].isoformat(),
        "last": probes["ts"][-1].isoformat(),
        "pairs": probes.select("src", "dst").n_unique(),
    }
    where = _write_file(probes, output) if output else _write_bucket(probes)
    text = "{records} records of {pairs} pairs from {files} files, {first} to {last}, {failed} failed"
    show(facts | {"written": where}, f"{text.format(**facts)}; written to {where}")


def _files(paths: tuple[Path, ...], pattern: str) -> Iterator[Path]:
    """Yield the files, and those in the directories. Raises ConfigError where there is none."""
    for path in paths:
        found = sorted(path.rglob(pattern)) if path.is_dir() else [path]
        if not found:
            raise ConfigError(f"{path}: has no file {pattern}. Name files, or a directory with some.")
        yield from found


def _print_records(probes: pl.DataFrame, as_json: bool) -> None:
    import polars as pl

    records = probes.select(FIELDS).with_columns(pl.col("ts").dt.to_string("iso:strict"))
    for record in records.iter_rows(named=True):
        if as_json:
            click.echo(json.dumps(record))
        else:
            click.echo("\t".join("" if value is None else str(value) for value in record.values()))


def _write_file(probes: pl.DataFrame, output: Path) -> str:
    try:
        probes.write_parquet(output, compression="zstd")
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written ({error}). Choose another file.") from None
    return str(output)


def _write_bucket(probes: pl.DataFrame) -> str:
    from pingmesh_tasks.orchestration.installation import open_local_store
    from pingmesh_tasks.pipeline.import_2018 import split_windows, write_windows

    settings = load_settings()
    store = open_local_store(settings)
    store.ensure_bucket()
    windows = split_windows(probes, settings.window_s)
    with progress("writing windows", write_windows(store, windows), length=len(windows)) as writing:
        written = [window.id for window in writing]
    return f"bucket {settings.s3_bucket}, {len(written)} windows from {written[0]} to {written[-1]}"
