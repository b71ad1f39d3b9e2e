"""Orders as the contract has them."""

from collections.abc import Sequence
from typing import Any

from services.chassis.masks import etag
from services.chassis.saga_store import Row
from services.order.domain.order import Line, Order, Refund, Return, Shipment
from services.order.domain.states import OrderState
from services.order.store.detail import Found
from services.order.telling import money, stamp, state_pb, units_pb
from weft.money.v1.money_pb2 import Money, UnitPrice
from weft.order.v1 import process_pb2 as processes, resource_pb2 as pb

NOTHING = Found(b"", {}, None, None, "")
CANCELLED = (OrderState.CANCELLING, OrderState.CANCELLED)


def order(of: Order, version: int, found: Found | None, message: str = "") -> pb.Order:
    known = found or NOTHING
    made = pb.Order(
        order_id=of.order_id,
        customer_id=of.customer_id,
        reference=of.reference,
        cart_id=of.cart_id,
        currency=of.currency,
        country=of.country,
        state=state_pb(of.state),
        lines=[line(of, each, known.titles.get(each.line_id, "")) for each in of.lines.values()],
        coupon_codes=of.coupon_codes,
        totals=_totals(of),
        paid=_paid(of),
        payment_intent_id=of.intent_id,
        next_action_url=known.next_action_url,
        auto_capture=of.auto_capture,
        imported=of.imported,
        shipments=[shipment(of, each) for each in of.shipments.values()],
        returns=[return_(of, each) for each in of.returns.values()],
        refunds=[refund(of, each) for each in of.refunds.values()],
        etag=etag(version),
        exchange_return_id=of.exchange_return_id,
    )
    _when(made, of)
    if known.contact:
        made.contact.ParseFromString(known.contact)
    if of.state in CANCELLED:
        cancellation = pb.Cancellation(reason=of.reason, step=of.failed_step, message=message)
        made.cancellation.CopyFrom(cancellation)
    return made


def _when(made: pb.Order, of: Order) -> None:
    for field, at in (
        ("create_time", of.created_at),
        ("confirm_time", of.confirmed_at),
        ("update_time", of.updated_at),
    ):
        if at is not None:
            getattr(made, field).FromDatetime(at)


def _totals(of: Order) -> pb.Totals:
    lines = of.lines.values()
    return pb.Totals(
        subtotal=money(of, sum(each.base for each in lines)),
        discount=money(of, sum(each.discount for each in lines)),
        net=money(of, of.net),
        tax=money(of, of.tax),
        gross=money(of, of.gross),
    )


def _paid(of: Order) -> pb.Paid:
    return pb.Paid(
        authorised=money(of, of.authorised),
        captured=money(of, of.captured),
        refunded=money(of, of.paid_back),
        credit=money(of, of.credit),
    )


def line(of: Order, each: Line, title: str) -> pb.Line:
    return pb.Line(
        line_id=each.line_id,
        sku=each.sku,
        title=title,
        units=each.units,
        unit_price=UnitPrice(amount=each.unit_price, currency=of.currency),
        base=money(of, each.base),
        discount=money(of, each.discount),
        net=money(of, each.net),
        tax_rate=each.tax_rate,
        tax=money(of, each.tax),
        gross=money(of, each.gross),
        tax_category=each.tax_category,
        shippable=each.shippable,
        units_shipped=each.shipped,
        units_returned=each.returned,
        units_refunded=each.refunded,
    )


def shipment(of: Order, each: Shipment) -> pb.Shipment:
    return pb.Shipment(
        shipment_id=each.shipment_id,
        order_id=of.order_id,
        state=pb.ShipmentState.Value(f"SHIPMENT_STATE_{each.state}"),
        lines=units_pb(each.units),
        carrier=each.carrier,
        tracking_number=each.tracking_number,
        captured=money(of, each.amount) if each.amount else None,
        create_time=stamp(each.created_at),
        reason=each.reason,
    )


def return_(of: Order, each: Return) -> pb.Return:
    return pb.Return(
        return_id=each.return_id,
        order_id=of.order_id,
        state=pb.ReturnState.Value(f"RETURN_STATE_{each.state}"),
        lines=units_pb(each.units),
        reason=each.reason,
        value=money(of, each.value),
        exchanged=money(of, each.exchanged),
        exchange_order_id=each.exchange_order_id,
        create_time=stamp(each.created_at),
    )


def refund(of: Order, each: Refund) -> pb.Refund:
    return pb.Refund(
        refund_id=each.refund_id,
        order_id=of.order_id,
        state=pb.RefundState.Value(f"REFUND_STATE_{each.state}"),
        lines=units_pb({line_id: units for line_id, (units, _, _) in each.lines.items()}),
        net=money(of, each.net),
        tax=money(of, each.tax),
        gross=money(of, each.gross),
        reason=each.reason,
        create_time=stamp(each.created_at),
    )


def summaries(rows: Sequence[Any]) -> list[pb.OrderSummary]:
    return [_summary(row) for row in rows]


def _summary(row: Any) -> pb.OrderSummary:
    return pb.OrderSummary(
        order_id=str(row["order_id"]),
        customer_id=str(row["customer_id"] or ""),
        reference=row["reference"],
        country=row["country"],
        state=state_pb(row["state"]),
        lines=row["lines"],
        gross_total=Money(amount_minor=row["gross_minor"], currency=row["currency"]),
        refunded=Money(amount_minor=row["refunded_minor"], currency=row["currency"]),
        imported=row["imported"],
        create_time=stamp(row["created_at"]),
        update_time=stamp(row["updated_at"]),
    )


def process(row: Row, step: str) -> processes.OrderProcess:
    made = processes.OrderProcess(
        kind=row.kind,
        process_id=str(row.saga_id),
        order_id=row.subject,
        state=processes.ProcessState.Value(f"PROCESS_STATE_{row.state}"),
        step=step,
        attempts=row.attempts,
        reason=row.reason,
        create_time=stamp(row.created_at),
    )
    if row.due_at is not None:
        made.due_time.FromDatetime(row.due_at)
    return made
