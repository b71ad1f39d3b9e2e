"""Asks the register about numbers that nobody has confirmed, again and again until it answers."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from services.billing.domain.tax_number import Answer, VatCheck, number
from services.billing.store import tax_number as store
from services.billing.tax.vies import Register
from services.chassis.clock import Clock
from services.chassis.db import Database, Tx

Told = Callable[[Tx, VatCheck], Awaitable[None]]


class Confirming:
    """What a check goes through after it was written down. `told` announces a change of its state."""

    def __init__(self, db: Database, clock: Clock, register: Register, poll_s: float, told: Told) -> None:
        self._db, self._clock, self._register = db, clock, register
        self._poll_s, self._told = poll_s, told

    async def ask(self, row: VatCheck) -> VatCheck:
        """Asks about one check outside of any transaction, and writes down what was said."""
        answer = await self._register.ask(number(row.vat_number))
        return await self._hear(row.check_id, answer)

    async def _hear(self, check_id: UUID, answer: Answer) -> VatCheck:
        async with self._db.transaction() as tx:
            row = await store.get(tx, check_id, lock=True)
            if row.retry_at is not None and row.hear(answer, self._clock.now()):
                await self._told(tx, row)
        return row

    async def run(self) -> None:
        """For ever: what is due is asked for, one number at a time, by one process."""
        while True:
            async with self._db.leases.hold("vat_checks") as lease:
                for check_id in await store.due(self._db, self._clock.now()):
                    lease.check()
                    await self.repeat(check_id)
            await self._clock.sleep(self._poll_s)

    async def repeat(self, check_id: UUID) -> None:
        async with self._db.transaction() as tx:
            row = await store.get(tx, check_id)
        if row.retry_at is not None:
            await self.ask(row)
