"""The row from which a controller goes on."""

from typing import Any

from sqlalchemy import select

from services.chassis.db import Database, Tx
from services.health.domain.row import Controller

BEGIN = "update controller set term = term + 1 returning term, revision, state::text"


async def begin(db: Database) -> Any:
    """A new term: its number, and what is known."""
    return await db.fetchrow(BEGIN)


async def locked(tx: Tx) -> Controller:
    """Nobody else decides until `tx` ends."""
    return (await tx.scalars(select(Controller).with_for_update())).one()
