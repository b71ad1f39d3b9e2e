"""What the catalog says of a sku, as far as its price goes."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, NotFound
from services.pricing.domain.row import Row
from services.pricing.domain.validity import Validity


class UnknownSku(NotFound):
    """The catalog has no {sku}."""


class NotForSale(FailedPrecondition):
    """{sku} is not for sale."""


class NoPrice(FailedPrecondition):
    """{sku} has no price in {currency}."""


class ItemRow(Row):
    """A sku of the mirror."""

    __tablename__ = "item"
    sku: Mapped[str] = mapped_column(primary_key=True)
    product_id: Mapped[str]
    title: Mapped[str]
    tax_category: Mapped[str]
    category_ids: Mapped[list[str]]
    for_sale: Mapped[bool]
    shippable: Mapped[bool]
    prices: Mapped[list[dict[str, Any]]]
    known: Mapped[bool]
    revision: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class CatalogPrice:
    """A list price: without tax."""

    currency: str
    amount: Decimal
    validity: Validity


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A sku."""

    sku: str
    product_id: str
    title: str
    tax_category: str
    category_ids: frozenset[str]
    for_sale: bool
    shippable: bool
    prices: tuple[CatalogPrice, ...]

    def price(self, currency: str, at: datetime) -> Decimal | None:
        """The list price that began last of those that cover the moment."""
        holding = [p for p in self.prices if p.currency == currency and p.validity.covers(at)]
        if not holding:
            return None
        return max(holding, key=lambda p: (p.validity.since is not None, p.validity.since or at)).amount


def sold(item: Item | None, sku: str) -> Item:
    """`item`, if it can be sold. Raises UnknownSku, NotForSale."""
    if item is None:
        raise UnknownSku(sku=sku)
    if not item.for_sale:
        raise NotForSale(sku=sku)
    return item
