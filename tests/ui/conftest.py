"""A real Chromium, with pages that notice what must never happen: a CSP violation, a script error, a foreign request.

And the page's API under a real web server, on a real S3 server: over `page_api_mesh`, and over nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.store.objects import ObjectStore
from tests.support import made_up_mesh
from tests.support.browser import headless_chromium
from tests.support.page_api_mesh import END, HOSTS, WINDOWS, client_of, clock_at_end
from tests.support.page_api_server import page_app, serving
from tests.support.page_data import fill


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Address of a page of eight made-up hosts, behind a prefix as under Airflow."""
    with made_up_mesh.serving(made_up_mesh.Mesh(8), prefix="/airflow") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """`open_page(address, **context options)`: a page that shows its first heatmap, unless `ready=False`."""
    faults: list[str] = []
    contexts = []

    def open_(address: str, *, ready: bool = True, **options: Any) -> Any:
        context = browser.new_context(
            **{"viewport": {"width": 1328, "height": 892}, "locale": "en-GB", "reduced_motion": "reduce"} | options
        )
        contexts.append(context)
        origin = urlsplit(address).netloc
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        page.on(
            "request",
            lambda request: (
                None
                if urlsplit(request.url).netloc == origin or request.url.startswith(("blob:", "data:"))
                else faults.append(f"request off the origin: {request.url}")
            ),
        )
        page.set_default_timeout(30_000)
        page.goto(address)
        if ready:
            page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture(scope="session")
def filled(s3_server: EmbeddedObjectStore) -> ObjectStore:
    store = ObjectStore(s3_server.access).in_bucket("page-filled")
    store.ensure_bucket()
    fill(store, HOSTS, WINDOWS, end=END, hostile=True)
    return store


@pytest.fixture(scope="module")
def url(filled: ObjectStore) -> Iterator[str]:
    with clock_at_end(), serving(page_app(filled)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with client_of(url) as client:
        yield client


@pytest.fixture
def empty(store: ObjectStore) -> Iterator[httpx.Client]:
    with clock_at_end(), serving(page_app(store)) as url, client_of(url) as client:
        yield client
