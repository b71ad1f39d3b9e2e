"""From lines to what is due. The order is declared here, and nowhere else:

1. charges, and what is missing to their minimums;
2. coupons, in the order of their redemption, each of what the ones before left;
3. what is given back of earlier invoices, as far as its tax category allows: no category falls below zero,
   and the rest waits for the next invoice;
4. tax, rounded once for each category and rate (EN 16931 BR-CO-17), never for each line;
5. credits: of credit notes first, then granted ones.

Amounts are minor units of one currency.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from services.billing.domain.coupon import Discount
from services.billing.domain.credit import Balance
from services.chassis.errors import InvalidArgument
from services.chassis.money import MINOR_MAX, allocate, round_half_up

PERCENT = 100
NET_MAX = MINOR_MAX // 2  # So that with its tax, of 100 % at the most, an invoice is an amount as well.
NOTHING = Decimal(0)
SERVICES, GOODS = "SERVICES", "GOODS"  # What is supplied decides where it is taxed.


class AmountTooLarge(InvalidArgument):
    """The invoice's lines come to more than 5 * 10^14 minor units."""


class Rate(NamedTuple):
    """How a line is taxed; lines of the same one are taxed together."""

    code: str  # Of UNCL5305: S, Z, E, AE, G, O, K.
    percent: Decimal
    note: str = ""  # Why there is no tax, in words for the invoice.


NO_RATE = Rate("", NOTHING)  # Of a line that is not taxed yet.


@dataclass(slots=True, kw_only=True)
class Line:
    """One line of an invoice to be."""

    description: str
    amount: int  # Before coupons. Negative: given back.
    tax_category: str
    supply: str = SERVICES
    charge: str = ""
    sku: str = ""
    units: Decimal = Decimal(1)
    unit_price: Decimal | None = None  # None: the price is no single one.
    start: datetime | None = None  # Of the service; None: at the invoice's date.
    end: datetime | None = None
    subscription_id: UUID | None = None
    plan_id: UUID | None = None
    line_id: UUID | None = None  # As its maker named it.
    advance: bool = False  # For a period that only begins.
    origin: str = ""  # Of what is given back: the invoice that billed it.
    discount: int = 0
    rate: Rate = NO_RATE

    @property
    def net(self) -> int:
        return self.amount - self.discount


@dataclass(slots=True)
class Tax:
    """What is due on one category and rate."""

    rate: Rate
    taxable: int
    tax: int


@dataclass(slots=True)
class Totals:
    """What an invoice comes to."""

    lines: list[Line]
    carried: list[Line]  # For the next invoice.
    taxes: list[Tax]
    net: int
    discount: int
    tax: int
    credits: list[tuple[UUID, int]] = field(default_factory=list)
    granted: int = 0  # Of the credits, what had been given for nothing.

    @property
    def gross(self) -> int:
        return self.net + self.tax

    @property
    def credited(self) -> int:
        return sum(amount for _, amount in self.credits)

    @property
    def due(self) -> int:
        return self.gross - self.credited


RateOf = Callable[[Line], Rate]


def totals(
    lines: Sequence[Line],
    discounts: Sequence[Discount],
    currency: str,
    rate_of: RateOf,
    balances: Sequence[Balance] = (),
) -> Totals:
    """Raises AmountTooLarge, and what `rate_of` raises; nothing has changed then.

    Marks the coupons that were used, and lessens the balances.
    """
    if sum(abs(line.amount) for line in lines) > NET_MAX:
        raise AmountTooLarge
    for line in lines:
        line.rate = rate_of(line)
    for discount in discounts:
        take_off(lines, discount, currency)
    kept, carried = fit(lines)
    taxes = tax(kept)
    net, of_it = sum(line.net for line in kept), sum(each.tax for each in taxes)
    made = Totals(kept, carried, taxes, net, sum(line.discount for line in kept), of_it)
    made.credits = pay(made.gross, balances)
    gifts = {balance.credit_id for balance in balances if not balance.own}
    made.granted = sum(paid for credit_id, paid in made.credits if credit_id in gifts)
    return made


def take_off(lines: Sequence[Line], discount: Discount, currency: str) -> None:
    """Adds the coupon's share to the discount of each line that it covers."""
    if discount.left == 0 or (discount.amount is not None and discount.currency != currency):
        return
    covered = [x for x in lines if x.net > 0 and discount.covers(x.plan_id, x.subscription_id)]
    base = sum(line.net for line in covered)
    if not base:
        return
    if discount.amount is not None:
        off = min(discount.amount, base)
    else:
        off = round_half_up(Fraction(base) * Fraction(discount.percent or NOTHING) / PERCENT)
    shares = allocate(off, [line.net for line in covered])
    for line, share in zip(covered, shares, strict=True):
        line.discount += share
    discount.use()


def fit(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Lines that the invoice can hold, and what is given back beyond what it charges."""
    if all(line.amount >= 0 for line in lines):
        return list(lines), []
    room: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        room[line.tax_category, line.supply] += max(line.net, 0)
    kept, carried = [], []
    for line in lines:
        if line.amount >= 0:
            kept.append(line)
            continue
        used = min(-line.amount, room[line.tax_category, line.supply])
        room[line.tax_category, line.supply] -= used
        if used:
            kept.append(line if used == -line.amount else replace(line, amount=-used))
        if used < -line.amount:
            carried.append(replace(line, amount=line.amount + used))
    return kept, carried


def tax(lines: Sequence[Line]) -> list[Tax]:
    """By category and rate, in the order of their codes and rates."""
    taxable: dict[Rate, int] = defaultdict(int)
    for line in lines:
        taxable[line.rate] += line.net
    return [Tax(rate, net, tax_on(net, rate.percent)) for rate, net in sorted(taxable.items())]


def tax_on(net: int, percent: Decimal) -> int:
    """Rounded half up: the one rounding of a category."""
    return round_half_up(Fraction(net) * Fraction(percent) / PERCENT) if percent else 0


def pay(due: int, balances: Sequence[Balance]) -> list[tuple[UUID, int]]:
    """Which credits pay how much, in the order given."""
    used = []
    for balance in balances:
        if due and (paid := balance.pay(due)):
            used.append((balance.credit_id, paid))
            due -= paid
    return used
