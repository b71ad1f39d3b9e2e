"""Calendars."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.scheduler.domain.calendar import Calendar, UnknownCalendar
from services.scheduler.domain.schedule import Schedule

CALENDARS = Listing(
    {"name": Field(Calendar.name), "calendar_id": Field(Calendar.calendar_id, order=False)},
    "name",
    "calendar_id",
)


async def get(tx: Tx, calendar_id: UUID, *, lock: bool = False) -> Calendar:
    """Raises UnknownCalendar."""
    row = await tx.get(Calendar, calendar_id, with_for_update=lock)
    if row is None:
        raise UnknownCalendar(calendar_id=calendar_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[Calendar], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Calendar)))).all())


async def many(tx: Tx, calendar_ids: Iterable[UUID]) -> Mapping[UUID, Calendar]:
    wanted = select(Calendar).where(Calendar.calendar_id.in_(list(calendar_ids)))
    return {row.calendar_id: row for row in await tx.scalars(wanted)}


async def users(tx: Tx, calendar_id: UUID) -> int:
    """How many schedules use it."""
    counted = select(func.count()).where(Schedule.calendar_id == calendar_id)
    return int(await tx.scalar(counted) or 0)
