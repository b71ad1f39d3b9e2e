"""Keeps every pool at the size that what waits asks for. One process at a time does so, for all."""

import asyncio
import logging
from collections.abc import Sequence

import nats
from prometheus_client import Gauge

from services.chassis.bus import within
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.host import Tools
from services.chassis.jobs.queues import NoSuchQueue, Queues
from services.worker import store
from services.worker.crew import Crews
from services.worker.domain import Pool, State
from services.worker.looking import Looker, together
from services.worker.pack import bounds, settings_from_json
from services.worker.scaling import Seen, wanted
from weft.worker.v1.events_pb2 import PoolResized

LEASE = "pools"

WANTED = Gauge("weft_pool_workers_wanted", "Workers that a pool is to have; what a scaler follows.", ["pool"])
DEPTH = Gauge("weft_pool_depth", "Jobs that wait in a pool's queues.", ["pool"])
OLDEST = Gauge("weft_pool_oldest_age_seconds", "How long the first of them has waited.", ["pool"])

log = logging.getLogger("weft.worker")


class Manager:
    """Of one process; at work while it holds the lease."""

    def __init__(self, tools: Tools, queues: Queues, crews: Crews | None, every_s: float) -> None:
        """`crews` are the local workers; None where a platform keeps them."""
        self._db, self._clock, self._queues, self._crews = tools.db, tools.clock, queues, crews
        self._looker, self._every_s = Looker(tools.bus, tools.clock), every_s
        self.seen: dict[str, Seen] = {}  # By pool, as it was found last.
        self._hint = asyncio.Event()

    def hint(self) -> None:
        """A pool is other than it was."""
        self._hint.set()

    async def run(self) -> None:
        """For ever."""
        async with self._db.leases.hold(LEASE) as lease:
            try:
                while True:
                    lease.check()
                    self._hint.clear()
                    await self.turn()
                    await within(self._hint, self._every_s)
            finally:
                if self._crews:
                    await self._crews.close()

    async def turn(self) -> None:
        """Looks, decides, and sees to it."""
        async with self._db.transaction() as tx:
            pools = await store.every(tx)
        try:
            for pool in pools:
                await self._look(pool)
        except (nats.errors.Error, TimeoutError) as error:
            log.warning("nobody knows what waits: %s", type(error).__name__)
        else:
            pools = [await self._sized(pool) for pool in pools]
        self._tell(pools)
        if self._crews:
            self._crews.keep(pools)

    async def _look(self, pool: Pool) -> None:
        found = []
        for name in settings_from_json(pool.settings).queues:
            try:
                found.append(await self._queues.get(name))
            except NoSuchQueue:
                continue  # It may come yet; until then nothing waits in it.
        self.seen[pool.pool] = together(list((await self._looker.look(found)).values()))

    async def _sized(self, pool: Pool) -> Pool:
        """The pool, wanting as many workers as it should."""
        scaling = settings_from_json(pool.settings).scaling
        if scaling.by_hand or pool.state == State.DRAINING:
            return pool
        if self._target(pool) == pool.workers_wanted:
            return pool
        async with self._db.transaction() as tx:
            return await self._resize(tx, pool.pool)

    def _target(self, pool: Pool) -> int:
        since_s = (self._clock.now() - pool.resize_time).total_seconds()
        limits = bounds(settings_from_json(pool.settings).scaling)
        return wanted(pool.workers_wanted, self.seen[pool.pool], limits, since_s)

    async def _resize(self, tx: Tx, name: str) -> Pool:
        pool = await store.get(tx, name, lock=True)  # Somebody may have changed it meanwhile.
        before, target = pool.workers_wanted, self._target(pool)
        if pool.resize(target, self._clock.now()):
            resized = PoolResized(
                pool=name, workers_wanted=target, workers_wanted_before=before, automatic=True
            )
            await emit(tx, resized)
            log.info("resized", extra={"facts": {"pool": name, "workers": target, "before": before}})
        return pool

    def _tell(self, pools: Sequence[Pool]) -> None:
        for gone in self.seen.keys() - {pool.pool for pool in pools}:
            del self.seen[gone]
            for gauge in (WANTED, DEPTH, OLDEST):
                gauge.remove(gone)
        for pool in pools:
            seen = self.seen.get(pool.pool, Seen(depth=0))
            WANTED.labels(pool.pool).set(0 if pool.state == State.DRAINING else pool.workers_wanted)
            DEPTH.labels(pool.pool).set(seen.depth)
            OLDEST.labels(pool.pool).set(seen.oldest_age_s)
