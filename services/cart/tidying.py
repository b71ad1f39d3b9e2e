"""Carts that nobody came back to, and those that are long closed."""

from datetime import timedelta

from services.cart import pack
from services.cart.domain.cart import State
from services.cart.settings import CartSettings
from services.cart.store import cart as store
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.events import emit

TIDY_EVERY_S = 60.0
BATCH_MAX = 100  # Carts of one transaction: their locks are gone within milliseconds.
FORGOTTEN_MAX = 1_000  # Rows of one statement, for the same reason.


class Tidying:
    """Expires carts, and forgets them later."""

    def __init__(self, db: Database, clock: Clock, settings: CartSettings) -> None:
        self._db, self._clock, self._kept = db, clock, timedelta(days=settings.kept_days)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.round()
            await self._clock.sleep(TIDY_EVERY_S)

    async def round(self) -> None:
        """Until nothing is old."""
        while await self._expire():
            continue
        while await store.forget(self._db, self._clock.now() - self._kept, FORGOTTEN_MAX):
            continue

    async def _expire(self) -> bool:
        """Some carts. False: there were none."""
        async with self._db.fast() as tx:
            found = await store.stale(tx, self._clock.now(), BATCH_MAX)
            for cart_id in found:
                cart = await store.locked(tx, cart_id)
                cart.state, cart.version = State.EXPIRED, cart.version + 1
                await store.save(tx, cart)
                await emit(tx, pack.expired(cart))
        return bool(found)
