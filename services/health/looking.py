"""Looks at components: each within its time, a few at once, spread over the interval."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from services.chassis.clock import Clock
from services.health.domain.component import Component, Observation, Verdict
from services.health.domain.impact import Calls, passed

AT_ONCE_MAX = 8  # Looks in flight: a machine in trouble is not troubled more.


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found of one component."""

    component: str
    verdict: Verdict = Verdict.GOOD
    why: str = ""


class Monitor(Protocol):
    """Looks at `component`, and perhaps at others by the way."""

    component: str

    async def look(self) -> Sequence[Finding]:
        """Whatever is raised, or takes too long, is found against `component`."""
        ...


class Counting(Protocol):
    """A monitor that reads counters of calls, by service."""

    calls: Mapping[str, Calls]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    interval_s: float
    timeout_s: float
    budget_s: float


class Looking:
    """All monitors of one process."""

    def __init__(
        self, monitors: Sequence[Monitor], pace: Pace, clock: Clock, counting: Counting | None = None
    ) -> None:
        self._monitors, self._pace, self._clock, self._counting = monitors, pace, clock, counting
        self._room = asyncio.Semaphore(AT_ONCE_MAX)
        self._due: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[Sequence[Finding]]] = {}
        self._counted: Mapping[str, Calls] = {}

    @asynccontextmanager
    async def spread(self) -> AsyncIterator[None]:
        """The first looks come one after the other; none outlives the block."""
        now, step_s = self._clock.monotonic(), self._pace.interval_s / max(len(self._monitors), 1)
        self._due = {each.component: now + n * step_s for n, each in enumerate(self._monitors)}
        self._counted = {}
        try:
            yield
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            self._running.clear()

    def take(self, now: float, known: Mapping[str, Component]) -> list[Observation]:
        """What was found since the last time, and begins the looks that are due."""
        seen = []
        for name, task in list(self._running.items()):
            if task.done():
                del self._running[name]
                seen += [_observation(each, now) for each in task.result()]
        elapsed = self._clock.monotonic()
        for each in self._monitors:
            name = each.component
            attempt = known[name].next_at if name in known else 0.0  # 0: it is not down.
            due = attempt <= now if attempt else elapsed >= self._due.get(name, 0.0)
            if due and name not in self._running:
                self._due[name] = elapsed + self._pace.interval_s
                self._running[name] = asyncio.create_task(self._look(each))
        return seen

    def calls(self) -> dict[str, Calls]:
        """Counted since the last time."""
        if self._counting is None:
            return {}
        before, self._counted = self._counted, self._counting.calls
        return {} if before is self._counted else passed(before, self._counted)

    async def _look(self, monitor: Monitor) -> Sequence[Finding]:
        async with self._room:
            began = self._clock.monotonic()
            try:
                async with asyncio.timeout(self._pace.timeout_s):
                    found = await monitor.look()
            except Exception as error:
                return [Finding(monitor.component, Verdict.BAD, type(error).__name__)]
        taken = self._clock.monotonic() - began
        if taken <= self._pace.budget_s:
            return found
        late = f"it took {taken:.1f} s"
        return [_late(each, late) if each.component == monitor.component else each for each in found]


def _late(found: Finding, why: str) -> Finding:
    return Finding(found.component, Verdict.SLOW, why) if found.verdict is Verdict.GOOD else found


def _observation(found: Finding, now: float) -> Observation:
    return Observation(component=found.component, at=now, verdict=found.verdict, why=found.why)
