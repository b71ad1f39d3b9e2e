"""What one process must do now and then: days, retention, expiry, what was acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from services.chassis.host import Tools
from services.chassis.jobs import subjects
from services.queue.domain.job import floor_id
from services.queue.service import streams
from services.queue.service.pack import seconds
from services.queue.service.shared import Shared
from services.queue.service.steering import Steering
from services.queue.store import dead_letter, reading, steering, upkeep as store
from services.queue.store.days import Days

DAYS_AHEAD, DAYS_BEHIND = 3, 2  # Partitions that are there before and after ids may need them.
DAYS_EVERY_S = 3_600.0
SMALL_EVERY_S = 60.0
EXPIRE_EVERY_S = 1.0
EXPIRE_MAX = 500  # Jobs that one round ends.
OVERLAP = timedelta(seconds=60)  # Jobs may come into the record later than they expire.
PURGE_EVERY_S = 2.0
PURGE_ANYWAY = 100_000  # Sequences of one place: then space matters more than what a purge delays.
LETTERS_MAX = 5_000  # Dead letters that one round deletes.

log = logging.getLogger("weft.queue")


async def ensure_days(tools: Tools, days: Days) -> None:
    """The partitions of these days."""
    await store.add_default(tools.db)
    today = tools.clock.now().date()
    for n in range(-DAYS_BEHIND, DAYS_AHEAD + 1):
        await store.add_day(tools.db, today + timedelta(days=n))
    await days.read()


class Upkeep:
    """Rounds; each may be done twice, and each may be missed for a while."""

    def __init__(self, shared: Shared, steering: Steering) -> None:
        self._shared, self._steering = shared, steering
        self._db, self._clock, self._known = shared.db, shared.clock, shared.known
        self._purged: dict[str, int] = {}
        self._expired_until = shared.clock.now() - timedelta(days=1)

    async def run(self) -> None:
        """For ever."""
        rounds: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (DAYS_EVERY_S, self.keep_days),
            (SMALL_EVERY_S, self.forget),
            (EXPIRE_EVERY_S, self.expire),
            (PURGE_EVERY_S, self.purge_acknowledged),
            (PURGE_EVERY_S, self.advance),
            (PURGE_EVERY_S, self.settle),
        ]
        due = dict.fromkeys(range(len(rounds)), 0.0)
        async with self._db.leases.hold("queue.upkeep") as lease:
            while True:
                lease.check()
                now = self._clock.monotonic()
                for n, (every_s, act) in enumerate(rounds):
                    if now >= due[n]:
                        due[n] = now + every_s
                        await act()
                await asyncio.sleep(EXPIRE_EVERY_S)

    async def keep_days(self) -> None:
        """Makes days ahead, and drops those that no queue keeps any more."""
        await ensure_days(self._shared.tools, self._shared.days)
        longest = max((seconds(queue.settings.retention) for queue in self._known.queues), default=0.0)
        oldest = (self._clock.now() - timedelta(seconds=longest)).date()
        for day in self._shared.days.known:
            if day < oldest and not await store.drop_day(self._db, day):
                log.info("a day is kept for its open jobs", extra={"facts": {"day": str(day)}})
        await self._shared.days.read()

    async def forget(self) -> None:
        """Deletes what queues keep for a shorter time than the longest, and what no longer counts."""
        now = self._clock.now()
        for queue in self._known.queues:
            before = floor_id(now - timedelta(seconds=seconds(queue.settings.retention)))
            if jobs := await store.finished(self._db, queue.queue, before):
                await store.forget(self._db, jobs)
            kept = timedelta(seconds=seconds(queue.settings.dead_letters.retention))
            await dead_letter.forget(self._db, queue.queue, now - kept, LETTERS_MAX)
        await store.forget_small(self._db)

    async def expire(self) -> None:
        """Ends jobs whose time to begin is over."""
        now = self._clock.now()
        rows = await steering.expired(self._db, self._expired_until, now, EXPIRE_MAX)
        if rows:
            found = await reading.views(self._db, self._shared.days, [row["job_id"] for row in rows])
            await self._steering.expire([row for row in found.values() if row["state"] is None])
        self._expired_until = rows[-1]["expire_at"] if len(rows) == EXPIRE_MAX else now - OVERLAP

    async def advance(self) -> None:
        """Notes open jobs that are no longer young, and forgets those that have ended."""
        up_to = self._clock.now() - timedelta(seconds=store.HORIZON_S)
        await store.advance(self._db, floor_id(up_to))
        after = UUID(int=0)
        while closed := await store.close(self._db, after):
            after = max(row["job_id"] for row in closed)

    async def purge_acknowledged(self) -> None:
        """Deletes messages that workers have acknowledged and the record has read; never schedules."""
        bus = self._shared.tools.bus
        read = (await streams.history(bus)).ack_floor
        for queue in self._known.queues:
            for place, found in (await streams.info(bus, queue)).items():
                floor = min(streams.floor(found), read.stream_seq if read else 0)
                subject = subjects.due(queue.queue, place)
                done = floor - self._purged.get(subject, 0)
                if done > (0 if streams.all_handed_out(found) else PURGE_ANYWAY):
                    await self._shared.wire.jobs.purge(subject, before=floor + 1)
                    self._purged[subject] = floor

    async def settle(self) -> None:
        """Makes consumers that could not be made when their queue was changed."""
        for name in list(self._known.unsettled):
            if queue := self._known.find(name):
                await streams.open_queue(self._shared.tools.bus, queue)
            self._known.unsettled.discard(name)
