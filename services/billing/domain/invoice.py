"""Invoices: rows, states and what may become of them."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class UnknownInvoice(NotFound):
    """There is no invoice {invoice_id}."""


class InvoiceIdReused(AlreadyExists):
    """Invoice {invoice_id} was made with other lines."""


class InvoiceRefused(InvalidArgument):
    """The invoice breaks a rule: {problem}."""


class InvoiceFinal(FailedPrecondition):
    """Invoice {invoice_id} is {state}: what was finalised never changes."""


class InvoiceTransitionRefused(FailedPrecondition):
    """Invoice {invoice_id} is {state} and cannot become {wanted}."""


class InvoiceNotPayable(FailedPrecondition):
    """Invoice {invoice_id} is {state}: nothing is due on it."""


class InvoiceIsPaidInPart(FailedPrecondition):
    """Invoice {invoice_id} was paid in part; write a credit note instead."""


class TaxUnconfirmed(FailedPrecondition):
    """The buyer's VAT number waits for its register to answer; the invoice waits for it, for a while."""


class PaymentIdReused(AlreadyExists):
    """Payment {payment_id} is another one."""


class WrongCurrency(InvalidArgument):
    """{currency} was given where {expected} is meant."""


class InvoiceState(StrEnum):
    """Where an invoice stands."""

    DRAFT = "DRAFT"
    OPEN = "OPEN"
    PAID = "PAID"
    VOID = "VOID"
    UNCOLLECTIBLE = "UNCOLLECTIBLE"


NEXT: Mapping[InvoiceState, frozenset[InvoiceState]] = {
    InvoiceState.DRAFT: frozenset({InvoiceState.OPEN}),
    InvoiceState.OPEN: frozenset({InvoiceState.PAID, InvoiceState.VOID, InvoiceState.UNCOLLECTIBLE}),
    InvoiceState.UNCOLLECTIBLE: frozenset({InvoiceState.PAID, InvoiceState.VOID}),
    InvoiceState.PAID: frozenset({InvoiceState.OPEN}),  # The customer's bank took its payment back.
    InvoiceState.VOID: frozenset(),
}
PAYABLE = frozenset({InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE})
ENDED = frozenset({InvoiceState.VOID, InvoiceState.UNCOLLECTIBLE})


class InvoiceKind(StrEnum):
    """Why there is an invoice."""

    SUBSCRIPTION = "SUBSCRIPTION"  # A period's.
    CHANGE = "CHANGE"  # A subscription changed or ended in the middle of one.
    ONE_OFF = "ONE_OFF"


class Invoice(Row):
    """An invoice. Amounts are minor units of `currency`."""

    __tablename__ = "invoice"
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]
    kind: Mapped[str]
    state: Mapped[str]
    series: Mapped[str]
    number: Mapped[int | None]
    number_text: Mapped[str | None]
    currency: Mapped[str]
    country: Mapped[str]  # The buyer's, by which it was taxed.
    net: Mapped[int]
    discount: Mapped[int]  # In `net` already.
    tax: Mapped[int]
    gross: Mapped[int]
    credit_applied: Mapped[int]
    amount_paid: Mapped[int]
    credited: Mapped[int]  # By credit notes, the whole of each.
    credited_due: Mapped[int]  # Of that, what lessened the amount due.
    memo: Mapped[str]
    collection: Mapped[str]
    net_days: Mapped[int] = mapped_column(Integer)
    digest: Mapped[bytes | None]  # Of the request that made it.
    run_id: Mapped[UUID | None]
    created_at: Mapped[datetime]
    issued_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]  # Voided or written off.

    @property
    def due(self) -> int:
        """What is still to be paid."""
        if self.state not in PAYABLE:
            return 0
        return self.gross - self.credit_applied - self.credited_due - self.amount_paid

    def become(self, state: InvoiceState, now: datetime) -> None:
        """Raises InvoiceTransitionRefused."""
        if state not in NEXT[InvoiceState(self.state)]:
            raise InvoiceTransitionRefused(invoice_id=self.invoice_id, state=self.state, wanted=state)
        self.state = state
        self.paid_at = now if state is InvoiceState.PAID else None
        if state in ENDED:
            self.ended_at = now
        elif state is InvoiceState.OPEN:
            self.ended_at = None


class InvoiceLine(Row):
    """What an invoice charges for."""

    __tablename__ = "invoice_line"
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)  # From 1.
    line_id: Mapped[UUID | None]
    subscription_id: Mapped[UUID | None]
    charge: Mapped[str]
    sku: Mapped[str]
    description: Mapped[str]
    units: Mapped[Decimal]
    unit_price: Mapped[Decimal | None]
    amount: Mapped[int]
    discount: Mapped[int]
    net: Mapped[int]
    tax_category: Mapped[str]
    supply: Mapped[str]
    tax_code: Mapped[str]
    tax_rate: Mapped[Decimal]
    service_start: Mapped[datetime | None]
    service_end: Mapped[datetime | None]


class InvoiceTax(Row):
    """Tax of an invoice by category and rate."""

    __tablename__ = "invoice_tax"
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    tax_code: Mapped[str] = mapped_column(primary_key=True)
    tax_rate: Mapped[Decimal] = mapped_column(primary_key=True)
    taxable: Mapped[int]
    tax: Mapped[int]
    note: Mapped[str]


class InvoiceParty(Row):
    """Whom it is addressed to, as of its finalisation: personal."""

    __tablename__ = "invoice_party"
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    lines: Mapped[list[str]]
    postal_code: Mapped[str]
    city: Mapped[str]
    region: Mapped[str]
    email: Mapped[str]
    locale: Mapped[str]
    vat_number: Mapped[str]


class InvoicePayment(Row):
    """Money that came for an invoice, or went back."""

    __tablename__ = "invoice_payment"
    payment_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    intent_id: Mapped[UUID | None]  # None: it was recorded by hand, or before intents were noted.
    amount: Mapped[int]  # Negative: given back, or taken back.
    applied: Mapped[int]  # Of it, what paid the invoice; the rest became credit.
    gateway: Mapped[str]
    disputed: Mapped[bool]  # Taken back by the customer's bank.
    paid_at: Mapped[datetime]


class InvoiceCredit(Row):
    """Credit that paid for an invoice when it was finalised."""

    __tablename__ = "invoice_credit"
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    credit_id: Mapped[UUID] = mapped_column(primary_key=True)
    amount: Mapped[int]


def number_text(series: str, number: int) -> str:
    """As it stands on paper: INV-000042."""
    return f"{series}-{number:06d}"
