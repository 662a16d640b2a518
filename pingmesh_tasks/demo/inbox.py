"""The demo's inbox: what Slack, e-mail and a webhook would have received, on one page, without any account.

    python -m pingmesh_tasks.demo.inbox --root .demo/inbox --smtp-port 18025 --port 18026

A real SMTP server (aiosmtpd) and a real HTTP server (uvicorn) on loopback take what is sent, keep the last messages on
disk, and show them: `GET /` for people, `GET /messages.json` for programs, with the moment of arrival in µs. Senders
speak to it as to the real thing: `POST /services/…` is Slack's incoming webhook, `POST /api/chat.postMessage` its API,
`POST /webhook` takes any JSON.

Nothing that was received is trusted: the page sets texts, never HTML; an e-mail's HTML is shown in a frame without
scripts, forms or network; every size is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pingmesh_tasks.errors import ConfigError

LOOPBACK = "127.0.0.1"
SMTP_PORT, HTTP_PORT = 18025, 18026
KEPT = 500
KEPT_BYTES = 64 << 20
MAX_MAIL_BYTES, MAX_POST_BYTES = 8 << 20, 1 << 20
LISTED = 100
PAGE = Path(__file__).with_name("inbox_page")
ASSETS = {"inbox.css": "text/css", "inbox.js": "text/javascript"}
IMAGES = ("image/png", "image/jpeg", "image/gif")

#: The page runs its own script and nothing else; the frame of an e-mail runs nothing and fetches nothing.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAIL_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"
HARDENED = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came. `subject` and `text` are for a list; `payload` is the JSON of Slack and the webhook."""

    id: str
    channel: str
    arrived_us: int
    subject: str
    text: str
    sender: str = ""
    recipients: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    payload: Any = None
    html: str | None = None
    raw: str = ""

    def summary(self) -> dict[str, Any]:
        """What a list needs: all but the heavy parts."""
        listed = asdict(self)
        listed["text"] = self.text[:4000]
        listed["has_html"] = self.html is not None
        del listed["html"], listed["raw"]
        return listed


class Inbox:
    """The last messages, one file each under `root`; numbers go on after a restart. Raises OSError on a full disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sizes = {file.stem: file.stat().st_size for file in sorted(root.glob("*.json"))}
        self._summaries: dict[str, dict[str, Any]] = {}
        for name in list(self._sizes):
            try:
                self._summaries[name] = self.read(name).summary()
            except (OSError, ValueError, TypeError):
                self._forget(name)
        self._last = max((int(name) for name in self._sizes if name.isdigit()), default=0)

    def add(self, channel: str, subject: str, text: str, **more: Any) -> Message:
        """Keep a message, and let the oldest go where there are too many."""
        arrived_us = time.time_ns() // 1000
        self._last += 1
        message = Message(f"{self._last:08d}", channel, arrived_us, _line(subject), text, **more)
        data = json.dumps(asdict(message)).encode()
        part = self._root / f"{message.id}.part"
        part.write_bytes(data)
        part.rename(self._root / f"{message.id}.json")
        self._sizes[message.id] = len(data)
        self._summaries[message.id] = message.summary()
        while len(self._sizes) > KEPT or (sum(self._sizes.values()) > KEPT_BYTES and len(self._sizes) > 1):
            self._forget(next(iter(self._sizes)))
        return message

    def summaries(self, after: str = "", limit: int = LISTED) -> list[dict[str, Any]]:
        """Messages with a number above `after`, newest first."""
        newest = [summary for name, summary in reversed(self._summaries.items()) if name > after]
        return newest[:limit]

    def read(self, name: str) -> Message:
        """Return a message. Raises KeyError where there is none."""
        if name not in self._sizes:
            raise KeyError(name)
        said = json.loads((self._root / f"{name}.json").read_bytes())
        return Message(**said | {"recipients": tuple(said["recipients"])})

    def counts(self) -> dict[str, int]:
        counts = {"slack": 0, "email": 0, "webhook": 0}
        for summary in self._summaries.values():
            counts[summary["channel"]] += 1
        return counts

    def _forget(self, name: str) -> None:
        self._sizes.pop(name, None)
        self._summaries.pop(name, None)
        (self._root / f"{name}.json").unlink(missing_ok=True)


class MailSink:
    """aiosmtpd's handler: every mail, from and to anyone, is accepted and kept."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        try:
            return f"250 OK kept as {keep_mail(self._inbox, content, envelope.mail_from, envelope.rcpt_tos).id}"
        except OSError as fault:
            return f"451 not kept: {fault.strerror}"


