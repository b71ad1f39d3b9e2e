"""What was begun and never finished, what waits for its gateway, and what is out of time: looked after here.

Any replica does it; a row that one has taken is left to it for as long as its lease. Each round is bounded.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from services.payment.domain.intent import FINAL, Asked, State
from services.payment.domain.remote import GatewayAway
from services.payment.domain.settling import Settlement
from services.payment.metrics import OVERDUE
from services.payment.paying import Means, Payer
from services.payment.store import intent as store

AT_ONCE_MAX = 8  # Calls of gateways that one process makes for what was left behind.
EXPIRED = "expired"
OLD = """
select count(*) from operation where state = 'PENDING' and due_at is not null
    and created_at < $1::timestamptz - interval '1 hour'
"""
FORGET_NOTICES = "delete from notice where received_at < $1"
NOTICES_KEPT = timedelta(days=60)  # Gateways repeat a webhook for days, not for months.
COUNT_EVERY_S = 60.0

log = logging.getLogger("weft.payment")


class Recovery:
    """This process's share of it."""

    def __init__(self, means: Means, payer: Payer) -> None:
        self._db, self._clock, self._payer, self._settings = means.db, means.clock, payer, means.settings
        self._room = asyncio.Semaphore(AT_ONCE_MAX)

    async def run(self) -> None:
        """For ever."""
        while True:
            if not await self.round():
                await self._clock.sleep(self._settings.round_s)

    async def count(self) -> None:
        """For ever: how much is left undone, and what is remembered for too long."""
        while True:
            now = self._clock.now()
            OVERDUE.set(await self._db.fetchval(OLD, now))
            await self._db.execute(FORGET_NOTICES, now - NOTICES_KEPT)
            await self._clock.sleep(COUNT_EVERY_S)

    async def round(self) -> int:
        """Does what is due now. Returns how much that was."""
        now, again = self._clock.now(), self._payer.lease()
        async with self._db.transaction() as tx:
            operations = await store.claim_operations(tx, now, again)
            looks = await store.claim_looks(tx, now, again)
            expired = await store.expired(tx, now)
        await self._all(
            self._payer.resume(Asked(each.kind), each.operation_id, each.intent_id) for each in operations
        )
        await self._all(self._look(intent_id, again) for intent_id in looks)
        await self._all(self.expire(intent_id) for intent_id in expired)
        return len(operations) + len(looks) + len(expired)

    async def expire(self, intent_id: UUID) -> None:
        """Gives up a payment whose time is over; what comes later is given back."""
        async with self._db.transaction() as tx:
            intent = await store.get(tx, intent_id, lock=True)
            now = self._clock.now()
            if intent.state in FINAL or intent.expire_at is None or intent.expire_at > now:
                return
            settlement = Settlement(intent, await store.operations(tx, intent_id), now)
            if settlement.pending_capture:
                intent.expire_at = self._payer.lease()  # First it is known what became of the capture.
                return
            settlement.cancel(EXPIRED)
            await self._payer.conclude(tx, settlement)

    async def _look(self, intent_id: UUID, claimed: datetime) -> None:
        """Asks for a payment that waits; longer and longer until it is asked again.

        What was heard of it while it was asked is not forgotten: then it is asked once more.
        """
        try:
            await self._payer.look(intent_id)
        except GatewayAway:
            return
        async with self._db.transaction() as tx:
            intent = await store.get(tx, intent_id, lock=True)
            waits = intent.state in (State.PROCESSING, State.REQUIRES_ACTION)
            if intent.look_at == claimed:
                intent.look_at = self._payer.next_look(intent) if waits else None

    async def _all(self, work: Iterable[Awaitable[None]]) -> None:
        await asyncio.gather(*(self._one(each) for each in work))

    async def _one(self, work: Awaitable[None]) -> None:
        """One that fails leaves the others alone; its lease ends, and it is tried again."""
        async with self._room:
            try:
                await work
            except Exception:
                log.exception("a payment could not be looked after")
