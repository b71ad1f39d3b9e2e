"""Tax of lines: reckoned once for each category and rate, then shared out over their lines.

EN 16931 rounds the tax of a category, not of a line (BR-CO-17): 3 x 0.33 at 20 % is 0.20. Where prices have
the tax in them, what the buyer pays is fixed and the tax is taken out of it: 20 % of the net is 20/120 of the
gross, rounded half up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from services.chassis.money import allocate, round_half_up
from services.pricing.domain.line import Line

HUNDRED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Tax:
    """What a kind of sale bears."""

    tax_category: str
    rate: Decimal  # Percent.
    code: str  # EN 16931: S, Z, E, AE, K, G or O.
    reverse_charge: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Taxed:
    """What a line comes to, in minor units."""

    tax: Tax
    net: int
    amount: int

    @property
    def gross(self) -> int:
        return self.net + self.amount


@dataclass(frozen=True, slots=True)
class Total:
    """Of all lines of one category and rate."""

    tax: Tax
    net: int
    amount: int


def taxed(lines: Sequence[Line], taxes: Mapping[str, Tax]) -> list[Taxed]:
    """By position. `taxes` are by line id."""
    groups: dict[tuple[Tax, bool], list[int]] = {}
    for n, line in enumerate(lines):
        groups.setdefault((taxes[line.line_id], line.price.tax_included), []).append(n)
    made: list[Taxed | None] = [None] * len(lines)
    for (tax, included), members in groups.items():
        amounts = [lines[n].left for n in members]
        shares = _shared(_tax_of(sum(amounts), tax.rate, included), amounts)
        for n, amount, share in zip(members, amounts, shares, strict=True):
            made[n] = Taxed(tax, amount - share if included else amount, share)
    return [each for each in made if each is not None]


def totals(lines: Sequence[Taxed]) -> list[Total]:
    """In the order in which they first come."""
    found: dict[Tax, Total] = {}
    for line in lines:
        before = found.get(line.tax, Total(line.tax, 0, 0))
        found[line.tax] = Total(line.tax, before.net + line.net, before.amount + line.amount)
    return list(found.values())


def _tax_of(amount: int, rate: Decimal, included: bool) -> int:
    percent = Fraction(rate)
    return round_half_up(Fraction(amount) * percent / (HUNDRED + percent if included else HUNDRED))


def _shared(amount: int, weights: Sequence[int]) -> list[int]:
    return allocate(amount, weights) if amount else [0] * len(weights)
