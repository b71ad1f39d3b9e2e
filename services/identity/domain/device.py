"""Device authorizations (RFC 8628): a device waits while its owner decides elsewhere."""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import NotFound, ResourceExhausted
from services.identity.domain.oauth import OAuthError
from services.identity.domain.row import Row
from services.identity.domain.sealing import Sealer

LIFE_S = 600  # Long enough to fetch a phone; a user code is short, so it must not live long.
INTERVAL_S = 5  # RFC 8628 3.2's default.
SLOWER_S, INTERVAL_S_MAX = 5, 60  # RFC 8628 3.5: five more for each poll that came too soon.
USER_CODE_ALPHABET, USER_CODE_CHARS = "BCDFGHJKLMNPQRSTVWXZ", 8  # RFC 8628 6.1: 34 bits, no words.
DEVICE_CODE_BYTES = 32
GUESSES_MAX, GUESSES_S = 20, 3_600  # Of one person: 34 bits bear a few typing errors, not a search.
WAITING, GRANTED, DENIED, USED = "waiting", "granted", "denied", "used"


class UserCodeRefused(NotFound):
    """No device waits with this code."""


class TooManyUserCodes(ResourceExhausted):
    """Too many codes were tried; try again later."""

    retry_after_s = float(GUESSES_S)


class DeviceAuthorization(Row):
    """A device that asked. Both of its codes are stored hashed."""

    __tablename__ = "device_authorization"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_code_hash: Mapped[bytes]
    client_id: Mapped[str]
    scopes: Mapped[list[str]]
    state: Mapped[str]
    user_id: Mapped[UUID | None]
    amr: Mapped[list[str]]
    auth_time: Mapped[datetime | None]
    interval_s: Mapped[int]
    polled_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]


def new_user_code() -> str:
    """`XXXX-XXXX`"""
    letters = "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(USER_CODE_CHARS))
    return f"{letters[:4]}-{letters[4:]}"


def user_code_hash(sealer: Sealer, code: str) -> bytes:
    """Blanks, hyphens and case do not matter. Keyed, for 34 bits could be searched."""
    plain = "".join(code.split()).replace("-", "").upper()
    return sealer.mac("user_code", plain.encode())


def poll(device: DeviceAuthorization, now: datetime) -> None:
    """Notes that the device asked. Raises OAuthError unless its owner let it in.

    A poll that comes too soon makes the device's interval longer, which the caller must keep.
    """
    if now >= device.expires_at or device.state == USED:
        raise OAuthError("expired_token")
    if device.state == DENIED:
        raise OAuthError("access_denied")
    too_soon = device.polled_at is not None and now < device.polled_at + timedelta(seconds=device.interval_s)
    device.polled_at = now
    if too_soon:
        device.interval_s = min(device.interval_s + SLOWER_S, INTERVAL_S_MAX)
        raise OAuthError("slow_down")
    if device.state == WAITING:
        raise OAuthError("authorization_pending")
