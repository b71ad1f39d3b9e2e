"""Counters against what they count: one statement, so one moment."""

from collections.abc import Sequence
from typing import Any

from services.chassis.db import Database

FIND = """
with held as (
    select sku, location_id, sum(held)::bigint as held from reservation_line where held > 0
    group by sku, location_id
), in_transit as (
    select l.sku, t.to_location_id as location_id, sum(l.units)::bigint as in_transit
    from transfer t join transfer_line l using (transfer_id) where t.state = 'IN_TRANSIT'
    group by l.sku, t.to_location_id
), counted as (
    select sku, location_id, reserved, incoming from stock where reserved <> 0 or incoming <> 0
)
select sku, location_id, coalesce(reserved, 0) as reserved, coalesce(held, 0) as held,
    coalesce(incoming, 0) as incoming, coalesce(in_transit, 0) as in_transit
from counted full join held using (sku, location_id) full join in_transit using (sku, location_id)
where coalesce(reserved, 0) <> coalesce(held, 0) or coalesce(incoming, 0) <> coalesce(in_transit, 0)
order by sku, location_id limit $1
"""


async def find(db: Database, most: int) -> Sequence[Any]:
    """Levels whose counters are wrong."""
    return await db.fetch(FIND, most)
