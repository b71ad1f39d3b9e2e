"""The loop around the controller: looks, decides, tells, and writes down; on one process at a time.

Telling and writing go on beside it, each with a bound, so that neither NATS nor the database holds a decision
up. Who loses the lease because the database is away goes on: nobody else can take it then.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.bus import Bucket, Bus, within
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.lease import Lease, LeaseLost
from services.chassis.modes import BUCKET, KEY
from services.chassis.steady import SteadyClock
from services.health.board import Board
from services.health.domain.controller import counted, step
from services.health.domain.plan import Plan
from services.health.domain.state import Pin, State, load, resumed
from services.health.keeping import Pending, Superseded, keep
from services.health.looking import Looking
from services.health.store import state as store
from services.health.word import Word, write

LEASE = "health.controller"
KEEP_S_MAX = TELL_S_MAX = 2.0  # A store that takes longer is away; it is tried again soon.
CONFIRM_S = 30.0  # Between two words that say the same: a tenth of what a word is believed.
PENDING_MAX = 1_000  # Steps that wait for the database: hours of an outage in which everything flaps.
TICKS = 5  # In each interval between looks.
JUMP_S, HOLD_S = 5.0, 60.0  # A clock that jumps by more is believed after so long.

log = logging.getLogger("weft.health")


@dataclass(frozen=True, kw_only=True)
class Means:
    """What it works with."""

    db: Database
    bus: Bus
    clock: Clock
    plan: Plan
    board: Board
    looking: Looking


class Beside:
    """One piece of work at a time, beside a loop."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[], Awaitable[None]], limit_s: float) -> None:
        """Unless it is at it. What went wrong the last time is raised, unless it was a store that is away."""
        if self._task is not None and self._task.done():
            self._task.result()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(_bounded(work, limit_s))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _bounded(work: Callable[[], Awaitable[None]], limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await work()
    except (Superseded, LeaseLost):
        raise
    except Exception as error:
        log.warning("%s is put off: %s", getattr(work, "__name__", "work"), type(error).__name__)


class Controlling:
    """One in each process; one of them works."""

    def __init__(self, means: Means, interval_s: float) -> None:
        self._means, self._tick_s, self._interval_s = means, interval_s / TICKS, interval_s
        self._state, self._term, self._beat = State(), 0, 0
        self._pins: Mapping[str, Pin] = {}
        self._pending: list[Pending] = []
        self._bucket: Bucket | None = None
        self._told, self._poked = -1, False  # The last beat that all were told; somebody pinned.
        self._stirred = asyncio.Event()
        means.db.on_emit(self._stirred.set)  # A pin, if it was set here.

    async def run(self) -> None:
        """For ever."""
        keeping, telling = Beside(), Beside()
        async with self._means.db.leases.hold(LEASE) as lease:
            await self._begin()
            try:
                async with self._means.looking.spread():
                    await self._control(lease, keeping, telling)
            finally:
                keeping.stop()
                telling.stop()

    async def _begin(self) -> None:
        """Goes on from where the last one stopped; if that was this process, with what it has not written."""
        row = await store.begin(self._means.db)
        if row["term"] != self._term + 1 or not self._term:
            self._state = resumed(load(json.loads(row["state"])), self._means.clock.epoch())
            self._pending = []
        self._term, self._beat, self._told = row["term"], 0, -1
        self._pins = await keep(self._means.db, self._term, self._state, self._pending)
        self._pending = []

    async def _control(self, lease: Lease, keeping: Beside, telling: Beside) -> None:
        means = self._means
        steady = SteadyClock(means.clock, JUMP_S, HOLD_S)
        kept_s = told_s = float("-inf")
        while True:
            self._stirred.clear()
            decided = self._step(steady.now().timestamp())
            elapsed = means.clock.monotonic()
            if decided or elapsed - told_s >= CONFIRM_S:
                self._beat, told_s = self._beat + 1, elapsed
                await means.board.show(self._word())
            if self._told != self._beat:
                telling.start(self.tell, TELL_S_MAX)
            if self._pending or self._poked or elapsed - kept_s >= self._interval_s:
                keeping.start(lambda: self._keep(lease), KEEP_S_MAX)
                kept_s, self._poked = elapsed, False
            await within(self._stirred, self._tick_s)
            self._poked = self._poked or self._stirred.is_set()

    def _step(self, now: float) -> bool:
        """Whether anything was decided."""
        means = self._means
        seen = means.looking.take(now, self._state.components)
        known = counted(means.plan, self._state, means.looking.calls())
        self._state, decisions = step(means.plan, known, seen, self._pins, now)
        if decisions:
            self._pending = [*self._pending, Pending(self._state.revision, decisions)][-PENDING_MAX:]
            facts: dict[str, Any] = {"decisions": [str(each) for each in decisions]}
            log.warning("decided", extra={"facts": facts})
        return bool(decisions)

    def _word(self) -> Word:
        return Word(term=self._term, beat=self._beat, at=self._state.at, state=self._state)

    async def tell(self) -> None:
        """Every process. Raises Superseded."""
        word = self._word()
        if self._bucket is None:
            self._bucket = await self._means.bus.kv(BUCKET)
        text, revision = await self._bucket.look(KEY)
        if text is not None and json.loads(text).get("term", 0) > self._term:
            raise Superseded
        await self._bucket.follow(KEY, write(word, self._means.plan), revision)
        self._told = word.beat

    async def _keep(self, lease: Lease) -> None:
        """Raises Superseded; LeaseLost, if the lease is gone though the database is there."""
        pending: Sequence[Pending] = list(self._pending)
        self._pins = await keep(self._means.db, self._term, self._state, pending)
        self._pending = [each for each in self._pending if each not in pending]
        lease.check()
