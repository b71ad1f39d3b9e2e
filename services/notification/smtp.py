"""E-mail, handed to an SMTP relay over a few connections that are kept open."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parseaddr

import aiosmtplib
from aiosmtplib import (
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from email_validator import EmailNotValidError, validate_email

from services.notification import bounce, mime
from services.notification.catalogue import Template
from services.notification.channel import Delivery, Outcome, Result
from services.notification.domain import BadAddress, Category
from services.notification.rendering import Reader, Renderer
from services.notification.sealing import Sealing
from services.notification.settings import NotificationSettings

CONNECTION_MAILS_MAX = 50  # Relays hang up on connections that never end; most allow 100.
CONNECTION_IDLE_S_MAX = 20.0  # Shorter than any relay's own patience (RFC 5321 §4.5.3.2 asks for 5 min).
REPLY_CHARS_MAX = 500  # What a person wants to read of an answer.
STATUS = re.compile(r"^([245])\.(\d{1,3})\.(\d{1,3})(?!\d)")


@dataclass
class _Connection:
    """One session with the relay."""

    client: aiosmtplib.SMTP
    mails: int = 0
    used_at: float = 0.0


class Email:
    """The channel CHANNEL_EMAIL."""

    def __init__(
        self,
        settings: NotificationSettings,
        renderer: Renderer,
        sealing: Sealing,
        relay: Callable[[], tuple[str, int]],
        unsubscribe_url: str,
    ) -> None:
        self._settings, self._renderer, self._sealing, self._relay = settings, renderer, sealing, relay
        self._unsubscribe_url = unsubscribe_url.rstrip("/")
        self._room = asyncio.Semaphore(settings.smtp_connections_max)
        self._idle: list[_Connection] = []

    def address(self, raw: str) -> str:
        """The domain in its ASCII form (IDNA). Raises BadAddress.

        As wide as email allows: who an account may belong to is for its owner to say, not for the carrier.
        """
        try:
            valid = validate_email(
                raw, check_deliverability=False, globally_deliverable=False, test_environment=True
            )
        except EmailNotValidError as error:
            raise BadAddress(why=str(error), field="recipient.address") from None
        return f"{valid.local_part}@{valid.ascii_domain}"

    def mail(self, delivery: Delivery) -> bytes:
        """Its source, the same at each attempt. Raises MissingValue, BadValue."""
        url = self.unsubscribe_url(delivery.template, delivery)
        reader = Reader(delivery.locale, delivery.time_zone)
        texts = self._renderer.render(delivery.template, delivery.values, reader, url)
        envelope = mime.Envelope(
            message_id=delivery.message_id,
            mark=self._sealing.mark(delivery.message_id),
            sender=self._settings.sender,
            recipient=delivery.address,
            written_at=delivery.accepted_at,
            unsubscribe_url=url,
        )
        return mime.mail(envelope, texts)

    def unsubscribe_url(self, template: Template, delivery: Delivery) -> str:
        """Empty for security messages."""
        if template.category is Category.SECURITY:
            return ""
        return f"{self._unsubscribe_url}/{self._sealing.token(delivery.message_id)}"

    async def send(self, delivery: Delivery) -> Outcome:
        """Never raises for what the relay or the network does."""
        source = self.mail(delivery)
        sender = self._settings.bounce_address or parseaddr(self._settings.sender)[1]
        try:
            async with self._room, asyncio.timeout(self._settings.smtp_timeout_s), self._session() as client:
                return await _transfer(client, sender, delivery.address, source)
        except (SMTPException, OSError, TimeoutError) as error:
            return judged(error)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """A session that is ready for a mail; kept afterwards unless anything went wrong."""
        connection = await self._kept() or await self._connect()
        try:
            yield connection.client
        except SMTPRecipientsRefused:
            self._keep(connection)
            raise
        except BaseException:
            connection.client.close()
            raise
        self._keep(connection)

    async def _kept(self) -> _Connection | None:
        """An idle session that still answers."""
        while self._idle:
            connection = self._idle.pop()
            idle_s = asyncio.get_running_loop().time() - connection.used_at
            if idle_s < CONNECTION_IDLE_S_MAX and connection.mails < CONNECTION_MAILS_MAX:
                try:
                    await connection.client.noop()
                except (SMTPException, OSError):
                    connection.client.close()
                else:
                    return connection
            connection.client.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        connection.mails += 1
        connection.used_at = asyncio.get_running_loop().time()
        self._idle.append(connection)

    async def _connect(self) -> _Connection:
        settings = self._settings
        host, port = self._relay()
        client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            username=settings.smtp_user or None,
            password=settings.smtp_password or None,
            local_hostname=settings.smtp_helo or None,
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",
            tls_context=_trust(settings) if settings.smtp_tls != "none" else None,
            timeout=settings.smtp_timeout_s,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return _Connection(client)

    async def close(self) -> None:
        """Hangs up."""
        while self._idle:
            self._idle.pop().client.close()


async def _transfer(client: aiosmtplib.SMTP, sender: str, recipient: str, source: bytes) -> Outcome:
    """One mail transaction."""
    utf8 = not recipient.isascii()
    options = ["SMTPUTF8", "BODY=8BITMIME"] if utf8 else []
    _, reply = await client.sendmail(sender, [recipient], source, mail_options=options)
    return Outcome(Result.SENT, 250, *_split(reply))


def judged(error: Exception) -> Outcome:
    """What a failure means. Only what is said about the recipient or the mail can be final."""
    if isinstance(error, SMTPRecipientsRefused):
        refused = error.recipients[0]
        return _refusal(refused.code, refused.message)
    if isinstance(error, SMTPDataError):
        return _refusal(error.code, error.message)
    if isinstance(error, SMTPNotSupported):  # RFC 6531 §3.4: the address needs SMTPUTF8.
        return Outcome(Result.REFUSED, 0, "5.6.7", "the relay takes no UTF-8 addresses")
    if isinstance(error, SMTPResponseException):  # About us: greeting, log-in, sender. An operator heals it.
        return Outcome(Result.MAY_PASS, error.code, *_split(error.message))
    return Outcome(Result.MAY_PASS, 0, "", type(error).__name__)


def _refusal(code: int, message: str) -> Outcome:
    status, reply = _split(message)
    if code // 100 != 5:
        return Outcome(Result.MAY_PASS, code, status, reply)
    gone = bounce.refused(code, status, reply) is bounce.Kind.HARD
    return Outcome(Result.UNREACHABLE if gone else Result.REFUSED, code, status, reply)


def _split(message: str) -> tuple[str, str]:
    """Status and shortened text of a reply (RFC 2034)."""
    line = " ".join(message.split())
    found = STATUS.match(line)
    return (".".join(found.groups()) if found else ""), line[:REPLY_CHARS_MAX]


def _trust(settings: NotificationSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings.smtp_ca_file or None)
