"""From Airflow's connections to accesses: `pingmesh_ssh` and `pingmesh_bootstrap` to the hosts,
`pingmesh_s3` to S3.
 Every extra is honoured or rejected with a reason, all faults of a connection at once: an extra
that is dropped silently means another key, or another server, than the operator thinks. No value of
an extra is quoted, as it may be a secret.
 The SSH provider's hooks parse a connection only while they connect, or into paramiko's objects; so
its extras are parsed here. For S3, the amazon provider's hook makes a boto3 session of roles and
profiles. A plain key pair needs neither it nor boto3, whose import takes 0.2 s of CPU in every
task.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import asyncssh
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.connect import SshAccess
from pingmesh_tasks.fleet.known_hosts import DEFAULT_SSH_PORT
from pingmesh_tasks.fleet.private_key import GivenKey, OwnKey, PrivateKey
from pingmesh_tasks.fleet.ssh_options import SshOptions
from pingmesh_tasks.settings import Settings
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.objects import ObjectStore, S3Access
from pingmesh_tasks.store.shared_text import FixedText, SharedText, TextFile, TextObject
from pingmesh_tasks.suggestions import suggest

SSH, BOOTSTRAP, S3 = "pingmesh_ssh", "pingmesh_bootstrap", "pingmesh_s3"

_VERIFIED = (
    "every host key is verified; leave it out and let ensure_keys pin the keys, or give them as "
    "`known_hosts` or `host_key`"
)
_OF_THE_FLEET = f"the fleet's keys and host keys are those of the connection {SSH!r}; write it there"
_TOP_LEVEL = "write what it holds as extras of their own, e.g. profile_name"
#: Extras of the providers that cannot be honoured, and why. The first ones may be false, which is
#: how it is anyway.
_MUST_BE_FALSE: Mapping[str, str] = {
    "no_host_key_check": _VERIFIED,
    "ignore_hostkey_verification": _VERIFIED,
    "allow_host_key_change": _VERIFIED,
    "look_for_keys": "keys of the invoking user are never used; name the key by `key_file` or `private_key`",
}
_REJECTED_SSH: Mapping[str, str] = {"cmd_timeout": "the time for one host is the setting PINGMESH_SSH_TIMEOUT_S"}
_REJECTED_BOOTSTRAP: Mapping[str, str] = {
    **_REJECTED_SSH,
    **dict.fromkeys(
        (
            "private_key",
            "key_file",
            "private_key_passphrase",
            "passphrase",
            "host_key",
            "known_hosts",
        ),
        _OF_THE_FLEET,
    ),
}
_REJECTED_S3: Mapping[str, str] = {
    "config_kwargs": "objects are not moved by botocore, which it configures; leave it out",
    "session_kwargs": _TOP_LEVEL,
    "s3_config_file": "name a profile by profile_name",
    "profile": "write profile_name",
}
#: Extras that a plain key pair may have without the provider's hook.
_PLAIN = {"endpoint_url", "region_name", "verify", "aws_session_token"}


def find_connection(connection_id: str) -> Any:
    """Return an Airflow connection, or None where there is none."""
    try:
        return Connection.get(connection_id)
    except AirflowNotFoundException:
        return None


# ---------------------------------------------------------------------------------------- the hosts


class SshExtra(BaseModel):
    """The extras of an SSH connection that have a meaning for a fleet. Raises for any other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    private_key: str | None = None
    key_file: Path | None = None
    private_key_passphrase: str | None = None
    passphrase: str | None = None
    host_key: str | None = None
    known_hosts: Path | None = None
    conn_timeout: Annotated[float, Field(gt=0, le=600)] = 10.0
    ciphers: tuple[str, ...] = ()
    disabled_algorithms: Mapping[Literal["ciphers", "macs", "kex", "pubkeys", "keys"], tuple[str, ...]] = Field(
        default_factory=dict
    )
    compress: bool | None = None

    @field_validator("private_key")
    @classmethod
    def _has_lines(cls, text: str | None) -> str | None:
        if text is not None and len(text.split("\n")) < 3:
            raise ValueError("the key must have its line breaks, which are \\n in JSON")
        return text

    @field_validator("host_key")
    @classmethod
    def _is_a_known_hosts_line(cls, text: str | None) -> str | None:
        """Return the line of known_hosts by which every host must have the key; a bare key is RSA,
        as in the hook."""
        if text is None:
            return None
        fields = text.split()
        kind, blob = fields[:2] if len(fields) > 1 else ("ssh-rsa", text.strip())
        try:
            if kind == "ssh-dss":
                raise asyncssh.KeyImportError("DSA keys are not supported")
            asyncssh.import_public_key(f"{kind} {blob}")
        except ValueError as error:
            raise ValueError(f"it is no public key ({error}); write `<key type> <base64 key>`") from None
        return f"* {kind} {blob}\n"

    @field_validator("known_hosts")
    @classmethod
    def _is_a_file(cls, path: Path | None) -> Path | None:
        if path is not None and str(path).lower() == "none":
            raise ValueError(_VERIFIED)
        return path

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> SshExtra:
        if self.private_key and self.key_file:
            raise ValueError("`private_key` and `key_file` exclude each other")
        if self.host_key and self.known_hosts:
            raise ValueError("`host_key` and `known_hosts` exclude each other")
        if self.passphrase and self.private_key_passphrase:
            raise ValueError("`passphrase` and `private_key_passphrase` mean the same; write the second")
        if self.secret and not (self.private_key or self.key_file):
            raise ValueError("there is a passphrase, but neither `private_key` nor `key_file`")
        return self

    @property
    def secret(self) -> str | None:
        """The passphrase of the private key."""
        return self.private_key_passphrase or self.passphrase

    @property
    def options(self) -> SshOptions:
        return SshOptions(
            self.ciphers,
            {str(kind): names for kind, names in self.disabled_algorithms.items()},
            self.compress,
        )


