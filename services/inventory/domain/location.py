"""Places that hold stock."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from services.inventory.domain.row import Row


class UnknownLocation(NotFound):
    """There is no location {location_id}."""


class LocationIdReused(AlreadyExists):
    """Location {location_id} was made with other settings."""


class LocationInUse(FailedPrecondition):
    """Location {location_id} holds stock, owes reservations or awaits transfers."""


class Location(Row):
    """A location."""

    __tablename__ = "location"
    location_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    priority: Mapped[int]
    country: Mapped[str]
    for_sale: Mapped[bool]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
