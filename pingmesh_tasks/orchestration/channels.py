"""The channels of alerts: Slack, e-mail and a webhook, through Airflow's connections and hooks.

| channel | connection | |
|---|---|---|
| slack | `pingmesh_slack` | type slackwebhook (an incoming webhook), or slack (a bot token; extra `channel`) |
| e-mail | `pingmesh_smtp` | type smtp; extra `from_email`; to `PINGMESH_ALERT_EMAIL_TO` |
| webhook | `pingmesh_webhook` | type http: the JSON of docs/webhook.schema.json is posted to its URL |

A channel whose connection is not there is off. Connections are read when the channels are opened:
a hook makes its client then, and sending needs nothing of Airflow any more, so that it may happen in
any thread. Each channel tries once and waits briefly: the outbox tries again.
"""

from __future__ import annotations

import json
import logging
import smtplib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.slack.hooks.slack import SlackHook
from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
from airflow.sdk.exceptions import AirflowException
from requests import Session
from requests.exceptions import RequestException
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse

from pingmesh_tasks.alerting.channel import Channel, ChannelError, Channels
from pingmesh_tasks.alerting.messages.mail import build_mail
from pingmesh_tasks.alerting.messages.message import AlertMessage
from pingmesh_tasks.orchestration.connections import find_connection
from pingmesh_tasks.orchestration.smtp_client import open_client, read_connection
from pingmesh_tasks.settings import Settings

log = logging.getLogger(__name__)
SLACK, SMTP, WEBHOOK = "pingmesh_slack", "pingmesh_smtp", "pingmesh_webhook"
TIMEOUT_S = 8
ID_HEADER = "X-Pingmesh-Notice-Id"


def open_channels(settings: Settings) -> Channels:
    """Return the channels that are on, and those that are off with the reason."""
    on: list[Channel] = []
    off: dict[str, str] = {}
    openers: dict[str, Callable[[], Channel]] = {
        "slack": _open_slack,
        "e-mail": partial(_open_mail, settings),
        "webhook": _open_webhook,
    }
    for name, opener in openers.items():
        try:
            on.append(opener())
        except ChannelError as error:
            off[name] = str(error)
    return Channels(on, off)


class SlackWebhook:
    """Slack by an incoming webhook."""

    name = "slack"

    def __init__(self) -> None:
        self._hook = SlackWebhookHook(slack_webhook_conn_id=SLACK, timeout=TIMEOUT_S, retry_handlers=[])
        self._hook.get_conn()  # reads the connection, refuses one without a token, and keeps the client

    def send(self, message: AlertMessage) -> None:
        with _asking("Slack's webhook"):
            self._hook.send(
                text=message.slack_text,
                blocks=message.slack_blocks,
                unfurl_links=False,
                headers={ID_HEADER: message.id},
            )


class SlackApi:
    """Slack by its API, as a bot that is a member of the channel."""

    name = "slack"

    def __init__(self, channel: str) -> None:
        self._hook, self._channel = SlackHook(slack_conn_id=SLACK, timeout=TIMEOUT_S, retry_handlers=[]), channel
        self._hook.get_conn()

    def send(self, message: AlertMessage) -> None:
        body = {
            "channel": self._channel,
            "text": message.slack_text,
            "blocks": message.slack_blocks,
            "unfurl_links": False,
            "metadata": {"event_type": "pingmesh_notice", "event_payload": {"id": message.id}},
        }
        with _asking("Slack's API"):
            posted = self._hook.call("chat.postMessage", json=body)
        if message.heatmap:
            self._reply_with(message.heatmap, message.id, posted)

    def _reply_with(self, heatmap: bytes, notice_id: str, posted: Any) -> None:
        """Put the heatmap into the message's thread. The message is sent: a bot that may not is no refusal of it."""
        picture = {"content": heatmap, "filename": "heatmap.png", "title": "Heatmap", "alt_txt": "Latency of all pairs"}
        try:
            with _asking("Slack's API"):
                self._hook.send_file_v2(
                    channel_id=posted["channel"],
                    thread_ts=posted["ts"],
                    file_uploads=picture,  # type: ignore[arg-type]
                )
        except Exception as error:  # whatever it is: a second try would tell everybody again
            why = str(error) if isinstance(error, ChannelError) else type(error).__name__
            log.warning("%s is in Slack without its heatmap (the bot needs the scope files:write): %s", notice_id, why)


