"""Credit that customers have with us, and the order in which it pays invoices."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound


class UnknownCredit(NotFound):
    """There is no credit {credit_id}."""


class CreditIdReused(AlreadyExists):
    """Credit {credit_id} was granted with other words."""


class CreditRefused(InvalidArgument):
    """The credit breaks a rule: {problem}."""


class Source(StrEnum):
    """Where credit came from."""

    GRANT = "GRANT"  # Given or prepaid.
    CREDIT_NOTE = "CREDIT_NOTE"
    OVERPAYMENT = "OVERPAYMENT"
    VOID = "VOID"  # An invoice that it had paid for is void.


class Credit(Row):
    """An amount that pays later invoices."""

    __tablename__ = "credit"
    credit_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]
    currency: Mapped[str]
    amount: Mapped[int]
    remaining: Mapped[int]
    source: Mapped[str]
    reason: Mapped[str]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


@dataclass(slots=True)
class Balance:
    """A credit, as the next invoice sees it."""

    credit_id: UUID
    remaining: int
    own: bool = True  # The customer's money, and not given for nothing.
    used: bool = False

    def pay(self, due: int) -> int:
        """What it pays of `due`; it is less by that."""
        paid = min(due, self.remaining)
        self.remaining -= paid
        self.used = self.used or paid > 0
        return paid


# Credit notes first, as they are the customer's money; then what lapses soonest, then what is oldest.
PAYING_ORDER = "(source = 'GRANT'), expires_at nulls last, created_at, credit_id"
