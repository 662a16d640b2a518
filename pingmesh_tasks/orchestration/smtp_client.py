"""A client of the SMTP server that an Airflow connection names.

Airflow's SmtpHook reads the connection, but builds its own mails and keeps its client private: it
cannot send a mail with an image inside. So the client is made here, by the fields that the hook
reads.
"""

from __future__ import annotations

import smtplib
import ssl
from importlib import import_module
from typing import Any

from airflow.providers.smtp.hooks.smtp import SmtpHook, build_xoauth2_string

from pingmesh_tasks.alerting.channel import ChannelError

_OUTLOOK_SCOPE = "https://outlook.office.com/.default"


def read_connection(connection_id: str, connection: Any) -> SmtpHook:
    """Return a hook whose properties are the fields of a connection; it connects to nothing.

    Raises:
        ChannelError: The extra `ssl_context` is neither `default` nor `none`.
    """
    hook = SmtpHook(connection_id)
    hook.smtp_connection = connection
    if hook.ssl_context not in (None, "default", "none"):
        raise ChannelError(
            f"the connection {connection_id!r} has the ssl_context {hook.ssl_context!r}; use default or none"
        )
    return hook


def open_client(hook: SmtpHook, timeout_s: float) -> smtplib.SMTP:
    """Return a client that is logged in. The caller closes it.

    Raises:
        ChannelError: There is no OAuth 2 token.
        smtplib.SMTPException: The server refuses.
        OSError: The server cannot be reached within `timeout_s`, or TLS fails.
    """
    timeout_s = min(hook.timeout, timeout_s)
    context = None if hook.ssl_context == "none" else ssl.create_default_context()
    port = hook.port or 0  # 0: the default of the client
    client: smtplib.SMTP
    if hook.use_ssl:
        client = smtplib.SMTP_SSL(hook.host, port, timeout=timeout_s, context=context)
    else:
        client = smtplib.SMTP(hook.host, port, timeout=timeout_s)
    try:
        if hook.smtp_starttls:
            client.starttls(context=context)
            client.ehlo()
        _log_in(client, hook)
    except BaseException:
        client.close()
        raise
    return client


def _log_in(client: smtplib.SMTP, hook: SmtpHook) -> None:
    if hook.auth_type == "oauth2":
        # `login` does so by itself; `auth` would take the refusal (503) for a success
        client.ehlo_or_helo_if_needed()
        user = hook.smtp_user or hook.from_email
        token = build_xoauth2_string(str(user), hook.access_token or _fetch_token(hook))
        client.auth("XOAUTH2", lambda challenge=None: token)
    elif hook.smtp_user and hook.smtp_password:
        client.login(hook.smtp_user, hook.smtp_password)


def _fetch_token(hook: SmtpHook) -> str:
    """Return an access token for the client of the extras `client_id` and `client_secret`.

    Raises:
        ChannelError: An extra, the package `msal` or a permission is missing.
    """
    extra = hook.conn.extra_dejson
    identity, secret = extra.get("client_id"), extra.get("client_secret")
    if not identity or not secret:
        raise ChannelError("auth_type oauth2 needs access_token, or client_id and client_secret, in the extra")
    try:
        msal = import_module("msal")
    except ImportError:
        raise ChannelError("client_id and client_secret need the package msal") from None
    authority = f"https://login.microsoftonline.com/{extra.get('tenant_id', 'common')}"
    application = msal.ConfidentialClientApplication(client_id=identity, client_credential=secret, authority=authority)
    answer = application.acquire_token_for_client(scopes=[extra.get("scope", _OUTLOOK_SCOPE)])
    if "access_token" not in answer:
        raise ChannelError(f"there is no OAuth 2 token: {answer.get('error_description')}")
    return str(answer["access_token"])
