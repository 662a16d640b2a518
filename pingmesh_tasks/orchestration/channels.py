"""The channels of an alarm: Slack, e-mail and a webhook, through Airflow's connections and hooks.

| channel | connection | |
|---|---|---|
| slack | `pingmesh_slack` | type slackwebhook (an incoming webhook), or slack (a bot token; extra `channel`) |
| e-mail | `pingmesh_smtp` | type smtp; extra `from_email`; to `PINGMESH_ALERT_EMAIL_TO` |
| webhook | `pingmesh_webhook` | type http: the JSON of docs/webhook.schema.json is posted to its URL |

A channel whose connection is not there is off. Connections are read when the channels are opened, so that sending
needs nothing of Airflow but the hooks' code: it may happen in any thread.
"""

from __future__ import annotations

import json
import logging
import smtplib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.slack.hooks.slack import SlackHook
from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk.exceptions import AirflowException
from requests.exceptions import RequestException
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse

from pingmesh_tasks.alerting.channel import Channel, ChannelError
from pingmesh_tasks.alerting.messages.mail import build_mail
from pingmesh_tasks.alerting.messages.message import AlertMessage
from pingmesh_tasks.orchestration.connections import find_connection
from pingmesh_tasks.settings import Settings

log = logging.getLogger(__name__)
SLACK, SMTP, WEBHOOK = "pingmesh_slack", "pingmesh_smtp", "pingmesh_webhook"
TIMEOUT_S = 8
ID_HEADER = "X-Pingmesh-Notice-Id"

GetConnection = Callable[[str], Any]


def open_channels(
    settings: Settings, get_connection: GetConnection = find_connection
) -> tuple[list[Channel], dict[str, str]]:
    """Return the channels that are on, and those that are off with the reason."""
    on: list[Channel] = []
    off: dict[str, str] = {}
    openers: dict[str, Callable[[], Channel]] = {
        "slack": lambda: _open_slack(get_connection(SLACK)),
        "e-mail": lambda: _open_mail(get_connection(SMTP), settings),
        "webhook": lambda: Webhook(_given(get_connection(WEBHOOK), WEBHOOK)),
    }
    for name, opener in openers.items():
        try:
            on.append(opener())
        except ChannelError as error:
            off[name] = str(error)
    return on, off


class SlackWebhook:
    """Slack by an incoming webhook."""

    name = "slack"

    def __init__(self, connection: Any) -> None:
        self._hook = _WebhookHook(connection)
        _ = self._hook.client  # refuses a connection without a token now

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

    def __init__(self, connection: Any, channel: str) -> None:
        self._hook, self._channel = _ApiHook(connection), channel
        _ = self._hook.client

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
    """E-mail by an SMTP server. The hook knows no image inside a mail: the mail is ours, the client the hook's."""

    name = "e-mail"

    def __init__(self, connection: Any, recipients: tuple[str, ...]) -> None:
        self._connection, self._recipients = connection, recipients
        self._sender = str(connection.extra_dejson["from_email"])

    def send(self, message: AlertMessage) -> None:
        mail = build_mail(message, self._sender, self._recipients)
        with _asking(f"the SMTP server {self._connection.host}"):
            hook = _MailHook(self._connection)
            with hook:
                client: Any = hook._smtp_client
                refused = client.send_message(mail, self._sender, list(self._recipients))
                with suppress(smtplib.SMTPException, OSError):  # it has the mail: a second try would bring it twice
                    client.quit()
        if refused:  # not an error: a second try would tell the others again
            log.warning("%s: the SMTP server refused %s; the others have the mail", message.id, ", ".join(refused))


class Webhook:
    """A POST of JSON to a URL. Any status but 2xx is a refusal; certificates are checked, redirects not followed."""

    name = "webhook"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def send(self, message: AlertMessage) -> None:
        with _asking("the webhook"):
            response = _HttpHook(self._connection).run(
                data=json.dumps(message.webhook),
                headers={"Content-Type": "application/json", ID_HEADER: message.id},
                extra_options={"timeout": TIMEOUT_S, "allow_redirects": False},
            )
        if not 200 <= response.status_code < 300:
            raise ChannelError(f"the webhook answered {response.status_code}; give the URL that takes the POST itself")


def _open_slack(connection: Any) -> Channel:
    _given(connection, SLACK)
    if connection.conn_type == "slack":
        channel = connection.extra_dejson.get("channel")
        if not channel:
            raise ChannelError(f"the connection {SLACK!r} names no channel in its extra: {{'channel': '#alarms'}}")
        with _asking(f"the connection {SLACK!r}"):
            return SlackApi(connection, str(channel))
    if connection.conn_type != "slackwebhook":
        raise ChannelError(f"the connection {SLACK!r} is of type {connection.conn_type!r}; use slackwebhook or slack")
    with _asking(f"the connection {SLACK!r}"):
        return SlackWebhook(connection)


def _open_mail(connection: Any, settings: Settings) -> Channel:
    _given(connection, SMTP)
    if not settings.alert_email_to:
        raise ChannelError("PINGMESH_ALERT_EMAIL_TO names nobody")
    if not connection.extra_dejson.get("from_email"):
        raise ChannelError(f"the connection {SMTP!r} has no from_email in its extra")
    return Mail(connection, settings.alert_email_to)


def _given(connection: Any, connection_id: str) -> Any:
    if connection is None:
        raise ChannelError(f"there is no connection {connection_id!r}")
    return connection


class _asking:
    """Turn what a hook raises into a ChannelError that shows no secret: URLs of webhooks are secrets."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SlackClientError | AirflowException | RequestException | smtplib.SMTPException | OSError):
            raise ChannelError(f"{self._what} refused: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return why, without the URL that a message of `requests` or `urllib` may hold."""
    if isinstance(error, SlackApiError) and isinstance(error.response, SlackResponse):
        return f"{type(error).__name__}: {str(error.response.get('error'))[:100]!r}"
    if isinstance(error, RequestException) or "://" in str(error) or "/services/" in str(error):
        response = getattr(error, "response", None)
        return type(error).__name__ + (f", status {response.status_code}" if response is not None else "")
    return f"{type(error).__name__}: {error}"[:200]


class _MailHook(SmtpHook):
    """Airflow's hook with a connection that is known, one try and a short wait: the outbox tries again."""

    def __init__(self, connection: Any) -> None:
        super().__init__(SMTP)
        self.get_connection = lambda _: connection  # type: ignore[assignment, method-assign]

    @property
    def timeout(self) -> int:
        return min(super().timeout, TIMEOUT_S)

    @property
    def smtp_retry_limit(self) -> int:
        return 0


class _WebhookHook(SlackWebhookHook):
    def __init__(self, connection: Any) -> None:
        super().__init__(slack_webhook_conn_id=SLACK, timeout=TIMEOUT_S, retry_handlers=[])
        self.get_connection = lambda _: connection  # type: ignore[assignment, method-assign]


class _ApiHook(SlackHook):
    def __init__(self, connection: Any) -> None:
        super().__init__(slack_conn_id=SLACK, timeout=TIMEOUT_S, retry_handlers=[])
        self.get_connection = lambda _: connection  # type: ignore[assignment, method-assign]


class _HttpHook(HttpHook):
    def __init__(self, connection: Any) -> None:
        super().__init__("POST", WEBHOOK)
        self.get_connection = lambda _: connection  # type: ignore[assignment, method-assign]
