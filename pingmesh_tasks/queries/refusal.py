"""Why a question of the page has no answer: a short code for the page, a sentence for whoever reads it."""

from __future__ import annotations

from pingmesh_tasks.errors import PingmeshError


class NoAnswer(PingmeshError):
    """There is nothing at what was asked for. `code` is stable: no_window, no_level, no_host, …"""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
