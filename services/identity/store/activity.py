"""Writing and reading what happened to accounts."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.identity.domain.activity import Activity
from services.identity.domain.user import Person


async def next_sequence(tx: Tx, user_id: UUID) -> int | None:
    """Takes the account's next number; its row is locked until `tx` ends, so that none is skipped. None:
    there is no such account."""
    take = (
        update(Person).where(Person.user_id == user_id).values(activity_sequence=Person.activity_sequence + 1)
    )
    statement = take.returning(Person.activity_sequence).execution_options(synchronize_session=False)
    number: int | None = await tx.scalar(statement)
    return number


async def after(db: Database, user_id: UUID, sequence: int, limit: int) -> Sequence[Activity]:
    """Oldest first. Every watcher asks at every event, so it is one prepared statement."""
    return [Activity(**row) for row in await db.fetch(AFTER, user_id, sequence, limit)]


AFTER = """
select user_id, sequence, at, kind, session_id, actor, acting, address, about from activity
where user_id = $1 and sequence > $2 order by sequence limit $3
"""

LISTING = Listing({"sequence": Field(Activity.sequence)}, order="sequence desc", unique="sequence")


async def page(tx: Tx, user_id: UUID, page: Page) -> Sequence[Activity]:
    """Newest first; one more than the page has, when there are more."""
    return (await tx.scalars(page.select(select(Activity).where(Activity.user_id == user_id)))).all()


async def forget(tx: Tx, user_id: UUID) -> None:
    await tx.execute(delete(Activity).where(Activity.user_id == user_id))


async def forget_older(tx: Tx, than: datetime) -> None:
    await tx.execute(delete(Activity).where(Activity.at < than))
