"""How a customer is billed, and whom its invoices are addressed to."""

from datetime import datetime
from enum import StrEnum
from functools import cache
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.chassis.errors import InvalidArgument, NotFound

DEFAULT_SERIES = "INV"


class UnknownProfile(NotFound):
    """Customer {customer_id} has no billing profile."""


class UnknownTimeZone(InvalidArgument):
    """`{time_zone}` is no zone of the IANA database."""


class Collection(StrEnum):
    """How an invoice is to be paid."""

    AUTOMATIC = "AUTOMATIC"
    SENT = "SENT"


class Standing(StrEnum):
    """Where a customer stands with what it owes, from good to bad."""

    GOOD = "GOOD"
    OVERDUE = "OVERDUE"
    BLOCKED = "BLOCKED"
    SUSPENDED = "SUSPENDED"


class BillingProfile(Row):
    """A customer's profile."""

    __tablename__ = "billing_profile"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    country: Mapped[str]
    time_zone: Mapped[str]
    method_id: Mapped[UUID | None]
    collection: Mapped[str]
    net_days: Mapped[int] = mapped_column(Integer)
    series: Mapped[str]
    dunning_policy_id: Mapped[UUID | None]
    tax_exempt: Mapped[bool]
    standing: Mapped[str]
    revision: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class BillingParty(Row):
    """What is personal of it."""

    __tablename__ = "billing_party"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    lines: Mapped[list[str]]
    postal_code: Mapped[str]
    city: Mapped[str]
    region: Mapped[str]
    email: Mapped[str]
    locale: Mapped[str]
    vat_number: Mapped[str]


@cache
def zone(name: str) -> ZoneInfo:
    """Raises UnknownTimeZone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownTimeZone(time_zone=name[:64]) from None
