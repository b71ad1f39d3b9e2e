"""Rollouts: rows and refusals."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.registry.domain.row import Row

GOING = ("RUNNING", "PAUSED")


class UnknownRollout(NotFound):
    """There is no rollout {rollout_id}."""


class RolloutIdReused(AlreadyExists):
    """Rollout {rollout_id} was started with other settings."""


class RolloutEnded(FailedPrecondition):
    """Rollout {rollout_id} has ended: {state}."""


class SharesNotRising(InvalidArgument):
    """A step's share is above that of the step before it."""

    def __init__(self, step: int) -> None:
        super().__init__(field=f"settings.steps[{step}].share")


class Rollout(Row):
    """A new version on its way, or one that was."""

    __tablename__ = "rollout"
    rollout_id: Mapped[UUID] = mapped_column(primary_key=True)
    service: Mapped[str]
    settings: Mapped[bytes]
    state: Mapped[str]
    reason: Mapped[str]
    step: Mapped[int]
    watched_ms: Mapped[int] = mapped_column(BigInteger)
    looks: Mapped[int]
    figures: Mapped[str]
    revision: Mapped[int] = mapped_column(BigInteger)  # Of the registry when its state or step last changed.
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def check_going(self) -> None:
        """Raises RolloutEnded."""
        if self.state not in GOING:
            raise RolloutEnded(rollout_id=self.rollout_id, state=self.state)
