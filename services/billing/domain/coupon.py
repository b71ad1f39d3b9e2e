"""Coupons: what they take off, for how long, and who may still redeem them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Integer
from sqlalchemy.dialects.postgresql import ARRAY, UUID as PgUUID
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class UnknownCoupon(NotFound):
    """There is no coupon {coupon_id}."""


class CouponIdReused(AlreadyExists):
    """Coupon {coupon_id} was made with other settings."""


class CouponCodeTaken(AlreadyExists):
    """Another coupon has the code `{code}`."""


class RedemptionIdReused(AlreadyExists):
    """Redemption {redemption_id} is another one."""


class CouponRefused(InvalidArgument):
    """The coupon breaks a rule: {problem}."""


class CouponExhausted(FailedPrecondition):
    """Coupon `{code}` was redeemed {max} times, as often as it may be."""


class CouponUsedUp(FailedPrecondition):
    """The customer has redeemed coupon `{code}` {max} times, as often as it may."""


class CouponHasEnded(FailedPrecondition):
    """Coupon `{code}` can be redeemed no more since {since}."""


class CouponLasts(StrEnum):
    """How many invoices it takes something off."""

    ONCE = "ONCE"
    REPEATING = "REPEATING"
    FOREVER = "FOREVER"


class Coupon(Row):
    """A coupon."""

    __tablename__ = "coupon"
    coupon_id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str]
    title: Mapped[str]
    percent: Mapped[Decimal | None]
    amount: Mapped[int | None]
    currency: Mapped[str]
    lasts: Mapped[str]
    periods: Mapped[int] = mapped_column(Integer)
    redeem_by: Mapped[datetime | None]
    redemptions_max: Mapped[int | None] = mapped_column(Integer)
    per_customer_max: Mapped[int | None] = mapped_column(Integer)
    plan_ids: Mapped[list[UUID]] = mapped_column(ARRAY(PgUUID))
    redemptions: Mapped[int] = mapped_column(Integer)
    archived_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class CouponRedemption(Row):
    """A coupon that a customer has."""

    __tablename__ = "coupon_redemption"
    redemption_id: Mapped[UUID] = mapped_column(primary_key=True)
    coupon_id: Mapped[UUID]
    customer_id: Mapped[UUID]
    subscription_id: Mapped[UUID | None]  # Taken off this subscription alone.
    left: Mapped[int | None] = mapped_column(Integer)  # Invoices that it still counts for; None: all.
    redeemed_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


@dataclass(slots=True)
class Discount:
    """A redeemed coupon, as the next invoice sees it."""

    redemption_id: UUID
    percent: Decimal | None
    amount: int | None
    currency: str
    plan_ids: Sequence[UUID]
    subscription_id: UUID | None
    left: int | None
    used: bool = False

    def covers(self, plan_id: UUID | None, subscription_id: UUID | None) -> bool:
        if self.subscription_id and self.subscription_id != subscription_id:
            return False
        return not self.plan_ids or plan_id in self.plan_ids

    def use(self) -> None:
        """It has taken something off an invoice."""
        self.used = True
        if self.left is not None:
            self.left -= 1


def redeemable(coupon: Coupon, now: datetime, by_customer: int) -> None:
    """Raises CouponHasEnded, CouponExhausted, CouponUsedUp. `coupon` is locked."""
    ends = [at for at in (coupon.redeem_by, coupon.archived_at) if at and at <= now]
    if ends:
        raise CouponHasEnded(code=coupon.code, since=min(ends).isoformat())
    if coupon.redemptions_max is not None and coupon.redemptions >= coupon.redemptions_max:
        raise CouponExhausted(code=coupon.code, max=coupon.redemptions_max)
    if coupon.per_customer_max is not None and by_customer >= coupon.per_customer_max:
        raise CouponUsedUp(code=coupon.code, max=coupon.per_customer_max)