def ssh_access(settings: Settings, store: ObjectStore) -> SshAccess:
    """Return the login to the hosts by the connection `pingmesh_ssh`. Raises ConfigError that names
    every fault.

    Without `private_key` and `key_file` the key is the pair in `PINGMESH_SSH_DIR`, which
    `ensure_keys` makes unless the bucket has a record of the fleet's key. Without `known_hosts` and
    `host_key` the pinned host keys are in the bucket.
    """
    connection = _login(SSH)
    extra = _parse(SshExtra, connection, _REJECTED_SSH)
    return _access(
        connection,
        extra,
        private_key=_private_key(extra, settings, store),
        known_hosts=_known_hosts(extra, settings, store),
    )


def bootstrap_access(fleet: SshAccess) -> SshAccess | None:
    """Return the login by password for the first key, None without a connection
    `pingmesh_bootstrap`.

    Its host keys are those of `fleet`. Raises ConfigError that names every fault.
    """
    if find_connection(BOOTSTRAP) is None:
        return None
    connection = _login(BOOTSTRAP)
    if not connection.password:
        raise ConfigError(f"the Airflow connection {BOOTSTRAP!r} has no password: the one that installs the first key")
    extra = _parse(SshExtra, connection, _REJECTED_BOOTSTRAP)
    return _access(connection, extra, private_key=None, known_hosts=fleet.known_hosts)


def _access(
    connection: Any,
    extra: SshExtra,
    *,
    private_key: PrivateKey | None,
    known_hosts: Path | SharedText,
) -> SshAccess:
    try:
        extra.options.arguments()
    except ConfigError as error:
        raise ConfigError(f"the Airflow connection {connection.conn_id!r}: {error}") from None
    return SshAccess(
        username=connection.login,
        port=connection.port or DEFAULT_SSH_PORT,
        password=connection.password or None,
        private_key=private_key,
        known_hosts=known_hosts,
        connect_timeout_s=extra.conn_timeout,
        options=extra.options,
    )


def _login(connection_id: str) -> Any:
    connection = find_connection(connection_id)
    if connection is None:
        raise ConfigError(f"define the Airflow connection {connection_id!r} (type ssh: login is the user on the hosts)")
    if not connection.login:
        raise ConfigError(f"the Airflow connection {connection_id!r} has no login: the user on the hosts")
    return connection


def _private_key(extra: SshExtra, settings: Settings, store: ObjectStore) -> PrivateKey:
    record = TextObject(store, layout.fleet_public_key())
    if extra.private_key:
        origin = f"the Airflow connection {SSH!r} (extra private_key)"
        return GivenKey(origin, text=extra.private_key, passphrase=extra.secret, record=record)
    if extra.key_file:
        path = extra.key_file.expanduser()
        origin = f"the Airflow connection {SSH!r} (extra key_file, {path})"
        return GivenKey(origin, file=path, passphrase=extra.secret, record=record)
    return OwnKey(settings.ssh_dir / "id_ed25519", record)


def _known_hosts(extra: SshExtra, settings: Settings, store: ObjectStore) -> SharedText:
    if extra.host_key:
        return FixedText(extra.host_key, f"extra host_key of the Airflow connection {SSH!r}")
    if extra.known_hosts:
        return TextFile(extra.known_hosts.expanduser())
    return TextObject(store, layout.pinned_host_keys(), settings.ssh_dir / "known_hosts")


# --------------------------------------------------------------------------------- the object store


def _as_bool(value: object) -> object:
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


class _ServiceConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_url: str | None = None


