"""The limits as this process knows them: read when the first call comes, and again when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.ratelimit.domain.book import Book
from services.ratelimit.service import pack
from services.ratelimit.store import limit as store

LOOK_EVERY_S = 0.5  # A change is followed within this by every process that is asked.
ASKED_S = 60.0  # A process that nobody asked for so long looks no more, until it is asked.
ONE_VIEW = "REPEATABLE READ"


class Rules:
    """Of one process. Keeps the last ones while the database is away."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._revision, self._asked = -1, float("-inf")
        self._changes = self._seen = 0  # Commits of this process, and those that have been read since.
        self._watching = False
        self._reading: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self.book: Book | None = None
        self.on_change: Callable[[], None] = lambda: None
        db.on_emit(self._outdate)

    def fresh(self, now: float) -> bool:
        """Whether the rules may be gone by; whoever finds that they may not waits for `renewed`."""
        self._asked = now
        if self._watching and self._seen == self._changes:
            return True
        self._wanted.set()
        return False

    async def renewed(self) -> None:
        """Reads what is so now, once for all who wait. Raises DatabaseAway, DatabaseBusy."""
        while True:
            if self._reading is None:
                self._reading = asyncio.create_task(self._look())
                self._reading.add_done_callback(_heard)
            await asyncio.shield(self._reading)
            if self._seen == self._changes:
                return

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._watch()
            finally:
                self._watching = False

    async def _watch(self) -> None:
        while self._clock.monotonic() - self._asked < ASKED_S:
            with suppress(Refusal):  # The database is away: what was so last stays.
                await self.renewed()
                self._watching = True
            await self._clock.sleep(LOOK_EVERY_S)

    def _outdate(self) -> None:
        """This process has changed something: its next decision knows of it."""
        self._changes += 1

    async def _look(self) -> None:
        changes = self._changes
        try:
            if await store.revision(self._db) != self._revision:
                async with self._db.transaction(ONE_VIEW) as tx:
                    revision, rows = await store.every(tx)
                self.book, self._revision = Book(map(pack.limit, rows)), revision
                self.on_change()
            self._seen = changes
        finally:
            self._reading = None


def _heard(reading: asyncio.Task[None]) -> None:
    """Its error is told to those who wait, of whom there may be none."""
    if not reading.cancelled():
        reading.exception()
