"""Faults that last: rows and refusals."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, NotFound, ResourceExhausted
from services.registry.domain.row import Row

# Each multiplies the routes of its service; an experiment needs one or two.
FAULTS_MAX = 4  # Of one service.


class UnknownFault(NotFound):
    """There is no fault {fault_id}, or it has ended."""


class FaultIdReused(AlreadyExists):
    """Fault {fault_id} was begun with other settings."""


class TooManyFaults(ResourceExhausted):
    """The service {service} has {max} faults already."""


class Fault(Row):
    """A failure on purpose, while it lasts."""

    __tablename__ = "fault"
    fault_id: Mapped[UUID] = mapped_column(primary_key=True)
    service: Mapped[str]
    settings: Mapped[bytes]
    revision: Mapped[int] = mapped_column(BigInteger)  # Of the registry when it began.
    began_at: Mapped[datetime]
    ends_at: Mapped[datetime]
