"""Uses of promotions, taken by orders."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from services.pricing.domain.row import Row

REDEEMED, RELEASED = "REDEEMED", "RELEASED"


class UnknownRedemption(NotFound):
    """There is no redemption {redemption_id}."""


class RedemptionIdReused(AlreadyExists):
    """Redemption {redemption_id} was made for another quote or customer."""


class RedemptionReleased(FailedPrecondition):
    """Redemption {redemption_id} was released, for ever."""


class PromotionExhausted(FailedPrecondition):
    """Promotion {promotion_id} has no use left: {limit}."""


class RedemptionRow(Row):
    """What one order took."""

    __tablename__ = "redemption"
    redemption_id: Mapped[UUID] = mapped_column(primary_key=True)
    quote_id: Mapped[UUID | None]
    customer_id: Mapped[UUID | None]
    state: Mapped[str]
    created_at: Mapped[datetime]
    released_at: Mapped[datetime | None]


class RedemptionUseRow(Row):
    """One use of one promotion."""

    __tablename__ = "redemption_use"
    redemption_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    promotion_id: Mapped[UUID]
    code: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    net_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    created_at: Mapped[datetime]


class CustomerUseRow(Row):
    """How often one customer used a promotion that is limited so."""

    __tablename__ = "customer_use"
    promotion_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    uses: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Use:
    """A promotion, the coupon it was for, and what was taken off."""

    promotion_id: UUID
    code: str
    amount_minor: int
