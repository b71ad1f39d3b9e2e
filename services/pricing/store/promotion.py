"""Promotions, how much of them is used, and what they did."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from services.chassis.db import Database, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.pricing.domain.promotion import PromotionRow, State, UnknownPromotion

DAYS_MAX = 400  # Of a report: a year with room, and a page that is read at once.

PROMOTIONS = Listing(
    {
        "name": Field(PromotionRow.name),
        "state": Field(PromotionRow.state),
        "priority": Field(PromotionRow.priority),
        "coupon_needed": Field(PromotionRow.coupon_needed, order=False),
        "valid_from": Field(PromotionRow.valid_from, nullable=True),
        "valid_to": Field(PromotionRow.valid_to, nullable=True),
        "create_time": Field(PromotionRow.created_at),
        "promotion_id": Field(PromotionRow.promotion_id, order=False),
    },
    "create_time desc",
    "promotion_id",
)
USED = """
select promotion.promotion_id, promotion.uses, spent_minor, coalesce(customer_use.uses, 0) as customer_uses
from promotion left join customer_use
    on customer_use.promotion_id = promotion.promotion_id and customer_use.customer_id = $2
where promotion.promotion_id = any($1)
"""
# What was used before anybody counted: the row is locked, so no use is being taken meanwhile.
COUNT = """
update promotion set uses = found.uses, spent_minor = found.spent
from (
    select count(*) as uses, coalesce(sum(amount_minor), 0) as spent
    from redemption_use join redemption using (redemption_id)
    where promotion_id = $1 and state = 'REDEEMED'
) as found
where promotion_id = $1
"""
FORGET_CUSTOMERS = "delete from customer_use where promotion_id = $1"
COUNT_CUSTOMERS = """
insert into customer_use (promotion_id, customer_id, uses)
select promotion_id, customer_id, count(*) from redemption_use join redemption using (redemption_id)
where promotion_id = $1 and state = 'REDEEMED' and customer_id is not null group by 1, 2
"""
DAYS = """
select (redemption_use.created_at at time zone 'utc')::date as day, currency, count(*) as uses,
    sum(amount_minor)::bigint as discount, sum(net_minor)::bigint as net
from redemption_use join redemption using (redemption_id)
where promotion_id = $1 and state = 'REDEEMED'
    and ($2::timestamptz is null or redemption_use.created_at >= $2)
    and ($3::timestamptz is null or redemption_use.created_at < $3)
group by 1, 2 order by 1, 2
"""
PEOPLE = """
select count(distinct customer_id) filter (where state = 'REDEEMED') as customers,
    count(*) filter (where state = 'RELEASED') as released
from redemption_use join redemption using (redemption_id)
where promotion_id = $1 and ($2::timestamptz is null or redemption_use.created_at >= $2)
    and ($3::timestamptz is null or redemption_use.created_at < $3)
"""


async def get(tx: Tx, promotion_id: UUID, *, lock: bool = False) -> PromotionRow:
    """Raises UnknownPromotion."""
    row = await tx.get(PromotionRow, promotion_id, with_for_update=lock)
    if row is None:
        raise UnknownPromotion(promotion_id=promotion_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[PromotionRow], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(PromotionRow)))).all())


async def active(tx: Tx) -> int:
    """How many are."""
    counted = select(func.count()).where(PromotionRow.state == State.ACTIVE.value)
    return int(await tx.scalar(counted) or 0)


async def used(db: Database, promotion_ids: Sequence[UUID], customer_id: UUID | None) -> dict[UUID, Any]:
    """Uses, by all and by the customer, of promotions that are limited."""
    return {row["promotion_id"]: row for row in await db.fetch(USED, promotion_ids, customer_id)}


async def count(tx: Tx, promotion_id: UUID) -> None:
    """Counts what was used, in all and by customers, anew. The row is locked."""
    await execute(tx, COUNT, promotion_id)
    await execute(tx, FORGET_CUSTOMERS, promotion_id)
    await execute(tx, COUNT_CUSTOMERS, promotion_id)


async def days(tx: Tx, promotion_id: UUID, since: datetime | None, until: datetime | None) -> Sequence[Any]:
    return await fetch(tx, DAYS, promotion_id, since, until)


async def people(tx: Tx, promotion_id: UUID, since: datetime | None, until: datetime | None) -> Any:
    return (await fetch(tx, PEOPLE, promotion_id, since, until))[0]
