"""Faults that last."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.registry.domain.fault import Fault, UnknownFault

FAULTS = Listing(
    {
        "service": Field(Fault.service),
        "begin_time": Field(Fault.began_at),
        "end_time": Field(Fault.ends_at),
        "fault_id": Field(Fault.fault_id, order=False),
    },
    order="service, begin_time",
    unique="fault_id",
)
ANY_OVER = "select exists (select from fault where ends_at < clock_timestamp())"


async def find(tx: Tx, fault_id: UUID) -> Fault | None:
    return await tx.get(Fault, fault_id)


async def get(tx: Tx, fault_id: UUID) -> Fault:
    """Raises UnknownFault."""
    row = await find(tx, fault_id)
    if row is None:
        raise UnknownFault(fault_id=fault_id)
    return row


async def count(tx: Tx, service: str) -> int:
    wanted = select(func.count()).select_from(Fault).where(Fault.service == service)
    return int(await tx.scalar(wanted) or 0)


async def every(tx: Tx) -> Sequence[Fault]:
    """Whose time is not over, the oldest first."""
    wanted = select(Fault).where(Fault.ends_at > func.clock_timestamp()).order_by(Fault.revision)
    return (await tx.scalars(wanted)).all()


async def page(tx: Tx, page: Page) -> tuple[Sequence[Fault], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Fault)))).all())


async def any_over(db: Database) -> bool:
    return bool(await db.fetchval(ANY_OVER))


async def over(tx: Tx) -> Sequence[Fault]:
    """Deletes those whose time is over."""
    ended = delete(Fault).where(Fault.ends_at < func.clock_timestamp()).returning(Fault)
    return (await tx.scalars(ended, execution_options={"synchronize_session": False})).all()
