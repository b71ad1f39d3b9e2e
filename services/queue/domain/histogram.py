"""Times in exponential bins: 19 % apart, from 0.1 ms to a week, in bounded memory."""

import math
from bisect import bisect_right
from collections.abc import Sequence

FIRST_S = 0.0001
STEPS_PER_DOUBLING = 4  # Bounds are 2^(1/4) apart.
BINS = 132  # The last bound is FIRST_S * 2^33, about ten days.


def bin_of(seconds: float) -> int:
    """The bin of a time; what is beyond the bounds is in the first or last."""
    if seconds <= FIRST_S:
        return 0
    return min(BINS - 1, math.ceil(math.log2(seconds / FIRST_S) * STEPS_PER_DOUBLING))


def count(bins: list[int], seconds: Sequence[float]) -> None:
    """Adds these, in rising order, to their bins; those of one bin are found by its bound."""
    place = 0
    while place < len(seconds):
        number = bin_of(seconds[place])
        after = len(seconds) if number == BINS - 1 else bisect_right(seconds, bound_s(number), place + 1)
        bins[number] += after - place
        place = after


def bound_s(number: int) -> float:
    """The largest time of a bin."""
    return float(FIRST_S * 2 ** (number / STEPS_PER_DOUBLING))


def percentile_s(bins: Sequence[int], share: float, largest_s: float) -> float:
    """The time that `share` of all do not exceed, by its bin's bound; 0 when there are none."""
    rank, seen = math.ceil(sum(bins) * share), 0
    for number, count in enumerate(bins):
        seen += count
        if count and seen >= rank:
            return min(bound_s(number), largest_s)
    return 0.0
