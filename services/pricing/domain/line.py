"""Lines of a quote while they are reckoned."""

from dataclasses import dataclass, field
from fractions import Fraction
from uuid import UUID

from services.chassis.errors import InvalidArgument
from services.chassis.money import line_amount
from services.pricing.domain.item import Item
from services.pricing.domain.price_list import Price


class LineIdRepeated(InvalidArgument):
    """The line {line_id} comes twice."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a promotion took off a line, in minor units."""

    promotion_id: UUID
    code: str
    title: str
    amount: int


@dataclass(slots=True, kw_only=True)
class Line:
    """What is wanted, and what is left of its price. Amounts are minor units, as priced."""

    line_id: str
    item: Item
    units: int
    shipping: bool
    price: Price
    base: int
    left: int
    discounts: list[Taken] = field(default_factory=list)
    closed: bool = False  # A discount that tolerates none after it.

    @property
    def each(self) -> Fraction:
        """What is left of a unit's price."""
        return Fraction(self.left, self.units)

    def take(self, taken: Taken) -> None:
        self.discounts.append(taken)
        self.left -= taken.amount


def priced(line_id: str, item: Item, units: int, shipping: bool, price: Price, currency: str) -> Line:
    """A line without discounts. Raises AmountOutOfRange."""
    base = line_amount(price.unit, units, currency).minor
    return Line(line_id=line_id, item=item, units=units, shipping=shipping, price=price, base=base, left=base)
