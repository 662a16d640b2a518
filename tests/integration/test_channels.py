"""The channels against a real mail server and a real HTTP server, through Airflow's own connections and hooks."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from urllib.parse import parse_qsl

import pytest
from aiosmtpd.controller import Controller

from pingmesh_tasks.alerting import AlertState, Policy
from pingmesh_tasks.alerting.channel import ChannelError
from pingmesh_tasks.alerting.delivery import deliver
from pingmesh_tasks.alerting.messages.message import compose
from pingmesh_tasks.alerting.outbox import post, set_channels
from pingmesh_tasks.alerting.state_file import AlertFile
from pingmesh_tasks.settings import load_settings
from tests.support import notices

pytestmark = pytest.mark.integration
SETTINGS = load_settings({"PINGMESH_INVENTORY": "x.csv", "PINGMESH_ALERT_EMAIL_TO": "ops@example.org, net@example.org"})
MESSAGE = compose(notices.notice(), notices.LINKS, b"\x89PNG heatmap", [notices.TRACE])
SECRET = "T000/B000/secret"
FILES = {"ok": True, "files": [{"id": "F1"}]}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    from pingmesh_tasks.orchestration import callbacks, channels
    from pingmesh_tasks.pipeline import late_data

    yield channels, callbacks, late_data
    patch.undo()


class HttpSink:
    """Takes POSTs; `status` is what it answers."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.answers: dict[str, dict[str, object]] = {}  # to a path of Slack's API
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.got.append((self.path, dict(self.headers), body))
                told = sink.answers.get(self.path, {"ok": True, "channel": "C01", "ts": "1.000001"})
                answer = json.dumps(told).encode() if self.path.startswith("/api/") else b"ok"
                self.send_response(sink.status)
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web():
    sink = HttpSink()
    yield sink
    sink.server.shutdown()
    sink.server.server_close()


