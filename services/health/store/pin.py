"""Pins."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from services.chassis.db import Tx
from services.health.domain.pin import PinRow


async def every(tx: Tx) -> Sequence[PinRow]:
    return (await tx.scalars(select(PinRow))).all()


async def find(tx: Tx, capability: str) -> PinRow | None:
    return await tx.get(PinRow, capability, with_for_update=True)


async def expire(tx: Tx, now: datetime) -> list[str]:
    """Takes away those whose time is over. Returns their capabilities."""
    gone = delete(PinRow).where(PinRow.until <= now).returning(PinRow.capability)
    return sorted(await tx.scalars(gone, execution_options={"synchronize_session": False}))
