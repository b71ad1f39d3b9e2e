"""The one registry of this service's tables."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Date, DateTime, Numeric, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase


class Row(DeclarativeBase):
    """A row of this service's database. Amounts are `int`: whole minor units."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        date: Date,
        int: BigInteger,
        str: Text,
        Decimal: Numeric,
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB,
    }
