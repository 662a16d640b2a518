"""Parts of a Parquet object: its footer, and the row groups that are wanted, without the rest of it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.objects import ObjectStore

#: What is asked for first; a longer footer takes a second request.
FOOTER_BYTES = 1 << 15
_TRAILER = 8  # length of the footer u32, "PAR1"


@dataclass(frozen=True)
class ParquetObject:
    """One Parquet object of which only the footer was read."""

    store: ObjectStore
    key: str
    metadata: Any  # pyarrow.parquet.FileMetaData

    @classmethod
    def find(cls, store: ObjectStore, key: str) -> ParquetObject | None:
        """Read the footer; None where there is no object. Raises StoreError for an object that is damaged."""
        tail = store.find_tail(key, FOOTER_BYTES)
        if tail is not None:
            wanted = int.from_bytes(tail[-_TRAILER:-4], "little") + _TRAILER
            tail = tail if wanted <= len(tail) else store.find_tail(key, wanted)
        if tail is None:
            return None
        try:
            return cls(store, key, pq.read_metadata(io.BytesIO(tail)))
        except (pa.ArrowInvalid, OSError) as error:
            raise StoreError(f"{key!r} is damaged ({error}); run its window again") from error

    def note(self, name: str) -> bytes | None:
        """Return a note that the writer left in the footer."""
        return (self.metadata.metadata or {}).get(name.encode())

    def note_json(self, name: str) -> dict[str, Any]:
        """Return a note that is a JSON object; empty where there is none."""
        found: dict[str, Any] = json.loads(self.note(name) or b"{}")
        return found

    def groups_with(self, column: str, value: Any) -> list[int]:
        """Return the row groups that may hold `value` in a column: all whose statistics do not rule it out."""
        at = self.metadata.schema.names.index(column)
        held = []
        for group in range(self.metadata.num_row_groups):
            told = self.metadata.row_group(group).column(at).statistics
            if told is None or not told.has_min_max or told.min <= value <= told.max:
                held.append(group)
        return held

    def read(self, row_groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return columns of some row groups; a row group is one request, whatever columns are wanted of it."""
        spans = [self._span(group, set(columns)) for group in row_groups]
        held = [(start, self.store.get_range(self.key, start, length)) for start, length in spans]
        end = max((start + len(data) for start, data in held), default=0)
        with pq.ParquetFile(_Held(held, end), metadata=self.metadata, pre_buffer=False) as file:
            return file.read_row_groups(list(row_groups), columns=list(columns), use_threads=False)

    def _span(self, group: int, columns: set[str]) -> tuple[int, int]:
        """Return where the wanted columns of a row group begin, and how many bytes it is to the end of the last."""
        chunks = [self.metadata.row_group(group).column(at) for at in range(self.metadata.num_columns)]
        wanted = [chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in wanted]
        ends = [start + chunk.total_compressed_size for start, chunk in zip(starts, wanted, strict=True)]
        return min(starts), max(ends) - min(starts)


class _Held(io.RawIOBase):
    """A file of which only some pieces are held. Reading elsewhere is a mistake of ours."""

    def __init__(self, pieces: Sequence[tuple[int, bytes]], size: int) -> None:
        self._pieces, self._size, self._at = pieces, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        for start, data in self._pieces:
            if start <= self._at < start + len(data):
                inside = self._at - start
                piece = data[inside:] if size < 0 else data[inside : inside + size]
                self._at += len(piece)
                return piece
        return b""
