"""What can be sold now."""

from collections.abc import Sequence
from typing import Any

from services.chassis.db import Database

FOR_SALE = """
select s.sku, s.location_id, s.on_hand - s.reserved - s.threshold as available,
    greatest(0, s.on_hand - s.reserved - greatest(0, s.threshold)) as in_stock
from stock s join location l using (location_id)
where s.sku = any($1::text[]) and l.for_sale and s.on_hand - s.reserved - s.threshold > 0
order by l.priority, s.location_id
"""


async def for_sale(db: Database, skus: Sequence[str]) -> Sequence[Any]:
    """Levels with something to sell, by priority."""
    return await db.fetch(FOR_SALE, list(skus))
