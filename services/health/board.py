"""The last word, in this process: what callers are told, without asking any store."""

from __future__ import annotations

import asyncio
import logging

from services.chassis.bus import Bus
from services.chassis.modes import BUCKET, KEY
from services.health.word import Word, read

log = logging.getLogger("weft.health")


class Board:
    """Follows the bucket; the process that decides shows its own word at once, should NATS be away."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self.word = bus, Word()
        self._moved = asyncio.Condition()

    async def show(self, word: Word) -> None:
        if word.place > self.word.place:
            async with self._moved:
                self.word = word
                self._moved.notify_all()

    async def after(self, word: Word, wait_s: float) -> Word | None:
        """A later one; None if there is none for so long."""
        try:
            async with asyncio.timeout(wait_s), self._moved:
                await self._moved.wait_for(lambda: self.word.place > word.place)
        except TimeoutError:
            return None
        return self.word

    async def run(self) -> None:
        """For ever."""
        bucket = await self._bus.kv(BUCKET)
        async for text in bucket.watch(KEY):
            try:
                word = read(text)
            except (ValueError, KeyError, TypeError):
                log.exception("the word about modes cannot be read")
            else:
                await self.show(word)
