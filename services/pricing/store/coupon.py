"""Codes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import Database, Tx, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.pricing.domain.coupon import CouponBatchRow, CouponRow, UnknownCoupon

COUPONS = Listing(
    {
        "code": Field(CouponRow.code),
        "batch_id": Field(CouponRow.batch_id, nullable=True, order=False),
        "uses": Field(CouponRow.uses, order=False),
        "revoked": Field(CouponRow.revoked, order=False),
    },
    "code",
    "code",
)
FIND = "select code, promotion_id, uses_max, uses, valid_to, revoked from coupon where code = any($1)"
ADD = """
insert into coupon (code, promotion_id, batch_id, uses_max, uses, valid_to, revoked, created_at)
select code, $2, $3, $4, 0, $5, false, $6 from unnest($1::text[]) as code
on conflict do nothing returning code
"""


async def find(db: Database, codes: Sequence[str]) -> dict[str, Any]:
    return {row["code"]: row for row in await db.fetch(FIND, codes)}


async def get(tx: Tx, code: str, *, lock: bool = False) -> CouponRow:
    """Raises UnknownCoupon."""
    row = await tx.get(CouponRow, code, with_for_update=lock)
    if row is None:
        raise UnknownCoupon
    return row


async def batch(tx: Tx, batch_id: UUID) -> CouponBatchRow:
    return await tx.get_one(CouponBatchRow, batch_id)


async def page(tx: Tx, page: Page, promotion_id: UUID) -> tuple[Sequence[CouponRow], str]:
    """Rows, and the next page's token."""
    of_it = select(CouponRow).where(CouponRow.promotion_id == promotion_id)
    return page.cut((await tx.scalars(page.select(of_it))).all())


async def add(
    tx: Tx, codes: Sequence[str], batch: CouponBatchRow, uses_max: int | None, until: datetime | None
) -> int:
    """How many were new."""
    rest = (batch.promotion_id, batch.batch_id, uses_max, until, batch.created_at)
    return len(await fetch(tx, ADD, codes, *rest))
