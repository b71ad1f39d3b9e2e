"""What a promotion takes off: pure arithmetic over what is left of lines.

Each effect answers minor units by position in the lines it is given; none is below zero, none is more than
what is left. Shares are rounded half up, once for each amount; an amount that belongs to several lines is
shared out by largest remainder (services/chassis/money.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Protocol

from services.chassis.money import allocate, round_half_up
from services.pricing.domain.line import Line

HUNDRED = Decimal(100)


class Level(Enum):
    """What an effect is reckoned on."""

    LINE = "line"
    UNIT = "unit"
    ORDER = "order"


class Effect(Protocol):
    """What is taken off `lines`; `others` are those that a second target means."""

    def off(self, lines: Sequence[Line], others: Sequence[Line]) -> list[int]:
        """By position in `lines`, then in `others`."""


def share(amount: int | Fraction, percent: Decimal) -> int:
    return round_half_up(Fraction(amount) * Fraction(percent) / 100)


def shared_out(amount: int, lines: Sequence[Line]) -> list[int]:
    """In proportion to what is left, of which it takes no more than there is."""
    left = [line.left for line in lines]
    amount = min(amount, sum(left))
    return allocate(amount, left) if amount > 0 else [0] * len(left)


def bounded(amounts: list[int], bound: int | None) -> list[int]:
    """In proportion less, if they are more than `bound` together."""
    if bound is None or sum(amounts) <= bound:
        return amounts
    return allocate(bound, amounts)


@dataclass(frozen=True, slots=True)
class Percentage:
    percent: Decimal
    level: Level = Level.LINE
    amount_max: int | None = None

    def off(self, lines: Sequence[Line], others: Sequence[Line]) -> list[int]:
        if self.level is Level.ORDER:
            amount = share(sum(line.left for line in lines), self.percent)
            return shared_out(amount if self.amount_max is None else min(amount, self.amount_max), lines)
        return bounded([share(line.left, self.percent) for line in lines], self.amount_max)


@dataclass(frozen=True, slots=True)
class FixedAmount:
    amount: int
    level: Level = Level.LINE

    def off(self, lines: Sequence[Line], others: Sequence[Line]) -> list[int]:
        if self.level is Level.ORDER:
            return shared_out(self.amount, lines)
        times = [line.units if self.level is Level.UNIT else 1 for line in lines]
        return [min(line.left, self.amount * n) for line, n in zip(lines, times, strict=True)]


@dataclass(frozen=True, slots=True)
class BuyXGetY:
    buy_units: int
    get_units: int
    percent: Decimal = HUNDRED
    others: bool = False  # The cheaper units are those of a second target.
    times_max: int | None = None

    def off(self, lines: Sequence[Line], others: Sequence[Line]) -> list[int]:
        there = sum(line.units for line in lines)
        if self.others:
            times = self._times(there // self.buy_units)
            return [0] * len(lines) + self._cheapest(others, times * self.get_units)
        return self._cheapest(lines, self._of_the_same(there)) + [0] * len(others)

    def _times(self, times: int) -> int:
        return times if self.times_max is None else min(times, self.times_max)

    def _of_the_same(self, there: int) -> int:
        """Units that are cheaper: a last round that is paid for need not be full."""
        rounds, rest = divmod(there, self.buy_units + self.get_units)
        times = self._times(rounds)
        last = max(0, rest - self.buy_units) if times == rounds and times != self.times_max else 0
        return times * self.get_units + last

    def _cheapest(self, lines: Sequence[Line], units: int) -> list[int]:
        amounts = [0] * len(lines)
        for n in sorted(range(len(lines)), key=lambda n: (lines[n].each, n)):
            taken = min(units, lines[n].units)
            amounts[n] = share(lines[n].each * taken, self.percent)
            units -= taken
        return amounts


@dataclass(frozen=True, slots=True)
class Step:
    """Reached by units or by an amount; takes off a share or an amount."""

    from_units: int | None = None
    from_amount: int | None = None
    percent: Decimal | None = None
    amount: int = 0

    def reached(self, units: int, amount: int) -> bool:
        return units >= self.from_units if self.from_units is not None else amount >= (self.from_amount or 0)


@dataclass(frozen=True, slots=True)
class Tiered:
    steps: tuple[Step, ...]

    def off(self, lines: Sequence[Line], others: Sequence[Line]) -> list[int]:
        units, left = sum(line.units for line in lines), sum(line.left for line in lines)
        reached = [step for step in self.steps if step.reached(units, left)]
        if not reached:
            return [0] * len(lines)
        step = reached[-1]
        return shared_out(share(left, step.percent) if step.percent is not None else step.amount, lines)


@dataclass(frozen=True, slots=True)
class FreeShipping:
    amount_max: int | None = None

    def off(self, lines: Sequence[Line], others: Sequence[Line]) -> list[int]:
        return bounded([line.left for line in lines], self.amount_max)
