"""Takes history over: each row by itself, a batch of them in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from google.protobuf.message import Message

from services.chassis import event_store
from services.chassis.clock import Clock, uuid7
from services.chassis.db import Connection, Database
from services.chassis.errors import Refusal
from services.chassis.events import announcement, emit
from services.chassis.money import Money, NotAnAmount, decimal
from services.chassis.rpc import Malformed, check
from services.order import keeping, telling
from services.order.domain import amounts
from services.order.domain.order import Order
from services.order.domain.refusals import (
    BadTaxRate,
    LineTwice,
    NegativePrice,
    NothingCredited,
    OrderIdReused,
    OrderTooLarge,
    RefundIdReused,
    UnknownOrder,
)
from services.order.domain.states import OPEN, OrderState
from services.order.folding import fold
from services.order.keeping import Held
from services.order.placing import CREATED_BYTES_MAX
from services.order.sealing import Sealing
from services.order.store import detail
from services.order.view import SUMMARIES
from weft.money.v1.money_pb2 import Money as MoneyPb
from weft.order.v1 import events_pb2 as events, import_pb2 as pb
from weft.order.v1.event_line_pb2 import EventLine

RETURNED = "RETURNED"
RATE_MAX = Decimal(100)  # Percent; no country takes as much as it taxes.


@dataclass(frozen=True)
class Refused:
    """Why a row was not taken."""

    id: str
    reason: str
    field: str
    message: str


@dataclass
class _Batch:
    """What rows of one transaction come to; nothing of it is written before the end."""

    held: dict[str, Held]
    known: dict[UUID, bytes]  # Marks of orders and refunds that are there, by id.
    messages: dict[str, list[Message]] = field(default_factory=dict)
    details: list[detail.Made] = field(default_factory=list)
    refunds: dict[UUID, bytes] = field(default_factory=dict)
    credits: list[events.OrderRefunded] = field(default_factory=list)


class Importer:
    def __init__(self, db: Database, clock: Clock, sealing: Sealing) -> None:
        self._db, self._clock, self._sealing = db, clock, sealing

    async def take(self, rows: Sequence[pb.ImportOrdersRequest]) -> list[Refused | bool]:
        """Of each row in its order: why it was refused, or whether it is new."""
        checked = [_checked(row) for row in rows]
        async with self._db.fast() as tx:
            batch = await self._begun(tx, [row for row in checked if not isinstance(row, Refused)])
            outcomes = [row if isinstance(row, Refused) else self._take(batch, row) for row in checked]
            await self._write(tx, batch)
        return outcomes

    async def _begun(self, tx: Connection, rows: Sequence[pb.ImportedOrder | pb.ImportedRefund]) -> _Batch:
        orders = [row.order_id for row in rows if row.order_id]
        refunds = [UUID(row.refund_id) for row in rows if isinstance(row, pb.ImportedRefund)]
        held = await keeping.hold_all(tx, orders)
        known = await detail.macs(tx, [UUID(order_id) for order_id in orders])
        return _Batch(held, known | await detail.refund_macs(tx, refunds))

    def _take(self, batch: _Batch, row: pb.ImportedOrder | pb.ImportedRefund) -> Refused | bool:
        try:
            if isinstance(row, pb.ImportedOrder):
                return self._order(batch, row)
            return self._refund(batch, row)
        except Refusal as refusal:
            row_id = row.order_id if isinstance(row, pb.ImportedOrder) else row.refund_id
            return Refused(row_id, refusal.reason(), refusal.facts.get("field", ""), str(refusal))

    def _order(self, batch: _Batch, row: pb.ImportedOrder) -> bool:
        order_id, mac = UUID(row.order_id), self._sealing.mac(row)
        if order_id in batch.known:
            if batch.known[order_id] != mac:
                raise OrderIdReused(order_id=row.order_id)
            return False
        held = Held(None, Order(row.order_id), 0)  # type: ignore[arg-type] # It is written with all others.
        created = _created(row)
        if created.ByteSize() > CREATED_BYTES_MAX:
            raise OrderTooLarge(order_id=row.order_id)
        self._note(batch, held, created)
        confirmed = telling.confirmed(held.order, held.order.created_at or self._clock.now())
        self._note(batch, held, confirmed)
        completed = events.OrderCompleted(
            order_id=row.order_id,
            customer_id=row.customer_id,
            effective_time=row.effective_time,
            imported=True,
        )
        self._note(batch, held, completed)
        batch.held[row.order_id], batch.known[order_id] = held, mac
        batch.details.append(self._detail(row, mac))
        return True

    def _detail(self, row: pb.ImportedOrder, mac: bytes) -> detail.Made:
        titles = {line.line_id: line.title for line in row.lines if line.title}
        return detail.Made(
            order_id=UUID(row.order_id),
            request_mac=mac,
            customer_id=UUID(row.customer_id) if row.customer_id else None,
            created_at=row.effective_time.ToDatetime(tzinfo=self._clock.now().tzinfo),
            titles=titles,
            words=detail.texts(row.reference, [line.sku for line in row.lines], titles.values()),
        )

    def _refund(self, batch: _Batch, row: pb.ImportedRefund) -> bool:
        refund_id, mac = UUID(row.refund_id), self._sealing.mac(row)
        if refund_id in batch.known:
            if batch.known[refund_id] != mac:
                raise RefundIdReused(refund_id=row.refund_id)
            return False
        if row.order_id:
            held = batch.held.get(row.order_id)
            if held is None:
                raise UnknownOrder(order_id=row.order_id)
            self._note(batch, held, _refunded(held.order, row))
        else:
            batch.credits.append(_credit(row))
        batch.known[refund_id] = batch.refunds[refund_id] = mac
        return True

    def _note(self, batch: _Batch, held: Held, message: Message) -> None:
        """The order is so from here on, for the rows that follow."""
        now = self._clock.now()
        fold(held.order, message, announcement(message, uuid7(now), now))
        batch.messages.setdefault(held.order.order_id, []).append(message)

    async def _write(self, tx: Connection, batch: _Batch) -> None:
        changes = {key: (batch.held[key].version, messages) for key, messages in batch.messages.items()}
        written = await event_store.append_all(tx, keeping.KIND, changes)
        messages = [message for messages in batch.messages.values() for message in messages]
        await SUMMARIES.apply_all(list(zip(messages, written, strict=True)), tx)
        await detail.make_many(tx, batch.details)
        await detail.refunds(tx, batch.refunds)
        await emit(tx, *batch.credits)


def _checked(row: pb.ImportOrdersRequest) -> pb.ImportedOrder | pb.ImportedRefund | Refused:
    """The row if it keeps the contract's rules."""
    kind = row.WhichOneof("row")
    if kind is None:
        return Refused("", "MALFORMED", "row", "A row is an order or a refund.")
    content: pb.ImportedOrder | pb.ImportedRefund = getattr(row, kind)
    row_id = row.order.order_id if kind == "order" else row.refund.refund_id
    try:
        check(content)
    except Malformed as malformed:
        return Refused(row_id, malformed.reason(), malformed.violations()[0].field, str(malformed))
    return content


