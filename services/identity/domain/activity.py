"""What happened to an account: numbered without gaps, per account."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import ResourceExhausted
from services.identity.domain.row import Row

KEPT_DAYS = 365  # As long as people look back; the audit trail keeps what the law asks.


class TooManyStreams(ResourceExhausted):
    """{streams} streams of this account are open already."""


class Activity(Row):
    """One thing that happened. `kind` is ActivityKind's name in lower case without its prefix."""

    __tablename__ = "activity"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    session_id: Mapped[str]
    actor: Mapped[str]
    acting: Mapped[str]
    address: Mapped[str]
    about: Mapped[str]
