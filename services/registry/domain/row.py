"""The one registry of this service's tables."""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, DateTime, Interval, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        timedelta: Interval,
        str: Text,
        bytes: LargeBinary,
        list[str]: ARRAY(Text),
    }


class State(Row):
    """The one row whose lock puts all changes in order."""

    __tablename__ = "registry_state"
    only_one: Mapped[bool] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    trimmed_to: Mapped[int] = mapped_column(BigInteger)  # Changes up to here are forgotten.

    def next(self) -> int:
        """The revision of the change that is being made."""
        self.revision += 1
        return self.revision
