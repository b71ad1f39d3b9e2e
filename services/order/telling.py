"""What order announces, out of what an order is."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.order.domain.order import Line, Order, Part
from services.order.domain.states import OrderState, RefundState, ReturnState, ShipmentState
from weft.money.v1.money_pb2 import Money
from weft.order.v1 import events_pb2 as events, resource_pb2 as pb
from weft.order.v1.event_line_pb2 import EventLine


def money(order: Order, minor: int) -> Money:
    return Money(amount_minor=minor, currency=order.currency)


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def state_pb(state: OrderState) -> "pb.OrderState.ValueType":
    return pb.OrderState.Value(f"ORDER_STATE_{state}")


def units_pb(units: Mapping[str, int]) -> list[pb.LineUnits]:
    return [pb.LineUnits(line_id=line_id, units=count) for line_id, count in units.items()]


def line(of: Line, units: int, net: int, tax: int) -> EventLine:
    """Some units of a line."""
    return EventLine(
        line_id=of.line_id, sku=of.sku, units=units, net_minor=net, tax_minor=tax, tax_rate=of.tax_rate
    )


def lines(order: Order, units: Mapping[str, int]) -> list[EventLine]:
    """Units without what they cost."""
    return [line(order.lines[line_id], count, 0, 0) for line_id, count in units.items()]


def whole(order: Order) -> list[EventLine]:
    return [line(each, each.units, each.net, each.tax) for each in order.lines.values()]


def rest(order: Order) -> list[EventLine]:
    """What was not refunded yet."""
    return [
        line(each, each.units - each.refunded, each.net - each.refunded_net, each.tax - each.refunded_tax)
        for each in order.lines.values()
        if each.units > each.refunded
    ]


def parts(taken: Iterable[Part]) -> list[EventLine]:
    return [line(part.line, part.units, part.net, part.tax) for part in taken]


def status(order: Order, to: OrderState, reason: str = "") -> events.OrderStatusUpdated:
    """Raises IllegalTransition."""
    order.require(to)
    moved = events.OrderStatusUpdated(
        order_id=order.order_id, customer_id=order.customer_id, to=state_pb(to), reason=reason
    )
    setattr(moved, "from", state_pb(order.state))
    return moved


def confirmed(order: Order, at: datetime) -> events.OrderConfirmed:
    return events.OrderConfirmed(
        order_id=order.order_id,
        customer_id=order.customer_id,
        currency=order.currency,
        lines=whole(order),
        net_total=money(order, order.net),
        tax_total=money(order, order.tax),
        gross_total=money(order, order.gross),
        effective_time=stamp(at),
        imported=order.imported,
        country=order.country,
    )


def paid(order: Order, intent_id: str, authorised: int, captured: int) -> events.OrderPaymentUpdated:
    return events.OrderPaymentUpdated(
        order_id=order.order_id,
        customer_id=order.customer_id,
        intent_id=intent_id,
        authorised=money(order, authorised),
        captured=money(order, captured),
    )


def shipment(
    order: Order, shipment_id: str, state: ShipmentState, reason: str = ""
) -> events.OrderShipmentUpdated:
    return events.OrderShipmentUpdated(
        order_id=order.order_id,
        customer_id=order.customer_id,
        shipment_id=shipment_id,
        state=pb.ShipmentState.Value(f"SHIPMENT_STATE_{state}"),
        reason=reason,
    )


def return_(order: Order, return_id: str, state: ReturnState, reason: str = "") -> events.OrderReturnUpdated:
    return events.OrderReturnUpdated(
        order_id=order.order_id,
        customer_id=order.customer_id,
        return_id=return_id,
        state=pb.ReturnState.Value(f"RETURN_STATE_{state}"),
        reason=reason,
    )


def refund_wanted(
    order: Order, refund_id: str, taken: Sequence[Part], net: int, tax: int
) -> events.OrderRefundUpdated:
    """Without its reason, its return, and what is paid back."""
    return events.OrderRefundUpdated(
        order_id=order.order_id,
        customer_id=order.customer_id,
        refund_id=refund_id,
        state=pb.REFUND_STATE_REQUESTED,
        lines=parts(taken),
        net=money(order, net),
        tax=money(order, tax),
        gross=money(order, net + tax),
    )


def refund_failed(order: Order, refund_id: str, reason: str) -> events.OrderRefundUpdated:
    return events.OrderRefundUpdated(
        order_id=order.order_id,
        customer_id=order.customer_id,
        refund_id=refund_id,
        state=pb.RefundState.Value(f"REFUND_STATE_{RefundState.FAILED}"),
        reason=reason,
    )


def refunded(order: Order, refund_id: str, at: datetime) -> events.OrderRefunded:
    """Of a refund that was asked for."""
    refund = order.refunds[refund_id]
    return events.OrderRefunded(
        order_id=order.order_id,
        customer_id=order.customer_id,
        refund_id=refund_id,
        currency=order.currency,
        lines=[line(order.lines[of], units, net, tax) for of, (units, net, tax) in refund.lines.items()],
        net=money(order, refund.net),
        tax=money(order, refund.tax),
        gross=money(order, refund.gross),
        paid_back=money(order, refund.paid_back),
        reason=refund.reason,
        effective_time=stamp(at),
        country=order.country,
    )
