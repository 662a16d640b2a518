"""The object store: anything that speaks S3.
 obstore moves the objects (four times boto3's rate of small ones); boto3 makes the bucket and finds
credentials that are not given (roles, profiles, instance profiles). A put replaces a whole object
or leaves it as it was. Every refusal is a StoreError that names the request, the key and the
server, never the credentials.
 obstore completes what it is not given from `AWS_*` variables: a session token of the environment
was sent to another server with the keys of the connection. So credentials reach obstore by a
provider only, which excludes the variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from pingmesh_tasks.errors import ConfigError, StoreAuthError, StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

_TIMEOUT = timedelta(seconds=30)
_RETRY_TIMEOUT = timedelta(seconds=20)
#: Declared lifetime of an answer of boto3. obstore asks again 5 min before the end, so every 30 s:
#: boto3 renews credentials 10 min before they expire, and what it returns is valid for longer than
#: obstore keeps it.
_CREDENTIAL_TTL = timedelta(minutes=5, seconds=30)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One valid set of credentials, as it is now. No repr shows the secrets."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where the bucket is, and the credentials for it. No repr shows a secret.

    With a key pair (and a `session_token`, if the pair is temporary) these are used as they are.
    Without one, boto3 finds the credentials and renews them before they expire: those of `session`
    (`boto3.session.Session`), else of the default chain (environment, shared files, container role,
    instance profile).

    `endpoint` None means AWS. `verify` False accepts any TLS certificate; a path names a file of CA
    certificates that are trusted beside the system's.
    """

    bucket: str
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    region: str = "us-east-1"
    session_token: str | None = field(default=None, repr=False)
    verify: bool | str = True
    session: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ConfigError(
                "the object store's access key id and secret access key must be given together; "
                "give both, or neither to use boto3's default chain"
            )

    @property
    def boto3_session(self) -> Any:
        """The boto3 session that has these credentials."""
        import boto3

        return self.session or boto3.session.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            aws_session_token=self.session_token if self.access_key_id else None,
        )

    def credentials(self) -> Credentials:
        """Return the credentials as they are now, for a process that cannot renew them. Raises
        ConfigError."""
        if self.access_key_id and self.secret_access_key:
            return Credentials(self.access_key_id, self.secret_access_key, self.session_token)
        given = self.credential_provider()()
        return Credentials(given["access_key_id"], given["secret_access_key"], given.get("token"))

    def credential_provider(self) -> Callable[[], S3Credential]:
        """Return the function that obstore asks for credentials. Raises ConfigError where boto3
        finds none."""
        if self.access_key_id and self.secret_access_key:
            given: S3Credential = {
                "access_key_id": self.access_key_id,
                "secret_access_key": self.secret_access_key,
                "token": self.session_token,
                "expires_at": None,
            }
            return lambda: given
        from obstore.auth.boto3 import Boto3CredentialProvider

        session = self.boto3_session
        if session.get_credentials() is None:
            raise ConfigError(
                "no credentials for the object store; define the Airflow connection 'pingmesh_s3' "
                "(type aws: login and password are the key pair, or a role in its extra), "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of the machine"
            )
        return Boto3CredentialProvider(session, ttl=_CREDENTIAL_TTL)

    def client_options(self) -> ClientConfig:
        """Return obstore's options of the HTTP client. Raises ConfigError for a CA file that cannot
        be read."""
        options: ClientConfig = {"allow_http": True, "timeout": _TIMEOUT}
        if self.verify is False:
            options["allow_invalid_certificates"] = True
        elif isinstance(self.verify, str):
            try:
                options["root_certificate"] = Path(self.verify).read_bytes()
            except OSError as error:
                raise ConfigError(f"the CA certificates of the object store cannot be read: {error}") from None
        return options


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing tells of an object. Another `tag` means other bytes."""

    key: str
    tag: str
    size: int
    modified: datetime


class ObjectStore:
    """The objects of one bucket, by key. Methods raise StoreError; `_async` twins are for fan-outs."""

    def __init__(self, access: S3Access) -> None:
        self.access = access

    @cached_property
    def _s3(self) -> S3Store:
        access = self.access
        where: S3Config = {"endpoint": access.endpoint} if access.endpoint else {}
        return S3Store(
            access.bucket,
            config=where,
            region=access.region,
            credential_provider=access.credential_provider(),
            virtual_hosted_style_request=access.endpoint is None,
            client_options=access.client_options(),
            retry_config={"max_retries": 4, "retry_timeout": _RETRY_TIMEOUT},
        )

    def ensure_bucket(self) -> None:
        """Make the bucket unless it is there. Safe when many do so at once."""
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        access = self.access
        client: Any = access.boto3_session.client(
            "s3",
            endpoint_url=access.endpoint,
            region_name=access.region,
            verify=None if access.verify is True else access.verify,
            config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3}),
        )
        elsewhere = {} if access.region == "us-east-1" else {"LocationConstraint": access.region}
        try:
            try:
                client.head_bucket(Bucket=access.bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                    raise
                client.create_bucket(
                    Bucket=access.bucket, **({"CreateBucketConfiguration": elsewhere} if elsewhere else {})
                )
        except client.exceptions.BucketAlreadyOwnedByYou:
            return
        except (ClientError, BotoCoreError) as error:
            raise self._refused("make bucket", access.bucket, error) from error

    def in_bucket(self, bucket: str) -> ObjectStore:
        """Return another bucket of the same server, opened with the same credentials."""
        return ObjectStore(replace(self.access, bucket=bucket))

    def put(self, key: str, data: bytes | Path) -> None:
        """Write one object whole, from memory or from a file (in parts where it is large)."""
        with self._asking("put", key):
            obstore.put(self._s3, key, data)

    async def put_async(self, key: str, data: bytes) -> None:
        with self._asking("put", key):
            await obstore.put_async(self._s3, key, data)

    def create(self, key: str, data: bytes | Path) -> bool:
        """Write one object unless there is one; return whether it was ours that was written.

        Of many that create one key at once, one wins (`If-None-Match`, which S3 knows since 2024). After a lost answer
        the winner may be we ourselves: look at the object. The whole of it is in memory: S3 takes it as one request.
        """
        with self._asking("create", key):
            try:
                obstore.put(self._s3, key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

    def get_with_tag(self, key: str) -> tuple[bytes, str] | None:
        """Return one object and the tag of this version of it, or None where there is none."""
        with self._asking("get", key):
            try:
                result = obstore.get(self._s3, key)
                return bytes(result.bytes()), str(result.meta["e_tag"])
            except (NotFoundError, FileNotFoundError):
                return None

    def tag(self, key: str) -> str | None:
        """Return the tag of this version of one object, or None where there is none."""
        with self._asking("head", key):
            try:
                return str(obstore.head(self._s3, key)["e_tag"])
            except (NotFoundError, FileNotFoundError):
                return None

    def replace(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write one object if it is still the version of `tag` (None: if there is none); return its new tag, else None.

        Of many that replace one version, one wins (`If-Match`). After a lost answer the winner may be we ourselves, so
        None means: read it again.
        """
        condition: Any = "create" if tag is None else {"e_tag": tag}
        with self._asking("replace", key):
            try:
                return str(obstore.put(self._s3, key, data, mode=condition, use_multipart=False)["e_tag"])
            except (AlreadyExistsError, PreconditionError, NotFoundError):
                return None

    def get(self, key: str) -> bytes:
        """Return one object. Raises StoreError where there is none."""
        with self._asking("get", key):
            return bytes(obstore.get(self._s3, key).bytes())

    def read_uri(self, uri: str) -> bytes:
        """Return the object at an `s3://bucket/key` URI, of whichever bucket. Raises StoreError."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.in_bucket(bucket).get(key)

    def find(self, key: str) -> bytes | None:
        """Return one object, or None where there is none."""
        with self._asking("get", key):
            try:
                return bytes(obstore.get(self._s3, key).bytes())
            except (NotFoundError, FileNotFoundError):
                return None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes of one object. Raises StoreError where there is none."""
        with self._asking("get", key):
            return bytes(obstore.get_range(self._s3, key, start=start, length=length))

    def find_tail(self, key: str, length: int) -> bytes | None:
        """Return the last bytes of one object, all of it where it is shorter, or None where there is none."""
        with self._asking("get", key):
            try:
                return bytes(obstore.get(self._s3, key, options={"range": {"suffix": length}}).bytes())
            except (NotFoundError, FileNotFoundError):
                return None

    def download(self, key: str, to: Path) -> None:
        """Write one object to a file, a piece at a time."""
        with self._asking("get", key), to.open("wb") as file:
            for piece in obstore.get(self._s3, key):
                file.write(piece)

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted here: servers differ in the order of a listing.

        `prefix` may end inside a name: S3 folders are no folders.
        """
        return [entry.key for entry in self.entries(prefix)]

    def entries(self, prefix: str) -> list[StoredObject]:
        """Return what a listing tells of the objects of `keys(prefix)`, in the same order."""
        return sorted(self.walk(prefix), key=lambda entry: entry.key)

    def walk(self, prefix: str = "") -> Iterator[StoredObject]:
        """Tell the same as it comes, in whatever order: for who need not hold the whole listing."""
        folder = prefix[: prefix.rfind("/") + 1]
        with self._asking("list", prefix):
            for page in obstore.list(self._s3, prefix=folder, chunk_size=1000):
                for told in page:
                    if told["path"].startswith(prefix):
                        tag = (told["e_tag"] or "").strip('"')
                        yield StoredObject(told["path"], tag, told["size"], told["last_modified"])

    async def keys_after_async(self, folder: str, after: str, most: int | None = None) -> list[str]:
        """Return the keys directly in a flat `folder` that sort after `after`, sorted here; of a long list, `most`.

        For folders of names of one width and one alphabet only, where every server agrees on what is after what.
        """
        found: list[str] = []
        with self._asking("list", folder):
            async for page in obstore.list(self._s3, prefix=folder.rstrip("/"), offset=after, chunk_size=1000):
                found += (entry["path"] for entry in page if entry["path"] > after)
                if most is not None and len(found) >= most:
                    break
        return sorted(found)[:most]

    def keys_after(self, folder: str, after: str) -> list[str]:
        """Return what `keys_after_async` does."""
        with self._asking("list", folder):
            pages = obstore.list(self._s3, prefix=folder.rstrip("/"), offset=after, chunk_size=1000)
            return sorted(entry["path"] for page in pages for entry in page if entry["path"] > after)

    async def find_async(self, key: str) -> bytes | None:
        """Return one object, or None where there is none."""
        with self._asking("get", key):
            try:
                return bytes(await (await obstore.get_async(self._s3, key)).bytes_async())
            except (NotFoundError, FileNotFoundError):
                return None

    async def delete_async(self, keys: Iterable[str]) -> None:
        """Delete objects, many with one request; one that is gone already is no fault."""
        keys = list(keys)
        with self._asking("delete", keys[0] if keys else ""):
            await obstore.delete_async(self._s3, keys)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no fault."""
        for key in keys:
            with self._asking("delete", key):
                obstore.delete(self._s3, key)

    def delete_batch(self, keys: Sequence[str]) -> None:
        """Delete objects, up to a thousand with one request; one that is gone already is no fault."""
        with self._asking("delete", keys[0] if keys else ""):
            obstore.delete(self._s3, list(keys))

    @contextmanager
    def _asking(self, request: str, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError, PermissionError, OSError) as error:
            raise self._refused(request, key, error) from error

    def _refused(self, request: str, key: str, error: Exception) -> StoreError:
        where = self.access.endpoint or "AWS"
        reason = str(error).split("\n\nDebug source")[0].strip() or type(error).__name__
        kind = StoreAuthError if _is_refused_login(error) else StoreError
        return kind(f"{request} {key!r} in bucket {self.access.bucket!r} at {where}: {reason[:500]}")


def _is_refused_login(error: Exception) -> bool:
    """Whether an error of obstore or boto3 says that the credentials were refused (HTTP 401 or 403)."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return True
    if isinstance(error, BaseError):  # obstore has no class of its own for a listing that is refused
        return "403 Forbidden" in str(error) or "401 Unauthorized" in str(error)
    answer = getattr(error, "response", None)  # of boto3
    return isinstance(answer, dict) and answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in (401, 403)