class S3Extra(BaseModel):
    """The extras of an AWS connection that have a meaning for a bucket. Raises for any other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_url: str | None = None
    region_name: str | None = None
    verify: Annotated[bool | str, BeforeValidator(_as_bool)] = True
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None
    profile_name: str | None = None
    role_arn: str | None = None
    assume_role_method: str | None = None
    assume_role_kwargs: Mapping[str, Any] | None = None
    assume_role_with_saml: Mapping[str, Any] | None = None
    assume_role_with_web_identity_federation: str | None = None
    assume_role_with_web_identity_federation_audience: str | None = None
    assume_role_with_web_identity_token_file: str | None = None
    service_config: Mapping[Literal["s3", "sts"], _ServiceConfig] = Field(default_factory=dict)

    @property
    def endpoint(self) -> str | None:
        s3 = self.service_config.get("s3")
        return (s3.endpoint_url if s3 else None) or self.endpoint_url


def open_store(settings: Settings) -> ObjectStore:
    """Return the object store, with the credentials of the connection `pingmesh_s3`, else of the
    environment."""
    return ObjectStore(s3_access(settings, find_connection(S3)))


def s3_access(settings: Settings, connection: Any) -> S3Access:
    """Return the access to the bucket by an AWS connection, or without one by boto3's default
    chain.

    Endpoint and region are the connection's, else those of the settings. Raises ConfigError that
    names every fault.
    """
    if connection is None:
        access = S3Access(settings.s3_bucket, endpoint=settings.s3_endpoint, region=settings.s3_region)
        return _with_environment_keys(access)
    if connection.host:
        raise ConfigError(f"the Airflow connection {S3!r} has a host, which is not used; write extra endpoint_url")
    extra = _parse(S3Extra, connection, _REJECTED_S3)
    access = S3Access(
        settings.s3_bucket,
        endpoint=extra.endpoint or settings.s3_endpoint,
        region=extra.region_name or settings.s3_region,
        verify=extra.verify,
    )
    if bool(connection.login) != bool(connection.password):
        raise ConfigError(f"the Airflow connection {S3!r} needs both login and password (the key pair), or neither")
    return _with_credentials(access, connection, extra)


def _with_credentials(access: S3Access, connection: Any, extra: S3Extra) -> S3Access:
    if connection.login and extra.model_fields_set <= _PLAIN:
        return replace(
            access,
            access_key_id=connection.login,
            secret_access_key=connection.password,
            session_token=extra.aws_session_token,
        )
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    hook = AwsBaseHook(aws_conn_id=connection.conn_id, client_type="s3", region_name=access.region)
    try:
        return replace(access, session=hook.get_session())
    except Exception as error:  # whatever STS, a profile or an identity provider answers
        raise ConfigError(f"the Airflow connection {S3!r} gives no credentials: {error}") from None


def _with_environment_keys(access: S3Access, environ: Mapping[str, str] = os.environ) -> S3Access:
    """Return the access with the key pair of the environment, which boto3 would ask first; else as
    it is."""
    if {"AWS_CREDENTIAL_EXPIRATION", "AWS_SECURITY_TOKEN"} & environ.keys():
        return access  # only boto3 knows what these two do
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return access
    token = environ.get("AWS_SESSION_TOKEN") or None
    return replace(access, access_key_id=key, secret_access_key=secret, session_token=token)


# ------------------------------------------------------------------------------------------- extras

_Extra = TypeVar("_Extra", bound=BaseModel)


def _parse(model: type[_Extra], connection: Any, rejected: Mapping[str, str]) -> _Extra:
    """Return the connection's extras. Raises ConfigError with every fault of them, and with no
    value."""
    given = {name: value for name, value in _given(connection).items() if value not in (None, "")}
    if model is SshExtra:
        allowed = {name for name in _MUST_BE_FALSE if _as_bool(given.get(name)) is False}
        given = {name: value for name, value in given.items() if name not in allowed}
        rejected = {**rejected, **_MUST_BE_FALSE}
    faults = [f"extra {name!r}: {rejected[name]}" for name in sorted(given) if name in rejected]
    known = {name: value for name, value in given.items() if name not in rejected}
    try:
        extra = model.model_validate(known)
    except ValidationError as error:
        faults += [_fault(dict(problem), model) for problem in error.errors(include_input=False)]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ConfigError(f"the Airflow connection {connection.conn_id!r} has faults:\n{listed}")
    return extra


def _given(connection: Any) -> dict[str, Any]:
    """Return the extras as they are given; Airflow itself takes text that is no JSON for none."""
    try:
        given = json.loads(connection.extra) if connection.extra else {}
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ConfigError(f"the extra of the Airflow connection {connection.conn_id!r} is no JSON object; write {{…}}")
    return given


def _fault(problem: dict[str, Any], model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return f"extra {where!r} is not known; {suggest(where, model.model_fields)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"extra {where!r}: {message}" if where else message
