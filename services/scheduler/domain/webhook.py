"""Webhooks by the Standard Webhooks specification: rows, signatures, retries, and where they may go."""

import base64
import binascii
import hmac
import ipaddress
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from services.scheduler.domain.row import Row

SECRET_PREFIX, SECRET_BYTES = "whsec_", 32  # The specification asks for 24 to 64 bytes.
TOLERANCE = timedelta(minutes=5)  # The specification: older timestamps may be replays.
OVERLAP = timedelta(days=1)  # As the contract says of absence: a receiver's next working day.
ENDPOINTS_MAX = 200  # All are looked at for each change of a run.
ID_CHARS_MAX, SIGNATURES_MAX = 256, 10  # Of what comes in: nobody sends more than a few while keys rotate.
VISIBLE = re.compile(r"[!-~]+")  # RFC 3986 has no other characters.
# The schedule of retries that the specification suggests; after the last one a delivery is given up.
RETRIES = tuple(
    timedelta(seconds=each) for each in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)


class UnknownHook(NotFound):
    """There is no hook {hook_id}."""


class UnknownWebhookEndpoint(NotFound):
    """There is no webhook endpoint {endpoint_id}."""


class UnknownWebhookDelivery(NotFound):
    """There is no delivery {delivery_id} to this endpoint."""


class WebhookRefused(Unauthenticated):
    """The webhook's signature does not verify."""


class WebhookUnreadable(InvalidArgument):
    """The webhook cannot be read: {problem}."""


class TooManyWebhookEndpoints(FailedPrecondition):
    """There are {max} endpoints already."""


class UrlRefused(InvalidArgument):
    """The URL breaks the rule {rule}."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule=rule, field="settings.url")


class Party:
    """What both sides of webhooks have: settings that may be changed, and a secret that may be rotated."""

    settings: Mapped[bytes]
    sealed_secret: Mapped[bytes]
    previous_secret: Mapped[bytes | None]  # Sealed, too.
    previous_until: Mapped[datetime | None]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]  # None: since it was created, nothing has.

    def replace(self, settings: bytes, now: datetime) -> bool:
        """False: these are its settings already."""
        if self.settings == settings:
            return False
        self.settings, self.revision, self.updated_at = settings, self.revision + 1, now
        return True

    def rotate(self, sealed: bytes, now: datetime, overlap: timedelta) -> None:
        """From now on `sealed` counts, and for `overlap` the one of before; none that is older."""
        lasts = overlap > timedelta(0)
        self.previous_secret = self.sealed_secret if lasts else None
        self.previous_until = now + overlap if lasts else None
        self.sealed_secret, self.revision, self.updated_at = sealed, self.revision + 1, now

    def sealed_secrets(self, now: datetime) -> list[bytes]:
        """Those that count, the newest first."""
        before, until = self.previous_secret, self.previous_until
        if before is None or until is None or until <= now:
            return [self.sealed_secret]
        return [self.sealed_secret, before]


class Hook(Party, Row):
    """An address for webhooks that come in."""

    __tablename__ = "hook"
    hook_id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID]


class WebhookEndpoint(Party, Row):
    """Where webhooks go to."""

    __tablename__ = "webhook_endpoint"
    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    disabled: Mapped[bool]


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    GIVEN_UP = "GIVEN_UP"


class WebhookDelivery(Row):
    """One message to one endpoint."""

    __tablename__ = "webhook_delivery"
    delivery_id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    type: Mapped[str]
    body: Mapped[str]  # As it is signed, each time.
    state: Mapped[str]
    attempts: Mapped[int]
    status: Mapped[int]  # 0: nobody answered.
    problem: Mapped[str]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime | None]

    def answered(self, status: int, problem: str, now: datetime) -> None:
        """An attempt has ended: with 2xx it is delivered, 410 wants no more, anything else is tried again."""
        self.status, self.problem = status, problem
        if 200 <= status < 300:
            self.state, self.due_at = DeliveryState.DELIVERED, None
        elif status == 410 or self.attempts > len(RETRIES):
            self.state, self.due_at = DeliveryState.GIVEN_UP, None
        else:
            self.due_at = now + RETRIES[self.attempts - 1]


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def shown(secret: bytes) -> str:
    """As people copy it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and HMAC-SHA256 of `id.timestamp.body`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


def signatures(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """One of each secret: the receiver looks for one that it can verify."""
    return " ".join(signature(secret, message_id, timestamp, body) for secret in secrets)


def verify(secrets: Sequence[bytes], headers: tuple[str, str, str], body: bytes, now: datetime) -> None:
    """`headers` are id, timestamp and signatures; one by any of the secrets suffices.

    Raises WebhookRefused.
    """
    message_id, timestamp, signed = headers
    given = signed.split(" ")
    if not 0 < len(message_id) <= ID_CHARS_MAX or len(given) > SIGNATURES_MAX:
        raise WebhookRefused
    if not re.fullmatch(r"\d{1,12}", timestamp, re.ASCII):
        raise WebhookRefused
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise WebhookRefused
    came = [_code(each) for each in given if each.startswith("v1,")]
    wanted = [_code(signature(secret, message_id, int(timestamp), body)) for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in came for other in wanted):
        raise WebhookRefused


def _code(text: str) -> bytes:
    """The bytes of a signature; empty when they are none."""
    try:
        return base64.b64decode(text.removeprefix("v1,"), validate=True)
    except (binascii.Error, ValueError):
        return b""


def check_url(url: str, *, development: bool) -> None:
    """Raises UrlRefused. The address behind a name is checked at each call: names change."""
    if not VISIBLE.fullmatch(url) or "\\" in url:
        raise UrlRefused("characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UrlRefused("syntax") from None
    if parts.scheme != "https" and not (development and parts.scheme == "http"):
        raise UrlRefused("https")
    if not host or parts.username is not None or "#" in url:
        raise UrlRefused("host_no_user_no_fragment")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not may_go_to([str(address)], development=development):
        raise UrlRefused("public_address")


def may_go_to(addresses: Sequence[str], *, development: bool) -> bool:
    """Whether a request may go to a name with these addresses: all of them are anyone's to reach.

    One private address among public ones is how a name leads into a network from outside (DNS rebinding).
    """
    return bool(addresses) and all(development or _public(each) for each in addresses)


def _public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if mapped is not None:
        address = mapped
    return address.is_global and not address.is_multicast
