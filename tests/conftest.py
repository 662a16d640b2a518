"""Fixtures that start what a user has: a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.objects import ObjectStore, S3Access

pytest_plugins = ["tests.support.skips"]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedObjectStore]:
    server = EmbeddedObjectStore(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(s3_server: EmbeddedObjectStore, request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    """An empty bucket of its own on the session's S3 server, gone afterwards: each holds volumes of the server."""
    access = s3_server.access
    bucket = f"test-{abs(hash(request.node.nodeid)) % 10**12}"
    store = ObjectStore(S3Access(bucket, access.access_key_id, access.secret_access_key, access.endpoint))
    store.ensure_bucket()
    yield store
    if s3_server.is_running:
        client = boto3.client(
            "s3",
            endpoint_url=access.endpoint,
            region_name=access.region,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
        )
        with suppress(StoreError, ClientError, BotoCoreError):  # a test may have killed the server
            store.delete(store.keys(""))
            client.delete_bucket(Bucket=bucket)


@pytest.fixture
def repo() -> Path:
    return Path(__file__).parents[1]
