"""Times during which a capability was not in normal mode, as rows."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.health.domain.row import Row


class Incident(Row):
    """One of them."""

    __tablename__ = "incident"
    incident_id: Mapped[UUID] = mapped_column(primary_key=True)
    capability: Mapped[str]
    worst: Mapped[str]
    causes: Mapped[list[str]]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    impact: Mapped[dict[str, Any]]  # Calls by service.


class FailedCaptures(Row):
    """Payments in one currency that could not be taken while an incident went on."""

    __tablename__ = "failed_captures"
    incident_id: Mapped[UUID] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    amount_minor: Mapped[int]
