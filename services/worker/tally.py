"""What a worker counts of jobs, told to Prometheus when it asks.

Plain numbers: five locked counters of the client library would cost each job a fifth of what the worker does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from weft.jobs.v1.attempt_pb2 import AttemptOutcome

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
TYPES_MAX = 1_000  # Rows of a scrape; what comes after counts as `other`.

ATTEMPTS = ("weft_job_attempts", "Attempts of jobs that ended.")
WAITED = ("weft_job_wait_seconds", "From when a job was due to its attempt.")
TOOK = ("weft_job_run_seconds", "From begin to end of an attempt.")


class Durations:
    """How often which."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts, self._sum = [0] * (len(SECONDS) + 1), 0.0

    def observe(self, seconds: float) -> None:
        """A clock that went back counts as no time."""
        if seconds > 0:
            self._counts[bisect_left(SECONDS, seconds)] += 1
            self._sum += seconds
        else:
            self._counts[0] += 1

    def told(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._sum


class Tally:
    """Of one type in one queue."""

    __slots__ = ("outcomes", "took", "waited")

    def __init__(self) -> None:
        self.outcomes: Counter[int] = Counter()
        self.waited, self.took = Durations(), Durations()


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
