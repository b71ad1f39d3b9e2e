"""An order as its events tell it, and what may be done with it. Amounts are minor units of its currency."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.chassis.money import Money
from services.order.domain.amounts import share, split
from services.order.domain.refusals import (
    LineTwice,
    NotShippable,
    RefundExceedsCaptured,
    ReturnNotExchangeable,
    TooManyUnits,
    UnknownLine,
    UnknownReturn,
    UnknownShipment,
)
from services.order.domain.states import (
    ORDERS,
    RETURNABLE,
    SHIPPABLE,
    OrderState,
    RefundState,
    ReturnState,
    ShipmentState,
    require,
)

Units = Mapping[str, int]  # By line.


@dataclass
class Line:
    """What is ordered; amounts are for all its units."""

    line_id: str
    sku: str
    units: int
    unit_price: str
    base: int
    discount: int
    net: int
    tax: int
    tax_rate: str
    tax_category: str
    shippable: bool
    shipping: int = 0  # In shipments whose payment is being captured.
    shipped: int = 0
    returning: int = 0  # In returns that are not settled.
    returned: int = 0
    refunded: int = 0  # Units that refunds are for, also those that are on their way.
    refunded_net: int = 0
    refunded_tax: int = 0

    @property
    def gross(self) -> int:
        return self.net + self.tax


@dataclass
class Shipment:
    shipment_id: str
    state: ShipmentState
    units: dict[str, int]
    amount: int
    carrier: str
    tracking_number: str
    created_at: datetime
    reason: str = ""


@dataclass
class Return:
    return_id: str
    state: ReturnState
    units: dict[str, int]
    reason: str
    created_at: datetime
    value: int = 0
    exchanged: int = 0
    exchange_order_id: str = ""


@dataclass
class Refund:
    refund_id: str
    state: RefundState
    lines: dict[str, tuple[int, int, int]]  # Units, net and tax by line.
    net: int
    tax: int
    reason: str
    return_id: str
    created_at: datetime
    paid_back: int = 0

    @property
    def gross(self) -> int:
        return self.net + self.tax


@dataclass(frozen=True)
class Part:
    """Some units of a line, and what they cost."""

    line: Line
    units: int
    net: int
    tax: int

    @property
    def gross(self) -> int:
        return self.net + self.tax


@dataclass
class Order:
    """Made by its first event."""

    order_id: str
    customer_id: str = ""
    currency: str = ""
    country: str = ""
    reference: str = ""
    cart_id: str = ""
    quote_id: str = ""
    state: OrderState = OrderState.PENDING
    lines: dict[str, Line] = field(default_factory=dict)
    coupon_codes: Sequence[str] = ()
    auto_capture: bool = True
    imported: bool = False
    exchange_return_id: str = ""
    exchange_order_id: str = ""
    credit: int = 0  # Paid by goods that came back to the order above, by this intent.
    credit_intent_id: str = ""
    intent_id: str = ""
    authorised: int = 0
    captured: int = 0
    created_at: datetime | None = None  # In business terms.
    updated_at: datetime | None = None
    confirmed_at: datetime | None = None
    reason: str = ""  # Why it was cancelled.
    failed_step: str = ""
    shipments: dict[str, Shipment] = field(default_factory=dict)
    returns: dict[str, Return] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    fulfilment: str | None = None  # The answer: empty is yes. None: none yet.
    fulfil_by: datetime | None = None  # None: nobody was asked.

    @property
    def key(self) -> UUID:
        return UUID(self.order_id)

    @property
    def net(self) -> int:
        return sum(line.net for line in self.lines.values())

    @property
    def tax(self) -> int:
        return sum(line.tax for line in self.lines.values())

    @property
    def gross(self) -> int:
        return self.net + self.tax

    @property
    def due(self) -> int:
        """What is to be paid in money."""
        return self.gross - self.credit

    @property
    def taken_back(self) -> list[Refund]:
        """Refunds that count: those that failed do not."""
        return [each for each in self.refunds.values() if each.state is not RefundState.FAILED]

    @property
    def refunded(self) -> int:
        return sum(each.gross for each in self.taken_back)

    @property
    def paid_back(self) -> int:
        """Money that went back, or is on its way."""
        return sum(each.paid_back for each in self.taken_back)

    @property
    def exchanged(self) -> int:
        """What was paid for goods that other orders replace: it pays for those."""
        return sum(each.exchanged for each in self.returns.values())

    @property
    def refundable(self) -> int:
        """What may still be paid back."""
        return self.captured + self.credit - self.paid_back - self.exchanged

    @property
    def shippable(self) -> list[Line]:
        return [line for line in self.lines.values() if line.shippable]

    @property
    def all_shipped(self) -> bool:
        return all(line.shipped == line.units for line in self.shippable)

    def require(self, wanted: OrderState) -> None:
        """Raises IllegalTransition unless it may go to `wanted`."""
        require(wanted in ORDERS[self.state], "order", self.order_id, self.state, wanted.lower())

    def require_in(self, states: Iterable[OrderState], wanted: str) -> None:
        """Raises IllegalTransition."""
        require(self.state in states, "order", self.order_id, self.state, wanted)

    def shipment(self, shipment_id: str) -> Shipment:
        """Raises UnknownShipment."""
        if shipment_id not in self.shipments:
            raise UnknownShipment(order_id=self.order_id, shipment_id=shipment_id)
        return self.shipments[shipment_id]

    def return_(self, return_id: str) -> Return:
        """Raises UnknownReturn."""
        if return_id not in self.returns:
            raise UnknownReturn(order_id=self.order_id, return_id=return_id)
        return self.returns[return_id]

    def chosen(self, wanted: Sequence[tuple[str, int]]) -> dict[str, int]:
        """Units by line. Raises LineTwice, UnknownLine."""
        units: dict[str, int] = {}
        for line_id, count in wanted:
            if line_id in units:
                raise LineTwice(line_id=line_id, field="lines")
            if line_id not in self.lines:
                raise UnknownLine(line_id=line_id, field="lines")
            units[line_id] = count
        return units

    # What may be done.

    def to_ship(self, wanted: Sequence[tuple[str, int]]) -> dict[str, int]:
        """Units that leave; none named: all that are left. Raises what `chosen` raises, and more."""
        self.require_in(SHIPPABLE, "shipped")
        left = {line.line_id: line.units - line.shipped - line.shipping for line in self.shippable}
        units = self.chosen(wanted) or {line_id: count for line_id, count in left.items() if count}
        for line_id in units:
            if line_id not in left:
                raise NotShippable(line_id=line_id)
        if not units:
            raise TooManyUnits(line_id="*", left=0, verb="shipped", wanted=1)
        return _within(units, left, "shipped")

    def shipment_amount(self, units: Units) -> int:
        """What a shipment captures: its lines' part, and with the last one all that is still due."""
        pending = sum(each.amount for each in self.shipments.values() if each.state is ShipmentState.PENDING)
        left = self.due - self.captured - pending
        gone = {line.line_id: line.shipped + line.shipping for line in self.shippable}
        if all(gone[line.line_id] + units.get(line.line_id, 0) == line.units for line in self.shippable):
            return left
        parts = 0
        for line in self.shippable:
            before = share(line.gross, line.units, gone[line.line_id], 0)
            parts += share(line.gross, line.units, gone[line.line_id] + units.get(line.line_id, 0), before)
        return min(left, parts)

    def to_return(self, wanted: Sequence[tuple[str, int]]) -> dict[str, int]:
        """Units that may be sent back. Raises what `chosen` raises, and more."""
        self.require_in(RETURNABLE, "returned")
        left = {each.line_id: each.shipped - each.returned - each.returning for each in self.lines.values()}
        return _within(self.chosen(wanted), left, "returned")

    def to_exchange(self, back: Return, gross: int) -> int:
        """What a return pays of an order of so much. Raises ReturnNotExchangeable."""
        if back.state is not ReturnState.APPROVED or back.exchange_order_id:
            why = "it pays for another" if back.exchange_order_id else f"it is {back.state}"
            raise ReturnNotExchangeable(return_id=back.return_id, why=why)
        _, net, tax = self.worth(back.units)
        return max(0, min(net + tax, self.refundable, gross))

    def received(self, back: Return, wanted: Sequence[tuple[str, int]]) -> dict[str, int]:
        """Units of a return that came; none named: all. Raises what `chosen` raises, TooManyUnits."""
        return _within(self.chosen(wanted) or dict(back.units), back.units, "received")

    def parts(self, units: Units) -> list[Part]:
        """Units that are refunded next, at what was paid for them. Raises TooManyUnits."""
        left = {line.line_id: line.units - line.refunded for line in self.lines.values()}
        _within(units, left, "refunded")
        return [self._part(self.lines[line_id], count) for line_id, count in units.items()]

    def _part(self, line: Line, count: int) -> Part:
        upto = line.refunded + count
        net = share(line.net, line.units, upto, line.refunded_net)
        return Part(line, count, net, share(line.tax, line.units, upto, line.refunded_tax))

    def to_refund(self, units: Units, amount: int | None) -> tuple[list[Part], int, int]:
        """Parts, net and tax of a refund in money; neither units nor amount: of all that is left.

        Raises TooManyUnits, RefundExceedsCaptured.
        """
        left = self.refundable
        if units:
            parts = self.parts(units)
            gross = sum(part.gross for part in parts)
            tax = min(sum(part.tax for part in parts), self.tax - self._refunded_tax)
        else:
            parts = []
            gross = left if amount is None else amount
            _, tax = split(gross, self.net - self._refunded_net, self.tax - self._refunded_tax)
        if gross > left or gross <= 0:
            raise RefundExceedsCaptured(left=self.money(left), wanted=self.money(gross))
        return parts, gross - tax, tax

    def worth(self, units: Units) -> tuple[list[Part], int, int]:
        """Parts, net and tax of goods that come back: units that were refunded before are worth nothing."""
        left = {
            line_id: min(count, self.lines[line_id].units - self.lines[line_id].refunded)
            for line_id, count in units.items()
        }
        parts = self.parts({line_id: count for line_id, count in left.items() if count})
        gross = min(sum(part.gross for part in parts), self.gross - self.refunded)
        tax = min(sum(part.tax for part in parts), self.tax - self._refunded_tax)
        return parts, gross - tax, tax

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)

    @property
    def _refunded_net(self) -> int:
        return sum(each.net for each in self.taken_back)

    @property
    def _refunded_tax(self) -> int:
        return sum(each.tax for each in self.taken_back)


def _within(units: Mapping[str, int], left: Units, verb: str) -> dict[str, int]:
    """`units`, unless more of a line are wanted than are left: TooManyUnits."""
    for line_id, wanted in units.items():
        if wanted > left.get(line_id, 0):
            raise TooManyUnits(line_id=line_id, left=left.get(line_id, 0), verb=verb, wanted=wanted)
    return dict(units)
