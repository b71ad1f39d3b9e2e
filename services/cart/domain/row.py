"""The table of carts."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        str: Text,
        int: BigInteger,
        list[str]: ARRAY(Text),
        list[dict[str, Any]]: JSONB,
    }


class CartRow(Row):
    """A cart, as lists read it."""

    __tablename__ = "cart"
    cart_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID | None]
    token_sha256: Mapped[bytes | None]
    currency: Mapped[str]
    country: Mapped[str]
    state: Mapped[str]
    version: Mapped[int]
    lines: Mapped[list[dict[str, Any]]]
    units: Mapped[int]
    coupon_codes: Mapped[list[str]]
    order_id: Mapped[UUID | None]
    merged_into_id: Mapped[UUID | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    expires_on: Mapped[date]
