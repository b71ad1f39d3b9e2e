"""The list of orders as a projection of their events: it can be made anew while it is in use."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.events import Envelope
from services.chassis.projections import Projection
from services.order.domain.states import OrderState
from services.order.folding import order_state
from services.order.store import summary
from services.order.store.summary import Changed
from weft.order.v1 import events_pb2 as events

Rows = dict[UUID, list[Any]]
STATE, REFUNDED, UPDATED = 5, 8, 11  # Places in a row.


async def take(told: Sequence[tuple[Any, Envelope]], tx: Any) -> None:
    """Takes the events of a transaction in, by one statement for the new orders and one for the others."""
    new: Rows = {}
    changed: dict[UUID, Changed] = {}
    for event, envelope in told:
        if isinstance(event, events.OrderCreated):
            new[UUID(event.order_id)] = _row(event, envelope)
        elif seen := SEEN.get(type(event)):
            change = Changed(envelope.at)
            seen(change, event)
            _note(new, changed, UUID(event.order_id), change)
    await summary.add(tx, list(new.values()))
    await summary.change(tx, changed)


def _note(new: Rows, changed: dict[UUID, Changed], order_id: UUID, change: Changed) -> None:
    if row := new.get(order_id):
        row[STATE] = change.state or row[STATE]
        row[REFUNDED] += change.refunded
        row[UPDATED] = change.at
        return
    before = changed.setdefault(order_id, change)
    if before is not change:
        before.state = change.state or before.state
        before.refunded += change.refunded
        before.at = change.at


def _row(event: events.OrderCreated, envelope: Envelope) -> list[Any]:
    """With summary.COLUMNS."""
    return [
        UUID(event.order_id),
        UUID(event.customer_id) if event.customer_id else None,
        event.reference,
        event.currency,
        event.country,
        OrderState.PENDING.value,
        len(event.lines),
        event.gross_total.amount_minor,
        0,
        event.imported,
        event.effective_time.ToDatetime(tzinfo=envelope.at.tzinfo),
        envelope.at,
    ]


def _status(change: Changed, event: events.OrderStatusUpdated) -> None:
    change.state = order_state(event.to).value


def _confirmed(change: Changed, event: events.OrderConfirmed) -> None:
    change.state = OrderState.CONFIRMED.value


def _cancelled(change: Changed, event: events.OrderCancelled) -> None:
    change.state = OrderState.CANCELLED.value


def _completed(change: Changed, event: events.OrderCompleted) -> None:
    change.state = OrderState.COMPLETED.value


def _refunded(change: Changed, event: events.OrderRefunded) -> None:
    change.refunded = event.gross.amount_minor


def _touched(change: Changed, event: Message) -> None:
    """Something of it changed that lists do not show."""


SEEN: dict[type[Message], Callable[[Changed, Any], None]] = {
    events.OrderStatusUpdated: _status,
    events.OrderConfirmed: _confirmed,
    events.OrderCancelled: _cancelled,
    events.OrderCompleted: _completed,
    events.OrderRefunded: _refunded,
    events.OrderPaymentUpdated: _touched,
    events.OrderShipped: _touched,
    events.OrderReturned: _touched,
}
SUMMARIES = Projection(
    name="order_summary", tables=["order_summary"], types=[events.OrderCreated, *SEEN], many=take
)
