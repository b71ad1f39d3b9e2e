"""The only module that reads the time; ids that sort by it."""

import asyncio
import heapq
import itertools
import math
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

BACKSTEP_MS_MAX = 10_000  # A clock set back by less keeps its ids rising; by more, it is another clock.
COUNTER_BITS = 12  # RFC 9562 §6.2 method 1: rand_a counts within a millisecond.
OFFSET_S_MAX = 3_600.0  # Clocks that are wrong by more are wrong by a time zone, and that is not time.
OFFSET_READ_EVERY_S = 0.25  # A call that asks for the time twice sees no file twice.


class Clock:
    """Real time."""

    def now(self) -> datetime:
        """The time of day, aware, UTC."""
        return datetime.now(UTC)

    def epoch(self) -> float:
        """The time of day in Unix seconds; a fraction of what `now` costs."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class MovedClock(Clock):
    """Real time of day, moved by what a file says while it is there: a rehearsal of clocks that are wrong.

    The file holds `OFFSET UNTIL`: seconds, and when that ends (`monotonic`, which never moves).
    """

    def __init__(self, file: Path) -> None:
        self._file, self._read_at = file, -math.inf
        self._offset_s, self._until = 0.0, 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.offset_s())

    def epoch(self) -> float:
        return super().epoch() + self.offset_s()

    def offset_s(self) -> float:
        moment = self.monotonic()
        if moment - self._read_at >= OFFSET_READ_EVERY_S:
            self._read_at = moment
            self._offset_s, self._until = self._told()
        return self._offset_s if moment < self._until else 0.0

    def _told(self) -> tuple[float, float]:
        try:
            offset_s, until = (float(word) for word in self._file.read_text().split())
        except (OSError, ValueError):
            return 0.0, 0.0
        return max(-OFFSET_S_MAX, min(offset_s, OFFSET_S_MAX)), until


class FakeClock(Clock):
    """Time that passes only when `advance` says so."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def epoch(self) -> float:
        return self._now.timestamp()

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass and wakes those who slept until then, soonest first."""
        self._elapsed += seconds
        self._now += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)


_last_ms, _counter = 0, 0


def uuid7(at: datetime | None = None) -> UUID:
    """A UUIDv7 (RFC 9562) for `at`, or now. Rises strictly within this process."""
    global _last_ms, _counter
    ms = time.time_ns() // 1_000_000 if at is None else int(at.timestamp() * 1000)
    if _last_ms - BACKSTEP_MS_MAX <= ms <= _last_ms:
        ms, _counter = _last_ms, _counter + 1
        if _counter >> COUNTER_BITS:
            ms, _counter = ms + 1, 0
    else:
        _counter = secrets.randbits(COUNTER_BITS - 1)
    _last_ms = ms
    return UUID(int=ms << 80 | 7 << 76 | _counter << 64 | 2 << 62 | secrets.randbits(62))
