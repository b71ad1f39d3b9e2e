"""Rows of what is read; what they are made from is the event table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, int: BigInteger}  # noqa: RUF012


class Product(Row):
    """A product as it is read."""

    __tablename__ = "product"
    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    state: Mapped[str]
    slug: Mapped[str]
    title: Mapped[str]
    brand: Mapped[str]
    product_type_id: Mapped[UUID | None]
    category_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    skus: Mapped[list[str]] = mapped_column(ARRAY(Text))
    terms: Mapped[list[str]] = mapped_column(ARRAY(Text))  # `facet=value` of each facet it has.
    words: Mapped[str] = mapped_column(TSVECTOR)
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]


class Document(Row):
    """All of a product, as the contract has it."""

    __tablename__ = "document"
    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    payload: Mapped[bytes]


class Category(Row):
    """A category as it is read."""

    __tablename__ = "category"
    category_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    parent_id: Mapped[UUID | None]
    ancestor_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))  # From the root to the parent.
    depth: Mapped[int]  # 0: a root.
    position: Mapped[int]
    name: Mapped[str]
    product_type_id: Mapped[UUID | None]
    payload: Mapped[bytes]  # Its content, as the contract has it.
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]


class ProductType(Row):
    """A product type as it is read."""

    __tablename__ = "product_type"
    product_type_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    name: Mapped[str]
    payload: Mapped[bytes]  # Its content, as the contract has it.
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]


class RefusedRow(Row):
    """A row of an import that was refused."""

    __tablename__ = "refused_row"
    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[int]
    subject: Mapped[str]
    reason: Mapped[str]
    message: Mapped[str]
