"""What a plan charges for, and what so many units of it cost.

Prices are exact decimals of major units. Each function adds up exactly and rounds once, at its end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil

from services.chassis.money import Money

NOTHING, ONE, HUNDRED = Decimal(0), Decimal(1), 100


class Basis(StrEnum):
    """What is counted."""

    FLAT = "FLAT"  # Nothing: once a period.
    SEATS = "SEATS"  # The subscription's quantity.
    USAGE = "USAGE"  # What a meter saw in the period.


class Model(StrEnum):
    """How units become an amount."""

    STANDARD = "STANDARD"  # Each costs the same.
    GRADUATED = "GRADUATED"  # Each costs what its own tier says.
    VOLUME = "VOLUME"  # All cost what the tier says that their number reaches.
    PACKAGE = "PACKAGE"  # By packages; one that is begun is paid whole.
    PERCENTAGE = "PERCENTAGE"  # A rate of amounts that the meter saw, and a fee for each.


class Aggregation(StrEnum):
    """What a meter makes of its events."""

    COUNT = "COUNT"
    SUM = "SUM"
    MAX = "MAX"
    UNIQUE = "UNIQUE"  # Different keys.
    LAST = "LAST"  # The latest value.


@dataclass(frozen=True, slots=True)
class Tier:
    """A stretch of units, from where the tier before ends."""

    up_to: Decimal | None  # The last unit of it; None: all that follow.
    unit_price: Decimal
    flat: Decimal = NOTHING  # Due once any unit is in it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One thing that a plan charges for."""

    code: str
    title: str
    basis: Basis
    model: Model = Model.STANDARD
    in_advance: bool = False
    tax_category: str = "STANDARD"
    sku: str = ""
    unit_price: Decimal = NOTHING  # Of a unit, or of a package.
    tiers: tuple[Tier, ...] = ()
    package_units: Decimal = ONE
    free_units: Decimal = NOTHING
    rate: Decimal = NOTHING  # Percent.
    fixed: Decimal = NOTHING  # For each event.
    free_events: int = 0
    free_amount: Decimal = NOTHING
    minimum: Decimal = NOTHING  # Of a whole period; what is missing becomes a line of its own.
    meter: str = ""
    aggregation: Aggregation = Aggregation.SUM

    @property
    def recurring(self) -> bool:
        return self.basis is not Basis.USAGE

    @property
    def needs_events(self) -> bool:
        """Whether what a meter saw must be known event by event."""
        return self.model is Model.PERCENTAGE and bool(self.free_events or self.free_amount)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a meter saw."""

    count: int = 0
    total: Decimal = NOTHING
    largest: Decimal = NOTHING
    different: int = 0
    latest: Decimal = NOTHING
    events: Sequence[Decimal] = ()  # Values in order of time, for charges that need them.

    def units(self, aggregation: Aggregation) -> Decimal:
        """Never negative: corrections take back what was counted, and no more."""
        made = {
            Aggregation.COUNT: Decimal(self.count),
            Aggregation.SUM: self.total,
            Aggregation.MAX: self.largest,
            Aggregation.UNIQUE: Decimal(self.different),
            Aggregation.LAST: self.latest,
        }[aggregation]
        return max(made, NOTHING)


def recurring_cost(charge: Charge, quantity: int) -> Fraction:
    """Exact cost of a whole period."""
    return cost(charge, ONE if charge.basis is Basis.FLAT else Decimal(quantity))


def usage_cost(charge: Charge, usage: Usage) -> tuple[Decimal, Fraction]:
    """Units, and what they cost exactly."""
    units = usage.units(charge.aggregation)
    if charge.model is not Model.PERCENTAGE:
        return units, cost(charge, units)
    if charge.needs_events:
        return units, sum(percentages(charge, usage.events), Fraction(0))
    return units, _rate(charge, usage.total) + usage.count * Fraction(charge.fixed)


def cost(charge: Charge, units: Decimal) -> Fraction:
    """What so many units cost exactly; not for percentages."""
    if charge.model is Model.GRADUATED:
        return graduated(charge.tiers, units)
    if charge.model is Model.VOLUME:
        return volume(charge.tiers, units)
    paid = max(Fraction(units) - Fraction(charge.free_units), Fraction(0))
    if charge.model is Model.PACKAGE:
        return ceil(paid / Fraction(charge.package_units)) * Fraction(charge.unit_price)
    return paid * Fraction(charge.unit_price)


def graduated(tiers: Sequence[Tier], units: Decimal) -> Fraction:
    total, begun = Fraction(0), NOTHING
    for tier in tiers:
        if units <= begun:
            break
        end = units if tier.up_to is None else min(units, tier.up_to)
        total += Fraction(end - begun) * Fraction(tier.unit_price) + Fraction(tier.flat)
        begun = end
    return total


def volume(tiers: Sequence[Tier], units: Decimal) -> Fraction:
    if not units:
        return Fraction(0)
    reached = next(tier for tier in tiers if tier.up_to is None or units <= tier.up_to)
    return Fraction(units) * Fraction(reached.unit_price) + Fraction(reached.flat)


def percentages(charge: Charge, values: Iterable[Decimal]) -> Iterable[Fraction]:
    """The fee of each event, in order. Free events end with whichever allowance is used up first.

    The event that passes the free amount pays for what lies beyond it, and its fixed fee.
    """
    seen = NOTHING
    for number, value in enumerate(values, 1):
        before, seen = seen, seen + value
        within = not charge.free_events or number <= charge.free_events
        unlimited = not charge.free_amount
        if within and (unlimited or seen <= charge.free_amount):
            yield Fraction(0)
        elif within and before < charge.free_amount:
            yield _rate(charge, seen - charge.free_amount) + Fraction(charge.fixed)
        else:
            yield _rate(charge, value) + Fraction(charge.fixed)


def _rate(charge: Charge, amount: Decimal) -> Fraction:
    return Fraction(max(amount, NOTHING)) * Fraction(charge.rate) / HUNDRED


def rounded(exact: Fraction, currency: str) -> int:
    """Minor units: the one rounding of a charge."""
    return Money.of(exact, currency).minor
