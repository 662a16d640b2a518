"""The mesh that the page's API tells of in its tests: sixty hosts over five windows, the newest some minutes old."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from pingmesh_tasks.windows import Window
from tests.support.page_api_server import TOKEN
from tests.support.page_data import MadeMesh, inventory_of

HOSTS, WINDOWS = 60, 5
END = datetime(2026, 11, 21, 22, 10, 30, tzinfo=UTC)
NEWEST = "20261121T220500Z"
MESH_WINDOW = Window.parse(NEWEST, 300)
MESH = MadeMesh(inventory_of(HOSTS))
NAMES = MESH.names


@contextmanager
def clock_at_end() -> Iterator[None]:
    """Let the API think that it is END."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return END if tz else END.replace(tzinfo=None)

    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "pingmesh_tasks.queries.page",
            "pingmesh_tasks.queries.table_lists",
            "pingmesh_tasks.queries.window_index",
        ):
            patch.setattr(f"{name}.datetime", Clock)
        patch.setattr("pingmesh_ui.api.datetime", Clock)
        yield


def client_of(url: str) -> httpx.Client:
    """Whoever may ask."""
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30)


def ask(client: httpx.Client, path: str, **query: Any) -> Any:
    """Return the JSON that the API answers with."""
    answer = client.get(f"/api/v1/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()
