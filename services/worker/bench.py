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

    def next(self) -> Seat | None:
        """The next job that may run; None when none may."""
        now = time.time()
        while self._ready:
            seat = self._ready.pop(now)
            type_name = seat[1].type
            limit = self._limits.get(type_name)
            if limit is None:
                return seat
            if self._running[type_name] < limit:
                self._running[type_name] += 1
                return seat
            self._aside.setdefault(type_name, deque()).append(seat)
        return None

    def free(self, handler: Handler[..., Any]) -> None:
        """One of its type has ended."""
        if handler.type not in self._limits:
            return
        self._running[handler.type] -= 1
        if waiting := self._aside.get(handler.type):
            self._put(waiting.popleft(), first=True)
            self.call()

    def _put(self, seat: Seat, *, first: bool = False) -> None:
        delivery = seat[0]
        envelope, priority = delivery.envelope, LETTERS.get(delivery.envelope.priority, MEDIUM)
        self._ready.put(envelope.queue, priority, delivery.due_s, seat, delivery.rank, first=first)

    def call(self) -> None:
        """Wakes a slot if something waits, unless one is on its way."""
        if self._ready and not self._called:
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
        waiting = [delivery for delivery, _ in self._ready.clear()]
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
