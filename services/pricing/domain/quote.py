"""Quotes that are kept, and why one is refused."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from services.pricing.domain.row import Row


class UnknownQuote(NotFound):
    """There is no quote {quote_id}."""


class QuoteIdReused(AlreadyExists):
    """Quote {quote_id} was made for something else."""


class QuoteExpired(FailedPrecondition):
    """Quote {quote_id} expired at {expire_time}."""


class CouponRefused(FailedPrecondition):
    """The coupon {code} cannot be used: {why}."""


class QuoteRow(Row):
    """A quote."""

    __tablename__ = "quote"
    quote_id: Mapped[UUID] = mapped_column(primary_key=True)
    request: Mapped[bytes]
    customer_id: Mapped[UUID | None]
    body: Mapped[bytes]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime]
