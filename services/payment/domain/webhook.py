"""Webhooks of gateways: who signed them, when, and what is remembered of them."""

import hmac
import re
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import InvalidArgument, NotFound, Unauthenticated
from services.payment.domain.row import Row

TOLERANCE = timedelta(minutes=5)  # Older ones may be replays; gateways sign anew when they try again.
SIGNATURES_MAX = 10  # Of one webhook: two while a secret is rotated.


class WebhookRefused(Unauthenticated):
    """The webhook's signature does not verify."""


class WebhookUnreadable(InvalidArgument):
    """The webhook cannot be read: {problem}."""


class UnknownGateway(NotFound):
    """There is no gateway {gateway} that sends webhooks."""


class SeenNotice(Row):
    """A webhook that was taken in."""

    __tablename__ = "notice"
    gateway: Mapped[str] = mapped_column(primary_key=True)
    notice_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    ref: Mapped[str]
    received_at: Mapped[datetime]


def signed(secret: str, timestamp: int, body: bytes) -> str:
    """The header that a body goes with: `t=<seconds>,v1=<hex of HMAC-SHA256 over "seconds.body">`."""
    return f"t={timestamp},v1={_mac(secret, str(timestamp), body)}"


def verify(secret: str, header: str, body: bytes, now: datetime) -> None:
    """Raises WebhookRefused, whatever is wrong."""
    pairs = [pair.partition("=")[::2] for pair in header.split(",")]
    times = [text for name, text in pairs if name == "t"]
    given = [text for name, text in pairs if name == "v1"]
    if not secret or len(times) != 1 or not re.fullmatch(r"\d{1,12}", times[0], re.ASCII):
        raise WebhookRefused
    if abs(now.timestamp() - int(times[0])) > TOLERANCE.total_seconds() or len(given) > SIGNATURES_MAX:
        raise WebhookRefused
    wanted = _mac(secret, times[0], body)
    if not any(hmac.compare_digest(each.encode(), wanted.encode()) for each in given):
        raise WebhookRefused


def _mac(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, sha256).hexdigest()
