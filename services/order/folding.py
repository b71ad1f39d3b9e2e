"""How an order's events change it: the only place that knows both the contract and the aggregate."""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import Message

from services.chassis.events import Envelope
from services.order.domain.order import Line, Order, Refund, Return, Shipment
from services.order.domain.states import OrderState, RefundState, ReturnState, ShipmentState
from weft.order.v1 import events_pb2 as events, resource_pb2 as pb
from weft.order.v1.event_line_pb2 import EventLine


def fold(order: Order, event: Message, envelope: Envelope) -> Order:
    """The order after the event; it is changed in place."""
    FOLDS[type(event)](order, event, envelope)
    order.updated_at = envelope.at
    return order


def order_state(value: int) -> OrderState:
    return OrderState(pb.OrderState.Name(value).removeprefix("ORDER_STATE_"))  # type: ignore[arg-type]


def _created(order: Order, event: events.OrderCreated, envelope: Envelope) -> None:
    order.customer_id, order.currency, order.country = event.customer_id, event.currency, event.country
    order.reference, order.cart_id, order.quote_id = event.reference, event.cart_id, event.quote_id
    order.coupon_codes, order.auto_capture = tuple(event.coupon_codes), event.auto_capture
    order.exchange_return_id, order.credit = event.exchange_return_id, event.credit.amount_minor
    order.exchange_order_id, order.credit_intent_id = event.exchange_order_id, event.exchange_intent_id
    order.imported = event.imported
    order.created_at = event.effective_time.ToDatetime(tzinfo=envelope.at.tzinfo)
    order.lines = {line.line_id: _line(line) for line in event.lines}


def _line(line: EventLine) -> Line:
    return Line(
        line_id=line.line_id,
        sku=line.sku,
        units=line.units,
        unit_price=line.unit_price,
        base=line.base_minor,
        discount=line.discount_minor,
        net=line.net_minor,
        tax=line.tax_minor,
        tax_rate=line.tax_rate,
        tax_category=line.tax_category,
        shippable=line.shippable,
    )


def _status(order: Order, event: events.OrderStatusUpdated, envelope: Envelope) -> None:
    order.state = order_state(event.to)
    order.reason = event.reason or order.reason


def _confirmed(order: Order, event: events.OrderConfirmed, envelope: Envelope) -> None:
    order.state, order.confirmed_at = OrderState.CONFIRMED, envelope.at
    if event.imported:
        order.captured = order.gross
        for line in order.lines.values():
            line.shipped = line.units


def _paid(order: Order, event: events.OrderPaymentUpdated, envelope: Envelope) -> None:
    order.intent_id = event.intent_id
    order.authorised, order.captured = event.authorised.amount_minor, event.captured.amount_minor


def _shipment(order: Order, event: events.OrderShipmentUpdated, envelope: Envelope) -> None:
    state = ShipmentState(pb.ShipmentState.Name(event.state).removeprefix("SHIPMENT_STATE_"))
    if state is ShipmentState.PENDING:
        units = {line.line_id: line.units for line in event.lines}
        about = (event.amount.amount_minor, event.carrier, event.tracking_number, envelope.at)
        order.shipments[event.shipment_id] = Shipment(event.shipment_id, state, units, *about)
        _add(order, "shipping", units.items())
        return
    shipment = order.shipments[event.shipment_id]
    if state is ShipmentState.REFUSED:
        _add(order, "shipping", shipment.units.items(), -1)
    shipment.state, shipment.reason = state, event.reason


def _shipped(order: Order, event: events.OrderShipped, envelope: Envelope) -> None:
    units = {line.line_id: line.units for line in event.lines}
    if shipment := order.shipments.get(event.shipment_id):
        _add(order, "shipping", units.items(), -1)
        shipment.state = ShipmentState.SHIPPED
    else:
        about = (0, event.carrier, event.tracking_number, envelope.at)
        made = Shipment(event.shipment_id, ShipmentState.SHIPPED, units, *about)
        order.shipments[event.shipment_id] = made
    _add(order, "shipped", units.items())


