"""A rendered message as the bytes of a mail (RFC 5322, MIME), the same bytes at each attempt."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.charset import QP, Charset
from email.generator import BytesGenerator
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, formataddr, parseaddr
from io import BytesIO
from uuid import UUID

from services.notification.rendering import Rendered

WIRE = policy.compat32.clone(linesep="\r\n", max_line_length=76)  # RFC 2047 §2
MESSAGE_ID = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9a-f]{16})@")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What a mail needs beside its texts."""

    message_id: UUID
    mark: str  # Shows that a Message-ID is ours.
    sender: str  # `Name <address>`.
    recipient: str  # The bare address.
    written_at: datetime
    unsubscribe_url: str = ""  # Empty: the mail cannot be unsubscribed from.


def mail(envelope: Envelope, texts: Rendered) -> bytes:
    """Quoted-printable throughout, so that any relay takes it; no line is longer than 998 bytes."""
    charset = Charset("utf-8")
    charset.body_encoding = QP
    boundary = f"=_{envelope.message_id.hex}"
    root = MIMEMultipart("alternative", boundary=boundary, policy=WIRE)
    for text, subtype in ((texts.text, "plain"), (texts.html, "html")):
        root.attach(MIMEText(text, subtype, charset, policy=WIRE))  # type: ignore[arg-type]
    for name, value in _headers(envelope, texts):
        root[name] = value  # type: ignore[assignment]
    out = BytesIO()
    BytesGenerator(out, mangle_from_=False, policy=WIRE).flatten(root)
    return "".join(f"{name}: {value}\r\n" for name, value in _unfolded(envelope)).encode() + out.getvalue()


def _unfolded(envelope: Envelope) -> Sequence[tuple[str, str]]:
    """Headers that the generator would fold or encode: an address may be UTF-8 (RFC 6532), and not all
    readers bear a Message-ID or a link on a line of its own."""
    domain = parseaddr(envelope.sender)[1].rpartition("@")[2]
    headers = [
        ("To", envelope.recipient),
        ("Message-ID", f"<{envelope.message_id}.{envelope.mark}@{domain}>"),
    ]
    if envelope.unsubscribe_url:
        headers.append(("List-Unsubscribe", f"<{envelope.unsubscribe_url}>"))
        headers.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))  # RFC 8058 §3.1
    return headers


def _headers(envelope: Envelope, texts: Rendered) -> Sequence[tuple[str, str | Header]]:
    return [
        ("From", formataddr(parseaddr(envelope.sender), "utf-8")),
        ("Subject", Header(texts.subject, _charset(texts.subject), header_name="Subject")),
        ("Date", format_datetime(envelope.written_at)),
        ("Content-Language", texts.locale),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834: no holiday replies to us.
    ]


def _charset(text: str) -> str:
    return "us-ascii" if text.isascii() else "utf-8"
