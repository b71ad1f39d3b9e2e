"""Pools in the database."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.worker.domain import POOLS_MAX, Pool, State, TooManyPools, UnknownPool

LISTING = Listing(
    {
        "pool": Field(Pool.pool),
        "state": Field(Pool.state, order=False, values={state.name: int(state) for state in State}),
    },
    order="pool",
    unique="pool",
)


async def get(tx: Tx, pool: str, *, lock: bool = False) -> Pool:
    """With `lock`, nobody else changes it until `tx` ends. Raises UnknownPool."""
    found = await tx.get(Pool, pool, with_for_update=lock)
    if found is None:
        raise UnknownPool(pool=pool)
    return found


async def add(tx: Tx, new: Pool) -> bool:
    """Writes it if its name is free. Returns whether it was. Raises TooManyPools."""
    if (await tx.scalar(select(func.count()).select_from(Pool)) or 0) >= POOLS_MAX:
        raise TooManyPools(max=POOLS_MAX)
    values = {column.key: getattr(new, column.key) for column in Pool.__table__.columns}
    statement = insert(Pool).values(values).on_conflict_do_nothing()
    return await tx.scalar(statement.returning(Pool.pool)) is not None


async def rows(tx: Tx, page: Page) -> Sequence[Pool]:
    """Those of the page, and one more if another page follows."""
    return (await tx.scalars(page.select(select(Pool)))).all()


async def every(tx: Tx) -> Sequence[Pool]:
    return (await tx.scalars(select(Pool).order_by(Pool.pool))).all()
