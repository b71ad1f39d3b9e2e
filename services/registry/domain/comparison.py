"""Whether bad calls are more frequent among those of one version than of another: exact for any counts.

A version's bad calls are binomial: each call is bad with the version's rate, whatever the others are. The
hypothesis that a new version is no worse says: its rate is at most the old one's and a margin. Chernoff: for
a true rate p, of n calls, n·KL(seen, p) is u or more, seen above p, with a chance of e^-u at most; likewise
below. The two versions are independent, so the sum of the new one's excess and the old one's shortfall is x
or more with a chance of (1 + x)·e^-x at most (two exponentials make a gamma). The evidence is the least such
sum over all pairs of rates that the hypothesis allows, so it is no larger than that of the true pair: however
few the calls are, the hypothesis is dropped wrongly no more often than is said.

The price of not being an approximation: about twice the calls that a normal test would ask for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

HALVINGS = 50  # Of an interval of rates or evidence: finer than a float tells.
EVIDENCE_MAX = 1_000.0  # Beyond any chance that a float has.


@dataclass(frozen=True, slots=True)
class Sample:
    """Calls of a version, and how many of them were bad."""

    calls: int
    bad: int

    @property
    def rate(self) -> float:
        return self.bad / self.calls if self.calls else 0.0


def worse(stable: Sample, canary: Sample, margin: float, chance: float) -> bool:
    """The canary's rate is above the stable one's and `margin`.

    Said of one where that is not so with at most `chance`, at one look. Another look spends another chance.
    """
    return evidence(stable, canary, margin) >= enough(chance)


def looks_worse(stable: Sample, canary: Sample, margin: float) -> bool:
    """By what was seen, which may be chance."""
    return canary.rate > stable.rate + margin


def evidence(stable: Sample, canary: Sample, margin: float) -> float:
    """Against the canary being no worse; 0 where it does not look so."""
    if not stable.calls or not canary.calls or not looks_worse(stable, canary, margin):
        return 0.0
    # The likeliest pair of rates that the hypothesis allows is on its border: canary = stable + margin.
    low, high = stable.rate, canary.rate - margin
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _slope(stable, middle) + _slope(canary, middle + margin) < 0:
            low = middle
        else:
            high = middle
    rate = (low + high) / 2
    return stable.calls * divergence(stable.rate, rate) + canary.calls * divergence(
        canary.rate, rate + margin
    )


def _slope(sample: Sample, rate: float) -> float:
    """Of calls · KL(seen, rate) as the rate rises."""
    spread = rate * (1 - rate)
    return sample.calls * (rate - sample.rate) / spread if spread else 0.0


def divergence(seen: float, rate: float) -> float:
    """Kullback-Leibler's, of two coins."""
    return _part(seen, rate) + _part(1 - seen, 1 - rate)


def _part(seen: float, rate: float) -> float:
    if seen <= 0:
        return 0.0
    return seen * math.log(seen / rate) if rate > 0 else math.inf


@lru_cache(maxsize=4096)
def enough(chance: float) -> float:
    """The evidence x of which (1 + x)·e^-x is `chance`."""
    low, high = 0.0, EVIDENCE_MAX
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if math.log1p(middle) - middle > math.log(chance):
            low = middle
        else:
            high = middle
    return high
