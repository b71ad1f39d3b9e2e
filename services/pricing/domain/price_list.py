"""Price lists, and which of them has the price."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.pricing.domain.item import Item, NoPrice
from services.pricing.domain.row import Row
from services.pricing.domain.validity import Validity

PRICE_LISTS_MAX = 2_000  # Every process has the settings of all of them in memory, about 1 kB each.


class UnknownPriceList(NotFound):
    """There is no price list {price_list_id}."""


class PriceListIdReused(AlreadyExists):
    """Price list {price_list_id} was made with other settings."""


class TooManyPriceLists(FailedPrecondition):
    """There are {max} price lists already."""


class CurrencyFixed(FailedPrecondition):
    """The currency {currency} stays: what was counted or listed in it would mean something else."""


class TiersRefused(InvalidArgument):
    """The prices of {sku} are refused: {problem}."""


class PriceListRow(Row):
    """Settings of a price list."""

    __tablename__ = "price_list"
    price_list_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    currency: Mapped[str]
    segments: Mapped[list[str]]
    countries: Mapped[list[str]]
    valid_from: Mapped[datetime | None]
    valid_to: Mapped[datetime | None]
    priority: Mapped[int]
    tax_included: Mapped[bool]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ListedPriceRow(Row):
    """What a sku costs in a list, by quantity."""

    __tablename__ = "listed_price"
    price_list_id: Mapped[UUID] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    min_units: Mapped[list[int]]
    unit_prices: Mapped[list[Decimal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """For whom and when a list holds."""

    price_list_id: UUID
    name: str
    currency: str
    segments: frozenset[str]
    countries: frozenset[str]
    validity: Validity
    priority: int
    tax_included: bool

    def holds(self, who: "Situation") -> bool:
        return (
            self.currency == who.currency
            and self.validity.covers(who.at)
            and (not self.segments or not self.segments.isdisjoint(who.segments))
            and (not self.countries or who.country in self.countries)
        )

    @property
    def rank(self) -> tuple[int, int, str]:
        """The smallest decides: by priority, then by how much it asks for, then by id."""
        return -self.priority, -(bool(self.segments) + bool(self.countries)), str(self.price_list_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Who buys, where, when, in what currency."""

    currency: str
    country: str
    segments: frozenset[str]
    at: datetime
    customer_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Tiers:
    """Unit prices by quantity, rising."""

    min_units: tuple[int, ...]
    unit_prices: tuple[Decimal, ...]

    def check(self, sku: str) -> None:
        """Raises TiersRefused."""
        if any(low >= high for low, high in zip(self.min_units, self.min_units[1:], strict=False)):
            raise TiersRefused(sku=sku, problem="min_units must rise", field="prices.tiers.min_units")

    def price(self, units: int) -> Decimal | None:
        """None: nothing is sold in so small a quantity at these prices."""
        reached = [price for low, price in zip(self.min_units, self.unit_prices, strict=True) if low <= units]
        return reached[-1] if reached else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of a unit price, and where it comes from."""

    kind: str
    source: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one unit costs."""

    components: tuple[Component, ...]
    tax_included: bool
    why: str

    @property
    def unit(self) -> Decimal:
        return sum((part.amount for part in self.components), Decimal(0))


Listed = Mapping[UUID, Mapping[str, Tiers]]  # By price list and sku.


def choose(item: Item, units: int, lists: Sequence[PriceList], listed: Listed, who: Situation) -> Price:
    """The price of each of `units`, which are all of the sku. `lists` hold, and are in order of rank.

    Raises NoPrice.
    """
    for each in lists:
        tiers = listed.get(each.price_list_id, {}).get(item.sku)
        unit = tiers.price(units) if tiers else None
        if unit is not None:
            part = Component(kind="price_list", source=str(each.price_list_id), amount=unit)
            why = f"price list {each.name}" + (f", from {units} units" if len(tiers.min_units) > 1 else "")  # type: ignore[union-attr]
            return Price(components=(part,), tax_included=each.tax_included, why=why)
    unit = item.price(who.currency, who.at)
    if unit is None:
        raise NoPrice(sku=item.sku, currency=who.currency)
    part = Component(kind="list", source=item.product_id, amount=unit)
    return Price(components=(part,), tax_included=False, why="list price of the catalog")
