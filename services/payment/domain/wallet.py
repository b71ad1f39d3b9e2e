"""Balances that customers have here: rows and refusals.

The entries are payment's own until a ledger account stands behind each balance. Nothing that is spent takes
a balance below nothing, and what is held for a payment is not spent twice. A top-up that the customer's bank
took back may, as the money is gone whatever was bought with it: nothing can be spent until that is covered.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition
from services.chassis.money import Money
from services.payment.domain.row import Row

ENTRIES = UUID("6d0f3a0e-5c0e-5d53-9f0b-1f7f5f6d7a11")  # Namespace of entries that follow from something.


class EntryIdReused(AlreadyExists):
    """Wallet entry {entry_id} was written with other content."""


class WalletTooLow(FailedPrecondition):
    """The wallet has {available} to spend, not {wanted}."""


class Reason(StrEnum):
    """Why a balance changed."""

    TOP_UP = "TOP_UP"  # A payment was captured.
    CREDIT = "CREDIT"  # A gift, by staff.
    DEBIT = "DEBIT"  # A correction, by staff.
    SPENT = "SPENT"  # Something was paid with it.
    GIVEN_BACK = "GIVEN_BACK"  # What was paid with it was refunded.
    PAID_OUT = "PAID_OUT"  # A top-up was refunded.
    TRANSFER = "TRANSFER"  # A bank transfer that was for nothing else.
    CHARGED_BACK = "CHARGED_BACK"  # A top-up was disputed, and its money lost.


class Wallet(Row):
    """One customer's balance in one currency."""

    __tablename__ = "wallet"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]
    held: Mapped[int]  # Of the balance, for payments that are not captured yet.
    charged_back: Mapped[int]  # What disputes took of it in all.
    updated_at: Mapped[datetime]


class WalletEntry(Row):
    """One change of a balance. Never changed."""

    __tablename__ = "wallet_entry"
    entry_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]
    currency: Mapped[str]
    amount: Mapped[int]
    balance: Mapped[int]  # After it.
    reason: Mapped[str]
    reference: Mapped[str]
    created_at: Mapped[datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A balance that is to change by `amount`, once for each `entry_id`."""

    entry_id: UUID
    customer_id: UUID
    amount: Money
    reason: Reason
    reference: str = ""


def entry_of(key: str) -> UUID:
    """The id of the entry that follows from something with a key of its own."""
    return uuid5(ENTRIES, key)
