"""Rows of orders beside their events."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        str: Text,
        dict[str, Any]: JSONB,
    }


class Summary(Row):
    """An order as lists show it; amounts are minor units."""

    __tablename__ = "order_summary"
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID | None]
    reference: Mapped[str]
    currency: Mapped[str]
    country: Mapped[str]
    state: Mapped[str]
    lines: Mapped[int]
    gross_minor: Mapped[int] = mapped_column(BigInteger)
    refunded_minor: Mapped[int] = mapped_column(BigInteger)
    imported: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Detail(Row):
    """What of an order is no event."""

    __tablename__ = "order_detail"
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    request_mac: Mapped[bytes]
    customer_id: Mapped[UUID | None]
    created_at: Mapped[datetime]
    titles: Mapped[dict[str, Any]]
    contact: Mapped[bytes | None]  # None: erased, or never given.
    payment: Mapped[bytes | None]  # Sealed; None once it is authorised.
    next_action_url: Mapped[str]
    words: Mapped[str] = mapped_column(TSVECTOR)
