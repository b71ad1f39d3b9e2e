"""Words for tests of billing's rules: terms, charges and subscriptions that are made by hand."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.billing.domain import periods
from services.billing.domain.charge import Basis, Charge, Usage
from services.billing.domain.cycle import Proration, Unit
from services.billing.domain.plan import Alignment, Terms
from services.billing.domain.subscription import Running, State
from services.billing.domain.totals import Line, Rate, Totals, totals

CUSTOMER, SUBSCRIPTION, PLAN = UUID(int=1), UUID(int=2), UUID(int=3)
NOTHING_SEEN: dict[str, Usage] = {}


def at(text: str) -> datetime:
    """A time of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def flat(price: str, **rest: Any) -> Charge:
    """So much a period, in advance unless said otherwise."""
    made = {"code": "base", "title": "Base", "in_advance": True, **rest}
    return Charge(basis=Basis.FLAT, unit_price=Decimal(price), **made)


def seats(price: str, **rest: Any) -> Charge:
    made = {"code": "seat", "title": "Seat", "in_advance": True, **rest}
    return Charge(basis=Basis.SEATS, unit_price=Decimal(price), **made)


def metered(**rest: Any) -> Charge:
    return Charge(**{"code": "calls", "title": "Calls", "basis": Basis.USAGE, "meter": "calls", **rest})


def monthly(*charges: Charge, **rest: Any) -> Terms:
    return Terms(**{"currency": "EUR", "unit": Unit.MONTH, "charges": charges, **rest})


def daily_prorated(*charges: Charge, **rest: Any) -> Terms:
    """Calendar months, parts of which are counted in days."""
    return monthly(*charges, alignment=Alignment.CALENDAR, proration=Proration.DAY, **rest)


def subscribed(start: str, *, zone: str = "UTC", quantity: int = 1, **rest: Any) -> Running:
    """One that is to begin."""
    begin = at(start)
    return Running(
        subscription_id=SUBSCRIPTION,
        customer_id=CUSTOMER,
        plan_id=PLAN,
        plan_version=1,
        quantity=quantity,
        state=State.SCHEDULED,
        currency="EUR",
        time_zone=zone,
        billing_day=rest.pop("billing_day", None),
        trial_days=rest.pop("trial_days", None),
        start_at=begin,
        next_bill_at=begin,
        created_at=begin,
        updated_at=begin,
        **rest,
    )


def passes(sub: Running, terms: Terms, seen: dict[str, Usage] = NOTHING_SEEN) -> list[Line]:
    """What is billed next."""
    return periods.pass_on(sub, terms, None, seen)


def amounts(lines: list[Line]) -> list[int]:
    return [line.amount for line in lines]


def taxed(*lines: Line, percent: str = "0", **rest: Any) -> Totals:
    rate = Rate("S" if percent != "0" else "Z", Decimal(percent))
    return totals(lines, rest.pop("discounts", ()), "EUR", lambda line: rate, rest.pop("balances", ()))


def line(amount: int, category: str = "STANDARD", **rest: Any) -> Line:
    return Line(description="Thing", amount=amount, tax_category=category, **rest)
