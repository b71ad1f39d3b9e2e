"""The one place where sessions are opened, prolonged and ended, and access tokens minted."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import Clock, uuid7
from services.chassis.db import Tx
from services.chassis.events import proven
from services.identity.domain import session as rules
from services.identity.domain.role import union
from services.identity.domain.session import Session
from services.identity.domain.token import ACCESS_S, Grant, Naming, TokenPair, claims, narrowed
from services.identity.service.journal import Entry, Journal
from services.identity.service.keyring import Keyring
from services.identity.store import role as roles, session as store, user as users
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import (
    ImpersonationStarted,
    RefreshTokenReused,
    RevocationCause,
    SessionRevoked,
    SignedIn,
)


class Issuer:
    """Turns grants into tokens. Everything but `mint` acts inside the caller's transaction."""

    def __init__(
        self, keyring: Keyring, journal: Journal, clock: Clock, naming: Naming, access_s: int = ACCESS_S
    ) -> None:
        self._keyring, self._journal, self._clock = keyring, journal, clock
        self._naming, self._access_s = naming, access_s

    def mint(self, grant: Grant, scope: frozenset[str], life_s: int = 0) -> tuple[str, int]:
        """An access token and its life in seconds. No session, no event: for API keys and clients."""
        life = life_s or self._access_s
        return self._keyring.sign(claims(self._naming, grant, scope, self._clock.now(), life)), life

    async def tokens(self, tx: Tx, grant: Grant) -> TokenPair:
        """Tokens by `grant`: of its session, or of a new one with a refresh chain of its own.

        The oldest sessions beyond the bound end. Emits SignedIn, or ImpersonationStarted.
        """
        now = self._clock.now()
        if grant.kind == "user" and not grant.acting:
            proven(f"user:{grant.subject}")
        if grant.session_id is not None:
            session = await store.lock(tx, grant.session_id)
            if session is None or not session.open(now):
                raise rules.SessionEnded
            return await self._pair(tx, session, grant, "")
        session = await self._opened(tx, grant, now)
        refresh = self._chained(tx, session, now) if grant.refreshable else ""
        return await self._pair(tx, session, replace(grant, session_id=session.session_id), refresh)

    async def refresh(self, tx: Tx, token: str, client_id: str = "") -> TokenPair | None:
        """New tokens for a refresh token. None: refused, and `tx` is to be committed all the same, for a
        token that came twice has ended its session by then."""
        now, hash_ = self._clock.now(), rules.refresh_hash(token)
        found = await store.session_of(tx, hash_)
        if found is None:
            return None
        await users.hold(tx, found[1])
        session = await store.lock(tx, found[0])
        if session is None or session.client_id != client_id or not session.open(now):
            return None
        if await store.use_refresh_token(tx, hash_, now) is None:
            await self._reused(tx, session, hash_)
            return None
        if not await self._may(tx, session):
            return None
        session.last_used_at = now
        return await self._pair(tx, session, rules.granted(session), self._chained(tx, session, now))

    async def end(
        self, tx: Tx, session: Session, cause: "RevocationCause.ValueType", entry: bool = True
    ) -> bool:
        """Ends the session, with every token of it; its person is held. False: it was over before."""
        if session.ended_at is not None:
            return False
        session.ended_at, session.cause = self._clock.now(), RevocationCause.Name(cause)
        if session.kind != "user":
            return True
        event = SessionRevoked(user_id=session.subject, session_id=str(session.session_id), cause=cause)
        signed_out = cause == RevocationCause.REVOCATION_CAUSE_SIGNED_OUT
        kinds = ActivityKind.ACTIVITY_KIND_SIGNED_OUT, ActivityKind.ACTIVITY_KIND_SESSION_REVOKED
        line = Entry(
            user_id=UUID(session.subject),
            kind=kinds[0] if signed_out else kinds[1],
            session_id=str(session.session_id),
            about=session.device_name,
        )
        await self._journal.write(tx, line, event)
        return True

    async def end_all(self, tx: Tx, subject: str, cause: "RevocationCause.ValueType", keep: str = "") -> int:
        """Ends every open session of a subject but `keep`. Returns how many."""
        await users.hold(tx, subject)
        found = await store.all_open(tx, subject, self._clock.now())
        ended = [await self.end(tx, session, cause) for session in found if str(session.session_id) != keep]
        return len(ended)

    async def permissions(self, tx: Tx, subject: str, scope: frozenset[str] | None = None) -> frozenset[str]:
        """What a user may do now, narrowed to `scope`."""
        return narrowed(union(await roles.of(tx, UUID(subject))), scope)

    async def _may(self, tx: Tx, session: Session) -> bool:
        """Whether the subject may still sign in. A client's own service looks after clients."""
        return session.kind != "user" or await users.active(tx, UUID(session.subject))

    async def _opened(self, tx: Tx, grant: Grant, now: datetime) -> Session:
        session = rules.opened(uuid7(now), grant, now)
        if grant.kind == "user":
            await users.hold(tx, grant.subject, grant.acting)
        if grant.kind == "user" and not grant.acting:
            for old in await store.surplus(tx, grant.subject, now):
                await self.end(tx, old, RevocationCause.REVOCATION_CAUSE_TOO_MANY)
        known = await store.knows_device(tx, grant.subject, session.device_hash)
        tx.add(session)
        await tx.flush()
        if grant.acting:
            await self._note_impersonation(tx, session)
        elif grant.kind == "user":
            await self._note_sign_in(tx, session, new_device=not known)
        return session

    async def _note_sign_in(self, tx: Tx, session: Session, new_device: bool) -> None:
        event = SignedIn(
            user_id=session.subject,
            session_id=str(session.session_id),
            amr=session.amr,
            new_device=new_device,
            client_id=session.client_id,
        )
        kind = ActivityKind.ACTIVITY_KIND_SIGNED_IN
        line = Entry(
            user_id=UUID(session.subject),
            kind=kind,
            session_id=str(session.session_id),
            about=session.client_id or session.device_name,
        )
        await self._journal.write(tx, line, event)

    async def _note_impersonation(self, tx: Tx, session: Session) -> None:
        """In both accounts' activity."""
        event = ImpersonationStarted(
            user_id=session.subject, impersonator_id=session.acting, session_id=str(session.session_id)
        )
        event.expire_time.FromDatetime(session.expires_at)
        kinds = {
            session.subject: ActivityKind.ACTIVITY_KIND_IMPERSONATED,
            session.acting: ActivityKind.ACTIVITY_KIND_IMPERSONATION_STARTED,
        }
        for user_id in sorted(kinds):
            line = Entry(user_id=UUID(user_id), kind=kinds[user_id], session_id=str(session.session_id))
            await self._journal.write(tx, line, event if user_id == session.subject else None)

    async def _reused(self, tx: Tx, session: Session, hash_: bytes) -> None:
        """A spent token came again: the whole family goes. One that only rested too long is no theft."""
        if not await store.spent(tx, hash_):
            return
        if session.kind == "user":
            event = RefreshTokenReused(user_id=session.subject, session_id=str(session.session_id))
            kind = ActivityKind.ACTIVITY_KIND_TOKEN_REUSED
            line = Entry(user_id=UUID(session.subject), kind=kind, session_id=str(session.session_id))
            await self._journal.write(tx, line, event)
        await self.end(tx, session, RevocationCause.REVOCATION_CAUSE_TOKEN_REUSED)

    def _chained(self, tx: Tx, session: Session, now: datetime) -> str:
        token, hash_ = rules.new_refresh_secret()
        tx.add(rules.refresh_link(hash_, session, now))
        return token

    async def _pair(self, tx: Tx, session: Session, grant: Grant, refresh: str) -> TokenPair:
        scope, names = await self._effective(tx, grant)
        now = self._clock.now()
        left = session.expires_at - now
        life = min(self._access_s, max(1, int(left / timedelta(seconds=1))))
        access, life = self.mint(replace(grant, roles=names), scope, life)
        return TokenPair(
            access=access,
            refresh=refresh,
            expires_in_s=life,
            session_id=session.session_id,
            session_expires_at=session.expires_at,
            subject=grant.subject,
            scope=scope,
        )

    async def _effective(self, tx: Tx, grant: Grant) -> tuple[frozenset[str], frozenset[str]]:
        """Permissions and roles. A user's are read now, so that a refresh brings what changed."""
        if grant.kind != "user":
            return grant.scope or frozenset(), grant.roles
        held = await roles.of(tx, UUID(grant.subject))
        return narrowed(union(held), grant.scope), frozenset(role.role for role in held)
