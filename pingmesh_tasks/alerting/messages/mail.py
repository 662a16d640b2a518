"""A message as an e-mail: plain text, HTML, and the heatmap inside it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from typing import Any

from pingmesh_tasks.alerting.messages.message import HEATMAP_CID, AlertMessage

_DOMAIN = "pingmesh.invalid"


def build_mail(message: AlertMessage, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """Return the e-mail of a message.

    Each notification has one `Message-ID`, so that clients show one that arrives twice once. All
    notifications of an incident refer to one id, so that clients show them as one conversation.
    """
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = message.subject
    mail["From"] = Address("Pingmesh", addr_spec=sender)
    mail["To"] = ", ".join(recipients)
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = f"<{message.id}@{_DOMAIN}>"
    mail["References"] = f"<{message.incident}@{_DOMAIN}>"
    mail["X-Pingmesh-Notice-Id"] = message.id
    mail["Auto-Submitted"] = "auto-generated"  # so that nobody's absence note answers
    mail.set_content(message.text)
    mail.add_alternative(message.html, subtype="html")
    if message.heatmap:
        html: Any = mail.get_payload(1)
        html.add_related(
            message.heatmap,
            "image",
            "png",
            cid=f"<{HEATMAP_CID}>",
            filename="heatmap.png",
            disposition="inline",
        )
    return mail
