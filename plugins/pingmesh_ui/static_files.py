"""The files of `static/`, each under the hash of the whole tree, so that a browser may keep it for a year."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pingmesh_tasks import bundled

FOLDER = bundled.files("static", "pingmesh_ui")
#: What `index.html` writes where the hash of the tree belongs.
PLACEHOLDER = "static/@/"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True)
class StaticFiles:
    """A folder's files by their path in it. What is not one of them is not served: no path leads out of it."""

    folder: Path = FOLDER

    @cached_property
    def _paths(self) -> dict[str, Path]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    @cached_property
    def version(self) -> str:
        """Hash of all paths and contents."""
        digest = hashlib.sha256()
        for name, path in self._paths.items():
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def read(self, name: str) -> bytes | None:
        path = self._paths.get(name)
        return None if path is None else path.read_bytes()

    def index(self) -> bytes:
        """Return `index.html` with the hash of the tree in its links."""
        page = self.read("index.html") or b"<!doctype html><title>Pingmesh</title><p>The page is not built."
        return page.replace(PLACEHOLDER.encode(), f"static/{self.version}/".encode())


def type_of(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
