"""Levels of stock, locked in one order by everyone: by SKU, then by location."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select

from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.inventory.domain.level import Level, Stock
from services.inventory.domain.levels import Key, Levels

COLUMNS = "s.sku, s.location_id, s.on_hand, s.reserved, s.incoming, s.threshold, s.alert_at, s.revision"
LOCK_SKUS = f"""
select {COLUMNS}, l.priority from stock s join location l using (location_id)
where s.sku = any($1::text[]) and l.for_sale
order by s.sku, s.location_id for update of s
"""
LOCK_KEYS = f"""
select {COLUMNS} from stock s
where (s.sku, s.location_id) in (select * from unnest($1::text[], $2::uuid[]))
order by s.sku, s.location_id for update of s
"""
MAKE = """
insert into stock (sku, location_id, updated_at)
select sku, location_id, $3 from unnest($1::text[], $2::uuid[]) as new (sku, location_id)
order by sku collate "C", location_id on conflict do nothing
"""
WRITE = """
update stock s set on_hand = n.on_hand, reserved = n.reserved, incoming = n.incoming,
    threshold = n.threshold, alert_at = n.alert_at, revision = n.revision, updated_at = $9
from unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[]) as n (sku, location_id, on_hand, reserved, incoming, threshold, alert_at, revision)
where s.sku = n.sku and s.location_id = n.location_id
"""
READ = f"""
select {COLUMNS}, s.updated_at from stock s
where (s.sku, s.location_id) in (select * from unnest($1::text[], $2::uuid[]))
"""

AVAILABLE = Stock.on_hand - Stock.reserved - Stock.threshold
STOCK = Listing(
    {
        "sku": Field(Stock.sku),
        "location_id": Field(Stock.location_id),
        "on_hand": Field(Stock.on_hand, order=False),
        "reserved": Field(Stock.reserved, order=False),
        "incoming": Field(Stock.incoming, order=False),
        "available": Field(AVAILABLE, order=False),
        "low": Field(and_(Stock.alert_at.is_not(None), Stock.alert_at >= AVAILABLE), order=False),
        "update_time": Field(Stock.updated_at, order=False),
    },
    "sku",
    "location_id",
)


async def lock_skus(tx: AnyTx, skus: Collection[str]) -> Levels:
    """All levels of these SKUs that are for sale."""
    return Levels.of(Level(*_values(row)) for row in await fetch(tx, LOCK_SKUS, list(skus)))


async def lock(tx: AnyTx, keys: Collection[Key]) -> Levels:
    """These levels, as far as there are any."""
    rows = await fetch(tx, LOCK_KEYS, *_split(keys))
    return Levels.of(Level(*_values(row)) for row in rows)


async def lock_made(tx: AnyTx, keys: Collection[Key], now: datetime) -> Levels:
    """These levels; those that were not there are empty. Their locations exist and are locked."""
    await execute(tx, MAKE, *_split(keys), now)
    return await lock(tx, keys)


async def write(tx: AnyTx, levels: Sequence[Level], now: datetime) -> None:
    """These are locked, and each is one revision further."""
    for level in levels:
        level.revision += 1
    rows = [
        (
            each.sku,
            each.location_id,
            each.on_hand,
            each.reserved,
            each.incoming,
            each.threshold,
            each.alert_at,
            each.revision,
        )
        for each in levels
    ]
    await execute(tx, WRITE, *map(list, zip(*rows, strict=True)), now)


async def read(tx: AnyTx, keys: Collection[Key]) -> Sequence[Any]:
    """Rows of these levels, as far as there are any, in no order."""
    return await fetch(tx, READ, *_split(keys))


async def page(tx: Tx, page: Page) -> tuple[Sequence[Stock], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Stock)))).all())


def _split(keys: Collection[Key]) -> tuple[list[str], list[UUID]]:
    return [sku for sku, _ in keys], [location_id for _, location_id in keys]


def _values(row: Any) -> tuple[Any, ...]:
    return tuple(row.values())
