"""The developer's mailbox: a small SMTP server that keeps what it takes instead of passing it on.

Only in development, only on loopback; it stands where a relay stands in production, so what is sent to it
went the whole way over SMTP.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from services.chassis.clock import Clock, uuid7
from services.chassis.config import BadSetting
from services.chassis.db import Database
from services.notification import store
from services.notification.domain import Mail
from services.notification.settings import LOOPBACK

MAILS_MAX = 500  # More than a developer reads.
MAIL_BYTES_MAX = 128 * 1024  # Our mails have about 10 kB; all of them together stay below 64 MB.
CONNECTIONS_MAX = 50
LINKS_MAX = 50
LINK = re.compile(r"https?://[^\s<>\"]+")

log = logging.getLogger("weft.notification")


class Mailbox:
    """The server, and whom it tells of new mail."""

    def __init__(self, db: Database, clock: Clock, address: str) -> None:
        host, _, port = address.rpartition(":")
        if host not in LOOPBACK or not port.isdecimal():
            raise BadSetting("WEFT_NOTIFICATION_MAILBOX_ADDRESS must be a loopback host:port")
        self._db, self._clock, self._host, self._port = db, clock, host, int(port)
        self._arrived: set[asyncio.Event] = set()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._host, self._port

    async def run(self) -> None:
        """Takes mail, for ever."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._session, self._host, self._port)
        self._port = server.sockets[0].getsockname()[1]
        log.info("the mailbox takes mail at %s:%s", self._host, self._port)
        async with server:
            await server.serve_forever()

    def _session(self) -> SMTP:
        return SMTP(
            self,
            data_size_limit=MAIL_BYTES_MAX,
            enable_SMTPUTF8=True,
            hostname="mailbox.localhost",
            ident="Weft mailbox",
            loop=asyncio.get_running_loop(),
        )

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keeps the mail; the sender hears 250 only when it is committed."""
        mail = Mail(
            mail_id=uuid7(),
            received_at=self._clock.now(),
            sender=envelope.mail_from or "",
            recipients=list(envelope.rcpt_tos),
            source=envelope.original_content or b"",
        )
        async with self._db.transaction() as tx:
            await store.keep_mail(tx, mail, MAILS_MAX)
        for event in self._arrived:
            event.set()
        return f"250 2.0.0 kept as {mail.mail_id}"

    def listen(self) -> asyncio.Event:
        """Set at each new mail until it is given to `unlisten`."""
        event = asyncio.Event()
        self._arrived.add(event)
        return event

    def unlisten(self, event: asyncio.Event) -> None:
        self._arrived.discard(event)


@dataclass(frozen=True)
class Contents:
    """A mail's source, read."""

    subject: str
    sender: str
    message_id: str
    text: str
    html: str

    @property
    def links(self) -> list[str]:
        """In order of appearance in the text, each once."""
        return list(dict.fromkeys(LINK.findall(self.text)))[:LINKS_MAX]


def contents(source: bytes) -> Contents:
    """Never raises: anybody may have written the mail."""
    message = message_from_bytes(source)
    return Contents(
        subject=_header(message, "Subject"),
        sender=_header(message, "From"),
        message_id=_header(message, "Message-ID"),
        text=_part(message, "text/plain"),
        html=_part(message, "text/html"),
    )


def _header(message: Message, name: str) -> str:
    raw: Any = message.get(name, "")
    try:
        return str(make_header(decode_header(raw)))
    except (UnicodeError, LookupError, ValueError):
        return str(raw).encode("ascii", "replace").decode()


def _part(message: Message, kind: str) -> str:
    """The first part of that type."""
    for part in message.walk():
        if part.get_content_type() == kind and not part.is_multipart():
            raw = part.get_payload(decode=True)
            text = raw if isinstance(raw, bytes) else b""
            try:
                return text.decode(part.get_content_charset() or "utf-8", "replace").replace("\r\n", "\n")
            except LookupError:
                return text.decode("latin-1").replace("\r\n", "\n")
    return ""
