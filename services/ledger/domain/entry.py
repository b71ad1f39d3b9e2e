"""Entries of the ledger: immutable, in one order, each sealing the one before it."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from struct import pack
from uuid import UUID

from sqlalchemy import SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from services.ledger.domain.row import Row

FIRST_PREVIOUS = bytes(32)
LABEL = b"weft.ledger.v1.Transfer"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_ID = bytes(16)
NO_MEMO = hashlib.sha256(b"").digest()


class UnknownTransfer(NotFound):
    """There is no transfer {transfer_id}."""


class TransferIdReused(AlreadyExists):
    """Transfer {transfer_id} was booked with other content."""


class SameAccount(InvalidArgument):
    """Both ends of transfer {transfer_id} are account {account_id}."""


class OtherCurrency(InvalidArgument):
    """Account {account_id} is in {currency}, not in {asked}."""


class NotPending(FailedPrecondition):
    """Transfer {pending_id} is no pending transfer."""


class PendingAlreadyPosted(FailedPrecondition):
    """Pending transfer {pending_id} was posted by {transfer_id}."""


class PendingAlreadyVoided(FailedPrecondition):
    """Pending transfer {pending_id} was voided by {transfer_id}."""


class PendingExpired(FailedPrecondition):
    """Pending transfer {pending_id} has expired."""


class ExceedsPending(InvalidArgument):
    """{amount_minor} is more than the {pending_minor} of pending transfer {pending_id}."""


class LinkedTransferFailed(FailedPrecondition):
    """Transfer {transfer_id} is linked to one that was refused."""


class OpenLink(InvalidArgument):
    """The last transfer of the request is linked to a next one, and there is none."""


class LedgerBusy(ResourceExhausted):
    """{waiting} transfers wait to be written; try again in a moment."""


class NothingBought(InvalidArgument):
    """{amount} at {rate} is less than half a minor unit of {currency}."""


class Kind(IntEnum):
    """What an entry is; the numbers are those of the contract."""

    POSTED = 1
    PENDING = 2
    POST = 3
    VOID = 4
    EXPIRY = 5

    @property
    def resolves(self) -> bool:
        return self >= Kind.POST


class EntryRow(Row):
    """An entry as it is stored."""

    __tablename__ = "entry"
    sequence: Mapped[int] = mapped_column(primary_key=True)
    transfer_id: Mapped[UUID]
    kind: Mapped[int] = mapped_column(SmallInteger)
    debit_account_id: Mapped[UUID]
    credit_account_id: Mapped[UUID]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    pending_id: Mapped[UUID | None]
    code: Mapped[str]
    reference: Mapped[str]
    memo: Mapped[bytes | None]
    memo_owner_id: Mapped[str]
    effective_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    expire_at: Mapped[datetime | None]
    body: Mapped[bytes]  # Digest of what the caller asked for.
    debit_balance_after: Mapped[int]  # Posted debits less credits of the debited account.
    credit_balance_after: Mapped[int]
    hash: Mapped[bytes]


class HeadRow(Row):
    """The end of the ledger; whoever holds its lock writes."""

    __tablename__ = "head"
    ledger: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    hash: Mapped[bytes]
    recorded_at: Mapped[datetime]  # Of the last entry; time in the ledger never goes back.


class OpenPending(Row):
    """A pending transfer that nothing has resolved."""

    __tablename__ = "open_pending"
    transfer_id: Mapped[UUID] = mapped_column(primary_key=True)
    expire_at: Mapped[datetime | None]


class MemoKey(Row):
    """One person's key; shredded by deleting it."""

    __tablename__ = "memo_key"
    owner_id: Mapped[str] = mapped_column(primary_key=True)
    sealed_key: Mapped[bytes]
    created_at: Mapped[datetime]


@dataclass(slots=True)
class Entry:
    """An entry in hand; its fields are the columns of EntryRow."""

    sequence: int
    transfer_id: UUID
    kind: int
    debit_account_id: UUID
    credit_account_id: UUID
    amount_minor: int
    currency: str
    pending_id: UUID | None
    code: str
    reference: str
    memo: bytes | None
    memo_owner_id: str
    effective_at: datetime
    recorded_at: datetime
    expire_at: datetime | None
    body: bytes
    debit_balance_after: int
    credit_balance_after: int
    hash: bytes

    def sealed(self, previous: bytes) -> bytes:
        """The hash that these fields have after `previous`; the contract (chain.proto) says of what."""
        pending = self.pending_id.bytes if self.pending_id else NO_ID
        ids = self.transfer_id.bytes + self.debit_account_id.bytes + self.credit_account_id.bytes + pending
        texts = b"".join(map(_text, (self.currency, self.code, self.reference, self.memo_owner_id)))
        times = (self.effective_at, self.recorded_at, self.expire_at)
        moments = pack(">qqq", *(microseconds(at) if at else 0 for at in times))
        memo = NO_MEMO if self.memo is None else hashlib.sha256(self.memo).digest()
        numbers = pack(">Bq", self.kind, self.amount_minor)
        parts = (LABEL, previous, pack(">q", self.sequence), ids, numbers, texts, moments, memo)
        return hashlib.sha256(b"".join(parts)).digest()


def microseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def day(at: datetime) -> int:
    """Days since 1970, UTC."""
    return (at - EPOCH).days


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(4, "big") + raw
