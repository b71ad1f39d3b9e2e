"""The newest revision, for whoever waits for the next: one look for all, and none while nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from services.chassis.db import Database
from services.registry.store import state as store

LOOK_EVERY_S = 0.5  # What other processes change is seen within this; what this one changes, at once.


class Feed:
    """Of one process."""

    def __init__(self, db: Database) -> None:
        self._db, self._revision, self._listeners = db, -1, 0
        self._wanted, self._poked, self._moved = asyncio.Event(), asyncio.Event(), asyncio.Condition()
        db.on_emit(self._poked.set)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The database is looked at while somebody is in here."""
        self._listeners += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._wanted.clear()

    async def beyond(self, revision: int, wait_s: float) -> bool:
        """Waits until there is a later revision. False after `wait_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self._moved:
                await self._moved.wait_for(lambda: self._revision > revision)
                return True
        return False

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wanted.wait()
            self._poked.clear()
            found = await store.revision(self._db)
            if found != self._revision:
                async with self._moved:
                    self._revision = found
                    self._moved.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._poked.wait()
