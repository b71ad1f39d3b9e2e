"""What was counted and says nothing any more is forgotten, by one process at a time."""

from __future__ import annotations

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.ratelimit.store import usage

SWEEP_EVERY_S = 60.0  # Ten thousand rows each time, which is more than come.


class Upkeep:
    """One in each process; one of them works."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def run(self) -> None:
        """For ever."""
        async with self._db.leases.hold("upkeep") as lease:
            while True:
                lease.check()
                await usage.sweep(self._db)
                await self._clock.sleep(SWEEP_EVERY_S)