def keep_mail(inbox: Inbox, content: bytes, sender: str | None, recipients: Sequence[str]) -> Message:
    """Keep one e-mail, however broken it is."""
    mail = message_from_bytes(content, policy=policy.default)
    headers = {name: _header(mail, name) for name in ("From", "To", "Subject", "Date", "Message-ID")}
    return inbox.add(
        "email",
        headers["Subject"] or "(no subject)",
        _body(mail, "plain") or "",
        sender=_line(sender or ""),
        recipients=tuple(map(_line, recipients)),
        headers={name: value for name, value in headers.items() if value},
        html=_with_images(mail, html) if (html := _body(mail, "html")) is not None else None,
        raw=content.decode("utf-8", "replace"),
    )


def build_app(inbox: Inbox) -> Starlette:
    """The HTTP side of `inbox`."""

    async def page(_: Request) -> Response:
        return Response(
            (PAGE / "index.html").read_bytes(),
            media_type="text/html",
            headers=HARDENED | {"Content-Security-Policy": PAGE_POLICY},
        )

    async def asset(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        return Response((PAGE / name).read_bytes(), media_type=ASSETS[name], headers=HARDENED)

    async def messages(request: Request) -> Response:
        limit = request.query_params.get("limit", str(LISTED))
        chosen = inbox.summaries(request.query_params.get("after", ""), int(limit) if limit.isdigit() else LISTED)
        document = {"now_us": time.time_ns() // 1000, "counts": inbox.counts(), "messages": chosen}
        return JSONResponse(document, headers=HARDENED)

    async def raw(request: Request) -> Response:
        try:
            message = inbox.read(request.path_params["name"])
        except KeyError:
            return PlainTextResponse("there is no such message", 404)
        return PlainTextResponse(message.raw, headers=HARDENED | {"Content-Security-Policy": "sandbox"})

    async def html(request: Request) -> Response:
        try:
            message = inbox.read(request.path_params["name"])
        except KeyError:
            return PlainTextResponse("there is no such message", 404)
        content = message.html if message.html is not None else ""
        return Response(content, media_type="text/html", headers=HARDENED | {"Content-Security-Policy": MAIL_POLICY})

    async def slack_webhook(request: Request) -> Response:
        payload, text = await _posted(request)
        if not isinstance(payload, dict):
            return PlainTextResponse("invalid_payload", 400)
        inbox.add("slack", _slack_subject(payload), _slack_text(payload), sender="webhook", payload=payload, raw=text)
        return PlainTextResponse("ok")

    async def slack_api(request: Request) -> Response:
        method = request.path_params["method"]
        if method == "auth.test":
            return JSONResponse({"ok": True, "team": "demo", "user": "pingmesh"})
        if method != "chat.postMessage":
            return JSONResponse({"ok": False, "error": "unknown_method"})
        payload, text = await _posted(request)
        if not isinstance(payload, dict) or not payload.get("channel"):
            return JSONResponse({"ok": False, "error": "channel_not_found"})
        channel = str(payload["channel"])
        message = inbox.add(
            "slack", _slack_subject(payload), _slack_text(payload), sender="API", recipients=(_line(channel),),
            payload=payload, raw=text,
        )  # fmt: skip
        seconds, micros = divmod(message.arrived_us, 1_000_000)
        return JSONResponse({"ok": True, "channel": channel, "ts": f"{seconds}.{micros:06d}", "message": payload})

    async def webhook(request: Request) -> Response:
        payload, text = await _posted(request)
        subject = "(no JSON)"
        if isinstance(payload, dict):
            named = [payload.get(name) for name in ("title", "subject", "text", "summary", "message")]
            subject = next((value for value in named if isinstance(value, str) and value), "JSON")
        message = inbox.add("webhook", subject, "", sender=request.url.path, payload=payload, raw=text)
        return JSONResponse({"ok": True, "id": message.id})

    async def refuse(_: Request, fault: Exception) -> Response:
        return PlainTextResponse(f"more than {MAX_POST_BYTES} bytes are not taken here", 413)

    async def full(_: Request, fault: Exception) -> Response:
        return PlainTextResponse(f"not kept: {fault}", 507)

    return Starlette(
        routes=[
            Route("/", page),
            *(Route(f"/{name}", asset) for name in ASSETS),
            Route("/messages.json", messages),
            Route("/messages/{name}/raw", raw),
            Route("/messages/{name}/html", html),
            Route("/services/{rest:path}", slack_webhook, methods=["POST"]),
            Route("/api/{method}", slack_api, methods=["POST"]),
            Route("/webhook", webhook, methods=["POST"]),
            Route("/webhook/{rest:path}", webhook, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])],
        exception_handlers={_TooLarge: refuse, OSError: full},
    )


async def serve(root: Path, smtp_port: int, http_port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError where a port cannot be had."""
    inbox, loop = Inbox(root), asyncio.get_running_loop()

    def smtp() -> SMTP:
        return SMTP(MailSink(inbox), hostname="inbox.demo", data_size_limit=MAX_MAIL_BYTES, enable_SMTPUTF8=True,
                    ident="pingmesh demo inbox", loop=loop)  # fmt: skip

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"ready: SMTP on port {smtp_port}, HTTP on port {http_port}", flush=True)

    try:
        mail = await loop.create_server(smtp, LOOPBACK, smtp_port)
    except OSError as fault:
        raise ConfigError(f"the inbox cannot listen on {LOOPBACK} port {smtp_port}: {fault.strerror}") from None
    config = uvicorn.Config(build_app(inbox), LOOPBACK, http_port, log_level="warning", timeout_graceful_shutdown=2)
    try:
        await Server(config).serve()
    finally:
        mail.close()


class _TooLarge(Exception):
    """A request with more than MAX_POST_BYTES."""


async def _posted(request: Request) -> tuple[Any, str]:
    """(the JSON, or None; the text) of a POST. Slack's clients also send a form, with the JSON in `payload`."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_POST_BYTES:
            raise _TooLarge
    text = data.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        if "x-www-form-urlencoded" in request.headers.get("content-type", ""):
            form: dict[str, Any] = dict(parse_qsl(text))
            for name in ("blocks", "attachments"):
                if name in form:
                    form[name] = json.loads(form[name])
            return (json.loads(form["payload"]) if "payload" in form else form), text
        return json.loads(text), text
    return None, text


def _slack_subject(payload: dict[str, Any]) -> str:
    """The first line of what a notification would show."""
    return _slack_text(payload).partition("\n")[0] or "(blocks only)"


def _slack_text(payload: dict[str, Any]) -> str:
    text = payload.get("text")
    return text if isinstance(text, str) else ""


def _header(mail: EmailMessage, name: str) -> str:
    try:
        return _line(str(mail.get(name, "")))
    except Exception:  # the e-mail package raises many kinds for broken headers
        return "(unreadable)"


def _body(mail: EmailMessage, kind: str) -> str | None:
    try:
        part = mail.get_body((kind,))
        content = part.get_content() if part is not None else None
    except Exception:  # as above, for broken parts and charsets nobody knows
        return f"(the {kind} part cannot be read)"
    return content if isinstance(content, str) else None


def _with_images(mail: EmailMessage, html: str) -> str:
    """`html` with the images that come with the mail (`cid:`) in it, since its frame may fetch nothing."""
    images: dict[str, str] = {}
    for part in mail.walk():
        name, kind = str(part.get("Content-ID", "")).strip("<> \t\r\n"), part.get_content_type()
        if name and kind in IMAGES:
            with suppress(Exception):
                data = part.get_payload(decode=True)
                images[name] = f"data:{kind};base64,{base64.b64encode(bytes(data)).decode()}"
    return re.sub(r"cid:([^\"'\s>)]+)", lambda found: images.get(found[1], found[0]), html)


def _line(text: str) -> str:
    """`text` on one line of at most 300 characters."""
    return " ".join(text.split())[:300]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the inbox in the foreground until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m pingmesh_tasks.demo.inbox", description=main.__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where messages are kept")
    parser.add_argument("--smtp-port", type=int, default=SMTP_PORT, help=f"({SMTP_PORT})")
    parser.add_argument("--port", type=int, default=HTTP_PORT, help=f"of the page ({HTTP_PORT})")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn takes them, and sends them to us again once it has ended
    try:
        asyncio.run(serve(options.root, options.smtp_port, options.port))
    except ConfigError as error:
        sys.exit(f"inbox: {error}")


if __name__ == "__main__":
    main()
