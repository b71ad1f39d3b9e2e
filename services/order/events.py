"""What order does when others announce something: payments move, people are erased."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Tx
from services.chassis.events import Envelope
from services.chassis.inbox import Handler
from services.chassis.saga import Saga, Start, Step
from services.chassis.saga_runner import Sagas
from services.order import checkout, keeping, refunding, shipping, telling
from services.order.domain.ids import derived
from services.order.domain.refusals import UnknownOrder
from services.order.domain.states import GONE
from services.order.erasing import erase
from services.order.paying import Paying
from services.order.steps import CALL_S
from services.order.store import detail
from weft.identity.v1.events_pb2 import UserDeleted
from weft.payment.v1 import events_pb2 as payment

LATE = "late_payment"
LATE_S = 90 * 86_400.0  # It is tried for so long; then a person looks.
ERASED_AT_ONCE_MAX = 200  # Orders of one person that one transaction erases; the rest by the next.
PREFIX = "order:"


def late_payment(paying: Paying) -> Saga:
    """Money that comes for an order which is no more goes back."""

    async def void(run: Any) -> None:
        await paying.void(run.subject, derived(run.saga_id, "late"))

    return Saga(LATE, timeout_s=LATE_S, steps=[Step("void", void, timeout_s=CALL_S)])


class Payments:
    """Hears of payments for orders."""

    def __init__(self, sagas: Sagas, clock: Clock) -> None:
        self._sagas, self._clock = sagas, clock

    def consumers(self) -> Mapping[Any, Handler]:
        kinds = (
            payment.PaymentAuthorised,
            payment.PaymentCaptured,
            payment.PaymentFailed,
            payment.PaymentCancelled,
            payment.CaptureFailed,
            payment.PaymentRefunded,
            payment.RefundFailed,
        )
        return {kind: self._hearing(kind.__name__) for kind in kinds}

    def _hearing(self, name: str) -> Callable[[Any, Envelope, Tx], Any]:
        """A handler with a name of its own: consumers are known by it."""

        async def hear(event: Any, envelope: Envelope, tx: Tx) -> None:
            if event.reference.startswith(PREFIX):
                await self._moved(event, tx)

        hear.__qualname__ = f"hear_{name}"
        return hear

    async def _moved(self, event: Any, tx: Tx) -> None:
        """Processes first, the order after them: so do they when they record a step."""
        order_id = event.reference.removeprefix(PREFIX)
        for kind, saga_id in _waiting(event, order_id):
            await self._sagas.wake(tx, kind, UUID(saga_id))
        if not isinstance(event, payment.PaymentAuthorised | payment.PaymentCaptured):
            return
        try:
            held = await keeping.hold(tx, order_id)
        except UnknownOrder:
            return  # Another's reference only looks like ours.
        if held.order.state in GONE:
            await self._too_late(tx, event, order_id)
        elif isinstance(event, payment.PaymentCaptured):
            await _captured(held, event)

    async def _too_late(self, tx: Tx, event: Any, order_id: str) -> None:
        saga_id = UUID(getattr(event, "capture_id", "") or event.intent_id)
        await self._sagas.start(tx, Start(kind=LATE, saga_id=saga_id, data={}, subject=order_id))


async def _captured(held: keeping.Held, event: payment.PaymentCaptured) -> None:
    order, captured = held.order, event.captured.amount_minor
    if captured > order.captured and order.intent_id == event.intent_id:
        authorised = max(order.authorised, captured)
        await held.tell(telling.paid(order, event.intent_id, authorised, captured))


def _waiting(event: Any, order_id: str) -> list[tuple[str, str]]:
    """Processes that may have waited for it."""
    waiting = [(checkout.KIND, order_id)]
    if getattr(event, "refund_id", ""):
        waiting.append((refunding.KIND, event.refund_id))
    if getattr(event, "capture_id", ""):
        waiting.append((shipping.KIND, event.capture_id))
    return waiting


async def forget(event: UserDeleted, envelope: Envelope, tx: Tx) -> None:
    """What orders know of a person who is gone, goes."""
    while True:
        orders = await detail.of_customer(tx, UUID(event.user_id), ERASED_AT_ONCE_MAX)
        for order_id in orders:
            await erase(await keeping.hold(tx, order_id))
        if len(orders) < ERASED_AT_ONCE_MAX:
            return
