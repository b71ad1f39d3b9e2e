"""What people let applications do: remembered, widened, taken back."""

from collections.abc import Sequence
from uuid import UUID

from services.chassis.db import Tx
from services.identity.domain.oauth import CODE
from services.identity.domain.oauth_client import OAuthClient, OAuthConsent
from services.identity.service.journal import Entry
from services.identity.service.shared import Shared
from services.identity.store import oauth as store
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.credential_events_pb2 import ConsentGranted, ConsentWithdrawn
from weft.identity.v1.events_pb2 import RevocationCause


class Consents:
    """Acts inside the caller's transaction."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def covers(self, tx: Tx, user_id: UUID, client: OAuthClient, scopes: Sequence[str]) -> bool:
        """Whether the person said yes to all of it before."""
        given = await store.consent(tx, user_id, client.client_id)
        return given is not None and set(scopes) <= set(given.scopes)

    async def grant(self, tx: Tx, user_id: UUID, client: OAuthClient, scopes: Sequence[str]) -> None:
        """Adds to what was granted. Emits ConsentGranted when it is more."""
        given = await store.lock_consent(tx, user_id, client.client_id)
        before = set(given.scopes) if given else set()
        wider = sorted(before | set(scopes))
        if given is not None and before == set(wider):
            return
        now = self._shared.clock.now()
        if given is None:
            tx.add(OAuthConsent(user_id=user_id, client_id=client.client_id, scopes=wider, granted_at=now))
        else:
            given.scopes, given.granted_at = wider, now
        event = ConsentGranted(user_id=str(user_id), client_id=client.client_id, scopes=wider)
        kind = ActivityKind.ACTIVITY_KIND_CLIENT_AUTHORIZED
        await self._shared.journal.write(tx, Entry(user_id=user_id, kind=kind, about=client.name), event)

    async def withdraw(self, tx: Tx, user_id: UUID, client_id: str) -> None:
        """Forgets it, and ends the client's sessions and codes of the person. Emits ConsentWithdrawn."""
        given = await store.lock_consent(tx, user_id, client_id)
        for session in await store.open_sessions(tx, client_id, str(user_id)):
            await self._shared.issuer.end(tx, session, RevocationCause.REVOCATION_CAUSE_CLIENT)
        await store.void_codes(tx, CODE, client_id, str(user_id))
        if given is None:
            return
        await tx.delete(given)
        client = await store.find(tx, client_id)
        event = ConsentWithdrawn(user_id=str(user_id), client_id=client_id)
        entry = Entry(
            user_id=user_id,
            kind=ActivityKind.ACTIVITY_KIND_CLIENT_REVOKED,
            about=client.name if client else "",
        )
        await self._shared.journal.write(tx, entry, event)