def _created(row: pb.ImportedOrder) -> events.OrderCreated:
    lines = _priced(row.lines, row.currency)
    net, tax = _sum(lines, row.currency)
    return events.OrderCreated(
        order_id=row.order_id,
        customer_id=row.customer_id,
        currency=row.currency,
        net_total=_money(net),
        tax_total=_money(tax),
        gross_total=_money(net + tax),
        lines=lines,
        country=row.country,
        reference=row.reference,
        auto_capture=True,
        effective_time=row.effective_time,
        imported=True,
    )


def _priced(rows: Sequence[pb.ImportedLine], currency: str) -> list[EventLine]:
    """Raises LineTwice, NegativePrice, BadTaxRate, and what money raises."""
    seen = set[str]()
    nets: list[tuple[int, Decimal]] = []
    for row in rows:
        if row.line_id in seen:
            raise LineTwice(line_id=row.line_id, field="lines")
        seen.add(row.line_id)
        Money.zero(currency) + Money.zero(row.unit_price.currency)  # Of one currency.
        if decimal(row.unit_price.amount) < 0:
            raise NegativePrice(amount=row.unit_price.amount, line_id=row.line_id, field="lines")
        nets.append((amounts.net(row.unit_price.amount, row.units, currency), _rate(row.tax_rate)))
    return [
        EventLine(
            line_id=row.line_id,
            sku=row.sku,
            units=row.units,
            net_minor=net,
            tax_minor=tax,
            tax_rate=row.tax_rate,
            unit_price=row.unit_price.amount,
            base_minor=net,
            shippable=True,
        )
        for row, (net, _), tax in zip(rows, nets, amounts.taxes(nets), strict=True)
    ]


def _rate(text: str) -> Decimal:
    try:
        rate = decimal(text or "0")
    except NotAnAmount:
        raise BadTaxRate(tax_rate=text, field="tax_rate") from None
    if not 0 <= rate <= RATE_MAX:
        raise BadTaxRate(tax_rate=text, field="tax_rate")
    return rate


def _sum(lines: Sequence[EventLine], currency: str) -> tuple[Money, Money]:
    net = Money.sum((Money(line.net_minor, currency) for line in lines), currency)
    return net, Money.sum((Money(line.tax_minor, currency) for line in lines), currency)


def _money(amount: Money) -> MoneyPb:
    return MoneyPb(amount_minor=amount.minor, currency=amount.currency)


def _refunded(order: Order, row: pb.ImportedRefund) -> events.OrderRefunded:
    """Raises what Order.to_refund raises, and IllegalTransition."""
    order.require_in(OPEN | {OrderState.RETURNED}, "refunded")
    amount = None
    if row.HasField("amount"):
        amount = (order.money(0) + Money(row.amount.amount_minor, row.amount.currency)).minor
    units = order.chosen([(line.line_id, line.units) for line in row.lines])
    parts, net, tax = order.to_refund(units, amount)
    return events.OrderRefunded(
        order_id=order.order_id,
        customer_id=order.customer_id,
        refund_id=row.refund_id,
        currency=order.currency,
        lines=telling.parts(parts),
        net=telling.money(order, net),
        tax=telling.money(order, tax),
        gross=telling.money(order, net + tax),
        paid_back=telling.money(order, net + tax),
        reason=row.reason or RETURNED,
        effective_time=row.effective_time,
        imported=True,
        country=order.country,
    )


def _credit(row: pb.ImportedRefund) -> events.OrderRefunded:
    """Of an order that nobody knows here. Raises NothingCredited, and what `_priced` raises."""
    if not row.credited or not row.currency:
        raise NothingCredited(field="credited")
    lines = _priced(row.credited, row.currency)
    net, tax = _sum(lines, row.currency)
    return events.OrderRefunded(
        order_id=row.refund_id,
        customer_id=row.customer_id,
        refund_id=row.refund_id,
        currency=row.currency,
        lines=lines,
        net=_money(net),
        tax=_money(tax),
        gross=_money(net + tax),
        paid_back=_money(net + tax),
        reason=row.reason or RETURNED,
        effective_time=row.effective_time,
        imported=True,
        country=row.country,
    )
