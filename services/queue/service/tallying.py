"""What ended in this process's sight: counted in memory, added to the database every few seconds."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from prometheus_client import Counter, Histogram

from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.chassis.host import Tools
from services.queue.domain.histogram import BINS, count
from services.queue.domain.states import Outcome
from services.queue.service.pack import unix_s
from services.queue.store import stat as store
from weft.jobs.v1.attempt_pb2 import AttemptReport, Successes

FLUSH_S = 2.0
TYPES_MAX = 1_000  # Types that are told apart; more are counted as OTHER, for each costs memory and rows.
OTHER = "(other)"
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 3600)


class Binned(Histogram):
    """A histogram that takes many observations at once: one by one they cost 8 us each."""

    def observe_all(self, seconds: Sequence[float]) -> None:
        """Of a child, with its labels given; in rising order."""
        self._sum.inc(sum(seconds))
        before = 0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            if after := bisect_right(seconds, bound) - before:
                bucket.inc(after)
                before += after


ENQUEUED = Counter("weft_jobs_enqueued", "Jobs that came into the stream.", ["queue", "type"])
ENDED = Counter("weft_jobs_ended", "Attempts that ended.", ["queue", "type", "outcome"])
WAIT = Binned("weft_jobs_wait_seconds", "From due to begun.", ["queue", "type"], buckets=BUCKETS)
RUN = Binned("weft_jobs_run_seconds", "From begun to ended.", ["queue", "type"], buckets=BUCKETS)
REFUSED = Counter("weft_jobs_refused", "Jobs asked for by event that cannot be taken in.", ["reason"])


@dataclass(slots=True)
class Counts:
    """Of one minute, queue and type."""

    enqueued: int = 0
    outcomes: list[int] = field(default_factory=lambda: [0] * (max(Outcome) + 1))
    wait_bins: list[int] = field(default_factory=lambda: [0] * BINS)
    run_bins: list[int] = field(default_factory=lambda: [0] * BINS)
    wait_s_max: float = 0.0
    run_s_max: float = 0.0

    def row(self) -> tuple[Any, ...]:
        counted = (self.outcomes[each] for each in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRYING))
        return (self.enqueued, *counted, self.wait_bins, self.run_bins, self.wait_s_max, self.run_s_max)


class Tally:
    """Of this process; the database adds up all."""

    def __init__(self, tools: Tools) -> None:
        self._db: Database = tools.db
        self._process = uuid4().hex[:12]
        self._counts: dict[tuple[datetime, str, str], Counts] = {}
        self._types: set[tuple[str, str]] = set()

    def enqueued(self, queue: str, kind: str, at_s: float, jobs: int) -> None:
        """Jobs that came into the stream."""
        queue, kind = _text(queue), self._kind(queue, _text(kind))
        self._of(at_s, queue, kind).enqueued += jobs
        ENQUEUED.labels(queue, kind).inc(jobs)

    def ended(self, told: Iterable[AttemptReport | Successes]) -> None:
        """Attempts that ended, told for the first time. What they share is looked up once."""
        groups: dict[tuple[str, str], list[AttemptReport | Successes]] = {}
        for each in told:
            groups.setdefault((each.queue, each.type), []).append(each)
        for (queue, kind), group in groups.items():
            self._add(_text(queue), self._kind(queue, _text(kind)), group)

    def _add(self, queue: str, kind: str, group: Sequence[AttemptReport | Successes]) -> None:
        counts = self._of(_end_s(group[-1]), queue, kind)
        before, waits, runs = list(counts.outcomes), list[float](), list[float]()
        for said in group:
            if isinstance(said, Successes):
                counts.outcomes[Outcome.SUCCEEDED] += len(said.end_s)
                runs += [end - start for start, end in zip(said.start_s, said.end_s, strict=True)]
                if said.attempt == 1:
                    waits += [start - due for due, start in zip(said.due_s, said.start_s, strict=True)]
                continue
            counts.outcomes[said.outcome] += 1
            start_s = unix_s(said.start_time)
            if start_s:
                runs.append(unix_s(said.end_time) - start_s)
            if start_s and said.attempt == 1 and (due_s := unix_s(said.due_time)):
                waits.append(start_s - due_s)
        counts.wait_s_max = max(counts.wait_s_max, _binned(waits, counts.wait_bins, WAIT.labels(queue, kind)))
        counts.run_s_max = max(counts.run_s_max, _binned(runs, counts.run_bins, RUN.labels(queue, kind)))
        for outcome in Outcome:
            if more := counts.outcomes[outcome] - before[outcome]:
                ENDED.labels(queue, kind, outcome.name.lower()).inc(more)

    def _of(self, at_s: float, queue: str, kind: str) -> Counts:
        minute = datetime.fromtimestamp(at_s // 60 * 60, UTC)
        return self._counts.setdefault((minute, queue, kind), Counts())

    def _kind(self, queue: str, kind: str) -> str:
        if (queue, kind) not in self._types:
            if len(self._types) >= TYPES_MAX:
                return OTHER
            self._types.add((queue, kind))
        return kind

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what has come. Counts are a courtesy: while the database is away some may be lost."""
        counts, self._counts = self._counts, {}
        try:
            await store.add(self._db, [(*key, self._process, *each.row()) for key, each in counts.items()])
        except Refusal:
            self._counts = counts | self._counts
            raise


def _text(name: str) -> str:
    """Workers and the stream may say anything; a NUL is no text for PostgreSQL, and stops all counting."""
    return name.replace("\0", "")


def _end_s(said: AttemptReport | Successes) -> float:
    return said.end_s[-1] if isinstance(said, Successes) else unix_s(said.end_time)


def _binned(seconds: list[float], bins: list[int], histogram: Any) -> float:
    """Counts them here and there; returns the largest. A clock that went back counts as no time."""
    seconds.sort()
    if seconds and seconds[0] < 0:
        seconds = [max(0.0, each) for each in seconds]
    histogram.observe_all(seconds)
    count(bins, seconds)
    return seconds[-1] if seconds else 0.0
