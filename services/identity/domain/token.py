"""Access tokens: what a caller is granted, and the claims that say so (RFC 9068, RFC 8693)."""

import secrets
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

Kind = Literal["user", "api_key", "client"]

ACCESS_S = 300  # Minutes, for a revoked session's token is believed that long by those who do not ask.
ACCESS_S_MAX = 3600  # The longest that any token of ours lives; a key is published so long after its last.
SESSION_S = 30 * 86_400  # Absolute end of a session, whatever is refreshed.
IDLE_S = 14 * 86_400  # A refresh token that rests longer is void.
ACCOUNT = "account"  # Lets an application act on what is its user's own; the chassis asks for it.
STANDARD_SCOPES = frozenset(
    {"openid", "profile", "email", "address", "phone", "offline_access"}
)  # OIDC Core 5.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a session is opened from."""

    name: str = ""
    user_agent: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a caller proved, and what it is given for it."""

    subject: str  # A user's id, or that of a client or service account.
    auth_time: datetime
    kind: Kind = "user"
    scope: frozenset[str] | None = None  # Narrows the roles' permissions to these. None: all of them.
    roles: frozenset[str] = frozenset()  # For a user the Issuer reads them; others bring theirs.
    amr: tuple[str, ...] = ()  # How it was proven, RFC 8176.
    client_id: str = ""  # OAuth client or API key that the token is for. Empty: Weft itself.
    acting: str = ""  # Who acts as the subject.
    session_id: UUID | None = None  # An open session to go on with. None: a new one.
    device: Device = field(default_factory=Device)
    refreshable: bool = True
    lifetime_s: int = SESSION_S  # Of a new session.
    reason: str = ""  # Why somebody acts as the subject.


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What a session works with. Its repr shows no token."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)  # Empty: the session cannot be prolonged.
    expires_in_s: int
    session_id: UUID
    session_expires_at: datetime
    subject: str
    scope: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Who issues, and for whom."""

    issuer: str
    audience: str


def claims(
    naming: Naming, grant: Grant, scope: Set[str], now: datetime, life_s: int = ACCESS_S
) -> dict[str, Any]:
    """Claims of an access token. `scope` is what is granted in effect."""
    body: dict[str, Any] = {
        "iss": naming.issuer,
        "aud": naming.audience,
        "sub": grant.subject,
        "kind": grant.kind,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=min(life_s, ACCESS_S_MAX))).timestamp()),
        "jti": secrets.token_urlsafe(12),
        "auth_time": int(grant.auth_time.timestamp()),
        "scope": " ".join(sorted(scope)),
        "roles": sorted(grant.roles),
        "client_id": grant.client_id or "weft",
    }
    if grant.amr:
        body["amr"] = list(grant.amr)
    if grant.session_id is not None:
        body["sid"] = str(grant.session_id)
    if grant.acting:
        body["act"] = {"sub": grant.acting}
    return body


def covers(granted: Set[str], permission: str) -> bool:
    """Whether `permission`, or a pattern such as `identity.*`, lies within what is granted."""
    if permission in granted or "*" in granted:
        return True
    parts = permission.removesuffix(".*").split(".")
    ends = len(parts) if not permission.endswith(".*") else len(parts) + 1
    return any(".".join(parts[:n]) + ".*" in granted for n in range(1, ends))


def narrowed(granted: Set[str], wanted: Set[str] | None) -> frozenset[str]:
    """What both name, patterns included. OIDC's own scopes stay as asked: they are no permissions."""
    if wanted is None:
        return frozenset(granted)
    kept = {name for name in wanted if name in STANDARD_SCOPES | {ACCOUNT} or covers(granted, name)}
    return frozenset(kept | {name for name in granted if covers(wanted, name)})
