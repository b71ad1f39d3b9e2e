"""Orders out of their events and back: locked, decided upon, appended to, shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from services.chassis import event_store
from services.chassis.db import AnyTx, Database
from services.chassis.events import envelope
from services.order.domain.order import Order
from services.order.domain.refusals import UnknownOrder
from services.order.folding import fold
from services.order.view import SUMMARIES

KIND = "order"


@dataclass
class Held:
    """An order that nobody else changes until `tx` ends."""

    tx: AnyTx
    order: Order
    version: int

    async def tell(self, *messages: Message) -> Order:
        """Makes it so: the events, the list, and the order at hand."""
        changes = {self.order.order_id: (self.version, messages)}
        written = await event_store.append_all(self.tx, KIND, changes)
        told = list(zip(messages, written, strict=True))
        await SUMMARIES.apply_all(told, self.tx)
        for message, event in told:
            fold(self.order, message, event)
        self.version += len(messages)
        return self.order


async def hold(tx: AnyTx, order_id: UUID | str, customer_id: str = "") -> Held:
    """Locks and loads. Raises UnknownOrder, also for one that is not that customer's."""
    await event_store.lock(tx, KIND, [str(order_id)])
    order, version = await _load(tx, str(order_id))
    _require(order, version, customer_id)
    return Held(tx, order, version)


async def hold_all(tx: AnyTx, ids: Sequence[str]) -> dict[str, Held]:
    """Those that are there, by id."""
    await event_store.lock(tx, KIND, ids)
    loaded = {order_id: await _load(tx, order_id) for order_id in dict.fromkeys(ids)}
    return {key: Held(tx, order, version) for key, (order, version) in loaded.items() if version}


async def new(tx: AnyTx, order_id: UUID | str) -> Held:
    """One that is about to be made."""
    await event_store.lock(tx, KIND, [str(order_id)])
    return Held(tx, Order(str(order_id)), 0)


async def look(db: Database, order_id: UUID | str, customer_id: str = "") -> tuple[Order, int]:
    """As it stands, and its version. Raises UnknownOrder."""
    order, version = await _load(db, str(order_id))
    _require(order, version, customer_id)
    return order, version


async def _load(source: Database | AnyTx, order_id: str) -> tuple[Order, int]:
    return await event_store.load(source, KIND, order_id, fold, Order(order_id))


def _require(order: Order, version: int, customer_id: str) -> None:
    if not version or (customer_id and order.customer_id != customer_id):
        raise UnknownOrder(order_id=order.order_id)


def decoded(rows: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Events of the table, read."""
    return [(event_store.decode(each), each) for each in map(envelope, rows)]
