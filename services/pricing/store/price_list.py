"""Price lists and their prices."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select

from services.chassis.db import Database, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.pricing.domain.price_list import ListedPriceRow, PriceListRow, Tiers, UnknownPriceList

LISTS = Listing(
    {
        "name": Field(PriceListRow.name),
        "currency": Field(PriceListRow.currency),
        "priority": Field(PriceListRow.priority),
        "valid_from": Field(PriceListRow.valid_from, nullable=True),
        "valid_to": Field(PriceListRow.valid_to, nullable=True),
        "price_list_id": Field(PriceListRow.price_list_id, order=False),
    },
    "name",
    "price_list_id",
)
PRICES = Listing({"sku": Field(ListedPriceRow.sku)}, "sku", "sku")
LISTED = """
select price_list_id, sku, min_units, unit_prices from listed_price
where price_list_id = any($1) and sku = any($2)
"""
SET = """
insert into listed_price values ($1, $2, $3, $4)
on conflict (price_list_id, sku) do update set min_units = excluded.min_units,
    unit_prices = excluded.unit_prices
"""


async def get(tx: Tx, price_list_id: UUID, *, lock: bool = False) -> PriceListRow:
    """Raises UnknownPriceList."""
    row = await tx.get(PriceListRow, price_list_id, with_for_update=lock)
    if row is None:
        raise UnknownPriceList(price_list_id=price_list_id)
    return row


async def count(tx: Tx) -> int:
    return int(await tx.scalar(select(func.count()).select_from(PriceListRow)) or 0)


async def page(tx: Tx, page: Page) -> tuple[Sequence[PriceListRow], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(PriceListRow)))).all())


async def page_of_prices(tx: Tx, page: Page, price_list_id: UUID) -> tuple[Sequence[ListedPriceRow], str]:
    """Rows, and the next page's token."""
    of_it = select(ListedPriceRow).where(ListedPriceRow.price_list_id == price_list_id)
    return page.cut((await tx.scalars(page.select(of_it))).all())


async def set_prices(tx: Tx, price_list_id: UUID, prices: Mapping[str, Tiers]) -> None:
    for sku, tiers in sorted(prices.items()):
        await execute(tx, SET, price_list_id, sku, list(tiers.min_units), list(tiers.unit_prices))


async def remove_prices(tx: Tx, price_list_id: UUID, skus: Sequence[str]) -> Sequence[str]:
    """Those that were there."""
    sql = "delete from listed_price where price_list_id = $1 and sku = any($2) returning sku"
    return sorted(row["sku"] for row in await fetch(tx, sql, price_list_id, list(skus)))


async def listed(
    db: Database, price_list_ids: Iterable[UUID], skus: Sequence[str]
) -> dict[UUID, dict[str, Tiers]]:
    """Prices by list and sku."""
    found: dict[UUID, dict[str, Tiers]] = {}
    for row in await db.fetch(LISTED, list(price_list_ids), skus):
        prices = tuple(map(Decimal, row["unit_prices"]))
        found.setdefault(row["price_list_id"], {})[row["sku"]] = Tiers(tuple(row["min_units"]), prices)
    return found
