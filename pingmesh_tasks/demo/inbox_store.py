"""What the demo's inbox received: the last messages, on disk, and the SMTP side that takes e-mails, however broken.

A message is a file, named by its number; the oldest go first once there are too many or they are too large.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

KEPT = 500
KEPT_BYTES = 64 << 20
MAX_MAIL_BYTES = 8 << 20
IMAGES = ("image/png", "image/jpeg", "image/gif")


@dataclass(frozen=True, slots=True)
class InboxMessage:
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

    def add(self, channel: str, subject: str, text: str, **more: Any) -> InboxMessage:
        """Keep a message, and let the oldest go where there are too many."""
        arrived_us = time.time_ns() // 1000
        self._last += 1
        message = InboxMessage(f"{self._last:08d}", channel, arrived_us, one_line(subject), text, **more)
        data = json.dumps(asdict(message)).encode()
        part = self._root / f"{message.id}.part"
        part.write_bytes(data)
        part.rename(self._root / f"{message.id}.json")
        self._sizes[message.id] = len(data)
        self._summaries[message.id] = message.summary()
        while len(self._sizes) > KEPT or (sum(self._sizes.values()) > KEPT_BYTES and len(self._sizes) > 1):
            self._forget(next(iter(self._sizes)))
        return message

    def summaries(self, after: str = "", limit: int | None = None) -> list[dict[str, Any]]:
        """Messages with a number above `after`, newest first."""
        newest = [summary for name, summary in reversed(self._summaries.items()) if name > after]
        return newest[:limit]

    def read(self, name: str) -> InboxMessage:
        """Return a message. Raises KeyError where there is none."""
        if name not in self._sizes:
            raise KeyError(name)
        said = json.loads((self._root / f"{name}.json").read_bytes())
        return InboxMessage(**said | {"recipients": tuple(said["recipients"])})

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


def keep_mail(inbox: Inbox, content: bytes, sender: str | None, recipients: Sequence[str]) -> InboxMessage:
    """Keep one e-mail, however broken it is."""
    mail = message_from_bytes(content, policy=policy.default)
    headers = {name: _header(mail, name) for name in ("From", "To", "Subject", "Date", "Message-ID")}
    return inbox.add(
        "email",
        headers["Subject"] or "(no subject)",
        _body(mail, "plain") or "",
        sender=one_line(sender or ""),
        recipients=tuple(map(one_line, recipients)),
        headers={name: value for name, value in headers.items() if value},
        html=_with_images(mail, html) if (html := _body(mail, "html")) is not None else None,
        raw=content.decode("utf-8", "replace"),
    )


def _header(mail: EmailMessage, name: str) -> str:
    try:
        return one_line(str(mail.get(name, "")))
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


def one_line(text: str) -> str:
    """`text` on one line of at most 300 characters."""
    return " ".join(text.split())[:300]
