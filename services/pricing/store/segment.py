"""Members of segments."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.pricing.domain.segment import SegmentMemberRow

MEMBERS = Listing({"customer_id": Field(SegmentMemberRow.customer_id)}, "customer_id", "customer_id")
ADD = """
insert into segment_member values ($1, $2, $3)
on conflict (customer_id, segment) do update set valid_to = excluded.valid_to
where segment_member.valid_to is distinct from excluded.valid_to
returning segment
"""
REMOVE = "delete from segment_member where customer_id = $1 and segment = $2 returning segment"


async def add(tx: Tx, customer_id: UUID, segment: str, valid_to: datetime | None) -> bool:
    """False: it was so already."""
    return bool(await fetch(tx, ADD, customer_id, segment, valid_to))


async def remove(tx: Tx, customer_id: UUID, segment: str) -> bool:
    """False: it was so already."""
    return bool(await fetch(tx, REMOVE, customer_id, segment))


async def page(tx: Tx, page: Page, segment: str) -> tuple[Sequence[SegmentMemberRow], str]:
    """Rows, and the next page's token."""
    of_it = select(SegmentMemberRow).where(SegmentMemberRow.segment == segment)
    return page.cut((await tx.scalars(page.select(of_it))).all())


async def forget(tx: Tx, customer_id: UUID) -> None:
    """Everything that names the customer; what was counted in all stays counted."""
    for sql in (
        "delete from segment_member where customer_id = $1",
        "delete from customer_use where customer_id = $1",
        "delete from quote where customer_id = $1",
        "update redemption set customer_id = null where customer_id = $1",
    ):
        await execute(tx, sql, customer_id)
