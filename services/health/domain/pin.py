"""Modes that were set by hand, as rows."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from services.health.domain.row import Row


class PinRow(Row):
    """The pin of one capability."""

    __tablename__ = "pin"
    capability: Mapped[str] = mapped_column(primary_key=True)
    mode: Mapped[str]
    until: Mapped[datetime]
    reason: Mapped[str]
    created_at: Mapped[datetime]
