"""When calls are due and which they are: an open model, in which no slow answer delays the next call."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

SEED = 6  # The same calls in each run, so that runs can be compared.

Burst = tuple[float, float, float]  # From, to, calls a second.


def rate_at(moment: float, rate: float, bursts: Sequence[Burst]) -> float:
    """The highest of what is asked for at that moment."""
    return max([rate, *(asked for begins, ends, asked in bursts if begins <= moment < ends)])


def due(seconds: float, rate: float, bursts: Sequence[Burst] = ()) -> Iterator[float]:
    """The moments at which calls are due, in order, all before `seconds`: one for each whole of the rate's
    integral, the first at once."""
    edges = sorted({edge for begins, ends, _ in bursts for edge in (begins, ends) if edge < seconds})
    moment, missing = 0.0, 0.0  # Missing: the share of a call until the next is due.
    for edge in [*edges, seconds]:
        now = rate_at(moment, rate, bursts)
        while moment + missing / now < edge:
            moment += missing / now
            yield moment
            missing = 1.0
        missing -= (edge - moment) * now
        moment = edge


def kinds(mix: Mapping[str, float]) -> Iterator[str]:
    """Kinds of calls without end, in the shares of the mix."""
    chance = random.Random(SEED)
    names, shares = list(mix), list(mix.values())
    while True:
        yield from chance.choices(names, shares, k=1_000)
