"""Which credentials go to the object store, and where they come from."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import RefreshableCredentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pingmesh_tasks.demo.object_store import EmbeddedObjectStore
from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.store import objects
from pingmesh_tasks.store.objects import ObjectStore, S3Access
from tests.support.other_server import other_server

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_a_session_token_of_the_environment_never_goes_along_with_given_keys(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-environment")
    with other_server() as requests:
        store = ObjectStore(S3Access("bucket", "given", "secret", requests.endpoint))
        store.put("a", b"1")
        store.in_bucket("other").put("a", b"1")
        store.ensure_bucket()
    assert requests.access_keys == ["given"] * 3
    assert "token-of-the-environment" not in json.dumps(requests)


def test_a_given_session_token_is_sent():
    with other_server() as requests:
        access = S3Access("bucket", "given", "secret", requests.endpoint, session_token="given-token")
        ObjectStore(access).put("a", b"1")
        ObjectStore(access).ensure_bucket()
    assert [headers["x-amz-security-token"] for headers in requests] == ["given-token"] * 2
    assert "given-token" not in repr(access)


def test_without_keys_the_environment_is_used_as_boto3_uses_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-environment")
    with other_server() as requests:
        store = ObjectStore(S3Access("bucket", endpoint=requests.endpoint))
        store.put("a", b"1")
        store.ensure_bucket()
    assert requests.access_keys == ["of-environment"] * 2
    assert {headers["x-amz-security-token"] for headers in requests} == {"token-of-the-environment"}


def test_without_any_credentials_the_error_says_where_they_may_come_from():
    store = ObjectStore(S3Access("bucket", endpoint="http://127.0.0.1:9"))
    with pytest.raises(ConfigError, match=r"pingmesh_s3.*AWS_ACCESS_KEY_ID"):
        store.put("a", b"1")


def test_half_a_key_pair_is_refused():
    with pytest.raises(ConfigError, match="together"):
        S3Access("bucket", "only-the-id")


def renewing_session(server: EmbeddedObjectStore) -> tuple[boto3.session.Session, list[str]]:
    """A session as that of a role: its credentials expire, and each renewal is counted."""
    renewals: list[str] = []

    def renew() -> dict[str, str]:
        renewals.append(f"renewal-{len(renewals)}")
        expiry = datetime.now(UTC) + timedelta(minutes=9)  # boto3 renews within the last 10 minutes, so each time
        return {
            "access_key": server.access_key_id if len(renewals) > 1 else "expired-key",
            "secret_key": server.secret_access_key,
            "token": "",
            "expiry_time": expiry.isoformat(),
        }

    session = boto3.session.Session(region_name="eu-central-1")
    session._session._credentials = RefreshableCredentials.create_from_metadata(
        renew(), refresh_using=renew, method="test"
    )
    return session, renewals


def test_expiring_credentials_of_a_session_are_renewed_while_a_store_is_open(
    s3_server: EmbeddedObjectStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(objects, "_CREDENTIAL_TTL", timedelta(seconds=1))  # obstore asks for each request
    session, renewals = renewing_session(s3_server)
    access = S3Access(s3_server.bucket, endpoint=s3_server.access.endpoint, session=session)
    store = ObjectStore(access)
    for _ in range(3):
        store.put("renewed", b"1")
    assert len(renewals) > 2
    assert store.get("renewed") == b"1"
    store.ensure_bucket()
    store.delete(["renewed"])
    assert access.credentials().access_key_id == s3_server.access_key_id


def test_obstore_keeps_an_answer_of_boto3_for_seconds_only(s3_server: EmbeddedObjectStore):
    """The figure behind `_CREDENTIAL_TTL`: obstore asks again five minutes before the declared
    end."""
    kept = objects._CREDENTIAL_TTL - timedelta(minutes=5)
    assert timedelta(seconds=1) < kept < timedelta(minutes=5)


def test_a_session_without_a_valid_key_is_refused_by_the_server_and_not_retried_with_another(
    s3_server: EmbeddedObjectStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_access_key)
    session = boto3.session.Session(aws_access_key_id="other", aws_secret_access_key="other")
    with pytest.raises(StoreError):
        ObjectStore(S3Access(s3_server.bucket, endpoint=s3_server.access.endpoint, session=session)).get("x")


# ---------------------------------------------------------------------------------------------- TLS


def signed(name: str, key: Any, issuer: str, issuer_key: Any, *extensions: Any) -> x509.Certificate:
    """A certificate that is valid now."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The certificate for 127.0.0.1 with its key; the CA that signed it is in `ca.pem` beside
    it."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = signed("ca", ca_key, "ca", ca_key, x509.BasicConstraints(ca=True, path_length=None))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = signed("objects", key, "ca", ca_key, address)
    pem, no_passphrase = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "ca.pem").write_bytes(ca.public_bytes(pem))
    path = tmp_path / "objects.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_passphrase)
    path.write_bytes(leaf.public_bytes(pem) + private)
    return path


def test_an_unknown_certificate_is_refused_before_any_credentials_are_sent(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(objects, "_RETRY_TIMEOUT", timedelta(seconds=1))
    with other_server(certificate) as requests, pytest.raises(StoreError):
        ObjectStore(S3Access("bucket", "key", "secret", requests.endpoint)).put("a", b"1")
    assert requests == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("trusted", ["file", "anything"])
def test_a_certificate_is_trusted_by_a_file_or_without_a_check(certificate: Path, trusted: str):
    verify = str(certificate.with_name("ca.pem")) if trusted == "file" else False
    with other_server(certificate) as requests:
        store = ObjectStore(S3Access("bucket", "key", "secret", requests.endpoint, verify=verify))
        store.put("a", b"1")
        store.ensure_bucket()
    assert requests.access_keys == ["key"] * 2


def test_a_file_of_certificates_that_is_not_there_is_named(tmp_path: Path):
    store = ObjectStore(S3Access("bucket", "key", "secret", verify=str(tmp_path / "none.pem")))
    with pytest.raises(ConfigError, match=r"none\.pem"):
        store.put("a", b"1")
