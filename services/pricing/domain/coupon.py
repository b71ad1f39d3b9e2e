"""Codes that promotions ask for."""

import re
import unicodedata
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound
from services.pricing.domain.row import Row

ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # Without what reads alike: I, L, O, 0 and 1.
RANDOM_CHARS = 12  # 59 bits: a guess in 10^12 hits one of 100,000 codes.
CODE = re.compile(r"[A-Z0-9]{3,40}")
PREFIX = re.compile(r"[A-Z0-9]{0,16}")


class UnknownCoupon(NotFound):
    """There is no coupon of this code."""


class CodeRefused(InvalidArgument):
    """A code has 3 to 40 letters and digits (A-Z, 0-9); dashes and spaces between them do not count."""

    def __init__(self, field: str) -> None:
        super().__init__(field=field)


class CouponCodeTaken(AlreadyExists):
    """This code was made with other settings, or for another promotion."""


class BatchIdReused(AlreadyExists):
    """Batch {batch_id} was made with other settings."""


class CouponRow(Row):
    """A code."""

    __tablename__ = "coupon"
    code: Mapped[str] = mapped_column(primary_key=True)
    promotion_id: Mapped[UUID]
    batch_id: Mapped[UUID | None]
    uses_max: Mapped[int | None] = mapped_column(BigInteger)
    uses: Mapped[int] = mapped_column(BigInteger)
    valid_to: Mapped[datetime | None]
    revoked: Mapped[bool]
    created_at: Mapped[datetime]


class CouponBatchRow(Row):
    """Codes that were made together."""

    __tablename__ = "coupon_batch"
    batch_id: Mapped[UUID] = mapped_column(primary_key=True)
    promotion_id: Mapped[UUID]
    request: Mapped[bytes]
    coupons: Mapped[int]
    created_at: Mapped[datetime]


def normal(text: str) -> str:
    """As codes are compared: upper case, without dashes and spaces. It may be no code at all."""
    plain = unicodedata.normalize("NFKC", text).upper()
    return "".join(c for c in plain if not c.isspace() and unicodedata.category(c) != "Pd")


def code_of(text: str, field: str) -> str:
    """Raises CodeRefused."""
    code = normal(text)
    if not CODE.fullmatch(code):
        raise CodeRefused(field=field)
    return code


def prefix_of(text: str) -> str:
    """Raises CodeRefused."""
    prefix = normal(text)
    if not PREFIX.fullmatch(prefix):
        raise CodeRefused(field="prefix")
    return prefix


def readable(prefix: str, random: bytes) -> str:
    """A code out of random bytes, of which it uses one for each character."""
    return prefix + "".join(ALPHABET[byte % len(ALPHABET)] for byte in random[:RANDOM_CHARS])