@pytest.fixture
def post_office():
    """A mail server; its `handler.mails` are what arrived."""

    class Handler:
        mails: list[object]
        hangs_up = False

        async def handle_QUIT(self, server, session, envelope):
            if self.hangs_up:
                server.transport.abort()
            return "221 Bye"

        async def handle_DATA(self, server, session, envelope):
            self.mails.append((envelope, message_from_bytes(envelope.content, policy=policy.default)))
            return "250 OK"

    handler = Handler()
    handler.mails = []
    controller = Controller(handler, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def connect(patch, name: str, **connection) -> None:
    patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


@pytest.fixture
def connections(monkeypatch, web, post_office):
    connect(monkeypatch, "pingmesh_slack", conn_type="slackwebhook", host=f"{web.url}/services", password=SECRET)
    smtp = {"disable_ssl": True, "disable_tls": True, "from_email": "pm@example.org"}
    connect(monkeypatch, "pingmesh_smtp", conn_type="smtp", host="127.0.0.1", port=post_office.port, extra=smtp)
    connect(monkeypatch, "pingmesh_webhook", conn_type="http", host=f"{web.url}/hooks/alarm")
    return monkeypatch


def opened(modules):
    on, off = modules[0].open_channels(SETTINGS)
    return {channel.name: channel for channel in on}, off


def slack_api(modules, connections, web):
    extra = {"base_url": f"{web.url}/api/", "channel": "#alarms"}
    connect(connections, "pingmesh_slack", conn_type="slack", password="xoxb-secret", extra=extra)
    return opened(modules)[0]["slack"]


def test_without_connections_every_channel_is_off_and_says_why(modules):
    on, off = opened(modules)
    assert on == {}
    assert off == {
        "slack": "there is no connection 'pingmesh_slack'",
        "e-mail": "there is no connection 'pingmesh_smtp'",
        "webhook": "there is no connection 'pingmesh_webhook'",
    }


def test_a_mail_arrives_with_the_heatmap_inside(modules, connections, post_office):
    opened(modules)[0]["e-mail"].send(MESSAGE)
    ((envelope, mail),) = post_office.handler.mails
    assert envelope.rcpt_tos == ["ops@example.org", "net@example.org"]
    assert mail["Subject"] == "[Critical] Host host04 does not answer"
    assert mail["X-Pingmesh-Notice-Id"] == MESSAGE.id
    assert mail.get_body(("plain",)).get_content().replace("\r\n", "\n").strip() == MESSAGE.text.strip()
    html = mail.get_body(("html",)).get_content()
    (image,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    assert f'src="cid:{image["Content-ID"].strip("<>")}"' in html
    assert image.get_content() == b"\x89PNG heatmap"


def test_a_mail_server_that_hangs_up_instead_of_saying_goodbye_has_the_mail(modules, connections, post_office):
    post_office.handler.hangs_up = True
    opened(modules)[0]["e-mail"].send(MESSAGE)
    assert len(post_office.handler.mails) == 1


def test_slack_gets_blocks_by_a_webhook(modules, connections, web):
    opened(modules)[0]["slack"].send(MESSAGE)
    ((path, headers, body),) = web.got
    assert path == f"/services/{SECRET}"
    assert headers["X-Pingmesh-Notice-Id"] == MESSAGE.id
    assert json.loads(body)["blocks"] == MESSAGE.slack_blocks
    assert json.loads(body)["text"] == MESSAGE.slack_text


def test_slack_gets_blocks_by_its_api(modules, connections, web):
    slack_api(modules, connections, web).send(replace(MESSAGE, heatmap=None))
    ((path, headers, body),) = web.got
    assert (path, headers["Authorization"]) == ("/api/chat.postMessage", "Bearer xoxb-secret")
    assert json.loads(body)["channel"] == "#alarms"
    assert json.loads(body)["metadata"]["event_payload"] == {"id": MESSAGE.id}


def test_slack_gets_the_heatmap_in_the_thread_of_its_message(modules, connections, web):
    upload = {"ok": True, "file_id": "F1", "upload_url": f"{web.url}/upload/F1"}
    web.answers = {"/api/files.getUploadURLExternal": upload, "/api/files.completeUploadExternal": FILES}
    slack_api(modules, connections, web).send(MESSAGE)
    paths = [path for path, _, _ in web.got]
    assert paths[0] == "/api/chat.postMessage" and paths[-1] == "/api/files.completeUploadExternal"
    assert b"\x89PNG heatmap" in web.got[paths.index("/upload/F1")][2]
    done = dict(parse_qsl(web.got[-1][2].decode())) or json.loads(web.got[-1][2])
    assert (done["channel_id"], done["thread_ts"]) == ("C01", "1.000001")


def test_a_slack_bot_that_may_not_send_files_still_tells_and_says_so(modules, connections, web, caplog):
    web.answers = {"/api/files.getUploadURLExternal": {"ok": False, "error": "missing_scope"}}
    slack_api(modules, connections, web).send(MESSAGE)
    assert [path for path, _, _ in web.got] == ["/api/chat.postMessage", "/api/files.getUploadURLExternal"]
    assert "files:write" in caplog.text and "missing_scope" in caplog.text


def test_an_answer_about_files_that_makes_no_sense_does_not_have_the_message_sent_again(modules, connections, web):
    upload = {"ok": True, "file_id": "F1", "upload_url": f"{web.url}/upload/F1"}
    web.answers = {"/api/files.getUploadURLExternal": upload, "/api/files.completeUploadExternal": {"ok": True}}
    slack_api(modules, connections, web).send(MESSAGE)
    assert [path for path, _, _ in web.got].count("/api/chat.postMessage") == 1


def test_a_webhook_gets_the_documented_json_with_the_id(modules, connections, web):
    opened(modules)[0]["webhook"].send(MESSAGE)
    ((path, headers, body),) = web.got
    assert (path, headers["X-Pingmesh-Notice-Id"]) == ("/hooks/alarm", MESSAGE.id)
    assert json.loads(body) == json.loads(json.dumps(MESSAGE.webhook))


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_success_is_a_refusal_that_shows_no_secret(modules, connections, web, status):
    web.status = status
    for name in ("slack", "webhook"):
        with pytest.raises(ChannelError) as caught:
            opened(modules)[0][name].send(MESSAGE)
        assert SECRET not in str(caught.value) and "hooks/alarm" not in str(caught.value)


def test_servers_that_are_not_there_are_refusals_that_show_no_secret(modules, connections):
    port = free_port()
    connect(connections, "pingmesh_slack", conn_type="slackwebhook", host=f"http://127.0.0.1:{port}", password=SECRET)
    connect(connections, "pingmesh_webhook", conn_type="http", host=f"http://u:{SECRET}@127.0.0.1:{port}/x")
    smtp = {"disable_ssl": True, "disable_tls": True, "from_email": "pm@example.org"}
    connect(connections, "pingmesh_smtp", conn_type="smtp", host="127.0.0.1", port=port, extra=smtp)
    on, off = opened(modules)
    assert not off
    for channel in on.values():
        with pytest.raises(ChannelError) as caught:
            channel.send(MESSAGE)
        assert SECRET not in str(caught.value)


def test_servers_that_take_and_say_nothing_are_not_waited_for_long(modules, connections):
    connections.setattr(modules[0], "TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        connect(connections, "pingmesh_slack", conn_type="slackwebhook", host=url, password=SECRET)
        connect(connections, "pingmesh_webhook", conn_type="http", host=url)
        smtp = {"disable_ssl": True, "disable_tls": True, "from_email": "pm@example.org"}
        connect(connections, "pingmesh_smtp", conn_type="smtp", host="127.0.0.1", port=port, extra=smtp)
        start = monotonic()
        for channel in opened(modules)[0].values():
            with pytest.raises(ChannelError):
                channel.send(MESSAGE)
        assert monotonic() - start < 25  # the hooks' own limits are 30 s each


def test_a_webhook_whose_certificate_nobody_signed_is_refused(modules, connections, web, tmp_path):
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", tmp_path / "key", "-out", tmp_path / "cert"]
    subprocess.run([*shlex.split(make), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    connect(connections, "pingmesh_webhook", conn_type="http", host=web.url.replace("http:", "https:"))
    with pytest.raises(ChannelError, match="SSLError"):
        opened(modules)[0]["webhook"].send(MESSAGE)
    assert web.got == []


@pytest.mark.parametrize(
    ("name", "connection", "reason"),
    [
        ("slack", {"conn_type": "slack", "password": "x"}, "names no channel"),
        ("slack", {"conn_type": "http", "host": "x"}, "use slackwebhook or slack"),
        ("slack", {"conn_type": "slackwebhook", "host": "http://x"}, "does not contain password"),
        ("smtp", {"conn_type": "smtp", "host": "x"}, "no from_email"),
    ],
)
def test_a_connection_that_cannot_work_is_off_with_what_to_write(modules, connections, name, connection, reason):
    connect(connections, f"pingmesh_{name}", **connection)
    assert reason in opened(modules)[1]["slack" if name == "slack" else "e-mail"]


def test_a_dead_channel_holds_nobody_up_and_is_tried_again(modules, connections, web, post_office, store):
    connect(
        connections, "pingmesh_slack", conn_type="slackwebhook", host=f"http://127.0.0.1:{free_port()}", password="x"
    )
    on, off = modules[0].open_channels(SETTINGS)
    file, now = AlertFile(store), datetime.now(UTC)
    told = [notices.notice(at=now), notices.notice("resolved", at=now)]
    file.update(lambda state: post(set_channels(state, [channel.name for channel in on], off, now), told))
    counts = deliver(file, on, compose, Policy(failing_after=1), lambda: now, sender="one")
    assert counts == {"sent": 4, "failed": 1}
    assert [mail["X-Pingmesh-Notice-Id"] for _, mail in post_office.handler.mails] == [notice.id for notice in told]
    counts = deliver(file, on, compose, Policy(), lambda: now + timedelta(seconds=20), sender="two")
    said = [json.loads(body)["detail"] for _, _, body in web.got]
    assert "slack has failed" in said[-1] and len(said) == 3
    connect(connections, "pingmesh_slack", conn_type="slackwebhook", host=web.url, password=SECRET)
    later = now + timedelta(seconds=600)
    for sender in ("three", "four"):
        deliver(file, modules[0].open_channels(SETTINGS)[0], compose, Policy(), lambda: later, sender=sender)
    slack = [headers["X-Pingmesh-Notice-Id"] for path, headers, _ in web.got if SECRET in path]
    assert slack == [notice.id for notice in told]
    assert file.load().outbox == ()


def test_a_run_that_misses_its_deadline_is_told_and_so_is_its_end(modules, connections, post_office, store, caplog):
    callbacks = modules[1]
    connections.setenv("PINGMESH_INVENTORY", "x.csv")
    connections.setenv("PINGMESH_ALERT_EMAIL_TO", "ops@example.org")
    connections.setenv("AIRFLOW__API__BASE_URL", "http://airflow")
    connections.setenv("PINGMESH_S3_ENDPOINT", store.access.endpoint)
    connections.setenv("PINGMESH_S3_BUCKET", store.access.bucket)
    access = {"login": store.access.access_key_id, "password": store.access.secret_access_key}
    connect(connections, "pingmesh_s3", conn_type="aws", **access)
    context = {"dag_run": {"dag_id": "pingmesh", "dag_run_id": "scheduled__2026-11-22T12:00:00+00:00"}}

    async def miss() -> tuple[str, int]:
        """Miss the deadline while counting how often the event loop could do something else."""
        turns, told = 0, asyncio.ensure_future(callbacks.notify_late_data(600, context))
        while not told.done():
            await asyncio.sleep(0.01)
            turns += 1
        return told.result(), turns

    told, turns = asyncio.run(miss())
    assert told.startswith("3 sent") and turns > 3
    assert asyncio.run(miss())[0].startswith("0 sent")
    (mail,) = [mail for _, mail in post_office.handler.mails]
    assert mail["Subject"] == "[Critical] Data of pingmesh are late"
    text = mail.get_body(("plain",)).get_content()
    assert "Run scheduled__2026-11-22T12:00:00+00:00 of DAG pingmesh" in text
    assert "http://airflow/plugin/pingmesh/pingmesh/#tab=alarms&inc=" in text
    [row] = store.keys("tables/notice/")
    assert mail["X-Pingmesh-Notice-Id"] in row
    now = datetime.now(UTC)
    for n in (1, 2):
        modules[2].ended_in_time(store, "pingmesh", Policy(), now + timedelta(seconds=n))
    state = AlertFile(store).load()
    assert [entry.notification.kind for entry in state.outbox] == ["resolved"]
    modules[2].ended_in_time(store, "pingmesh", Policy(), now + timedelta(seconds=3))
    assert AlertFile(store).load() == state


def test_late_data_are_told_though_the_store_is_down_too(modules, connections, post_office, store):
    from dataclasses import replace

    late_data, dead = modules[2], type(store)(replace(store.access, endpoint=f"http://127.0.0.1:{free_port()}"))
    now = datetime.now(UTC)
    late = late_data.late_data_finding("pingmesh", "run", 600, now)
    channels = modules[0].open_channels(SETTINGS)
    assert late_data.notify_late_data(dead, channels, late, now, window_s=300) == "3 sent, the object store is down"
    assert len(post_office.handler.mails) == 1


def test_the_deadline_of_a_dag_of_windows_is_airflows_own(modules):
    alert = modules[1].late_data_alert(SETTINGS)
    assert alert.interval == timedelta(seconds=600)
    assert alert.callback.path == "pingmesh_tasks.orchestration.callbacks.notify_late_data"
    assert alert.callback.kwargs == {"allowed_s": 600.0}
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DAG("late", schedule=None, deadline=alert)
    assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).deadline


def test_an_empty_memory_has_nothing_to_deliver(modules, connections, store):
    channels = modules[0].open_channels(SETTINGS)[0]
    assert deliver(AlertFile(store), channels, compose, Policy(), lambda: notices.NOON, sender="one") == {}
    assert AlertFile(store).load() == AlertState()
