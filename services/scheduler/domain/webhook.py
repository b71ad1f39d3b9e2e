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


class Hook(Row):
    """An address for webhooks that come in."""

    __tablename__ = "hook"
    hook_id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID]
    settings: Mapped[bytes]
    sealed_secret: Mapped[bytes]
    created_at: Mapped[datetime]


class WebhookEndpoint(Row):
    """Where webhooks go to."""

    __tablename__ = "webhook_endpoint"
    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    settings: Mapped[bytes]
    sealed_secret: Mapped[bytes]
    created_at: Mapped[datetime]


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


def verify(secret: bytes, headers: tuple[str, str, str], body: bytes, now: datetime) -> None:
    """`headers` are id, timestamp and signatures. Raises WebhookRefused."""
    message_id, timestamp, signatures = headers
    given = signatures.split(" ")
    if not 0 < len(message_id) <= ID_CHARS_MAX or len(given) > SIGNATURES_MAX:
        raise WebhookRefused
    if not re.fullmatch(r"\d{1,12}", timestamp, re.ASCII):
        raise WebhookRefused
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise WebhookRefused
    wanted = _code(signature(secret, message_id, int(timestamp), body))
    if not any(hmac.compare_digest(_code(each), wanted) for each in given if each.startswith("v1,")):
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
