"""Goods that come back and pay for the order that replaces them."""

from services.chassis.db import AnyTx
from services.order import keeping, telling
from services.order.domain.ids import derived
from services.order.domain.order import Return
from services.order.domain.refusals import ReturnNotExchangeable
from services.order.domain.states import ReturnState
from services.order.keeping import Held
from services.order.refunding import Refunds
from weft.order.v1 import events_pb2 as events
from weft.order.v1.order_pb2 import CreateOrderRequest

SETTLED = (ReturnState.RECEIVED, ReturnState.REFUNDED)


class Exchanges:
    """Lends the value of a return to another order, and takes it back."""

    def __init__(self, refunds: Refunds) -> None:
        self._refunds = refunds

    async def pay(self, tx: AnyTx, request: CreateOrderRequest, made: events.OrderCreated) -> None:
        """Says in `made` what the return pays, and in the return that it does.

        Raises UnknownOrder, UnknownReturn, ReturnNotExchangeable.
        """
        wanted = request.exchange
        held = await keeping.hold(tx, wanted.order_id, request.customer_id)
        order, back = held.order, held.order.return_(wanted.return_id)
        if (order.currency, order.customer_id) != (made.currency, made.customer_id):
            raise ReturnNotExchangeable(return_id=back.return_id, why="customer or currency is another")
        credit = order.to_exchange(back, made.gross_total.amount_minor)
        made.exchange_return_id, made.exchange_order_id = back.return_id, order.order_id
        made.exchange_intent_id = order.intent_id or order.credit_intent_id
        made.credit.CopyFrom(telling.money(order, credit))
        await held.tell(_lent(held, back, credit, made.order_id))

    async def given_up(self, cancelled: Held) -> None:
        """The order that was paid for is no more: the return is worth its value again."""
        if not cancelled.order.exchange_return_id:
            return
        held = await keeping.hold(cancelled.tx, cancelled.order.exchange_order_id)
        back = held.order.return_(cancelled.order.exchange_return_id)
        if back.exchange_order_id != cancelled.order.order_id:
            return
        credit, settled = back.exchanged, back.state in SETTLED
        await held.tell(_lent(held, back, 0, ""))
        if settled and credit:
            refund_id = derived(cancelled.order.order_id, "exchange given up")
            await self._refunds.begin(held, refund_id, ((), 0, 0), credit, reason="EXCHANGE_GIVEN_UP")


def _lent(held: Held, back: Return, credit: int, order_id: str) -> events.OrderReturnUpdated:
    lent = telling.return_(held.order, back.return_id, back.state)
    lent.exchanged.CopyFrom(telling.money(held.order, credit))
    lent.exchange_order_id = order_id
    return lent
