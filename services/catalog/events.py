"""What the catalog takes over from other services: how much of a sku can be had."""

from collections.abc import Sequence

from services.catalog.store import stock
from services.chassis.db import Tx
from services.chassis.inbox import Heard, Many


async def mirror_stock(heard: Sequence[Heard], tx: Tx) -> None:
    """Each level's revision decides: an event that comes late changes nothing."""
    events = [each.event for each in heard]
    levels = [stock.Level(each.sku, each.location_id, each.available, each.revision) for each in events]
    await stock.keep(tx, levels)


MIRRORING = Many(mirror_stock, mirror_stock.__qualname__)