class Mail:
    """E-mail by an SMTP server. `smtp_client` says why the hook does not send it."""

    name = "e-mail"

    def __init__(self, connection: Any, recipients: tuple[str, ...]) -> None:
        self._hook, self._recipients = read_connection(SMTP, connection), recipients
        self._sender = str(self._hook.from_email)

    def send(self, message: AlertMessage) -> None:
        mail = build_mail(message, self._sender, self._recipients)
        with _asking(f"the SMTP server {self._hook.host}"):
            client = open_client(self._hook, TIMEOUT_S)
            try:
                refused = client.send_message(mail, self._sender, list(self._recipients))
                with suppress(smtplib.SMTPException, OSError):  # it has the mail: a second try would bring it twice
                    client.quit()
            finally:
                client.close()
        if refused:  # not an error: a second try would mail the others again
            log.warning("%s: the SMTP server refused %s; the others have the mail", message.id, ", ".join(refused))


class Webhook:
    """A POST of JSON to a URL. Any status but 2xx is a refusal; certificates are checked, redirects not followed."""

    name = "webhook"

    def __init__(self) -> None:
        self._hook = _OpenedHttpHook()

    def send(self, message: AlertMessage) -> None:
        headers = {"Content-Type": "application/json", ID_HEADER: message.id}
        with _asking("the webhook"):
            response = self._hook.run(data=json.dumps(message.webhook), headers=headers)
        if not 200 <= response.status_code < 300:
            raise ChannelError(f"the webhook answered {response.status_code}; give the URL that takes the POST itself")


class _OpenedHttpHook(HttpHook):
    """Airflow's hook with a session that is made at once.

    `run` asks for a session each time, which would read the connection in the thread that sends.
    """

    def __init__(self) -> None:
        super().__init__("POST", WEBHOOK)
        self._session = super().get_conn(extra_options={"timeout": TIMEOUT_S, "allow_redirects": False})

    def get_conn(self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None) -> Session:
        return self._session


def _open_slack() -> Channel:
    connection = _connection(SLACK)
    with _asking(f"the connection {SLACK!r}"):
        if connection.conn_type == "slackwebhook":
            return SlackWebhook()
        if connection.conn_type != "slack":
            kind = connection.conn_type
            raise ChannelError(f"the connection {SLACK!r} is of type {kind!r}; use slackwebhook or slack")
        channel = connection.extra_dejson.get("channel")
        if not channel:
            raise ChannelError(f"the connection {SLACK!r} names no channel in its extra: {{'channel': '#alarms'}}")
        return SlackApi(str(channel))


def _open_mail(settings: Settings) -> Channel:
    connection = _connection(SMTP)
    if not settings.alert_email_to:
        raise ChannelError("PINGMESH_ALERT_EMAIL_TO names nobody")
    if not connection.extra_dejson.get("from_email"):
        raise ChannelError(f"the connection {SMTP!r} has no from_email in its extra")
    return Mail(connection, settings.alert_email_to)


def _open_webhook() -> Channel:
    _connection(WEBHOOK)
    with _asking(f"the connection {WEBHOOK!r}"):
        return Webhook()


def _connection(connection_id: str) -> Any:
    """Return a connection.

    Raises:
        ChannelError: There is none.
    """
    connection = find_connection(connection_id)
    if connection is None:
        raise ChannelError(f"there is no connection {connection_id!r}")
    return connection


#: What hooks and clients raise: refusals, unreachable servers, connections whose fields make no sense.
_REFUSALS = (SlackClientError, AirflowException, RequestException, smtplib.SMTPException, OSError, ValueError)


class _asking:
    """Turn what a hook raises into a ChannelError that shows no secret: URLs of webhooks are secrets."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _REFUSALS):
            raise ChannelError(f"{self._what} refused: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return why, without the URL that a message of `requests` or `urllib` may hold."""
    if isinstance(error, SlackApiError) and isinstance(error.response, SlackResponse):
        return f"{type(error).__name__}: {str(error.response.get('error'))[:100]!r}"
    if isinstance(error, RequestException) or "://" in str(error) or "/services/" in str(error):
        response = getattr(error, "response", None)
        return type(error).__name__ + (f", status {response.status_code}" if response is not None else "")
    return f"{type(error).__name__}: {error}"[:200]
