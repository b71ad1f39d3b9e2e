"""Deadlines of many calls: a timer for each tick in which some end, not one for each call."""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK_S = 0.01  # A deadline is noticed this late at most; the server was told the exact one.


class Ending(Protocol):
    def expire(self) -> None:
        """The deadline has come."""


Bucket = dict[Ending, None]


class Deadlines:
    """A call that ends before takes itself out of its bucket, which costs nothing to speak of."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, Bucket] = {}

    def add(self, deadline: float, call: Ending) -> Bucket:
        """`deadline` by the loop's clock. Never calls `expire` early."""
        tick = int(deadline / TICK_S) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            self._loop.call_at(tick * TICK_S, self._expire, tick)
        bucket[call] = None
        return bucket

    def _expire(self, tick: int) -> None:
        bucket = self._buckets.pop(tick)
        for call in (*bucket,):
            call.expire()
