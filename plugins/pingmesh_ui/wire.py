"""How an answer goes out: encoded, tagged, cacheable where it never changes, and with the headers of a strict page."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import zstandard
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
FOREVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
NEVER = "no-store"
#: Smaller answers are not worth compressing.
SMALL_BYTES = 600
#: gzip takes 20 ms a MB, longer than a network over which a browser offers no zstd (plain HTTP, by address) needs.
LARGE_BYTES = 4_000_000
#: What a spreadsheet takes for a formula, were it the first character of a cell.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class StrictHeaders:
    """ASGI middleware: HEADERS on every answer, errors included, and no answer without a Content-Encoding.

    Airflow compresses what has none, with gzip 5: 0.8 s for a full matrix.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Encoding", "identity")
                headers.setdefault("Cache-Control", NEVER)
            await send(message)

        await self.app(scope, receive, send_strictly)


def answer(
    request: Request,
    body: bytes | Callable[[], bytes],
    media_type: str,
    *,
    tag: str | None = None,
    forever: bool = False,
    filename: str | None = None,
) -> Response:
    """Return `body` as the request can take it; 304 without making the body where the client has it already.

    `tag` names the content; without one it is the hash of the body.
    """
    if tag is None:
        body = body() if callable(body) else body
        tag = hashlib.sha256(body).hexdigest()[:20]
    encoding = _encoding(request.headers.get("accept-encoding", ""))
    headers = {
        "ETag": f'W/"{tag}"',
        "Cache-Control": FOREVER if forever else ASK_AGAIN,
        "Vary": "Accept-Encoding",
    }
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    data = body() if callable(body) else body
    if len(data) < SMALL_BYTES or (encoding == "gzip" and len(data) > LARGE_BYTES):
        encoding = "identity"
    headers["Content-Encoding"] = encoding
    if filename:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return Response(_ENCODE[encoding](data), media_type=media_type, headers=headers)


def json_bytes(value: Any) -> bytes:
    """Return JSON that is inert in HTML too, should anybody put it there."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def csv_bytes(rows: Iterable[Mapping[str, Any] | Sequence[Any]], columns: Sequence[str]) -> bytes:
    """Return a table for a spreadsheet: UTF-8 with a mark, texts that would be formulas made texts by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        values = [row.get(column) for column in columns] if isinstance(row, Mapping) else row
        writer.writerow([_cell(value) for value in values])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def failure(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, dict(headers or {}))


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "'" + text if text.startswith(FORMULA) else text


def _encoding(accepted: str) -> str:
    """Return the best encoding that the client offers; a refused one (`q=0`) is not offered."""
    offered = set()
    for part in accepted.lower().split(","):
        name, _, parameter = part.strip().partition(";")
        if parameter.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            offered.add(name.strip())
    return "zstd" if "zstd" in offered else "gzip" if "gzip" in offered else "identity"


def _has(given: str, tag: str) -> bool:
    return given.strip() == "*" or any(one.strip().removeprefix("W/").strip('"') == tag for one in given.split(","))


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


_ENCODE: Mapping[str, Callable[[bytes], bytes]] = {"zstd": _zstd, "gzip": _gzip, "identity": lambda data: data}
