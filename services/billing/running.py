"""The loop of billing runs: one replica works, batch by batch, until nothing is due."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from services.billing.billing import Biller
from services.billing.settings import BillingSettings
from services.billing.store import run as store
from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database
from services.chassis.events import Provenance, emit, provenance
from weft.billing.v1.events_pb2 import BillingRunFinished

LEASE = "billing-run"

log = logging.getLogger("weft.billing")


class Runner:
    """One replica's share; all but one wait for the lease."""

    def __init__(self, db: Database, clock: Clock, biller: Biller, settings: BillingSettings) -> None:
        self._db, self._clock, self._biller, self._settings = db, clock, biller, settings
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something may be due sooner than was thought."""
        self._poked.set()

    async def run(self) -> None:
        """For ever."""
        provenance.set(Provenance("service:billing"))
        async with self._db.leases.hold(LEASE) as lease:
            while True:
                lease.check()
                self._poked.clear()
                if not await self.round():
                    await self._sleep()

    async def _sleep(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(self._settings.poll_s))
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait({sleeping, poked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            poked.cancel()

    async def round(self) -> bool:
        """Does one run to its end, a new one if none is unfinished. False: nothing was due."""
        found = await self._unfinished() or await self._begun()
        if not found:
            return False
        run_id, as_of = found["run_id"], found["as_of"]
        left = True
        while left:
            left = (await self._biller.batch(as_of, run_id)).subscriptions > 0
        await self._finish(run_id, as_of)
        return True

    async def _unfinished(self) -> Mapping[str, Any] | None:
        rows = await self._db.fetch(store.UNFINISHED)
        return rows[0] if rows else None

    async def _begun(self) -> Mapping[str, Any] | None:
        """A run of our own, if anything is due."""
        now = self._clock.now()
        if not await self._db.fetchval(store.ANY_DUE, now):
            return None
        run_id = uuid7(now)
        async with self._db.fast() as tx:
            await store.begin(tx, run_id, now, now)
        return {"run_id": run_id, "as_of": now}

    async def _finish(self, run_id: UUID, as_of: datetime) -> None:
        async with self._db.fast() as tx:
            done = await store.finish(tx, run_id, self._clock.now())
            if done:
                stamp = Timestamp()
                stamp.FromDatetime(as_of)
                finished = BillingRunFinished(
                    run_id=str(run_id),
                    as_of_time=stamp,
                    invoices=done["invoices"],
                    failures=done["failures"],
                )
                await emit(tx, finished)
        if done:
            facts = {"invoices": done["invoices"], "failures": done["failures"]}
            log.info("a billing run is through", extra={"facts": facts})
