"""What the catalog takes over from other services: how much of a sku can be had."""

from services.catalog.store import stock
from services.chassis.db import Tx
from services.chassis.events import Envelope
from weft.inventory.v1.events_pb2 import StockUpdated


async def mirror_stock(event: StockUpdated, envelope: Envelope, tx: Tx) -> None:
    """The level's revision decides: an event that comes late changes nothing."""
    await stock.keep(tx, event.sku, event.location_id, event.available, event.revision)
