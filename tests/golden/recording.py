"""Golden artifacts: how results become text or hashes, and how they are compared with `expected/`.

A recording has two kinds of files:

    name.json   artifact → hash or plain value; a difference is reported by artifact
    name.txt    readable text; a difference is reported as a unified diff

The bytes behind a hash are kept during the run, so that a failing test can write them to a folder.
"""

from __future__ import annotations

import base64
import difflib
import gzip
import hashlib
import io
import json
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL
import polars as pl
import pyarrow as pa
from PIL import Image, ImageSequence

from pingmesh_tasks.access.raw import read_raw, read_raw_header

EXPECTED = Path(__file__).parent / "expected"
#: Where the recording was made. Not compared, but quoted where results differ.
ENVIRONMENT = EXPECTED / "environment.json"
RECORD_VARIABLE = "PINGMESH_TEST_RECORD_GOLDEN"
HOW_TO_RECORD = (
    f"If this change is intended, record again with\n"
    f"    {RECORD_VARIABLE}=1 .venv/bin/pytest tests/golden\n"
    f"and review `git diff tests/golden/expected`. Do not record to make an unintended change pass."
)
_DIFF_LINES = 60
#: The packed cells in a timeline page.
_BLOB = re.compile(rb'(?<=^const BLOB = ")(.*)(?=";$)', re.MULTILINE)
_PICTURES = (".png", ".webp", ".gif")


@dataclass
class Recording:
    """Values by file and artifact, and the bytes behind the hashes."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    raw: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def value(self, file: str, artifact: str, value: Any) -> None:
        """Record a plain value."""
        self.values.setdefault(file, {})[artifact] = json.loads(canonical(value))

    def hashed(self, file: str, artifact: str, value: Any) -> None:
        """Record the hash of a value: a frame, bytes, or anything that JSON can write."""
        self._keep(file, artifact, content_of(value))

    def stored_object(self, file: str, key: str, data: bytes) -> None:
        """Record an object of the store by its decoded content, and Parquet by its bytes too."""
        self._keep(file, key, content_of_object(key, data), data)
        if key.endswith(".parquet"):
            self.values[file][key] += f" bytes {digest(data)}"

    def text(self, file: str, text: str) -> None:
        """Record text of a file of its own."""
        self.texts[file] = text.rstrip("\n") + "\n"

    def files(self) -> dict[str, str]:
        """Return the content of every file under `expected/`."""
        made = {name: json.dumps(values, indent=0, sort_keys=True, ensure_ascii=False) + "\n"
                for name, values in self.values.items()}  # fmt: skip
        return made | self.texts

    def _keep(self, file: str, artifact: str, content: bytes, data: bytes | None = None) -> None:
        self.values.setdefault(file, {})[artifact] = digest(content)
        self.raw[file, artifact] = content if data is None else data


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def canonical(value: Any, indent: int | None = None) -> str:
    """Return the JSON of a value with sorted keys; `str` writes what JSON does not know."""
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False, indent=indent)


def content_of(value: Any) -> bytes:
    """Return the bytes that stand for a value: of a frame its schema, then a JSON object a row."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, pl.DataFrame):
        columns = "\n".join(f"{name}: {kind}" for name, kind in value.schema.items())
        return f"{columns}\n\n{value.write_ndjson()}".encode()
    return canonical(value).encode()


def content_of_object(key: str, data: bytes) -> bytes:
    """Return what an object holds: rows of a table, pixels of a picture, or the bytes themselves.

    Compressed data is unpacked: its bytes depend on the version of the library that packed it. A
    segment counts as present, whatever it holds: it is input.
    """
    if key.endswith(".parquet"):
        notes = pl.read_parquet_metadata(io.BytesIO(data))
        notes = {name: text for name, text in notes.items() if name.startswith("pingmesh")}
        return canonical(notes).encode() + b"\n" + content_of(pl.read_parquet(io.BytesIO(data)))
    if key.endswith(_PICTURES):
        return pixels_of(data)
    if key.endswith(".zst"):
        return canonical(read_raw_header(data)).encode() + b"".join(read_raw(data))
    if key.endswith(".html"):
        return _BLOB.sub(
            lambda blob: digest(gzip.decompress(base64.b64decode(blob[1]))).encode(), data
        )
    return b"" if key.endswith(".pms") else data


def pixels_of(data: bytes) -> bytes:
    """Return mode, size and pixels of every frame of a picture."""
    frames = []
    with Image.open(io.BytesIO(data)) as image:
        for frame in ImageSequence.Iterator(image):
            pixels = frame.convert("RGBA")
            frames.append(f"{pixels.size} {image.info.get('duration')}\n".encode())
            frames.append(np.asarray(pixels).tobytes())
    return b"".join(frames)


def compare(recording: Recording, file: str, folder: Path) -> str:
    """Return what differs from the recorded file, else an empty text.

    The actual content of what differs is written to `folder`.
    """
    actual = recording.files().get(file)
    recorded = (EXPECTED / file).read_text() if (EXPECTED / file).exists() else None
    if actual == recorded:
        return ""
    if actual is None:
        return f"{file} is recorded, and the run does not produce it."
    folder.mkdir(parents=True, exist_ok=True)
    (folder / Path(file).name).write_text(actual)
    if file.endswith(".txt"):
        before, after = ((text or "").splitlines() for text in (recorded, actual))
        diff = [*difflib.unified_diff(before, after, "recorded", "actual", lineterm="")]
        return f"{file} differs:\n" + "\n".join(diff[:_DIFF_LINES])
    old, new = json.loads(recorded or "{}"), recording.values[file]
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    for name in changed:
        if data := recording.raw.get((file, name)):
            (folder / name.replace("/", "__")).write_bytes(data)
    lines = [_difference(name, old, new) for name in changed]
    return f"{file}: {len(changed)} artifacts differ:\n" + "\n".join(lines[:_DIFF_LINES])


def environment() -> dict[str, Any]:
    """Return what may change the last digit of a float, a pixel or the bytes of a Parquet file."""
    modules = {"matplotlib": matplotlib, "numpy": np, "pillow": PIL, "polars": pl, "pyarrow": pa}
    versions = {name: module.__version__ for name, module in modules.items()}
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    return {"machine": platform.machine(), "numpy SIMD": sorted(simd), **versions}


def environment_difference() -> str:
    """Return how the environment differs from that of the recording, or an empty text."""
    before, after = json.loads(ENVIRONMENT.read_text()), environment()
    changed = [
        f"{name}: {before.get(name)} → {now}"
        for name, now in after.items()
        if before.get(name) != now
    ]
    return "; ".join(changed)


def record(recording: Recording) -> None:
    """Replace `expected/` by what the run gave."""
    for old in EXPECTED.rglob("*.*"):
        old.unlink()
    for file, text in recording.files().items():
        (EXPECTED / file).parent.mkdir(parents=True, exist_ok=True)
        (EXPECTED / file).write_text(text)
    ENVIRONMENT.write_text(canonical(environment(), 1) + "\n")


def _difference(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    if name not in before:
        return f"  {name}: not recorded"
    if name not in after:
        return f"  {name}: recorded, and missing now"
    shown = [canonical(values[name])[:300] for values in (before, after)]
    return f"  {name}:\n    recorded {shown[0]}\n    actual   {shown[1]}"
