"""Tokens of ours that come back: verified with our own keys, and asked whether they still count."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.chassis.db import Tx
from services.identity.domain.session import RefreshRefused, Session, refresh_hash
from services.identity.service.shared import Shared
from services.identity.store import oauth as store, session as sessions, user as users

TOKEN_CHARS_MAX = 8_192  # Ours have under 2,000; a longer text is not worth verifying.


@dataclass(frozen=True, slots=True)
class Read:
    """A token that counts now, and its session; a client's own token has none."""

    claims: dict[str, Any]
    session: Session | None


class TokenReader:
    """Reads access tokens, refresh tokens and id tokens."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def claims(self, token: str, typ: str) -> dict[str, Any] | None:
        """Claims of a JWT that we signed as `typ`, whatever its age. None: it is not ours."""
        if len(token) > TOKEN_CHARS_MAX:
            return None
        try:
            keys = KeySet.import_key_set({"keys": self._shared.keyring.jwks()})
            decoded = jwt.decode(token, keys, algorithms=["ES256"])
        except (JoseError, ValueError, TypeError, KeyError):
            return None
        ours = decoded.claims.get("iss") == self._shared.tools.settings.issuer
        return decoded.claims if ours and decoded.header.get("typ") == typ else None

    def hinted(self, id_token: str) -> str:
        """Whom an `id_token_hint` means, be it expired (OIDC Core 3.1.2.1). Empty: it is not ours."""
        claims = self.claims(id_token, "JWT") or {}
        return str(claims.get("sub", ""))

    async def access(self, tx: Tx, token: str) -> Read | None:
        """None: it is not ours, has expired, or its session is over."""
        claims, now = self.claims(token, "at+jwt"), self._shared.clock.now()
        if claims is None or float(claims.get("exp", 0)) <= now.timestamp():
            return None
        if "sid" not in claims:
            return Read(claims, None)
        session = await sessions.lock(tx, UUID(str(claims["sid"])))
        return Read(claims, session) if session is not None and await self._open(tx, session) else None

    async def refresh(self, tx: Tx, token: str) -> Read | None:
        """As `access`, for a refresh token; its claims are those that introspection tells."""
        try:
            hash_ = refresh_hash(token)
        except RefreshRefused:
            return None
        row, now = await store.refresh_token(tx, hash_), self._shared.clock.now()
        if row is None or row.used_at is not None or row.expires_at <= now:
            return None
        session = await sessions.lock(tx, row.session_id)
        if session is None or not await self._open(tx, session):
            return None
        told = {
            "sub": session.subject,
            "client_id": session.client_id,
            "iat": int(row.issued_at.timestamp()),
            "exp": int(row.expires_at.timestamp()),
            "scope": " ".join(session.scope or []),
        }
        return Read(told, session)

    async def _open(self, tx: Tx, session: Session) -> bool:
        allowed = session.kind != "user" or await users.active(tx, UUID(session.subject))
        return allowed and session.open(self._shared.clock.now())
