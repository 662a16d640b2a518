"""The HTTP side of the demo's inbox: the page for people, JSON for programs, and what Slack and a webhook answer.

| route | what it is |
|---|---|
| `GET /`, `/messages.json`, `/messages/NAME/raw`, `/messages/NAME/html` | what was received |
| `POST /services/…` | Slack's incoming webhook |
| `POST /api/chat.postMessage`, `/api/auth.test` | Slack's API |
| `POST /webhook`, `/webhook/…` | any JSON |

Nothing that was received is trusted: the page sets texts, never HTML; an e-mail's HTML is shown in a frame without
scripts, forms or network; every size is bounded.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pingmesh_tasks import bundled
from pingmesh_tasks.demo.inbox_store import Inbox, InboxMessage, one_line

MAX_POST_BYTES = 1 << 20
LISTED = 100
PAGE = bundled.files("inbox_page", __package__)
ASSETS = {"inbox.css": "text/css", "inbox.js": "text/javascript"}

#: The page runs its own script and nothing else; the frame of an e-mail runs nothing and fetches nothing.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAIL_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"
HARDENED = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def build_app(inbox: Inbox, hosts: list[str]) -> Starlette:
    """Return the app that receives into `inbox` and shows it, to requests for one of `hosts` only."""
    receive, show = _Receiver(inbox), _Reader(inbox)
    return Starlette(
        routes=[
            Route("/", show.page),
            *(Route(f"/{name}", show.asset) for name in ASSETS),
            Route("/messages.json", show.messages),
            Route("/messages/{name}/raw", show.raw),
            Route("/messages/{name}/html", show.html),
            Route("/services/{rest:path}", receive.slack_webhook, methods=["POST"]),
            Route("/api/{method}", receive.slack_api, methods=["POST"]),
            Route("/webhook", receive.webhook, methods=["POST"]),
            Route("/webhook/{rest:path}", receive.webhook, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={_TooLarge: _refuse, KeyError: _missing, OSError: _full},
    )


class _Reader:
    """What was received, for people and programs."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def page(self, _: Request) -> Response:
        return Response(
            (PAGE / "index.html").read_bytes(),
            media_type="text/html",
            headers=HARDENED | {"Content-Security-Policy": PAGE_POLICY},
        )

    async def asset(self, request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        return Response((PAGE / name).read_bytes(), media_type=ASSETS[name], headers=HARDENED)

    async def messages(self, request: Request) -> Response:
        limit = request.query_params.get("limit", str(LISTED))
        after = request.query_params.get("after", "")
        listed = self._inbox.summaries(after, int(limit) if limit.isdigit() else LISTED)
        document = {"now_us": time.time_ns() // 1000, "counts": self._inbox.counts(), "messages": listed}
        return JSONResponse(document, headers=HARDENED)

    async def raw(self, request: Request) -> Response:
        return PlainTextResponse(self._message(request).raw, headers=HARDENED | {"Content-Security-Policy": "sandbox"})

    async def html(self, request: Request) -> Response:
        return Response(
            self._message(request).html or "",
            media_type="text/html",
            headers=HARDENED | {"Content-Security-Policy": MAIL_POLICY},
        )

    def _message(self, request: Request) -> InboxMessage:
        """Return the message of a request's path. Raises KeyError if there is none of that name."""
        return self._inbox.read(request.path_params["name"])


class _Receiver:
    """What senders post: answered as Slack and a webhook answer."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def slack_webhook(self, request: Request) -> Response:
        payload, text = await _posted(request)
        if not isinstance(payload, dict):
            return PlainTextResponse("invalid_payload", 400)
        self._keep_slack(payload, text, "webhook")
        return PlainTextResponse("ok")

    async def slack_api(self, request: Request) -> Response:
        method = request.path_params["method"]
        if method == "auth.test":
            return JSONResponse({"ok": True, "team": "demo", "user": "pingmesh"})
        if method != "chat.postMessage":
            return JSONResponse({"ok": False, "error": "unknown_method"})
        payload, text = await _posted(request)
        if not isinstance(payload, dict) or not payload.get("channel"):
            return JSONResponse({"ok": False, "error": "channel_not_found"})
        channel = str(payload["channel"])
        message = self._keep_slack(payload, text, "API", one_line(channel))
        seconds, micros = divmod(message.arrived_us, 1_000_000)
        sent = {"ok": True, "channel": channel, "ts": f"{seconds}.{micros:06d}", "message": payload}
        return JSONResponse(sent)

    async def webhook(self, request: Request) -> Response:
        payload, text = await _posted(request)
        subject = _webhook_subject(payload)
        message = self._inbox.add("webhook", subject, "", sender=request.url.path, payload=payload, raw=text)
        return JSONResponse({"ok": True, "id": message.id})

    def _keep_slack(self, payload: dict[str, Any], raw: str, sender: str, *recipients: str) -> InboxMessage:
        given = payload.get("text")
        text = given if isinstance(given, str) else ""
        subject = text.partition("\n")[0] or "(blocks only)"  # the first line of what a notification would show
        return self._inbox.add("slack", subject, text, sender=sender, recipients=recipients, payload=payload, raw=raw)


def _webhook_subject(payload: Any) -> str:
    if not isinstance(payload, dict):
        return "(no JSON)"
    named = (payload.get(name) for name in ("title", "subject", "text", "summary", "message"))
    return next((value for value in named if isinstance(value, str) and value), "JSON")


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


async def _refuse(_: Request, fault: Exception) -> Response:
    return PlainTextResponse(f"more than {MAX_POST_BYTES} bytes are not taken here", 413)


async def _missing(_: Request, fault: Exception) -> Response:
    return PlainTextResponse("there is no such message", 404)


async def _full(_: Request, fault: Exception) -> Response:
    return PlainTextResponse(f"not kept: {fault}", 507)
