"""Codes that are good once: mailed ones, tickets between two steps. Only their hashes are stored."""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, Unauthenticated
from services.identity.domain.row import Row
from services.identity.domain.sealing import Sealer, digest

ID_BYTES, SECRET_BYTES = 16, 32
TICKET_S = 300  # To take the second step in.
TICKET_TRIES_MAX = 5  # Wrong codes that one ticket bears.
REGISTRATION, RESET, EMAIL_CHANGE = "registration", "reset", "email_change"
SECOND_STEP = "second_step"


class CodeRefused(FailedPrecondition):
    """The code is unknown, was used, or is too old."""


class TicketRefused(Unauthenticated):
    """The sign-in took too long or too many tries; begin again."""


class OneUseCode(Row):
    """A code's hash, what it is for, and what it brings along."""

    __tablename__ = "one_use_code"
    code_id: Mapped[UUID] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    subject: Mapped[str]  # A user's id. Empty: nobody's (yet).
    hash: Mapped[bytes]
    data: Mapped[dict[str, Any]]
    tries: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class Token:
    """A code as its bearer sends it, taken apart."""

    code_id: UUID
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A code in the making. Its repr shows no token."""

    token: str = field(repr=False)
    row: OneUseCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a code is for, and until when."""

    name: str
    subject: str
    expires_at: datetime
    data: dict[str, Any] = field(default_factory=dict)


def make(sealer: Sealer, code_id: UUID, purpose: Purpose, now: datetime) -> Made:
    """Derived from its id by the service's key: a mail that is sent again bears the same code."""
    token, hash_ = _derived(sealer, code_id, purpose.name)
    row = OneUseCode(
        code_id=code_id,
        purpose=purpose.name,
        subject=purpose.subject,
        hash=hash_,
        data=purpose.data,
        tries=0,
        created_at=now,
        expires_at=purpose.expires_at,
        used_at=None,
    )
    return Made(token=token, row=row)


def token_of(sealer: Sealer, code: OneUseCode) -> str:
    """The code once more, for the mail that brings it."""
    return _derived(sealer, code.code_id, code.purpose)[0]


def parsed(token: str) -> Token | None:
    """None: it cannot be one of ours."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != ID_BYTES + SECRET_BYTES:
        return None
    return Token(UUID(bytes=raw[:ID_BYTES]), digest(raw[ID_BYTES:]))


def _derived(sealer: Sealer, code_id: UUID, purpose: str) -> tuple[str, bytes]:
    secret = sealer.mac(f"code:{purpose}", code_id.bytes)
    return base64.urlsafe_b64encode(code_id.bytes + secret).decode(), digest(secret)


def good(code: OneUseCode, purpose: str, token: Token, now: datetime) -> bool:
    """Whether the code could be spent now; only spending it counts."""
    right = code.purpose == purpose and hmac.compare_digest(code.hash, token.hash)
    return right and code.used_at is None and now < code.expires_at
