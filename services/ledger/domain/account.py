"""Accounts: four sums that only grow or give back, and what they must never do."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, NotFound, OutOfRange
from services.ledger.domain.row import Row

SUM_MAX = 9 * 10**18  # What 64 bits hold, rounded down; nine thousand transfers of the largest size.


class UnknownAccount(NotFound):
    """There is no account {account_id}."""


class AccountIdReused(AlreadyExists):
    """Account {account_id} exists with other settings."""


class AccountCodeTaken(AlreadyExists):
    """The code {code} belongs to another account."""


class AccountClosed(FailedPrecondition):
    """Account {account_id} is closed."""


class AccountNotSettled(FailedPrecondition):
    """Account {account_id} has pending transfers, or its debits and credits differ."""


class ExceedsCredits(FailedPrecondition):
    """Account {account_id} may not be debited {amount_minor} more: {available_minor} are left."""


class ExceedsDebits(FailedPrecondition):
    """Account {account_id} may not be credited {amount_minor} more: {available_minor} are left."""


class BalanceOverflow(OutOfRange):
    """Account {account_id} cannot count beyond 9 * 10^18 minor units."""


class Kind(StrEnum):
    """What an account stands for."""

    ASSET = "ASSET"
    LIABILITY = "LIABILITY"
    EQUITY = "EQUITY"
    INCOME = "INCOME"
    EXPENSE = "EXPENSE"

    @property
    def grows_by_debits(self) -> bool:
        return self in (Kind.ASSET, Kind.EXPENSE)


class Limit(StrEnum):
    """What an account's sums must never do."""

    NONE = "NONE"
    DEBITS_NOT_ABOVE_CREDITS = "DEBITS_NOT_ABOVE_CREDITS"
    CREDITS_NOT_ABOVE_DEBITS = "CREDITS_NOT_ABOVE_DEBITS"


class Account(Row):
    """An account as it is stored. Sums are minor units."""

    __tablename__ = "account"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str]
    currency: Mapped[str]
    kind: Mapped[str]
    limit_kind: Mapped[str]
    overdraft_minor: Mapped[int]
    owner_id: Mapped[str]
    debits_posted: Mapped[int]
    credits_posted: Mapped[int]
    debits_pending: Mapped[int]
    credits_pending: Mapped[int]
    closed: Mapped[bool]
    created_at: Mapped[datetime]


class Turnover(Row):
    """What was posted to an account on one day (UTC, by effective time)."""

    __tablename__ = "turnover"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)  # Days since 1970.
    debits: Mapped[int]
    credits: Mapped[int]


@dataclass(slots=True)
class Sums:
    """An account while a batch is booked."""

    account_id: UUID
    currency: str
    limit: str
    overdraft: int
    closed: bool
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int

    def state(self) -> tuple[int, int, int, int]:
        return self.debits_posted, self.credits_posted, self.debits_pending, self.credits_pending

    def restore(self, state: tuple[int, int, int, int]) -> None:
        self.debits_posted, self.credits_posted, self.debits_pending, self.credits_pending = state

    @property
    def balance(self) -> int:
        """Posted debits less posted credits."""
        return self.debits_posted - self.credits_posted

    def may_be_debited(self, minor: int) -> None:
        """Raises AccountClosed, ExceedsCredits, BalanceOverflow."""
        self._open()
        used = self.debits_posted + self.debits_pending
        if self.limit == Limit.DEBITS_NOT_ABOVE_CREDITS:
            available = self.credits_posted + self.overdraft - used
            if minor > available:
                raise ExceedsCredits(
                    account_id=self.account_id, amount_minor=minor, available_minor=available
                )
        if used + minor > SUM_MAX:
            raise BalanceOverflow(account_id=self.account_id)

    def may_be_credited(self, minor: int) -> None:
        """Raises AccountClosed, ExceedsDebits, BalanceOverflow."""
        self._open()
        used = self.credits_posted + self.credits_pending
        if self.limit == Limit.CREDITS_NOT_ABOVE_DEBITS:
            available = self.debits_posted + self.overdraft - used
            if minor > available:
                raise ExceedsDebits(account_id=self.account_id, amount_minor=minor, available_minor=available)
        if used + minor > SUM_MAX:
            raise BalanceOverflow(account_id=self.account_id)

    def _open(self) -> None:
        if self.closed:
            raise AccountClosed(account_id=self.account_id)


def settled(account: Account) -> bool:
    """Whether it may be closed."""
    pending = account.debits_pending or account.credits_pending
    return not pending and account.debits_posted == account.credits_posted
