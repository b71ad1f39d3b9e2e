"""The signing keys in use: loaded, rotated with overlap, published to every verifier."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from services.chassis.clock import Clock
from services.chassis.db import Database, Tx
from services.chassis.events import emit
from services.chassis.keys import Keys
from services.identity.domain import signing_key
from services.identity.domain.sealing import Sealer
from services.identity.domain.signing_key import NoSigningKey, SigningKey
from services.identity.settings import IdentitySettings
from services.identity.store import signing_key as store
from weft.identity.v1.events_pb2 import SigningKeyCreated, SigningKeyDropped

RELOAD_S = 10.0  # Another process's rotation is seen within this; its own at once.


class Keyring:
    """Signs, and keeps the keys in order. One a process; the database is what they share."""

    def __init__(
        self, db: Database, keys: Keys, sealer: Sealer, clock: Clock, settings: IdentitySettings
    ) -> None:
        self._db, self._keys, self._sealer, self._clock = db, keys, sealer, clock
        self._rotation = timedelta(days=settings.key_rotation_days)
        self._lead = timedelta(seconds=settings.key_lead_s)
        self._rows: Sequence[SigningKey] = ()
        self._private: dict[str, ECKey] = {}

    def sign(self, claims: dict[str, Any], typ: str = "at+jwt") -> str:
        """A compact ES256 JWS. `at+jwt` is RFC 9068's; id tokens are plain `JWT`."""
        row = signing_key.signer(self._rows, self._clock.now())
        if row is None:
            raise NoSigningKey
        if row.kid not in self._private:
            self._private[row.kid] = signing_key.private(row, self._sealer)
        return jwt.encode({"alg": "ES256", "kid": row.kid, "typ": typ}, claims, self._private[row.kid])

    def jwks(self) -> list[dict[str, Any]]:
        """Public keys that verify every living token."""
        return [row.public for row in signing_key.published(self._rows, self._clock.now())]

    async def refresh(self) -> None:
        """Reads the keys, makes the next when it is due, and publishes. Repeatable, by any process."""
        async with self._db.transaction() as tx:
            rows = list(await store.lock_all(tx))
            now = self._clock.now()
            signs_from = signing_key.due(rows, now, self._rotation, self._lead)
            if signs_from is not None:
                rows.append(await self._make(tx, now, signs_from))
            await self._publish(rows)

    async def rotate(self, compromised: bool) -> SigningKey:
        """A new key after the lead; of compromised ones none stays, and the new one signs at once."""
        async with self._db.transaction() as tx:
            rows = list(await store.lock_all(tx))
            now = self._clock.now()
            if compromised:
                for row in rows:
                    await self._drop(tx, row, now)
            waiting = signing_key.successor(rows, now)
            made = waiting or await self._make(tx, now, now if compromised else now + self._lead)
            made.signs_from = min(made.signs_from, now + self._lead)
            await self._publish([*rows, made] if waiting is None else rows)
        return made

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(RELOAD_S)
            await self.refresh()

    async def _make(self, tx: Tx, now: datetime, signs_from: datetime) -> SigningKey:
        row = signing_key.made(self._sealer, now, signs_from)
        tx.add(row)
        event = SigningKeyCreated(kid=row.kid)
        event.sign_time.FromDatetime(signs_from)
        await emit(tx, event)
        return row

    async def _drop(self, tx: Tx, row: SigningKey, now: datetime) -> None:
        if row.dropped_at is None:
            row.dropped_at = now
            await emit(tx, SigningKeyDropped(kid=row.kid))

    async def _publish(self, rows: Sequence[SigningKey]) -> None:
        """While the keys are locked, so that an old set never replaces a newer one."""
        self._rows = rows
        await self._keys.publish({"keys": self.jwks()})
