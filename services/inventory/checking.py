"""Looks whether counters and what they count agree, now and then: they always should."""

import logging

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.inventory import metrics
from services.inventory.store import discrepancy

FOUND_MAX = 1_000  # More need not be counted to be alarming.
NAMED_MAX = 10  # Of them in the log.

log = logging.getLogger("weft.inventory")


class Checking:
    """The invariants of the database, as a metric and a line in the log."""

    def __init__(self, db: Database, clock: Clock, every_s: float) -> None:
        self._db, self._clock, self._every_s = db, clock, every_s

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.round()
            await self._clock.sleep(self._every_s)

    async def round(self) -> int:
        """How many levels are wrong."""
        found = await discrepancy.find(self._db, FOUND_MAX)
        metrics.DISCREPANCIES.set(len(found))
        if found:
            named = [f"{row['sku']} at {row['location_id']}" for row in found[:NAMED_MAX]]
            facts = {"facts": {"levels": len(found), "first": named}}
            log.error("counters of stock are wrong", extra=facts)
        return len(found)
