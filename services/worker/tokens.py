"""A queue's limits over all workers, kept here in part: starts of its rate, slots of its concurrency.

The queue leases tokens; what begins here takes one of them, and none is asked for that nobody waits for. A
slot is held from begin to end, renewed while it is, and given back when it is not needed. While the queue is
away what was leased lasts until its lease is over: then nothing more begins, so that the limit holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from services.chassis.bus import within
from services.chassis.errors import CallFailed, Refusal
from services.chassis.jobs.queues import Known
from services.chassis.jobs.sending import seconds
from services.worker.delivery import Delivery
from weft.queue.v1.record_pb2 import LeaseTokensRequest, LeaseTokensResponse, Slots

QUEUE = ""  # The limit of a whole queue, where others are named by a job type.
STARTS_MAX = 1_000  # Asked for at once; as many begin before the next answer is here.
AGAIN_S = 0.1  # Until slots that others hold are asked for again.
IDLE_S = 0.2  # A slot that nobody used so long is given back: another worker may wait for it.
AWAY_S = 1.0  # Until a queue that is away is asked again.

log = logging.getLogger("weft.worker")


class Record(Protocol):
    """weft.queue.v1.RecordService, as far as tokens go."""

    def LeaseTokens(self, request: LeaseTokensRequest, /) -> Awaitable[LeaseTokensResponse]: ...


class Gate:
    """The limits of one queue."""

    def __init__(self, queue: Known, worker: str, record: Record, opened: Callable[[], None]) -> None:
        """`opened` hears when more may begin."""
        self._worker, self._record, self._opened = worker, record, opened
        self._loop = asyncio.get_running_loop()
        self.used: Counter[str] = Counter()  # By limit: attempts that run under it.
        self._wanted: Counter[str] = Counter()  # By limit: jobs that were turned away since it was asked.
        self._starts, self._wanted_starts = 0, 0
        self._slots: dict[str, int] = {}
        self._until, self._renew_at = 0.0, 0.0
        self._look: asyncio.TimerHandle | None = None  # At what is idle; None: nothing ended lately.
        self._stirred = asyncio.Event()
        self.limit(queue)
        self._task = asyncio.create_task(self._keep(), name=f"tokens of {queue.name}")

    def limit(self, queue: Known) -> None:
        """Takes over limits, which may have changed."""
        self._queue = queue.name
        concurrency = queue.settings.concurrency
        self._rated = queue.settings.HasField("rate")
        self._limits = {*concurrency.by_type, *([QUEUE] if concurrency.queue else [])}
        self._stirred.set()

    def _of(self, kind: str) -> list[str]:
        """The limits that a job of this type is under."""
        return [each for each in (QUEUE, kind) if each in self._limits]

    def admit(self, kind: str) -> bool:
        """Whether a job of this type may begin; if so it has, until `release`."""
        limits = self._of(kind)
        full = [each for each in limits if self.used[each] >= self._leased(each)]
        if full or (self._rated and self._starts < 1):
            self._wanted.update(full)
            self._wanted_starts += 1
            self._stirred.set()
            return False
        self._starts -= self._rated
        self.used.update(limits)
        return True

    def _leased(self, limit: str) -> int:
        return self._slots.get(limit, 0) if self._loop.time() < self._until else 0

    def release(self, kind: str) -> None:
        limits = self._of(kind)
        if any(self.used[each] <= self._leased(each) for each in limits):
            self._opened()
        self.used.subtract([each for each in limits if self.used[each] > 0])
        if self._look is None:
            self._look = self._loop.call_later(IDLE_S, self._spare)

    def _spare(self) -> None:
        """Something ended a while ago: if nothing took its place, its slot is not ours to keep."""
        self._look = None
        if any(count > self.used[each] for each, count in self._slots.items()):
            self._stirred.set()

    async def _keep(self) -> None:
        """Asks when somebody waits, and renews."""
        while True:
            left = max(0.0, self._renew_at - self._loop.time()) if any(self._slots.values()) else None
            if left is None:
                await self._stirred.wait()
            else:
                await within(self._stirred, left)
            self._stirred.clear()
            try:
                pause_s = await self._ask()
            except (CallFailed, Refusal, OSError, TimeoutError) as error:
                log.warning("no tokens of %s: %s", self._queue, error)
                pause_s = AWAY_S
            self._opened()
            await asyncio.sleep(pause_s)

    async def _ask(self) -> float:
        """Leases what is wanted now. Returns for how long there is no use in asking again."""
        starts = min(self._wanted_starts, STARTS_MAX) if self._rated else 0
        counts = {each: self.used[each] + self._wanted[each] for each in self._limits}
        self._wanted.clear()
        self._wanted_starts = 0
        sent = self._loop.time()
        slots = [Slots(type=each, count=count) for each, count in sorted(counts.items())]
        answer = await self._record.LeaseTokens(
            LeaseTokensRequest(worker=self._worker, queue=self._queue, starts=starts, slots=slots)
        )
        self._starts += answer.starts if self._rated else 0
        self._slots = {each.type: each.count for each in answer.slots}
        lease_s = seconds(answer.lease)
        self._until, self._renew_at = sent + lease_s, sent + lease_s / 3
        short = any(self._slots.get(each, 0) < count for each, count in counts.items())
        return max(seconds(answer.wait), AGAIN_S if short else 0.0)

    async def close(self) -> None:
        """Gives all slots back."""
        self._task.cancel()
        if self._look:
            self._look.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        none = [Slots(type=each, count=0) for each in sorted(self._limits)]
        try:
            await self._record.LeaseTokens(
                LeaseTokensRequest(worker=self._worker, queue=self._queue, slots=none)
            )
        except (CallFailed, Refusal, OSError, TimeoutError) as error:
            log.info("slots of %s end with their lease: %s", self._queue, error)


class Gates:
    """Of all queues that have limits; jobs of the others pass."""

    def __init__(self, record: Record, worker: str) -> None:
        self._record, self._worker = record, worker
        self._gates: dict[str, Gate] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.opened: Callable[[], None] = lambda: None  # Set before it is used: hears that more may begin.

    def follow(self, queues: Mapping[str, Known], names: Sequence[str]) -> None:
        """The queues as they are now; ours are `names`."""
        limited = {name: queues[name] for name in names if name in queues and _is_limited(queues[name])}
        for name in self._gates.keys() - limited.keys():
            task = asyncio.create_task(self._gates.pop(name).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for name, queue in limited.items():
            if gate := self._gates.get(name):
                gate.limit(queue)
            else:
                self._gates[name] = Gate(queue, self._worker, self._record, lambda: self.opened())
        self.opened()

    def admit(self, delivery: Delivery) -> bool:
        """Whether it may begin; if so it has, until `release`."""
        if not self._gates:
            return True
        gate = self._gates.get(delivery.queue)
        return gate is None or gate.admit(delivery.type)

    def release(self, delivery: Delivery) -> None:
        """It has ended."""
        if self._gates and (gate := self._gates.get(delivery.queue)):
            gate.release(delivery.type)

    async def close(self) -> None:
        gates, self._gates = list(self._gates.values()), {}
        await asyncio.gather(*(gate.close() for gate in gates), *self._closing)


def _is_limited(queue: Known) -> bool:
    settings = queue.settings
    return settings.HasField("rate") or bool(settings.concurrency.queue or settings.concurrency.by_type)
