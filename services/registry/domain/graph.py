"""Who calls whom: what processes and Envoy have counted, read twice, as rates and times between."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from services.chassis.errors import ResourceExhausted

GRAPHS_MAX = 8  # Measured at once by one process: each reads every process of the mesh twice.
PLACES_MAX = 256  # Processes that one graph reads: what 128 readings at once do in some seconds.
BY_CALLER = "weft_rpc_by_caller_seconds_bucket"  # Of the chassis, by which processes count.
OF_ENVOY = "envoy_cluster_upstream_rq"
TOTAL = "_total"  # Put behind the names of counters by whoever reads them.
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")

Key = tuple[str, str]  # Caller and callee; Envoy's figures have no caller.


class TooManyGraphs(ResourceExhausted):
    """This process measures {max} graphs already."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls since a process started. `buckets`: how many took at most so many seconds; inf is among them."""

    calls: float = 0.0
    failed: float = 0.0
    buckets: Mapping[float, float] = field(default_factory=dict)

    def plus(self, other: Tally) -> Tally:
        """Bounds that only one of them has say nothing of both."""
        bounds = self.buckets.keys() & other.buckets.keys() if self.calls and other.calls else None
        if bounds is None:
            merged = dict(self.buckets if self.calls else other.buckets)
        else:
            merged = {bound: self.buckets[bound] + other.buckets[bound] for bound in bounds}
        return Tally(self.calls + other.calls, self.failed + other.failed, merged)

    def since(self, before: Tally) -> Tally:
        """What came after `before`. A process that counts less than it did has begun anew."""
        if self.calls < before.calls or self.failed < before.failed:
            return self
        buckets = {
            bound: max(0.0, count - before.buckets.get(bound, 0.0)) for bound, count in self.buckets.items()
        }
        return Tally(self.calls - before.calls, self.failed - before.failed, buckets)


NOTHING = Tally()
Counts = Mapping[Key, Tally]


@dataclass(frozen=True, slots=True)
class Span:
    """Two readings of one process."""

    before: Counts
    after: Counts
    seconds: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls that ended in a time; None where none was measured."""

    calls_per_second: float
    failed_per_second: float
    p50_s: float | None
    p99_s: float | None


def of_process(text: str) -> Counts:
    """What a process of the chassis says at /metrics. Raises ValueError for what is no such text."""
    found: dict[Key, Tally] = {}
    for labels, value in _samples(text, {BY_CALLER}):
        caller, callee = labels.get("caller", ""), labels.get("service", "")
        if not (NAME.fullmatch(caller) and NAME.fullmatch(callee)):
            continue
        known = found.setdefault((caller, callee), Tally(buckets={}))
        bound = float(labels["le"])
        buckets = {**known.buckets, bound: known.buckets.get(bound, 0.0) + value}
        whole = value if bound == math.inf else 0.0
        failed = whole if labels.get("outcome") == "failed" else 0.0
        found[caller, callee] = Tally(known.calls + whole, known.failed + failed, buckets)
    return found


def of_envoy(text: str) -> Counts:
    """What Envoy says of its clusters at /stats/prometheus. Raises ValueError for what is no such text."""
    found: dict[Key, Tally] = {}
    names = {f"{OF_ENVOY}_completed", f"{OF_ENVOY}_xx", f"{OF_ENVOY}_time_bucket"}
    for labels, value in _samples(text, names):
        key = ("", labels.get("envoy_cluster_name", ""))
        known = found.get(key, NOTHING)
        if "le" in labels:
            bound = float(labels["le"]) / 1000
            found[key] = Tally(known.calls, known.failed, {**known.buckets, bound: value})
        elif "envoy_response_code_class" not in labels:
            found[key] = Tally(value, known.failed, known.buckets)
        elif labels["envoy_response_code_class"] == "5":
            found[key] = Tally(known.calls, value, known.buckets)
    return found


def _samples(text: str, names: set[str]) -> Iterable[tuple[Mapping[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.removesuffix(TOTAL) in names:
                if not math.isfinite(sample.value) or sample.value < 0:
                    raise ValueError("a count is no number")
                yield sample.labels, sample.value


def traffic(spans: Iterable[Span]) -> dict[Key, Traffic]:
    """Of all processes together, by caller and callee."""
    tallies: dict[Key, Tally] = {}
    rates: dict[Key, tuple[float, float]] = {}
    for span in spans:
        for key, after in span.after.items():
            fresh = after.since(span.before.get(key, NOTHING))
            tallies[key] = tallies.get(key, NOTHING).plus(fresh)
            calls, failed = rates.get(key, (0.0, 0.0))
            rates[key] = (calls + fresh.calls / span.seconds, failed + fresh.failed / span.seconds)
    return {
        key: Traffic(*rates[key], quantile(tally.buckets, 0.5), quantile(tally.buckets, 0.99))
        for key, tally in sorted(tallies.items())
    }


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """What `share` of the calls took at most, in seconds, as if they lay evenly between two bounds.

    None if there was no call, or it lies beyond the highest bound.
    """
    rank = share * buckets.get(math.inf, 0.0)
    below, counted = 0.0, 0.0
    for bound in sorted(buckets):
        if rank and buckets[bound] >= rank:
            if bound == math.inf:
                return None
            return below + (bound - below) * (rank - counted) / (buckets[bound] - counted)
        below, counted = bound, buckets[bound]
    return None
