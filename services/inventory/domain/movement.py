"""What changed how much lies somewhere, and why."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, InvalidArgument
from services.inventory.domain.row import Row

AHEAD_MAX = timedelta(minutes=5)  # Clocks of two machines differ; a plan for tomorrow is no movement.


class TimeAhead(InvalidArgument):
    """{effective_time} lies ahead: a movement is written down when it has happened."""


class OperationIdReused(AlreadyExists):
    """{operation_id} came before with another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What all movements of one request have in common."""

    kind: str  # RECEIPT, ADJUSTMENT, COUNT, COMMITMENT or TRANSFER.
    reason: str  # As MovementReason names it.
    operation_id: UUID
    reference: str = ""
    actor: str = ""
    effective_at: datetime | None = None  # None: when it is written down.


@dataclass(frozen=True, slots=True)
class Moved:
    """A movement to be written down."""

    sku: str
    location_id: UUID
    units: int
    on_hand: int
    cause: Cause


class Movement(Row):
    """A movement."""

    __tablename__ = "movement"
    movement_id: Mapped[UUID] = mapped_column(primary_key=True)
    sku: Mapped[str]
    location_id: Mapped[UUID]
    kind: Mapped[str]
    reason: Mapped[str]
    units: Mapped[int]
    on_hand: Mapped[int]
    operation_id: Mapped[UUID]
    reference: Mapped[str]
    actor: Mapped[str]
    effective_at: Mapped[datetime]
    created_at: Mapped[datetime]


class Operation(Row):
    """A request that a repeat must not do again."""

    __tablename__ = "operation"
    operation_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes]
    at: Mapped[datetime]


def check_time(effective_at: datetime | None, now: datetime) -> None:
    """Raises TimeAhead."""
    if effective_at is not None and effective_at > now + AHEAD_MAX:
        raise TimeAhead(effective_time=effective_at.isoformat(), field="effective_time")
