"""Sessions and their refresh tokens: the rows, and when they are good."""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import InvalidArgument, NotFound, Unauthenticated
from services.identity.domain.row import Row
from services.identity.domain.sealing import digest
from services.identity.domain.token import IDLE_S, Grant

SESSIONS_MAX = 50  # Open ones an account may have; the oldest goes. People have fewer devices.
KEPT_DAYS = 90  # How long an ended session is remembered, to know a device again.
SECRET_BYTES = 32
IMPERSONATION_S = 900  # Of an impersonated session, unless it asks for more; an hour at most (the contract).


class SessionNotFound(NotFound):
    """The account has no session {session_id}."""


class SessionEnded(Unauthenticated):
    """The session is over; sign in again."""


class RefreshRefused(Unauthenticated):
    """The refresh token is not good; sign in again."""


class SelfImpersonation(InvalidArgument):
    """Nobody acts as themself."""


class Session(Row):
    """A place where an account is signed in."""

    __tablename__ = "session"
    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    subject: Mapped[str]  # A user's id; of a client's own session the client's.
    kind: Mapped[str]
    scope: Mapped[list[str] | None]  # Narrowed to these. None: all that the roles grant.
    amr: Mapped[list[str]]
    client_id: Mapped[str]
    acting: Mapped[str]
    reason: Mapped[str]
    device_name: Mapped[str]
    user_agent: Mapped[str]
    address: Mapped[str]
    device_hash: Mapped[bytes]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    auth_time: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    cause: Mapped[str]  # Why it was ended. Empty: it was not.

    def open(self, now: datetime) -> bool:
        return self.ended_at is None and now < self.expires_at


class RefreshToken(Row):
    """One link of a session's chain of refresh tokens. All of a session are one family."""

    __tablename__ = "refresh_token"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID]
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


def opened(session_id: UUID, grant: Grant, now: datetime) -> Session:
    """A new session by `grant`."""
    device = grant.device
    return Session(
        session_id=session_id,
        subject=grant.subject,
        kind=grant.kind,
        scope=None if grant.scope is None else sorted(grant.scope),
        amr=list(grant.amr),
        client_id=grant.client_id,
        acting=grant.acting,
        reason=grant.reason,
        device_name=device.name,
        user_agent=device.user_agent[:USER_AGENT_CHARS_MAX],
        address=device.address,
        device_hash=device_hash(device.user_agent),
        created_at=now,
        last_used_at=now,
        auth_time=grant.auth_time,
        expires_at=now + timedelta(seconds=grant.lifetime_s),
        ended_at=None,
        cause="",
    )


def granted(session: Session) -> Grant:
    """The grant that a session stands for, to go on with."""
    return Grant(
        subject=session.subject,
        kind=_kind(session.kind),
        scope=None if session.scope is None else frozenset(session.scope),
        amr=tuple(session.amr),
        client_id=session.client_id,
        acting=session.acting,
        session_id=session.session_id,
        auth_time=session.auth_time,
    )


def lendable(permissions: Set[str]) -> frozenset[str]:
    """What of a person's permissions an impersonated session keeps: none over others' accounts but to
    read them, and no pattern that would bring such."""
    wide = {"*", "identity.*"}
    return frozenset(
        name
        for name in permissions
        if name not in wide and (not name.startswith("identity.") or name.endswith(".read"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an open session allows at this instant."""

    subject: str
    acting: str
    permissions: frozenset[str]


def _kind(text: str) -> Any:
    assert text in ("user", "client", "api_key"), text
    return text


USER_AGENT_CHARS_MAX = 400  # Real ones have under 300.


def device_hash(user_agent: str) -> bytes:
    """Tells devices apart well enough to say that one is new."""
    return hashlib.sha256(user_agent.encode()).digest()[:16]


def new_refresh_secret() -> tuple[str, bytes]:
    """A refresh token, and what is stored of it."""
    secret = secrets.token_bytes(SECRET_BYTES)
    return base64.urlsafe_b64encode(secret).decode().rstrip("="), digest(secret)


def refresh_hash(token: str) -> bytes:
    """What is stored of `token`. Raises RefreshRefused when it cannot be one."""
    try:
        secret = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise RefreshRefused from None
    if len(secret) != SECRET_BYTES:
        raise RefreshRefused
    return digest(secret)


def refresh_link(hash_: bytes, session: Session, now: datetime) -> RefreshToken:
    """The next link of the chain: good until it rested too long or the session is over."""
    ends = min(session.expires_at, now + timedelta(seconds=IDLE_S))
    return RefreshToken(
        hash=hash_, session_id=session.session_id, issued_at=now, expires_at=ends, used_at=None
    )
