"""What inventory last said of each sku, and which products can be had."""

from collections.abc import Sequence
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch

KEEP = """
insert into stock (sku, location_id, available, revision) values ($1, $2, $3, $4)
on conflict (sku, location_id) do update set available = excluded.available, revision = excluded.revision
where stock.revision < excluded.revision
"""
OF_SKU = "select product_id from sku where sku = $1"
# Of a sku's naming and a level of it, whichever commits last sees the other: levels share this lock, and who
# gives or takes skus has it alone, as the last thing before it commits.
LEVELS = "select pg_advisory_xact_lock_shared(hashtextextended('catalog.stock', 3))"
SKUS = "select pg_advisory_xact_lock(hashtextextended('catalog.stock', 3))"
# Keeps two levels of one product's skus from each missing what the other wrote.
LOCK = "select pg_advisory_xact_lock(hashtextextended('catalog.stock/' || $1, 3))"
CAN_BE_HAD = """
exists (
    select from product join stock on stock.sku = any(product.skus)
    where product.product_id = $1 and stock.available > 0
)
"""
ADD = f"insert into in_stock (product_id) select $1::uuid where {CAN_BE_HAD} on conflict do nothing"
REMOVE = f"delete from in_stock where product_id = $1 and not {CAN_BE_HAD}"
REFRESH_ALL = """
insert into in_stock (product_id)
select distinct product_id from product join stock on stock.sku = any(product.skus)
where product_id = any($1::uuid[]) and stock.available > 0 order by product_id
on conflict do nothing
"""
AVAILABLE = """
select sku, sum(available)::bigint as available from stock where sku = any($1::text[]) group by sku
"""
IN_STOCK = "select product_id from in_stock where product_id = any($1::uuid[])"


async def keep(tx: AnyTx, sku: str, location_id: str, available: int, revision: int) -> None:
    """Takes a level over, unless a later one came first. A sku that nobody sells yet is kept for then."""
    await execute(tx, LEVELS)
    await execute(tx, KEEP, sku, location_id, available, revision)
    for row in await fetch(tx, OF_SKU, sku):
        await execute(tx, LOCK, str(row["product_id"]))
        await _refresh(tx, row["product_id"])


async def refresh(tx: AnyTx, product_id: UUID) -> None:
    """Says anew whether a product can be had, since its skus are others. The last step of `tx`."""
    await execute(tx, SKUS)
    await _refresh(tx, product_id)


async def _refresh(tx: AnyTx, product_id: UUID) -> None:
    await execute(tx, ADD, product_id)
    await execute(tx, REMOVE, product_id)


async def refresh_new(tx: AnyTx, product_ids: Sequence[UUID]) -> None:
    """Notes those that can be had; skus were added to them, and none taken. The last step of `tx`."""
    await execute(tx, SKUS)
    await execute(tx, REFRESH_ALL, list(product_ids))


async def available(db: Database, skus: Sequence[str]) -> dict[str, int]:
    """Over all locations, of those that inventory ever spoke of."""
    return {row["sku"]: row["available"] for row in await db.fetch(AVAILABLE, list(skus))}


async def in_stock(db: Database, product_ids: Sequence[UUID]) -> set[UUID]:
    return {row["product_id"] for row in await db.fetch(IN_STOCK, list(product_ids))}
