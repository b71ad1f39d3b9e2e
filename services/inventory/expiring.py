"""Gives back what reservations hold whose time has run out."""

from datetime import datetime, timedelta

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.steady import SteadyClock
from services.inventory.service.ending import EXPIRE_MAX, Ends
from services.inventory.settings import InventorySettings
from services.inventory.store import reservation as store

REST_S_MIN = (
    0.02  # Between two looks, so that a reservation in somebody's hands is not asked for in a circle.
)


class Expiring:
    """On every replica: what one has in hand the others pass over.

    A clock that jumps ahead by mistake would sell what people are about to pay for; so a jump must last.
    """

    def __init__(self, db: Database, clock: Clock, settings: InventorySettings, ends: Ends) -> None:
        self._db, self._clock, self._ends, self._poll_s = db, clock, ends, settings.poll_s
        self._steady = SteadyClock(clock, settings.jump_s, settings.hold_s)

    async def run(self) -> None:
        """For ever."""
        while True:
            now = self._steady.now()
            if await self._ends.expire(now) < EXPIRE_MAX:
                await self._clock.sleep(await self._rest_s(now))

    async def _rest_s(self, now: datetime) -> float:
        """Until the next is due, or somebody makes one that is due sooner."""
        async with self._db.fast() as tx:
            due = await store.next_due(tx)
        until = (due - now) / timedelta(seconds=1) if due else self._poll_s
        return min(max(until, REST_S_MIN), self._poll_s)
