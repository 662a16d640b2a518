"""What becomes of Airflow's connections: every extra is honoured or rejected, none is dropped."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import asyncssh
import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.settings import Settings, load_settings
from pingmesh_tasks.store import layout, objects
from pingmesh_tasks.store.objects import ObjectStore, S3Access
from pingmesh_tasks.store.shared_text import FixedText, TextFile, TextObject
from tests.support.other_server import other_server

pytestmark = pytest.mark.integration  # Airflow takes seconds to import
KEY = asyncssh.generate_private_key("ssh-ed25519")
KEY_TEXT = KEY.export_private_key("openssh").decode()
PUBLIC = KEY.export_public_key("openssh").decode().strip()
NOWHERE = ObjectStore(S3Access("pingmesh", "key", "secret", "http://127.0.0.1:9"))


@pytest.fixture(scope="module")
def connections(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    from pingmesh_tasks.orchestration import connections

    yield connections
    patch.undo()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("PINGMESH_SSH", "PINGMESH_BOOTSTRAP", "PINGMESH_S3"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{name}", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"PINGMESH_INVENTORY": "x.csv", "PINGMESH_SSH_DIR": str(tmp_path / "ssh")})


@pytest.fixture
def ssh(connections, monkeypatch: pytest.MonkeyPatch, settings: Settings):
    """Returns the login that a connection with some extras gives."""

    def access(extra: Any = None, **fields: Any) -> Any:
        given = {"conn_type": "ssh", "login": "probe", "extra": extra or {}, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_SSH", json.dumps(given))
        return connections.ssh_access(settings, NOWHERE)

    return access


# -------------------------------------------------------------------------------------------- hosts


def test_a_missing_connection_or_login_is_named(connections, settings: Settings, ssh):
    with pytest.raises(ConfigError, match="define the Airflow connection 'pingmesh_ssh'"):
        connections.ssh_access(settings, NOWHERE)
    with pytest.raises(ConfigError, match="'pingmesh_ssh' has no login"):
        ssh(login="")


def test_without_extras_the_key_is_in_the_directory_and_the_pins_are_in_the_bucket(ssh, settings: Settings):
    access = ssh(port=2222, password="hidden")
    assert (access.username, access.port, access.password) == ("probe", 2222, "hidden")
    assert access.private_key.path == settings.ssh_dir / "id_ed25519"
    assert access.private_key.record == TextObject(NOWHERE, layout.fleet_public_key())
    assert access.known_hosts == TextObject(NOWHERE, layout.pinned_host_keys(), settings.ssh_dir / "known_hosts")
    assert "hidden" not in repr(access)


def test_a_private_key_in_the_extra_is_used(ssh):
    access = ssh({"private_key": KEY_TEXT})
    assert access.private_key.load() == KEY
    assert KEY_TEXT not in repr(access)


@pytest.mark.parametrize("name", ["private_key_passphrase", "passphrase"])
@pytest.mark.parametrize("where", ["private_key", "key_file"])
def test_a_passphrase_opens_the_key(ssh, tmp_path: Path, name: str, where: str):
    text = KEY.export_private_key("openssh", passphrase="open sesame").decode()
    path = tmp_path / "id"
    path.write_text(text)
    key = {"private_key": text} if where == "private_key" else {"key_file": str(path)}
    assert ssh({**key, name: "open sesame"}).private_key.load() == KEY
    assert "open sesame" not in repr(ssh({**key, name: "open sesame"}))
    with pytest.raises(ConfigError, match=rf"pingmesh_ssh.*{where}.*cannot be used"):
        ssh({**key, name: "wrong"}).private_key.load()


def test_a_key_file_that_is_not_there_is_an_error_and_not_made(ssh, tmp_path: Path):
    key = ssh({"key_file": str(tmp_path / "absent")}).private_key
    with pytest.raises(ConfigError, match=r"extra key_file, .*absent"):
        key.ensure()
    assert list(tmp_path.iterdir()) == []


def test_known_hosts_is_a_file_of_the_operator(ssh, tmp_path: Path):
    assert ssh({"known_hosts": str(tmp_path / "known")}).known_hosts == TextFile(tmp_path / "known")


def test_a_host_key_is_that_of_every_host(ssh):
    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_public_key("openssh").decode().split()
    for given, line in (
        (PUBLIC, f"* {' '.join(PUBLIC.split()[:2])}\n"),
        (rsa[1], f"* ssh-rsa {rsa[1]}\n"),
    ):
        known_hosts = ssh({"host_key": given}).known_hosts
        assert isinstance(known_hosts, FixedText) and known_hosts.text == line


def test_timeout_and_algorithms_are_handed_on(ssh):
    access = ssh(
        {
            "conn_timeout": "3",
            "ciphers": ["aes256-ctr"],
            "compress": "false",
            "disabled_algorithms": {"kex": ["curve25519-sha256"]},
        }
    )
    arguments = access.options.arguments()
    assert access.connect_timeout_s == 3
    assert arguments["encryption_algs"] == ["aes256-ctr"] and arguments["compression_algs"] == ["none"]
    assert "curve25519-sha256" not in arguments["kex_algs"]


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ({"privat_key": KEY_TEXT}, "extra 'privat_key' is not known; did you mean 'private_key'"),
        ({"colour": "blue"}, "extra 'colour' is not known; known: private_key, key_file"),
        (
            {"cmd_timeout": 5},
            "extra 'cmd_timeout': the time for one host is the setting PINGMESH_SSH_TIMEOUT_S",
        ),
        ({"no_host_key_check": True}, "extra 'no_host_key_check': every host key is verified"),
        ({"no_host_key_check": "true"}, "extra 'no_host_key_check': every host key is verified"),
        ({"ignore_hostkey_verification": True}, "extra 'ignore_hostkey_verification'"),
        ({"allow_host_key_change": True}, "extra 'allow_host_key_change'"),
        (
            {"look_for_keys": True},
            "extra 'look_for_keys': keys of the invoking user are never used",
        ),
        ({"known_hosts": "none"}, "every host key is verified"),
        ({"private_key": "one line"}, "extra 'private_key': the key must have its line breaks"),
        (
            {"private_key": KEY_TEXT, "key_file": "id"},
            "`private_key` and `key_file` exclude each other",
        ),
        (
            {"host_key": PUBLIC, "known_hosts": "x"},
            "`host_key` and `known_hosts` exclude each other",
        ),
        (
            {"host_key": "ssh-dss AAAA"},
            "extra 'host_key': it is no public key (DSA keys are not supported)",
        ),
        ({"host_key": "nonsense"}, "extra 'host_key': it is no public key"),
        ({"passphrase": "x"}, "there is a passphrase, but neither `private_key` nor `key_file`"),
        ({"conn_timeout": 0}, "extra 'conn_timeout': Input should be greater than 0"),
        ({"ciphers": ["rot13"]}, "rot13 is not a valid encryption algorithm"),
        ({"disabled_algorithms": {"cyphers": ["x"]}}, "extra 'disabled_algorithms.cyphers'"),
    ],
)
def test_an_extra_that_cannot_be_honoured_is_rejected_with_the_reason(ssh, extra: dict[str, Any], fault: str):
    with pytest.raises(ConfigError) as caught:
        ssh(extra)
    assert fault in str(caught.value)
    assert "'pingmesh_ssh'" in str(caught.value)


def test_all_faults_are_told_at_once_and_no_value(ssh):
    with pytest.raises(ConfigError) as caught:
        ssh(
            {
                "private_key": "TOP SECRET",
                "keyfile": "TOP SECRET",
                "cmd_timeout": 3,
                "conn_timeout": "TOP SECRET",
            }
        )
    for part in ("'private_key'", "'keyfile'", "'cmd_timeout'", "'conn_timeout'"):
        assert part in str(caught.value)
    assert "TOP SECRET" not in str(caught.value)


@pytest.mark.parametrize("extra", [{"no_host_key_check": False}, {"look_for_keys": "false"}, {"key_file": None}])
def test_an_extra_that_says_what_is_so_anyway_is_accepted(ssh, extra: dict[str, Any]):
    assert ssh(extra) == ssh()


def test_an_extra_that_is_no_json_is_an_error_and_not_an_empty_one(ssh):
    with pytest.raises(ConfigError, match="the extra of the Airflow connection 'pingmesh_ssh' is no JSON object"):
        ssh("key_file=/etc/key")


def test_every_extra_of_the_installed_ssh_provider_is_accounted_for(connections):
    """A new release of the provider may add an extra: decide what it means here."""
    import inspect
    import re

    from airflow.providers.ssh.hooks import ssh as hooks

    read = r"extra_options(?:\.get\(|\[)\"(\w+)\"|\"(\w+)\" in extra_options"
    named = set(re.findall(read, inspect.getsource(hooks)))
    extras = {name for pair in named for name in pair if name}
    known = {
        *connections.SshExtra.model_fields,
        *connections._MUST_BE_FALSE,
        *connections._REJECTED_SSH,
    }
    assert len(extras) > 10 and extras <= known


def test_the_bootstrap_login_has_the_fleets_host_keys_and_no_key(connections, ssh, monkeypatch: pytest.MonkeyPatch):
    fleet = ssh()
    assert connections.bootstrap_access(fleet) is None
    given = {"conn_type": "ssh", "login": "root", "password": "first", "extra": {"conn_timeout": 4}}
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_BOOTSTRAP", json.dumps(given))
    bootstrap = connections.bootstrap_access(fleet)
    assert (bootstrap.username, bootstrap.password, bootstrap.connect_timeout_s) == (
        "root",
        "first",
        4,
    )
    assert bootstrap.private_key is None and bootstrap.known_hosts == fleet.known_hosts
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_BOOTSTRAP", json.dumps(given | {"extra": {"host_key": PUBLIC}}))
    with pytest.raises(
        ConfigError,
        match=r"host_key.*those of the connection 'pingmesh_ssh'",
    ):
        connections.bootstrap_access(fleet)
    monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_BOOTSTRAP", json.dumps(given | {"password": "", "extra": {}}))
    with pytest.raises(ConfigError, match="no password"):
        connections.bootstrap_access(fleet)


# ----------------------------------------------------------------------------------------------- S3


@pytest.fixture
def s3(connections, monkeypatch: pytest.MonkeyPatch, settings: Settings):
    """Returns the access that a connection gives; without one where nothing is given."""

    def access(settings: Settings = settings, **fields: Any) -> S3Access:
        if fields:
            monkeypatch.setenv("AIRFLOW_CONN_PINGMESH_S3", json.dumps({"conn_type": "aws", **fields}))
        return connections.open_store(settings).access

    return access


def test_a_key_pair_is_used_as_it_is(s3):
    access = s3(login="key", password="hidden")
    assert (access.access_key_id, access.secret_access_key, access.session_token) == (
        "key",
        "hidden",
        None,
    )
    assert (access.endpoint, access.region, access.verify, access.session) == (
        None,
        "us-east-1",
        True,
        None,
    )
    assert "hidden" not in repr(access)


def test_what_the_connection_says_comes_before_the_settings(s3):
    settings = load_settings(
        {
            "PINGMESH_INVENTORY": "x.csv",
            "PINGMESH_S3_ENDPOINT": "http://of-settings",
            "PINGMESH_S3_REGION": "of-settings",
        }
    )
    plain = s3(settings, login="key", password="secret")
    assert (plain.endpoint, plain.region) == ("http://of-settings", "of-settings")
    extra = {
        "endpoint_url": "https://of-connection",
        "region_name": "eu-west-1",
        "verify": "/etc/ca.pem",
    }
    full = s3(settings, login="key", password="secret", extra=extra)
    assert (full.endpoint, full.region, full.verify) == (
        "https://of-connection",
        "eu-west-1",
        "/etc/ca.pem",
    )
    for_s3 = {
        "endpoint_url": "https://of-others",
        "service_config": {"s3": {"endpoint_url": "https://of-s3"}},
    }
    assert s3(settings, login="key", password="secret", extra=for_s3).endpoint == "https://of-s3"


@pytest.mark.parametrize("verify", [False, "false"])
def test_a_check_of_certificates_may_be_turned_off(s3, verify: object):
    assert s3(login="key", password="secret", extra={"verify": verify}).verify is False


def test_a_session_token_of_the_connection_goes_with_its_key_pair(s3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    assert s3(login="key", password="secret").session_token is None
    assert s3(login="key", password="secret", extra={"aws_session_token": "its own"}).session_token == "its own"


def test_without_a_connection_the_environment_is_used_with_its_token(s3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    access = s3()
    assert (access.access_key_id, access.secret_access_key, access.session_token) == (
        "key",
        "secret",
        "token",
    )
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2026-11-21T22:05:00Z")
    assert s3().access_key_id is None, "boto3's chain has to renew them"


def test_a_profile_is_resolved_by_the_providers_hook(s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id=of-profile\naws_secret_access_key=secret\naws_session_token=of-profile-too\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    found = s3(extra={"profile_name": "lab"}).credentials()
    assert (found.access_key_id, found.session_token) == ("of-profile", "of-profile-too")
    with pytest.raises(ConfigError, match="'pingmesh_s3' gives no credentials"):
        s3(extra={"profile_name": "other"})


def test_keys_in_the_extra_are_resolved_by_the_providers_hook(s3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    found = s3(extra={"aws_access_key_id": "in-extra", "aws_secret_access_key": "secret"}).credentials()
    assert (found.access_key_id, found.session_token) == ("in-extra", None)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"extra": {"endpoint": "http://x"}},
            "extra 'endpoint' is not known; did you mean 'endpoint_url'?",
        ),
        (
            {"extra": {"config_kwargs": {}}},
            "extra 'config_kwargs': objects are not moved by botocore",
        ),
        ({"extra": {"session_kwargs": {}}}, "extra 'session_kwargs'"),
        (
            {"extra": {"service_config": {"s3": {"bucket_name": "x"}}}},
            "extra 'service_config.s3.bucket_name'",
        ),
        ({"login": "only"}, "needs both login and password"),
        ({"host": "s3.example.org"}, "has a host, which is not used; write extra endpoint_url"),
    ],
)
def test_a_fault_of_the_s3_connection_is_named(s3, fields: dict[str, Any], fault: str):
    with pytest.raises(ConfigError) as caught:
        s3(**fields)
    assert fault in str(caught.value) and "'pingmesh_s3'" in str(caught.value)


def test_every_extra_that_the_amazon_provider_offers_is_accounted_for(connections):
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    offered = json.loads(AwsBaseHook.get_ui_field_behaviour()["placeholders"]["extra"])
    assert set(offered) <= {*connections.S3Extra.model_fields, *connections._REJECTED_S3}


def test_a_plain_key_pair_is_opened_without_boto3_and_the_provider(tmp_path: Path, repo: Path):
    script = (
        "import sys\n"
        "from pingmesh_tasks.orchestration import context, connections\n"
        "from pingmesh_tasks.settings import load_settings\n"
        "connections.open_store(load_settings())._s3\n"
        "connections.ssh_access(load_settings(), connections.open_store(load_settings()))\n"
        "print([m for m in ('boto3', 'airflow.providers.amazon.aws.hooks.base_aws', 'paramiko') if m in sys.modules])"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(repo),
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "PINGMESH_INVENTORY": "x.csv",
        "AIRFLOW_CONN_PINGMESH_S3": json.dumps({"conn_type": "aws", "login": "key", "password": "secret"}),
        "AIRFLOW_CONN_PINGMESH_SSH": json.dumps({"conn_type": "ssh", "login": "probe"}),
    }
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_spark_job_gets_the_credentials_and_no_other_token(tmp_path: Path, connections, monkeypatch):
    from pingmesh_tasks.orchestration import spark
    from pingmesh_tasks.windows import Window

    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "hadoop-aws-3.5.0.jar").touch()
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    for token in (None, "its own"):
        access = S3Access("bucket", "key", "secret", session_token=token)
        window = Window.parse("20261121T220500Z", 300)
        job = spark.access_tables([], window, access, master="local[2]", home=tmp_path)
        assert job.environment["AWS_SESSION_TOKEN"] == (token or "")
        assert "secret" not in json.dumps(job.arguments) and "its own" not in json.dumps(job.arguments)


# ------------------------------------------------------------------------------ a role, end to end


@contextmanager
def security_token_service() -> Iterator[tuple[str, list[str]]]:
    """AWS's STS as far as `AssumeRole`: each call gives the key of the next number, valid for 5 minutes."""
    roles: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            roles.append(body["RoleArn"][0])
            until = datetime.now(UTC) + timedelta(minutes=5)  # boto3 renews it at once
            answer = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
                <Credentials><AccessKeyId>role-key-{len(roles)}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
                <SessionToken>role-token-{len(roles)}</SessionToken><Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>
                </Credentials></AssumeRoleResult></AssumeRoleResponse>""".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", roles
        server.shutdown()


def test_a_role_is_assumed_and_renewed_and_its_token_goes_to_the_bucket(
    connections, s3, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(objects, "_CREDENTIAL_TTL", timedelta(seconds=1))  # obstore asks for each request
    role = "arn:aws:iam::123456789012:role/pingmesh"
    with security_token_service() as (sts, roles), other_server() as requests:
        extra = {
            "role_arn": role,
            "endpoint_url": requests.endpoint,
            "region_name": "eu-west-1",
            "service_config": {"sts": {"endpoint_url": sts}},
        }
        access = s3(login="of-the-user", password="of-the-user", extra=extra)
        store = ObjectStore(access)
        store.put("a", b"1")
        time.sleep(0.2)  # obstore keeps an answer for 0.1 s at least
        store.put("b", b"1")
        store.ensure_bucket()
    assert set(roles) == {role} and len(roles) > 2
    tokens = [headers["x-amz-security-token"] for headers in requests]
    assert [key.replace("key", "token") for key in requests.access_keys] == tokens
    assert len(set(tokens[:2])) == 2, "the second request has a renewed token"
    assert access.region == "eu-west-1"


def test_a_role_that_may_not_be_assumed_is_an_error_of_the_connection(s3):
    extra = {"role_arn": "arn:aws:iam::123456789012:role/x", "service_config": {"sts": {"endpoint_url": "http://x:1"}}}
    with pytest.raises(ConfigError, match="'pingmesh_s3' gives no credentials"):
        s3(login="of-the-user", password="of-the-user", extra=extra)
