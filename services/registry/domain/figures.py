"""What was counted of the versions of a service, by several who count."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.registry.domain.comparison import Sample


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one version. `timed` are the calls whose time was taken, `slow` those that took too long."""

    calls: int = 0
    errors: int = 0
    timed: int = 0
    slow: int = 0

    def numbers(self) -> tuple[int, int, int, int]:
        return self.calls, self.errors, self.timed, self.slow

    def plus(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self.numbers(), other.numbers(), strict=True)))

    def since(self, before: Counts) -> Counts:
        """What came since; all of it when who counts began anew, as it does when it restarts."""
        gone = [a - b for a, b in zip(self.numbers(), before.numbers(), strict=True)]
        return self if min(gone) < 0 else Counts(*gone)

    @property
    def failed(self) -> Sample:
        return Sample(self.calls, min(self.errors, self.calls))

    @property
    def late(self) -> Sample:
        return Sample(self.timed, min(self.slow, self.timed))


NONE = Counts()


@dataclass(frozen=True)
class Reading:
    """What one source has counted since it started, by version."""

    source: str
    counts: Mapping[str, Counts]


@dataclass(frozen=True)
class Figures:
    """Of one step of a rollout, by version; and how far each source had counted, by source and version."""

    counts: Mapping[str, Counts] = field(default_factory=dict)
    totals: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)

    def of(self, version: str) -> Counts:
        return self.counts.get(version, NONE)

    def after(self, readings: Sequence[Reading]) -> Figures:
        """With what was counted since. Of a source that is new, what it had counted before is not."""
        counts, totals = dict(self.counts), dict(self.totals)
        for reading in readings:
            before = totals.get(reading.source)
            totals[reading.source] = dict(reading.counts)
            if before is None:
                continue
            for version, total in reading.counts.items():
                come = total.since(before.get(version, NONE))
                counts[version] = counts.get(version, NONE).plus(come)
        return Figures(counts, totals)

    def anew(self) -> Figures:
        """For the next step."""
        return Figures({}, self.totals)


def written(figures: Figures) -> str:
    counts = {version: each.numbers() for version, each in figures.counts.items()}
    totals = {
        source: {version: each.numbers() for version, each in counted.items()}
        for source, counted in figures.totals.items()
    }
    return json.dumps({"counts": counts, "totals": totals})


def read(text: str) -> Figures:
    kept = json.loads(text)
    return Figures(_counts(kept["counts"]), {name: _counts(each) for name, each in kept["totals"].items()})


def _counts(kept: Mapping[str, Sequence[int]]) -> dict[str, Counts]:
    return {version: Counts(*numbers) for version, numbers in kept.items()}
