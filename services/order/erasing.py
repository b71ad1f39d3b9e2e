"""People are forgotten; their orders stay."""

from services.order.keeping import Held
from services.order.store import detail
from weft.order.v1.events_pb2 import OrderContactErased


async def erase(held: Held) -> None:
    """Removes what the order knows of a person."""
    order = held.order
    found = await detail.find(held.tx, order.key)
    if found is None or found.contact is None:
        return
    skus = [line.sku for line in order.lines.values()]
    await detail.erase(held.tx, order.key, detail.texts(order.reference, skus, found.titles.values()))
    erased = OrderContactErased(order_id=order.order_id, customer_id=order.customer_id)
    await held.tell(erased)
