"""The client of the mail server, against a real one that asks who is there."""

from __future__ import annotations

import smtplib
import sys
from base64 import b64decode
from types import SimpleNamespace

import pytest
from aiosmtpd import controller as controllers
from aiosmtpd import smtp

from pingmesh_tasks.alerting.channel import ChannelError
from tests.support.fleet import free_port

pytestmark = pytest.mark.integration
PLAIN = {"disable_ssl": True, "disable_tls": True, "from_email": "pm@example.org"}


class Guard:
    """Takes one password and one token, and keeps the mechanisms that clients used."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def password(self, server, session, envelope, mechanism, data):
        self.used.append(mechanism)
        is_ann = data.login == b"ann" and data.password == b"right"
        return smtp.AuthResult(success=is_ann, handled=False)

    async def auth_XOAUTH2(self, server, args):  # aiosmtpd's name
        self.used.append("XOAUTH2")
        wanted = b"user=ann\x01auth=Bearer token-1\x01\x01"
        return smtp.AuthResult(success=b64decode(args[1]) == wanted, handled=False)


@pytest.fixture
def server():
    guard = Guard()
    controller = controllers.Controller(
        guard,
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=guard.password,
        auth_require_tls=False,
        auth_exclude_mechanism=[],
    )
    controller.guard = guard
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture(scope="module")
def smtp_client(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    from pingmesh_tasks.orchestration import smtp_client

    yield smtp_client
    patch.undo()


def client_of(smtp_client, server, *, word="right", **extra):
    fields = {"host": "127.0.0.1", "port": server.port, "login": "ann", "password": word}
    connection = SimpleNamespace(**fields, extra_dejson=PLAIN | extra)
    return smtp_client.open_client(smtp_client.read_connection("pingmesh_smtp", connection), 5)


def test_a_client_logs_in_with_the_password_of_the_connection(smtp_client, server):
    with client_of(smtp_client, server) as client:
        assert client.noop()[0] == 250
    assert server.guard.used


def test_a_wrong_password_is_refused(smtp_client, server):
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client_of(smtp_client, server, word="wrong")


def test_a_server_without_tls_is_refused_unless_the_connection_says_so(smtp_client, server):
    with pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS"):
        client_of(smtp_client, server, disable_tls=False)
    with pytest.raises(OSError, match=r"(?i)ssl|wrong version"):
        client_of(smtp_client, server, disable_ssl=False)


def test_a_token_of_the_extra_is_the_password_of_oauth2(smtp_client, server):
    client_of(smtp_client, server, auth_type="oauth2", access_token="token-1").close()
    assert server.guard.used == ["XOAUTH2"]
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client_of(smtp_client, server, auth_type="oauth2", access_token="token-2")


class Microsoft:
    """Stands in for the package msal."""

    answer: dict[str, str]

    def __init__(self, client_id, client_credential, authority):
        assert (client_id, client_credential) == ("me", "secret")
        assert authority.endswith("/lab")

    def acquire_token_for_client(self, scopes):
        return self.answer


def test_a_token_is_fetched_for_the_client_of_the_extra(smtp_client, server, monkeypatch):
    stand_in = SimpleNamespace(ConfidentialClientApplication=Microsoft)
    monkeypatch.setitem(sys.modules, "msal", stand_in)
    extra = {"auth_type": "oauth2", "client_id": "me", "client_secret": "secret", "tenant_id": "lab"}
    Microsoft.answer = {"access_token": "token-1"}
    client_of(smtp_client, server, **extra).close()
    Microsoft.answer = {"error_description": "no such tenant"}
    with pytest.raises(ChannelError, match="no such tenant"):
        client_of(smtp_client, server, **extra)
    monkeypatch.setitem(sys.modules, "msal", None)
    with pytest.raises(ChannelError, match="need the package msal"):
        client_of(smtp_client, server, **extra)


def test_a_connection_that_cannot_work_says_what_is_missing(smtp_client, server):
    with pytest.raises(ChannelError, match="access_token, or client_id and client_secret"):
        client_of(smtp_client, server, auth_type="oauth2")
    with pytest.raises(ChannelError, match="ssl_context 'maybe'; use default or none"):
        client_of(smtp_client, server, ssl_context="maybe")
