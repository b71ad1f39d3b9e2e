"""Several deciders on one store, simulated: each has a clock of its own, and messages take their time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from services.ratelimit.domain import gcra
from services.ratelimit.domain.bucket import Bucket
from services.ratelimit.domain.gcra import Taken
from services.ratelimit.domain.limit import Limit

SECOND = 10**9
TRIES_MAX = 3  # A caller whose lots come too late to be spent waits no longer: its deadline is over.


def limit(**values: Any) -> Limit:
    """Ten calls a second of each user, of all calls, unless it is said otherwise."""
    rest: dict[str, Any] = {"generation": 1, "revision": 1, "prefix": "", "priority": 0, "burst": 0}
    rest |= {"plans": frozenset(), "keys": frozenset(), "closed": False, "shadow": False}
    named = {"rate_limit_id": UUID(int=1), "name": "ten", "entry": "user", "unit": "SECOND", "requests": 10}
    return Limit(**{**rest, **named, **values})


class Store:
    """The store's rules without a database; time is its clock's, in nanoseconds."""

    def __init__(self, limit: Limit, period_ns: int = 0) -> None:
        self._limit, self._period_ns = limit, period_ns
        self._tat: int | None = None
        self._period = self._used = 0

    def take(self, asked: int, at: int) -> Taken:
        return self._quota(asked, at) if self._period_ns else self._rate(asked, at)

    def _rate(self, asked: int, at: int) -> Taken:
        emission, tolerance = self._limit.emission_ns, self._limit.tolerance_ns
        granted, self._tat = gcra.take(self._tat, at, asked, emission, tolerance)
        return gcra.rate(granted, self._tat, at, emission, tolerance)

    def _quota(self, asked: int, at: int) -> Taken:
        period = at // self._period_ns
        if period > self._period:
            self._period, self._used = period, 0
        granted = min(asked, self._limit.requests - self._used)
        self._used += granted
        left, remains = self._limit.requests - self._used, (period + 1) * self._period_ns - at
        return Taken(granted, left, 0 if left else remains, remains, period)


@dataclass
class Call:
    """One that comes to a decider."""

    at: int  # Nanoseconds of the store's clock.
    decider: int
    hits: int
    tries: int = 0


@dataclass
class World:
    """All of it."""

    limit: Limit
    store: Store
    skews_s: Sequence[float]  # Of each decider's clock against the store's.
    delays: Callable[[], int]  # How long the next message takes, in nanoseconds.
    passed: list[tuple[int, int]] = field(default_factory=list)  # When, and how many.
    refused: list[int] = field(default_factory=list)

    def run(self, calls: Sequence[Call]) -> None:
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._buckets = [Bucket(self.limit, "u") for _ in self.skews_s]
        self._waiting: list[list[Call]] = [[] for _ in self.skews_s]
        self._filling = [False] * len(self.skews_s)
        for call in calls:
            self._later(call.at, lambda at, call=call: self._decide(call, at))  # type: ignore[misc]
        while self._events:
            at, _, happen = heapq.heappop(self._events)
            happen(at)

    def _later(self, at: int, happen: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), happen))

    def _clock(self, decider: int, at: int) -> float:
        return at / SECOND + self.skews_s[decider]

    def _decide(self, call: Call, at: int) -> None:
        bucket, now = self._buckets[call.decider], self._clock(call.decider, at)
        if bucket.holds(call.hits, now):
            bucket.tokens -= call.hits
            self.passed.append((at, call.hits))
        elif bucket.empty(now) or call.tries > TRIES_MAX:
            self.refused.append(at)
        else:
            call.tries += 1
            bucket.wanted += call.hits
            self._waiting[call.decider].append(call)
            if not self._filling[call.decider]:
                self._fill(call.decider, at)

    def _fill(self, decider: int, at: int) -> None:
        """What waits by the time that the lot is asked for is in it."""
        self._filling[decider] = True
        sent = self._clock(decider, at)
        asked = self._buckets[decider].ask(sent)

        def reach(reached: int) -> None:
            taken = self.store.take(asked, reached)
            self._later(reached + self.delays(), lambda back: self._credit(decider, asked, taken, sent, back))

        self._later(at + self.delays(), reach)

    def _credit(self, decider: int, asked: int, taken: Taken, sent: float, at: int) -> None:
        self._filling[decider] = False
        self._buckets[decider].credit(asked, taken, sent, self._clock(decider, at))
        waiting, self._waiting[decider] = self._waiting[decider], []
        for call in waiting:
            self._decide(call, at)
