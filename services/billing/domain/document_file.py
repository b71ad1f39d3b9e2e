"""Documents as they are kept: by whose they are, and by what they are."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row


class Format(StrEnum):
    """What a document is written in."""

    PDF = "PDF"
    UBL = "UBL"
    CII = "CII"

    @property
    def media_type(self) -> str:
        return "application/pdf" if self is Format.PDF else "application/xml"


class DocumentFile(Row):
    """That there is a document, and how it came to be."""

    __tablename__ = "document"
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    format: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[bytes]
    electronic: Mapped[bool]
    broken_rules: Mapped[list[str]]
    created_at: Mapped[datetime]


class DocumentContent(Row):
    """Its bytes."""

    __tablename__ = "document_content"
    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    content: Mapped[bytes]