def _return(order: Order, event: events.OrderReturnUpdated, envelope: Envelope) -> None:
    state = ReturnState(pb.ReturnState.Name(event.state).removeprefix("RETURN_STATE_"))
    units = {line.line_id: line.units for line in event.lines}
    back = order.returns.get(event.return_id)
    if back is None:
        order.returns[event.return_id] = Return(event.return_id, state, units, event.reason, envelope.at)
        _add(order, "returning", units.items())
        return
    ended = state in (ReturnState.REFUSED, ReturnState.WITHDRAWN, ReturnState.RECEIVED)
    if ended and back.state is not state:
        _add(order, "returning", back.units.items(), -1)
    back.state, back.units = state, units or back.units
    back.reason = event.reason or back.reason
    if event.HasField("value"):
        back.value = event.value.amount_minor
    if event.HasField("exchanged"):
        back.exchanged, back.exchange_order_id = event.exchanged.amount_minor, event.exchange_order_id


def _returned(order: Order, event: events.OrderReturned, envelope: Envelope) -> None:
    _add(order, "returned", ((line.line_id, line.units) for line in event.lines))


def _refund(order: Order, event: events.OrderRefundUpdated, envelope: Envelope) -> None:
    if event.state == pb.REFUND_STATE_FAILED:
        failed = order.refunds[event.refund_id]
        failed.state = RefundState.FAILED
        _take_back(order, failed, -1)
    else:
        _begin_refund(order, event, RefundState.REQUESTED, envelope)


def _refunded(order: Order, event: events.OrderRefunded, envelope: Envelope) -> None:
    if refund := order.refunds.get(event.refund_id):
        refund.state = RefundState.REFUNDED
    else:
        _begin_refund(order, event, RefundState.REFUNDED, envelope)


def _begin_refund(order: Order, event: Any, state: RefundState, envelope: Envelope) -> None:
    refund = Refund(
        refund_id=event.refund_id,
        state=state,
        lines={line.line_id: (line.units, line.net_minor, line.tax_minor) for line in event.lines},
        net=event.net.amount_minor,
        tax=event.tax.amount_minor,
        reason=event.reason,
        return_id=getattr(event, "return_id", ""),
        created_at=envelope.at,
        paid_back=event.paid_back.amount_minor,
    )
    order.refunds[event.refund_id] = refund
    _take_back(order, refund, 1)


def _take_back(order: Order, refund: Refund, sign: int) -> None:
    for line_id, (units, net, tax) in refund.lines.items():
        line = order.lines[line_id]
        line.refunded += sign * units
        line.refunded_net += sign * net
        line.refunded_tax += sign * tax


def _cancelled(order: Order, event: events.OrderCancelled, envelope: Envelope) -> None:
    order.state, order.reason, order.failed_step = OrderState.CANCELLED, event.reason, event.step


def _completed(order: Order, event: events.OrderCompleted, envelope: Envelope) -> None:
    order.state = OrderState.COMPLETED


def _fulfilment_asked(order: Order, event: events.OrderFulfilmentRequested, envelope: Envelope) -> None:
    order.fulfil_by = event.expire_time.ToDatetime(tzinfo=envelope.at.tzinfo)


def _fulfilment_told(order: Order, event: events.OrderFulfilmentReported, envelope: Envelope) -> None:
    order.fulfilment = event.refusal


def _nothing(order: Order, event: Message, envelope: Envelope) -> None:
    """It says nothing about the order itself."""


def _add(order: Order, what: str, units: Iterable[tuple[str, int]], sign: int = 1) -> None:
    for line_id, count in units:
        line = order.lines[line_id]
        setattr(line, what, getattr(line, what) + sign * count)


FOLDS: dict[type[Message], Callable[[Order, Any, Envelope], None]] = {
    events.OrderCreated: _created,
    events.OrderStatusUpdated: _status,
    events.OrderConfirmed: _confirmed,
    events.OrderPaymentUpdated: _paid,
    events.OrderShipmentUpdated: _shipment,
    events.OrderShipped: _shipped,
    events.OrderReturnUpdated: _return,
    events.OrderReturned: _returned,
    events.OrderRefundUpdated: _refund,
    events.OrderRefunded: _refunded,
    events.OrderCancelled: _cancelled,
    events.OrderCompleted: _completed,
    events.OrderFulfilmentRequested: _fulfilment_asked,
    events.OrderFulfilmentReported: _fulfilment_told,
    events.OrderContactErased: _nothing,
}
