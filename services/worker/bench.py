"""The slots of one kind, what waits for them, and who may go next."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from services.chassis.jobs.handlers import Handler
from services.chassis.jobs.subjects import MEDIUM
from services.worker.delivery import LETTERS, Delivery
from services.worker.ready import Ready

Seat = tuple[Delivery, Handler[..., Any]]


class Bench:
    """Wakes one slot at a time: who takes a job calls the next, so a burst of short jobs wakes few."""

    def __init__(self, slot: Callable[[Bench], Coroutine[Any, Any, None]], limits: Mapping[str, int]) -> None:
        """`limits` are the most jobs of a type that run at once."""
        self._slot, self._limits = slot, limits
        self._ready: Ready[Seat] = Ready()
        self._aside: dict[str, deque[Seat]] = {}  # By type: they wait for one of their type to end.
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: deque[asyncio.Future[None]] = deque()
        self._turned_away: list[Seat] = []  # By their queue's limits.
        self.admit: Callable[[Delivery], bool] = lambda delivery: True
        self.release: Callable[[Delivery], None] = lambda delivery: None
        self._called = False  # A slot was woken that has not come yet.
        self.size = 0

    def resize(self, size: int) -> None:
        """Slots that are too many end when they have nothing to do, or have done it."""
        self.size = size
        while len(self._tasks) < size:
            task = asyncio.create_task(self._slot(self))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for _ in range(len(self._tasks) - size):
            self._wake()

    def keeps(self, task: asyncio.Task[None]) -> bool:
        """Whether this slot is still wanted; if not, it is none of ours any more."""
        if len(self._tasks) <= self.size:
            return True
        self._tasks.discard(task)
        return False

    def seat(self, delivery: Delivery, handler: Handler[..., Any]) -> None:
        self._put((delivery, handler))

    def next(self) -> tuple[Delivery, Handler[..., Any], bool] | None:
        """The next job that may run (True), or is not to run at all (False); None when none may."""
        now = time.time()
        while self._ready:
            seat = self._ready.pop(now)
            delivery, handler = seat
            if delivery.stop is not None or (delivery.expires_s is not None and delivery.expires_s < now):
                return delivery, handler, False
            kind = handler.type
            limit = self._limits.get(kind)
            if limit is not None and self._running[kind] >= limit:
                self._aside.setdefault(kind, deque()).append(seat)
            elif not self.admit(delivery):
                self._turned_away.append(seat)
            else:
                if limit is not None:
                    self._running[kind] += 1
                return delivery, handler, True
        return None

    def free(self, delivery: Delivery, handler: Handler[..., Any]) -> None:
        """One that was let run has ended."""
        self.release(delivery)
        if handler.type not in self._limits:
            return
        self._running[handler.type] -= 1
        if waiting := self._aside.get(handler.type):
            self._put(waiting.popleft(), first=True)
            self.call()

    def reopen(self) -> None:
        """Who was turned away may try again."""
        if self._turned_away:
            seats, self._turned_away = self._turned_away, []
            for seat in reversed(seats):
                self._put(seat, first=True)
            self.call()

    def _put(self, seat: Seat, *, first: bool = False) -> None:
        delivery = seat[0]
        priority = LETTERS.get(delivery.envelope.priority, MEDIUM)
        self._ready.put(delivery.queue, priority, delivery.due_s, seat, delivery.rank, first=first)

    def call(self) -> None:
        """Wakes a slot if something waits, unless one is on its way."""
        if not self._called and self._ready:
            self._called = self._wake()

    def _wake(self) -> bool:
        while self._resting:
            resting = self._resting.popleft()
            if not resting.done():
                resting.set_result(None)
                return True
        return False

    async def rest(self) -> None:
        """Until there may be something to do."""
        resting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.append(resting)
        try:
            await resting
        finally:
            self._called = False

    def clear(self) -> list[Delivery]:
        """Takes out all that has not begun."""
        waiting = [delivery for delivery, _ in (*self._ready.clear(), *self._turned_away)]
        self._turned_away.clear()
        for aside in self._aside.values():
            waiting += [delivery for delivery, _ in aside]
            aside.clear()
        return waiting

    async def close(self) -> None:
        tasks = list(self._tasks)
        self.size = 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
