"""Decisions counted for Prometheus: in plain numbers while calls wait, told to it every other second."""

from __future__ import annotations

from collections import Counter as Count

from prometheus_client import Counter

from services.ratelimit.domain.limit import Limit

DECISIONS = Counter(
    "weft_ratelimit_decisions", "Calls that a limit let through, or would not have.", ["limit", "outcome"]
)


class Tally:
    """Of one process."""

    def __init__(self) -> None:
        self._counted: Count[tuple[str, str]] = Count()

    def passed(self, limit: Limit, hits: int) -> None:
        self._counted[limit.name, "passed"] += hits

    def refused(self, limit: Limit, hits: int) -> None:
        """Also under a limit that only counts."""
        self._counted[limit.name, "shadow" if limit.shadow else "refused"] += hits

    def tell(self) -> None:
        counted, self._counted = self._counted, Count()
        for (name, outcome), hits in counted.items():
            DECISIONS.labels(name, outcome).inc(hits)
