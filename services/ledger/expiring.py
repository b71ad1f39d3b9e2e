"""Gives pending transfers back whose timeout has passed."""

from hashlib import sha256
from uuid import UUID, uuid5

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.ledger.domain.book import Wanted
from services.ledger.domain.entry import Kind
from services.ledger.journal import Journal
from services.ledger.store.writing import due

BATCH_MAX = 500  # Given back in one transaction; the rest right after it.


class Expiring:
    """One loop in each process; a transfer that two of them find is resolved once."""

    def __init__(self, db: Database, journal: Journal, clock: Clock, every_s: float) -> None:
        self._db, self._journal, self._clock, self._every_s = db, journal, clock, every_s

    async def run(self) -> None:
        while True:
            if not await self.expire():
                await self._clock.sleep(self._every_s)

    async def expire(self) -> int:
        """How many were given back; at most BATCH_MAX."""
        async with self._db.fast() as tx:
            found = await due(tx, self._clock.now(), BATCH_MAX)
        if not found:
            return 0
        outcomes = await self._journal.book([_expiry(pending_id) for pending_id in found])
        return sum(not isinstance(outcome, Refusal) for outcome in outcomes)


def _expiry(pending_id: UUID) -> Wanted:
    return Wanted(
        transfer_id=uuid5(pending_id, "expiry"),
        kind=Kind.EXPIRY,
        asked=sha256(pending_id.bytes).digest(),
        pending_id=pending_id,
    )
