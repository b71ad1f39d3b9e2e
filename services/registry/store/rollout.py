"""Rollouts."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.registry.domain.rollout_state import GOING, Rollout, UnknownRollout
from services.registry.domain.traffic_policy import RolloutInProgress

STATES = ("RUNNING", "PAUSED", "PROMOTED", "ROLLED_BACK", "ABORTED")
ROLLOUTS = Listing(
    {
        "create_time": Field(Rollout.created_at),
        "service": Field(Rollout.service, order=False),
        "state": Field(Rollout.state, order=False, values={each: each for each in STATES}),
        "rollout_id": Field(Rollout.rollout_id, order=False),
    },
    order="create_time desc",
    unique="rollout_id",
)
ON_THEIR_WAY = "select rollout_id, service, settings from rollout where state in ('RUNNING', 'PAUSED')"


async def find(tx: Tx, rollout_id: UUID) -> Rollout | None:
    return await tx.get(Rollout, rollout_id)


async def get(tx: Tx, rollout_id: UUID) -> Rollout:
    """Raises UnknownRollout."""
    row = await find(tx, rollout_id)
    if row is None:
        raise UnknownRollout(rollout_id=rollout_id)
    return row


async def check_none(tx: Tx, service: str) -> None:
    """Raises RolloutInProgress."""
    going = select(Rollout.rollout_id).where(Rollout.service == service, Rollout.state.in_(GOING))
    rollout_id = await tx.scalar(going)
    if rollout_id is not None:
        raise RolloutInProgress(service=service, rollout_id=rollout_id)


async def on_their_way(db: Database) -> list[Any]:
    """Id, service and settings of those that have not ended."""
    return await db.fetch(ON_THEIR_WAY)


async def page(tx: Tx, page: Page) -> tuple[Sequence[Rollout], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Rollout)))).all())
