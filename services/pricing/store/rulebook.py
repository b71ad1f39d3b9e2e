"""What every quote is reckoned by, and the number that tells when it changed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute

REVISION = """
select revision, array(
    select segment from segment_member where customer_id = $1 and (valid_to is null or valid_to > $2)
) as segments from rulebook
"""
# Lists that hold no more are no use; those that will hold are there in time.
LISTS = """
select price_list_id, name, currency, segments, countries, valid_from, valid_to, priority, tax_included
from price_list
"""
PROMOTIONS = "select promotion_id, settings from promotion where state = 'ACTIVE'"
SOME_PROMOTIONS = "select promotion_id, settings from promotion where promotion_id = any($1)"
CHANGED = "update rulebook set revision = revision + 1"


async def revision(db: Database, customer_id: UUID | None, at: datetime) -> tuple[int, Sequence[str]]:
    """The rulebook's number, and the segments that the customer is in."""
    row = await db.fetchrow(REVISION, customer_id, at)
    return row["revision"], row["segments"]


async def lists(db: Database) -> Sequence[Any]:
    return await db.fetch(LISTS)


async def active(db: Database) -> Sequence[Any]:
    return await db.fetch(PROMOTIONS)


async def some(db: Database, promotion_ids: Sequence[UUID]) -> Sequence[Any]:
    """Promotions whatever their state."""
    return await db.fetch(SOME_PROMOTIONS, promotion_ids)


async def changed(tx: AnyTx) -> None:
    """All processes read the rulebook anew. Called last, as the row is locked until the commit."""
    await execute(tx, CHANGED)
