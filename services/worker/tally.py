"""What a worker counts of jobs, told to Prometheus when it asks.

Plain numbers, sorted into buckets many at once: what the client library does for each would cost a job more
than all else that the worker does with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from weft.jobs.v1.attempt_pb2 import AttemptOutcome

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
FOLD_EVERY = 2_000  # Times that are kept until they are sorted into buckets.
TYPES_MAX = 1_000  # Rows of a scrape; what comes after counts as `other`.

ATTEMPTS = ("weft_job_attempts", "Attempts of jobs that ended.")
WAITED = ("weft_job_wait_seconds", "From when a job was due to its attempt.")
TOOK = ("weft_job_run_seconds", "From begin to end of an attempt.")


class Durations:
    """How often which. `add` takes seconds; a clock that went back counts as no time."""

    __slots__ = ("_counts", "_fresh", "_sum", "add")

    def __init__(self) -> None:
        self._counts, self._sum = [0] * (len(SECONDS) + 1), 0.0
        self._fresh: list[float] = []  # Not sorted in yet.
        self.add = self._fresh.append

    def fold(self) -> None:
        """Sorts in what came."""
        fresh = sorted(self._fresh)
        self._fresh.clear()
        before = 0
        for place, bound in enumerate(SECONDS):
            after = bisect_right(fresh, bound)
            self._counts[place] += after - before
            before = after
        self._counts[-1] += len(fresh) - before
        self._sum += sum(fresh[bisect_right(fresh, 0.0) :])

    def told(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum."""
        self.fold()
        total, buckets = 0, []
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._sum


class Tally:
    """Of one type in one queue."""

    __slots__ = ("count", "outcomes", "took", "waited")

    def __init__(self) -> None:
        self.outcomes: Counter[int] = Counter()
        self.waited, self.took = Durations(), Durations()
        self.count = 0  # Since the last fold.

    def add(self, outcome: int, due_s: float, start_s: float, end_s: float) -> None:
        """An attempt that ended; a `start_s` of 0 says that it was not begun."""
        self.outcomes[outcome] += 1
        if start_s:
            self.waited.add(start_s - due_s)
            self.took.add(end_s - start_s)
            self.count += 1
            if self.count >= FOLD_EVERY:
                self.count = 0
                self.waited.fold()
                self.took.fold()


class Tallies(Collector):
    """Of one process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Tally] = {}

    def of(self, queue: str, kind: str) -> Tally:
        """Made when it is first asked for."""
        tally = self._known.get((queue, kind))
        if tally is None:
            if len(self._known) >= TYPES_MAX:
                queue = kind = "other"
            tally = self._known.setdefault((queue, kind), Tally())
        return tally

    def collect(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(*ATTEMPTS, labels=["queue", "type", "outcome"])
        waited = HistogramMetricFamily(*WAITED, labels=["queue", "type"])
        took = HistogramMetricFamily(*TOOK, labels=["queue", "type"])
        for labels, tally in list(self._known.items()):
            for outcome, count in list(tally.outcomes.items()):
                name = AttemptOutcome.Name(AttemptOutcome.ValueType(outcome))
                attempts.add_metric([*labels, name.removeprefix("ATTEMPT_OUTCOME_").lower()], count)
            waited.add_metric(list(labels), *tally.waited.told())
            took.add_metric(list(labels), *tally.took.told())
        yield from (attempts, waited, took)


TALLIES = Tallies()
REGISTRY.register(TALLIES)
