"""The demo's inbox: what Slack, e-mail and a webhook would have received, on one page, without any account.

    python -m pingmesh_tasks.demo.inbox --root .demo/inbox --smtp-port 18025 --port 18026

A real SMTP server (aiosmtpd) and a real HTTP server (uvicorn) on loopback take what is sent, keep the last messages on
disk, and show them (`inbox_http`) with the moment of arrival in µs. Senders speak to it as to the real thing.

Nothing that was received is trusted: the page sets texts, never HTML; an e-mail's HTML is shown in a frame without
scripts, forms or network; every size is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP

from pingmesh_tasks.demo.inbox_http import build_app
from pingmesh_tasks.demo.inbox_store import MAX_MAIL_BYTES, Inbox, MailSink
from pingmesh_tasks.errors import ConfigError

LOOPBACK = "127.0.0.1"
SMTP_PORT, HTTP_PORT = 18025, 18026


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
    app = build_app(inbox, [LOOPBACK, "localhost"])
    config = uvicorn.Config(app, LOOPBACK, http_port, log_level="warning", timeout_graceful_shutdown=2)
    try:
        await Server(config).serve()
    finally:
        mail.close()


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
