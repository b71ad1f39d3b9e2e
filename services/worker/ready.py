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

    def __bool__(self) -> bool:
        return any(self.lanes.values())

    def pop(self, now: float, chance: Callable[[], float]) -> T:
        waiting = [name for name, lane in self.lanes.items() if lane]
        if len(waiting) > 1:
            heads = {name: now - self.lanes[name][0][0] for name in waiting}
            waiting = [draw(heads, self.rank.weights, chance)]
        return self.lanes[waiting[0]].popleft()[1]


class Ready(Generic[T]):
    """What waits, of any number of queues."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._queues: dict[str, _Queue[T]] = {}
        self._turns: tuple[deque[str], deque[str]] = (deque(), deque())  # Real-time queues, batch queues.

    def __bool__(self) -> bool:
        return any(self._turns)

    def __iter__(self) -> Iterator[T]:
        return (job for queue in self._queues.values() for lane in queue.lanes.values() for _, job in lane)

    def put(self, queue: str, priority: str, due: float, job: T, rank: Rank, *, first: bool = False) -> None:
        """`due` is when it could first have run, in the seconds that `pop` is told."""
        found = self._queues.get(queue)
        if found is None:
            found = self._queues[queue] = _Queue(rank)
        if not found:
            found.rank = rank
            self._turns[rank.batch].append(queue)
        lane = found.lanes[priority]
        (lane.appendleft if first else lane.append)((due, job))

    def pop(self, now: float) -> T:
        """The next job. Raises IndexError when nothing waits."""
        turns = self._turns[0] or self._turns[1]
        queue = self._queues[turns[0]]
        job = queue.pop(now, self._chance)
        if queue:
            turns.rotate(-1)
        else:
            turns.popleft()
        return job

    def clear(self) -> list[T]:
        """Takes out everything."""
        jobs = list(self)
        self._queues.clear()
        for turns in self._turns:
            turns.clear()
        return jobs
