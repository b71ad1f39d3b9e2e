"""What the next months may bring, from those that are over: simple methods, judged by their errors.

Each method forecasts each month of the past from the months before it (a rolling origin). The one with the
least mean absolute error is taken, the simpler one where two err alike. The errors of its trials give the
interval. Decimal numbers throughout: a forecast is no amount, but becomes one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import pairwise

HISTORY_MIN = 4  # Months; three forecast the fourth, or there is nothing to judge by.
HISTORY_MAX = 60  # Older months tell little, and each one more is tried.
YEAR = 12
TRIAL_AHEAD = 3  # Months ahead that trials look; further ones are no surer than the last of these.
COVERED = Decimal("0.8")  # Of the trials lie within the interval.
GRID = [Decimal(n) / 10 for n in (1, 3, 5, 7, 9)]  # Smoothing weights that are tried.
DAMPING = Decimal("0.9")  # Of the trend, each month (Gardner and McKenzie 1985).

Series = Sequence[Decimal]
Method = Callable[[Series, int], list[Decimal]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a method says, and how it erred."""

    method: str
    expected: list[Decimal]
    low: list[Decimal]
    high: list[Decimal]
    percentage_error: Decimal | None  # Mean absolute one; None: a month of the past was zero.
    scaled_error: Decimal | None  # None: the past never changed, and neither did the forecast err.
    trials: int


def mean(past: Series, ahead: int) -> list[Decimal]:
    """The mean of the last three months."""
    last = past[-3:]
    return [sum(last, Decimal(0)) / len(last)] * ahead


def drift(past: Series, ahead: int) -> list[Decimal]:
    """The last month, and on by the mean change."""
    step = (past[-1] - past[0]) / max(len(past) - 1, 1)
    return [past[-1] + step * n for n in range(1, ahead + 1)]


def seasonal(past: Series, ahead: int) -> list[Decimal]:
    """The same month a year ago, times the growth of the last year where two years are known."""
    growth = Decimal(1)
    if len(past) >= 2 * YEAR and (before := sum(past[-2 * YEAR : -YEAR], Decimal(0))) > 0:
        growth = sum(past[-YEAR:], Decimal(0)) / before
    made = list(past)
    for _ in range(ahead):
        made.append(made[-YEAR] * growth if len(made) >= YEAR else made[-1])
    return made[len(past) :]


def holt_damped(past: Series, ahead: int, level_weight: Decimal, trend_weight: Decimal) -> list[Decimal]:
    """A level and a trend that fades, smoothed over the past."""
    level, trend = past[0], past[1] - past[0] if len(past) > 1 else Decimal(0)
    for value in past[1:]:
        before = level
        level = level_weight * value + (1 - level_weight) * (level + DAMPING * trend)
        trend = trend_weight * (level - before) + (1 - trend_weight) * DAMPING * trend
    made, faded = [], Decimal(0)
    for n in range(1, ahead + 1):
        faded += DAMPING**n
        made.append(level + faded * trend)
    return made


def methods(months: int) -> Mapping[str, list[Method]]:
    """Variants of each method that so many months allow, the simplest method first."""
    known: dict[str, list[Method]] = {
        "MEAN": [mean],
        "DRIFT": [drift],
        "HOLT_DAMPED": [
            partial(holt_damped, level_weight=level, trend_weight=trend) for level in GRID for trend in GRID
        ],
    }
    return known | {"SEASONAL": [seasonal]} if months > YEAR + 1 else known


def forecast(past: Series, ahead: int) -> Forecast:
    """`past` has HISTORY_MIN months or more."""
    past = [Decimal(value) for value in past[-HISTORY_MAX:]]
    first = _first_origin(len(past))
    tried = [
        (name, method, _errors(method, past, first))
        for name, variants in methods(len(past)).items()
        for method in variants
    ]
    name, method, errors = min(tried, key=lambda each: _mean_absolute(each[2]))
    expected = method(past, ahead)
    spread = [_spread(errors, n) for n in range(1, ahead + 1)]
    return Forecast(
        method=name,
        expected=expected,
        low=[value - width for value, width in zip(expected, spread, strict=True)],
        high=[value + width for value, width in zip(expected, spread, strict=True)],
        percentage_error=_percentage_error(errors),
        scaled_error=_scaled_error(errors, past),
        trials=len(errors),
    )


@dataclass(frozen=True, slots=True)
class _Error:
    """What a trial missed by."""

    ahead: int
    actual: Decimal
    missed: Decimal


def _first_origin(months: int) -> int:
    """How many months the first trial knows; seasons need a year to be tried at all."""
    return YEAR + 1 if months > YEAR + 1 + HISTORY_MIN else min(3, months - 1)


def _errors(method: Method, past: Series, first: int) -> list[_Error]:
    errors = []
    for origin in range(first, len(past)):
        actual = past[origin : origin + TRIAL_AHEAD]
        said = method(past[:origin], len(actual))
        pairs = enumerate(zip(actual, said, strict=True), 1)
        errors += [_Error(ahead, value, value - guess) for ahead, (value, guess) in pairs]
    return errors


def _mean_absolute(errors: Sequence[_Error]) -> Decimal:
    return sum((abs(error.missed) for error in errors), Decimal(0)) / len(errors)


def _percentage_error(errors: Sequence[_Error]) -> Decimal | None:
    if any(error.actual == 0 for error in errors):
        return None
    shares = [abs(error.missed / error.actual) for error in errors]
    return 100 * sum(shares, Decimal(0)) / len(shares)


def _scaled_error(errors: Sequence[_Error], past: Series) -> Decimal | None:
    """By the mean change from month to month (Hyndman and Koehler 2006)."""
    changes = [abs(after - before) for before, after in pairwise(past)]
    scale = sum(changes, Decimal(0)) / len(changes)
    return _mean_absolute(errors) / scale if scale else None


def _spread(errors: Sequence[_Error], ahead: int) -> Decimal:
    """The error that COVERED of the trials stay within; beyond the trials it grows with the root of time."""
    width = Decimal(0)
    for distance in range(1, min(ahead, TRIAL_AHEAD) + 1):
        missed = sorted(abs(error.missed) for error in errors if error.ahead == distance)
        if missed:
            width = max(width, missed[min(int(COVERED * len(missed)), len(missed) - 1)])
    return width * (Decimal(ahead) / TRIAL_AHEAD).sqrt() if ahead > TRIAL_AHEAD else width
