"""Reports: what they are made of, and what they refuse."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.report_revenue import months_between
from services.billing.domain.row import Row
from services.chassis.errors import FailedPrecondition, InvalidArgument
from services.chassis.money import round_half_up

MONTHS_MAX = 120  # Of one report; ten years fit a screen and a page of memory.
DAYS_MAX = 3_660  # Of one tax report: ten years.
BUCKETS = ((1, 30), (31, 60), (61, 90), (91, None))  # Days overdue.


class SpanRefused(InvalidArgument):
    """The report's span breaks a rule: {problem}."""


class TooLittleHistory(FailedPrecondition):
    """A forecast wants {wanted} months that are over; {currency} has {months}."""


class EntryKind(StrEnum):
    """What a report's figure comes from."""

    INVOICE = "INVOICE"
    CREDIT_NOTE = "CREDIT_NOTE"
    VOID = "VOID"
    ORDER = "ORDER"
    REFUND = "REFUND"


class RevenueEntry(Row):
    """Net revenue of one document in one month."""

    __tablename__ = "revenue_entry"
    kind: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    billed_month: Mapped[date]
    currency: Mapped[str]
    amount: Mapped[int]


class RevenueFact(Row):
    """What happened to an invoice."""

    __tablename__ = "revenue_fact"
    kind: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    at: Mapped[datetime]
    currency: Mapped[str]
    net: Mapped[int]
    deferred: Mapped[int]


class TaxEntry(Row):
    """Tax of one document by category and rate."""

    __tablename__ = "tax_entry"
    kind: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[Decimal] = mapped_column(primary_key=True)
    day: Mapped[date]
    country: Mapped[str]
    currency: Mapped[str]
    taxable: Mapped[int]
    tax: Mapped[int]


class RecurringChange(Row):
    """A change of what a subscription is worth in a month."""

    __tablename__ = "recurring_change"
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID]
    customer_id: Mapped[UUID]
    currency: Mapped[str]
    at: Mapped[datetime]
    delta: Mapped[int]


@dataclass(slots=True)
class Movement:
    """Monthly recurring revenue over one month, in minor units."""

    month: date
    opening: int = 0
    new: int = 0
    expansion: int = 0
    contraction: int = 0
    churn: int = 0
    reactivation: int = 0
    opening_customers: int = 0
    new_customers: int = 0
    churned_customers: int = 0
    reactivated_customers: int = 0

    @property
    def closing(self) -> int:
        return self.opening + self.new + self.expansion + self.reactivation - self.contraction - self.churn

    @property
    def closing_customers(self) -> int:
        return (
            self.opening_customers + self.new_customers + self.reactivated_customers - self.churned_customers
        )


def opened(moved: list[Movement], months: list[date]) -> list[Movement]:
    """The movements of the months, each with what it opened with; months in which nothing moved as well."""
    known = {row.month: row for row in moved}
    made, amount, customers = [], 0, 0
    for month in sorted(known.keys() | set(months)):
        row = known.get(month) or Movement(month)
        row.opening, row.opening_customers = amount, customers
        amount, customers = row.closing, row.closing_customers
        if months[0] <= month <= months[-1]:
            made.append(row)
    return made


def span(first: str, last: str) -> list[date]:
    """The months of a report. Raises SpanRefused."""
    months = months_between(date.fromisoformat(f"{first}-01"), date.fromisoformat(f"{last}-01"))
    if len(months) > MONTHS_MAX:
        raise SpanRefused(problem=f"it has at most {MONTHS_MAX} months", field="span.last_month")
    return months


def days(first: str, last: str) -> tuple[date, date]:
    """First and last day of a report. Raises SpanRefused."""
    found = []
    for text, field in ((first, "first_day"), (last, "last_day")):
        try:
            found.append(date.fromisoformat(text))
        except ValueError:
            raise SpanRefused(problem=f"{text} is no date", field=field) from None
    if (found[1] - found[0]).days > DAYS_MAX:
        raise SpanRefused(problem=f"it has at most {DAYS_MAX} days", field="last_day")
    return found[0], found[1]


def percent_of(part: int, whole: int) -> str:
    """With two decimals, rounded half up; empty where there is no whole."""
    if whole <= 0:
        return ""
    hundredths = round_half_up(Fraction(part * 10_000, whole))
    return f"{Decimal(hundredths).scaleb(-2):.2f}"
