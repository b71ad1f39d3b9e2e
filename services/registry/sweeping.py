"""Instances whose lease has ended, taken away by one process at a time.

Leases go by the database's clock. They end only while somebody could renew them: whoever begins to sweep, and
whoever finds that it stood still or that the clock jumped, lets every lease begin anew. So neither an outage
of the registry nor a clock empties the mesh; a dead instance is believed for one lease longer.
"""

from __future__ import annotations

import logging

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.events import emit
from services.registry.domain.instance import Beat, trusted
from services.registry.service import pack
from services.registry.store import instance as store, state
from weft.registry.v1.events_pb2 import InstanceExpired

SWEEP_EVERY_S = 1.0  # How much longer than its lease an instance is believed at the most.
TRIM_EVERY = 600  # Sweeps: changes are few.

log = logging.getLogger("weft.registry")


class Sweeper:
    """One in each process; one of them works."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def run(self) -> None:
        """For ever."""
        async with self._db.leases.hold("sweep") as lease:
            await store.begin_anew(self._db)
            beat, sweeps = await self.beat(), 0
            while True:
                await self._clock.sleep(SWEEP_EVERY_S)
                lease.check()
                beat = await self.sweep(beat)
                sweeps += 1
                if sweeps % TRIM_EVERY == 0:
                    await state.trim(self._db)

    async def sweep(self, last: Beat) -> Beat:
        """Once; `last` is when it was swept before."""
        beat = await self.beat()
        if not trusted(last, beat):
            log.warning("the sweeper stood still, or the clock jumped: all leases begin anew")
            await store.begin_anew(self._db)
        elif await store.any_expired(self._db):
            while await self._expire():
                continue
        return beat

    async def beat(self) -> Beat:
        """Now, by both clocks."""
        return Beat(await state.now(self._db), self._clock.monotonic())

    async def _expire(self) -> int:
        """How many."""
        async with self._db.transaction() as tx:
            order = await state.locked(tx)
            rows = await store.expire(tx)
            for row in rows:
                state.tell(tx, order.next(), row.service, pack.told(row), gone=True)
            events = [InstanceExpired(instance_id=str(row.instance_id), service=row.service) for row in rows]
            await emit(tx, *events)
        return len(rows)
