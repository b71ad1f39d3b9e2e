"""What inventory last said of each sku, and which products can be had."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch

KEEP = """
insert into stock (sku, location_id, available, revision)
select *
from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) as new (sku, location_id, available, revision)
order by sku, location_id
on conflict (sku, location_id) do update set available = excluded.available, revision = excluded.revision
where stock.revision < excluded.revision
"""
OF_SKUS = "select distinct product_id from sku where sku = any($1::text[]) order by product_id"
# Of a sku's naming and a level of it, whichever commits last sees the other: levels share this lock, and who
# gives or takes skus has it alone, as the last thing before it commits.
LEVELS = "select pg_advisory_xact_lock_shared(hashtextextended('catalog.stock', 3))"
SKUS = "select pg_advisory_xact_lock(hashtextextended('catalog.stock', 3))"
# Keeps two levels of one product's skus from each missing what the other wrote; in the order of the ids, so
# that no two wait for each other.
LOCK = """
select pg_advisory_xact_lock(hashtextextended('catalog.stock/' || product_id, 3))
from (select product_id from unnest($1::uuid[]) as product_id order by product_id) as sorted
"""
REMOVE = """
delete from in_stock where product_id = any($1::uuid[]) and not exists (
    select from product join stock on stock.sku = any(product.skus)
    where product.product_id = in_stock.product_id and stock.available > 0
)
"""
ADD = """
insert into in_stock (product_id)
select distinct product_id from product join stock on stock.sku = any(product.skus)
where product_id = any($1::uuid[]) and stock.available > 0 order by product_id
on conflict do nothing
"""
AVAILABLE = """
select sku, sum(available)::bigint as available from stock where sku = any($1::text[]) group by sku
"""
IN_STOCK = "select product_id from in_stock where product_id = any($1::uuid[])"


class Level(NamedTuple):
    """What can be had of a sku at a location."""

    sku: str
    location_id: str
    available: int
    revision: int


async def keep(tx: AnyTx, levels: Sequence[Level]) -> None:
    """Takes each over unless a later one came first, none twice. A sku that nobody sells is kept for then."""
    await execute(tx, LEVELS)
    await execute(tx, KEEP, *(list(column) for column in zip(*levels, strict=True)))
    rows = await fetch(tx, OF_SKUS, [each.sku for each in levels])
    if product_ids := [row["product_id"] for row in rows]:
        await execute(tx, LOCK, product_ids)
        await _refresh(tx, product_ids)


async def refresh(tx: AnyTx, product_id: UUID) -> None:
    """Says anew whether a product can be had, since its skus are others. The last step of `tx`."""
    await execute(tx, SKUS)
    await _refresh(tx, [product_id])


async def _refresh(tx: AnyTx, product_ids: Sequence[UUID]) -> None:
    await execute(tx, ADD, list(product_ids))
    await execute(tx, REMOVE, list(product_ids))


async def refresh_new(tx: AnyTx, product_ids: Sequence[UUID]) -> None:
    """Notes those that can be had; skus were added to them, and none taken. The last step of `tx`."""
    await execute(tx, SKUS)
    await execute(tx, ADD, list(product_ids))


async def available(db: Database, skus: Sequence[str]) -> dict[str, int]:
    """Over all locations, of those that inventory ever spoke of."""
    return {row["sku"]: row["available"] for row in await db.fetch(AVAILABLE, list(skus))}


async def in_stock(db: Database, product_ids: Sequence[UUID]) -> set[UUID]:
    return {row["product_id"] for row in await db.fetch(IN_STOCK, list(product_ids))}
