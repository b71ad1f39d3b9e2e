"""Jobs that wait in this worker, and which goes next.

Real-time queues go before batch queues; queues of one kind take turns; within a queue priorities are drawn by
weight, and a job that has waited long counts as a higher one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.chassis.jobs.drawing import ORDER, Weights, draw

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rank:
    """How a queue stands among others, and its priorities among each other."""

    weights: Weights = field(default_factory=Weights)
    batch: bool = False


RANK = Rank()


@dataclass(slots=True)
class _Queue(Generic[T]):
    rank: Rank
    lanes: dict[str, deque[tuple[float, T]]] = field(
        default_factory=lambda: {each: deque() for each in ORDER}
    )
    count: int = 0  # Of all lanes.

    def pop(self, now: float, chance: Callable[[], float]) -> T:
        self.count -= 1
        lanes = self.lanes
        waiting = [lane for lane in lanes.values() if lane]
        if len(waiting) > 1:
            heads = {name: now - lane[0][0] for name, lane in lanes.items() if lane}
            return lanes[draw(heads, self.rank.weights, chance)].popleft()[1]
        return waiting[0].popleft()[1]


class Ready(Generic[T]):
    """What waits, of any number of queues."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._queues: dict[str, _Queue[T]] = {}
        self._turns: tuple[deque[str], deque[str]] = (deque(), deque())  # Real-time queues, batch queues.

    def __bool__(self) -> bool:
        real_time, batch = self._turns
        return bool(real_time or batch)

    def __iter__(self) -> Iterator[T]:
        return (job for queue in self._queues.values() for lane in queue.lanes.values() for _, job in lane)

    def put(self, queue: str, priority: str, due: float, job: T, rank: Rank, *, first: bool = False) -> None:
        """`due` is when it could first have run, in the seconds that `pop` is told."""
        found = self._queues.get(queue)
        if found is None:
            found = self._queues[queue] = _Queue(rank)
        if not found.count:
            found.rank = rank
            self._turns[rank.batch].append(queue)
        found.count += 1
        lane = found.lanes[priority]
        (lane.appendleft if first else lane.append)((due, job))

    def pop(self, now: float) -> T:
        """The next job. Raises IndexError when nothing waits."""
        turns = self._turns[0] or self._turns[1]
        queue = self._queues[turns[0]]
        job = queue.pop(now, self._chance)
        if not queue.count:
            turns.popleft()
        elif len(turns) > 1:
            turns.rotate(-1)
        return job

    def clear(self) -> list[T]:
        """Takes out everything."""
        jobs = list(self)
        self._queues.clear()
        for turns in self._turns:
            turns.clear()
        return jobs
