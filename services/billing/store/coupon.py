"""Coupons, and who has redeemed them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select

from services.billing.domain.coupon import Coupon, CouponRedemption, UnknownCoupon
from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

COUPONS = Listing(
    {
        "create_time": Field(Coupon.created_at),
        "coupon_id": Field(Coupon.coupon_id, order=False),
        "code": Field(Coupon.code),
        "title": Field(Coupon.title, order=False),
        "archive_time": Field(Coupon.archived_at, nullable=True, order=False),
    },
    "create_time desc",
    "coupon_id",
)


async def get(tx: Tx, coupon_id: UUID, *, lock: bool = False) -> Coupon:
    """Raises UnknownCoupon."""
    row = await tx.get(Coupon, coupon_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownCoupon(coupon_id=coupon_id)
    return row


async def with_code(tx: Tx, code: str, *, lock: bool = False) -> Coupon | None:
    wanted = select(Coupon).where(Coupon.code == code)
    if lock:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    return (await tx.scalars(wanted)).one_or_none()


async def redemption(tx: Tx, redemption_id: UUID) -> CouponRedemption | None:
    return await tx.get(CouponRedemption, redemption_id, populate_existing=True)


async def count(tx: Tx, coupon_id: UUID, customer_id: UUID) -> int:
    """How often a customer has redeemed it."""
    wanted = select(func.count()).where(
        CouponRedemption.coupon_id == coupon_id, CouponRedemption.customer_id == customer_id
    )
    return (await tx.scalars(wanted)).one()


async def page(tx: Tx, page: Page) -> tuple[Sequence[Coupon], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Coupon)))).all())
