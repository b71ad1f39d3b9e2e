"""The mirror of the catalog."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.chassis.db import AnyTx, Database, execute
from services.pricing.domain.item import CatalogPrice, Item
from services.pricing.domain.validity import Validity

FIND = """
select sku, product_id, title, tax_category, category_ids, for_sale, shippable, prices from item
where sku = any($1) and known
"""
# What was never heard of has a row before it is asked for: an event that comes meanwhile must find it.
PLACE = """
insert into item select sku, '', '', '', '{}', false, false, '[]', false, 0 from unnest($1::text[]) as sku
on conflict do nothing
"""
REVISIONS = "select sku, revision from item where sku = any($1)"
KEEP = """
update item set product_id = new.product_id, title = new.title, tax_category = new.tax_category,
    category_ids = array(select jsonb_array_elements_text(new.category_ids::jsonb)),
    for_sale = new.for_sale, shippable = new.shippable, prices = new.prices::jsonb, known = true
from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[],
    $8::boolean[], $9::text[])
    as new (sku, revision, product_id, title, tax_category, category_ids, for_sale, shippable, prices)
where item.sku = new.sku and item.revision = new.revision
"""
# All who ask the catalog lock in the order of skus, so that none waits for another in vain.
LOCK = "select from item where sku = any($1) order by sku for update"
DROP = "delete from item where sku = any($1) and not known"
OLD = "select sku from item where not known and product_id <> '' order by sku limit $1"
# An answer that is under way is for a row that has no product yet: it may be older than the event.
STALE = """
update item set known = false, revision = revision + 1
where sku = any($1) or product_id = $2 or (not known and product_id = '')
"""
STALE_BY_CATEGORY = """
update item set known = false, revision = revision + 1
where category_ids @> array[$1] or (not known and product_id = '')
"""


async def find(db: Database, skus: Sequence[str]) -> dict[str, Item]:
    """Those that are known."""
    return {row["sku"]: _item(row) for row in await db.fetch(FIND, skus)}


async def revisions(db: Database, skus: Sequence[str]) -> Mapping[str, int]:
    """How often each was outdated, of which each is written down from now on."""
    async with db.fast() as tx:
        await tx.execute(PLACE, skus)
        return {row["sku"]: row["revision"] for row in await tx.fetch(REVISIONS, skus)}


async def keep(db: Database, items: Sequence[Item], revisions: Mapping[str, int]) -> None:
    """Those that no event has outdated since their revision was read. Raises Conflict."""
    items = [item for item in items if item.sku in revisions]  # A rival may have dropped its row meanwhile.
    columns: list[list[Any]] = [
        [item.sku for item in items],
        [revisions[item.sku] for item in items],
        [item.product_id for item in items],
        [item.title for item in items],
        [item.tax_category for item in items],
        [json.dumps(sorted(item.category_ids)) for item in items],
        [item.for_sale for item in items],
        [item.shippable for item in items],
        [json.dumps([_plain(price) for price in item.prices]) for item in items],
    ]
    async with db.fast() as tx:
        await tx.execute(LOCK, columns[0])
        await tx.execute(KEEP, *columns)


async def drop(db: Database, skus: Sequence[str]) -> None:
    """The catalog has none of these. Raises Conflict."""
    async with db.fast() as tx:
        await tx.execute(LOCK, skus)
        await tx.execute(DROP, skus)


async def old(db: Database, limit: int) -> Sequence[str]:
    """What was known once and is outdated."""
    return [row["sku"] for row in await db.fetch(OLD, limit)]


async def outdate(tx: AnyTx, skus: Sequence[str], product_id: str) -> None:
    await execute(tx, STALE, skus, product_id)


async def outdate_category(tx: AnyTx, category_id: str) -> None:
    """All that stands in it or below it."""
    await execute(tx, STALE_BY_CATEGORY, category_id)


def _item(row: Any) -> Item:
    return Item(
        sku=row["sku"],
        product_id=row["product_id"],
        title=row["title"],
        tax_category=row["tax_category"],
        category_ids=frozenset(row["category_ids"]),
        for_sale=row["for_sale"],
        shippable=row["shippable"],
        prices=tuple(map(_price, json.loads(row["prices"]))),
    )


def _plain(price: CatalogPrice) -> dict[str, str | None]:
    since, until = price.validity.since, price.validity.until
    return {
        "currency": price.currency,
        "amount": str(price.amount),
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
    }


def _price(plain: Mapping[str, Any]) -> CatalogPrice:
    since, until = (plain[name] and datetime.fromisoformat(plain[name]) for name in ("since", "until"))
    return CatalogPrice(plain["currency"], Decimal(plain["amount"]), Validity(since, until))
