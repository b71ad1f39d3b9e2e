"""What an Envoy's admin says of the clusters of a service's versions: its text, read.

    cluster.books@2.grpc.0: 93
    cluster.books@2.upstream_rq_time: B0.5(0,12) B1(0,40) … B3.6e+06(0,93)

Answers are counted by gRPC's code where the answer came to the caller (the filter grpc_stats); times are
those of each try, in a histogram whose buckets count what took their bound of milliseconds or less.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.registry.domain.figures import Counts

# UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: a caller is
# to blame for none of them.
ERRORS = frozenset({"2", "4", "8", "12", "13", "14", "15"})
BUCKET = re.compile(r"B([0-9.e+]+)\(\d+,(\d+)\)")


def wanted(service: str, versions: Iterable[str]) -> str:
    """The names of the statistics that are read, as a regular expression."""
    names = "|".join(re.escape(f"{service}@{version}") for version in versions)
    return rf"^cluster\.({names})\.(grpc\.\d+|upstream_rq_time)$"


def counts(text: str, service: str, version: str, over_ms: int) -> Counts:
    """Of one version. `over_ms` 0: no call is slow."""
    named = f"cluster.{service}@{version}."
    found = {
        name.removeprefix(named): value
        for name, _, value in (line.partition(": ") for line in text.splitlines())
        if name.startswith(named)
    }
    codes = {
        name.removeprefix("grpc."): int(value)
        for name, value in found.items()
        if name.startswith("grpc.") and value.isdigit()
    }
    timed, slow = _times(found.get("upstream_rq_time", ""), over_ms) if over_ms else (0, 0)
    errors = sum(number for code, number in codes.items() if code in ERRORS)
    return Counts(sum(codes.values()), errors, timed, slow)


def _times(histogram: str, over_ms: int) -> tuple[int, int]:
    """How many there are, and how many took longer."""
    buckets = {float(bound): int(count) for bound, count in BUCKET.findall(histogram)}
    if not buckets:
        return 0, 0
    timed = max(buckets.values())
    return timed, timed - buckets.get(float(over_ms), timed)
