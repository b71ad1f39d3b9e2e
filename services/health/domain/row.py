"""The one registry of this service's tables."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        int: BigInteger,
        str: Text,
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB,
    }


class Controller(Row):
    """The one row from which a controller goes on."""

    __tablename__ = "controller"
    only_one: Mapped[bool] = mapped_column(primary_key=True)
    term: Mapped[int]  # Rises with each process that takes the lease.
    revision: Mapped[int]  # Of the last decision.
    state: Mapped[dict[str, Any]]
