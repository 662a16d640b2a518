"""The error that ends a start."""

from __future__ import annotations


class StartError(Exception):
    """Why an agent cannot start: an exit code, and one line for the operator."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
