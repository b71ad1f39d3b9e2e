"""Credit notes: what is taken back of an invoice, which itself never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.billing.domain.totals import tax_on
from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

SERIES = "CN"  # Credit notes have numbers of their own: CN-000001.


class UnknownCreditNote(NotFound):
    """There is no credit note {credit_note_id}."""


class CreditNoteIdReused(AlreadyExists):
    """Credit note {credit_note_id} was written with other lines."""


class CreditNoteRefused(InvalidArgument):
    """The credit note breaks a rule: {problem}."""


class CreditExceedsInvoice(FailedPrecondition):
    """Line {position} has {left} left to be credited, not {wanted}."""


class CreditExceedsTax(FailedPrecondition):
    """Of tax category {code} at {rate} % {left} is left to be credited, not {wanted}."""


class InvoiceNotCreditable(FailedPrecondition):
    """Invoice {invoice_id} is {state}: there is nothing to take back."""


class CreditNote(Row):
    """A credit note. Amounts are positive, minor units."""

    __tablename__ = "credit_note"
    credit_note_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    customer_id: Mapped[UUID]
    number: Mapped[int]
    number_text: Mapped[str]
    currency: Mapped[str]
    reason: Mapped[str]
    net: Mapped[int]
    tax: Mapped[int]
    gross: Mapped[int]
    to_credit: Mapped[int]  # Of `gross`, what became the customer's credit.
    digest: Mapped[bytes]
    issued_at: Mapped[datetime]


class CreditNoteLine(Row):
    """What it takes back of one line."""

    __tablename__ = "credit_note_line"
    credit_note_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)  # Of the invoice's line.
    net: Mapped[int]
    tax_code: Mapped[str]
    tax_rate: Mapped[Decimal]


class CreditNoteTax(Row):
    """Tax that it takes back, by category and rate."""

    __tablename__ = "credit_note_tax"
    credit_note_id: Mapped[UUID] = mapped_column(primary_key=True)
    tax_code: Mapped[str] = mapped_column(primary_key=True)
    tax_rate: Mapped[Decimal] = mapped_column(primary_key=True)
    taxable: Mapped[int]
    tax: Mapped[int]
    note: Mapped[str]


Category = tuple[str, Decimal]  # Code and rate.


@dataclass(slots=True)
class Creditable:
    """A line of the invoice, and what of it is left to be credited."""

    position: int
    category: Category
    left: int


@dataclass(slots=True)
class Billed:
    """What the invoice charged in a category, and what of it was credited before. Net."""

    taxable: int
    before: int


def taken_back(
    wanted: Mapping[int, int], lines: Sequence[Creditable], billed: Mapping[Category, Billed]
) -> dict[Category, tuple[int, int]]:
    """(net, tax) by category. Raises CreditExceedsInvoice, CreditExceedsTax.

    The tax is that of everything credited so far, less what was credited before: notes over the whole of a
    category give back its tax to the last minor unit.
    """
    known = {line.position: line for line in lines}
    nets: dict[Category, int] = {}
    for position, net in wanted.items():
        line = known.get(position)
        if line is None or not 0 < net <= line.left:
            raise CreditExceedsInvoice(position=position, left=line.left if line else 0, wanted=net)
        nets[line.category] = nets.get(line.category, 0) + net
    made = {}
    for category, net in nets.items():
        percent, earlier, most = category[1], billed[category].before, billed[category].taxable
        if earlier + net > most:
            raise CreditExceedsTax(code=category[0], rate=percent, left=most - earlier, wanted=net)
        made[category] = (net, tax_on(earlier + net, percent) - tax_on(earlier, percent))
    return made
