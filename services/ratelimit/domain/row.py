"""The tables of this service."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Date, DateTime, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {  # noqa: RUF012
        date: Date,
        datetime: DateTime(timezone=True),
        int: BigInteger,
        str: Text,
        list[str]: ARRAY(Text),
    }


class State(Row):
    """The one row whose lock puts all changes in order, and which deciders look at."""

    __tablename__ = "ratelimit_state"
    only_one: Mapped[bool] = mapped_column(primary_key=True)
    revision: Mapped[int]

    def next(self) -> int:
        """The revision of the change that is being made."""
        self.revision += 1
        return self.revision


class RateBucket(Row):
    """What one key used of a rate: a GCRA's one number. Times are nanoseconds of the database's Unix time.

    The columns from `at` on are what the last taking asked, for the statement that takes knows no others.
    """

    __tablename__ = "rate_bucket"
    rate_limit_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    tat: Mapped[int]  # When the bucket is full again: GCRA's theoretical arrival time.
    refused: Mapped[int]
    at: Mapped[int]
    emission: Mapped[int]  # After so long one call more comes back.
    tolerance: Mapped[int]  # After so long all of them have.
    asked: Mapped[int]
    granted: Mapped[int]


class QuotaCount(Row):
    """What one key used of a quota in the period it was last counted in."""

    __tablename__ = "quota_count"
    rate_limit_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[date]  # Its first day, UTC.
    ends_at: Mapped[datetime]
    used: Mapped[int]
    refused: Mapped[int]
    quota: Mapped[int]
    asked: Mapped[int]
    granted: Mapped[int]
