"""Which customers are in which segments."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.pricing.domain.row import Row


class SegmentMemberRow(Row):
    """A customer in a segment."""

    __tablename__ = "segment_member"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    segment: Mapped[str] = mapped_column(primary_key=True)
    valid_to: Mapped[datetime | None]
