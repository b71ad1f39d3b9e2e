"""Statements of our own bank account: rows and refusals, and what an entry says of what it is for."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.chassis.money import Money
from services.payment.domain.row import Row

STATEMENTS = UUID("0e1c8c5e-0d0b-5d8b-8c55-3f1f5a1b6a0e")  # Namespace of ids that follow from the bank's.
FILE_BYTES_MAX = 10 * 1024 * 1024  # A year's statements of a busy account.
ENTRIES_MAX = 20_000  # Of one file: they are held in memory, and written at once.
TEXT_CHARS_MAX = 2_000  # What is kept of what somebody wrote on a transfer; ISO 20022 has 140 a line.


class StatementUnreadable(InvalidArgument):
    """The file is no camt.053 that can be read: {problem}."""


class StatementTooLarge(InvalidArgument):
    """A file has at most {max} {what}."""


class StatementIdReused(AlreadyExists):
    """Statement {bank_id} of this account was imported with other content."""


class UnknownBankEntry(NotFound):
    """There is no bank entry {entry_id}."""


class BankEntryResolved(FailedPrecondition):
    """Bank entry {entry_id} is {state} already."""


class BankEntryUnfit(FailedPrecondition):
    """The bank entry cannot be for that: {problem}."""


class EntryState(StrEnum):
    """What became of an entry."""

    NEW = "NEW"
    UNMATCHED = "UNMATCHED"
    MATCHED = "MATCHED"
    DISMISSED = "DISMISSED"


class Problem(StrEnum):
    """Why an entry matched nothing."""

    NO_REFERENCE = "no_reference"
    UNKNOWN_REFERENCE = "unknown_reference"
    AMBIGUOUS = "ambiguous"
    OTHER_CURRENCY = "other_currency"
    TOO_MUCH = "too_much"
    REVERSAL = "reversal"
    REPEATED = "repeated"
    NOT_OURS = "not_ours"


class Statement(Row):
    """A statement that was taken in."""

    __tablename__ = "statement"
    statement_id: Mapped[UUID] = mapped_column(primary_key=True)
    bank_id: Mapped[str]
    account: Mapped[str]
    format: Mapped[str]
    digest: Mapped[bytes]
    entries: Mapped[int]
    made_at: Mapped[datetime]
    imported_at: Mapped[datetime]


class BankEntry(Row):
    """A movement on our account."""

    __tablename__ = "bank_entry"
    entry_id: Mapped[UUID] = mapped_column(primary_key=True)
    statement_id: Mapped[UUID]
    account: Mapped[str]
    service_ref: Mapped[str]  # The bank's own id of it; empty: it gave none.
    currency: Mapped[str]
    amount: Mapped[int]  # Less than nothing: it left.
    reversal: Mapped[bool]
    value_at: Mapped[datetime]
    state: Mapped[str]
    problem: Mapped[str]  # Of an unmatched one. Of a dismissed one: what it is for.
    intent_id: Mapped[UUID | None]
    customer_id: Mapped[UUID | None]
    sealed_text: Mapped[bytes | None]  # Who it came from and what they wrote, as JSON. Erased with them.

    @property
    def money(self) -> Money:
        return Money(self.amount, self.currency)

    def leave(self, problem: Problem) -> None:
        """It is kept for people."""
        self.state, self.problem = EntryState.UNMATCHED, problem

    def match(self, intent_id: UUID | None, customer_id: UUID) -> None:
        self.state, self.problem = EntryState.MATCHED, ""
        self.intent_id, self.customer_id = intent_id, customer_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEntry:
    """A movement as a file has it."""

    amount: Money  # Less than nothing: it left.
    value_at: datetime
    service_ref: str
    reversal: bool
    party: str
    party_account: str
    text: str  # All references and remittance information, a line each.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStatement:
    """A statement as a file has it."""

    bank_id: str
    account: str
    format: str
    made_at: datetime
    entries: tuple[ReadEntry, ...]

    @property
    def statement_id(self) -> UUID:
        return uuid5(STATEMENTS, f"{self.account} {self.bank_id}")


def refund_ids(text: str) -> set[UUID]:
    """The refunds whose ids stand on an outgoing transfer, as 32 hexadecimal digits."""
    return {UUID(each) for each in re.findall(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", text.lower())}
