"""A server of another owner, to see which credentials are sent to it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Requests(list[dict[str, str]]):
    """The headers of every request that a server of another owner got."""

    endpoint = ""

    @property
    def access_keys(self) -> list[str]:
        return [headers["authorization"].split("Credential=")[1].split("/")[0] for headers in self]


@contextmanager
def other_server(certificate: Path | None = None) -> Iterator[Requests]:
    """An S3 server of another owner: accepts everything and keeps the headers."""
    requests = Requests()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            requests.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("ETag", '"tag"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_PUT

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        requests.endpoint = f"http://127.0.0.1:{server.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            requests.endpoint = requests.endpoint.replace("http:", "https:")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield requests
        server.shutdown()
