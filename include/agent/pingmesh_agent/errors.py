"""The error that a start can end with."""

from __future__ import annotations


class StartError(Exception):
    """Why an agent cannot start: exit code and one line that says what to do."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
