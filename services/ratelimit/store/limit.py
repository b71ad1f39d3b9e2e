"""Limits."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.ratelimit.domain.limit import RateLimit, UnknownRateLimit
from services.ratelimit.domain.row import State

LIMITS = Listing(
    {
        "name": Field(RateLimit.name),
        "create_time": Field(RateLimit.created_at),
        "prefix": Field(RateLimit.prefix, order=False),
        "shadow": Field(RateLimit.shadow, order=False),
        "priority": Field(RateLimit.priority, order=False),
        "rate_limit_id": Field(RateLimit.rate_limit_id, order=False, filter=False),
    },
    order="name",
    unique="rate_limit_id",
)
REVISION = "select revision from ratelimit_state"


async def locked(tx: Tx) -> State:
    """Nobody else changes a limit until `tx` ends. Taken before any other row's lock."""
    return (await tx.scalars(select(State).with_for_update())).one()


async def revision(db: Database) -> int:
    """The last change that is committed."""
    return int(await db.fetchval(REVISION))


async def get(tx: Tx, rate_limit_id: UUID) -> RateLimit:
    """Raises UnknownRateLimit."""
    row = await tx.get(RateLimit, rate_limit_id)
    if row is None:
        raise UnknownRateLimit(rate_limit_id=rate_limit_id)
    return row


async def find(tx: Tx, rate_limit_id: UUID) -> RateLimit | None:
    return await tx.get(RateLimit, rate_limit_id)


async def named(tx: Tx, name: str) -> RateLimit | None:
    """The limit that is called so."""
    return (await tx.scalars(select(RateLimit).where(RateLimit.name == name))).one_or_none()


async def count(tx: Tx) -> int:
    return int(await tx.scalar(select(func.count()).select_from(RateLimit)) or 0)


async def add(tx: Tx, values: dict[str, Any]) -> RateLimit:
    """Whoever holds the lock writes alone."""
    made = insert(RateLimit).values(values).returning(RateLimit)
    return (await tx.scalars(made)).one()


async def page(tx: Tx, page: Page) -> tuple[Sequence[RateLimit], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(RateLimit)))).all())


async def every(tx: Tx) -> tuple[int, Sequence[RateLimit]]:
    """All limits, and the revision of the last change that is among them."""
    state = (await tx.scalars(select(State))).one()
    return state.revision, (await tx.scalars(select(RateLimit))).all()
