"""What a run's calls amount to: seconds, phases, percentiles, the time to recover; pure arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scripts.chaos.scenario import Objectives, Scenario

OK = "OK"
WELL = 0.95  # Share of a second's calls that are answered well; with fewer the second is not well.
NEVER = math.inf


@dataclass(frozen=True)
class Call:
    """One call as its user saw it."""

    kind: str
    due: float  # Seconds after the run's start: when it was to be sent, whenever it was.
    ms: float  # From then to its end.
    code: str

    @property
    def answered(self) -> bool:
        return self.code == OK

    @property
    def ended(self) -> float:
        """In seconds after the run's start."""
        return self.due + self.ms / 1_000


@dataclass(frozen=True)
class Measured:
    """What a set of calls amounts to."""

    calls: int
    answered: int
    p50_ms: float | None  # Of those that were answered; None: none was.
    p95_ms: float | None
    p99_ms: float | None
    codes: dict[str, int] = field(default_factory=dict)  # Of the others.

    @property
    def availability(self) -> float:
        """1 where nobody called."""
        return self.answered / self.calls if self.calls else 1.0


@dataclass(frozen=True)
class Verdict:
    """One objective, and what became of it."""

    what: str
    aim: str
    found: str
    kept: bool


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank: the smallest value that at least `share` of them do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def measured(calls: Iterable[Call]) -> Measured:
    every = list(calls)
    ordered = sorted(call.ms for call in every if call.answered)
    return Measured(
        calls=len(every),
        answered=len(ordered),
        p50_ms=percentile(ordered, 0.5),
        p95_ms=percentile(ordered, 0.95),
        p99_ms=percentile(ordered, 0.99),
        codes=dict(Counter(call.code for call in every if not call.answered).most_common()),
    )


def seconds(calls: Iterable[Call], length: float) -> list[Measured]:
    """By the second in which a call was due."""
    bins: list[list[Call]] = [[] for _ in range(max(1, math.ceil(length)))]
    for call in calls:
        bins[min(int(call.due), len(bins) - 1)].append(call)
    return [measured(each) for each in bins]


def phases(calls: Sequence[Call], scenario: Scenario) -> dict[str, Measured]:
    """Ended before the first fault; due once the mesh may be expected to be well; and between these."""
    struck, well = scenario.struck, scenario.spared + scenario.slo.recovery_s
    parts: dict[str, list[Call]] = {"before": [], "during": [], "after": []}
    for call in calls:
        early = "before" if call.ended < struck else "during"
        parts["after" if call.due >= well else early].append(call)
    return {**{name: measured(part) for name, part in parts.items()}, "all": measured(calls)}


def recovery_s(calls: Sequence[Call], scenario: Scenario) -> float:
    """From the end of the last fault to the last failed call of the last second that is not well.

    0 when none is from then on; NEVER when the run's last second is one.
    """
    by_second = seconds(calls, scenario.seconds)
    ill = [n for n, each in enumerate(by_second) if each.availability < WELL]
    if not ill or ill[-1] + 1 <= scenario.spared:
        return 0.0
    if ill[-1] == len(by_second) - 1:
        return NEVER
    failed = [call.due for call in calls if not call.answered and int(call.due) == ill[-1]]
    return max(0.0, max(failed) - scenario.spared)


def judged(slo: Objectives, found: dict[str, Measured], recovered_s: float, lost: int) -> list[Verdict]:
    """Each objective, whether it was kept."""
    p95_ms, availability = found["after"].p95_ms, found["all"].availability
    told = "never" if recovered_s == NEVER else f"{recovered_s:.1f} s"
    return [
        Verdict(
            "availability of the whole run",
            f">= {slo.availability:.2%}",
            f"{availability:.2%}",
            availability >= slo.availability,
        ),
        Verdict(
            "p95 after recovery",
            f"<= {slo.p95_ms:,.0f} ms",
            "no answer" if p95_ms is None else f"{p95_ms:,.0f} ms",
            p95_ms is not None and p95_ms <= slo.p95_ms,
        ),
        Verdict("time to recover", f"<= {slo.recovery_s:g} s", told, recovered_s <= slo.recovery_s),
        Verdict("acknowledged and lost", "0", str(lost), lost == 0),
    ]
