"""Invoices: read, locked, paid for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.billing.domain.invoice import (
    Invoice,
    InvoiceKind,
    InvoiceLine,
    InvoiceParty,
    InvoicePayment,
    InvoiceState,
    InvoiceTax,
    UnknownInvoice,
)
from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

INVOICES = Listing(
    {
        "create_time": Field(Invoice.created_at),
        "invoice_id": Field(Invoice.invoice_id, order=False),
        "issue_time": Field(Invoice.issued_at, nullable=True),
        "due_time": Field(Invoice.due_at, nullable=True, order=False),
        "customer_id": Field(Invoice.customer_id, order=False),
        "state": Field(Invoice.state, order=False, values={each.value: each.value for each in InvoiceState}),
        "kind": Field(Invoice.kind, order=False, values={each.value: each.value for each in InvoiceKind}),
        "number": Field(Invoice.number_text, nullable=True, order=False),
        "currency": Field(Invoice.currency, order=False),
        "run_id": Field(Invoice.run_id, nullable=True, order=False),
    },
    "create_time desc",
    "invoice_id",
)
LOCKED = "select * from invoice where invoice_id = $1 for update"
MOVE = """
update invoice set state = $2, paid_at = $3, ended_at = $4, amount_paid = $5, credited = $6, credited_due = $7
where invoice_id = $1
"""
PAY = """
insert into invoice_payment (payment_id, invoice_id, intent_id, amount, applied, gateway, disputed, paid_at)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing returning payment_id
"""
CREDITS = "select credit_id, amount from invoice_credit where invoice_id = $1"


async def lock(tx: AnyTx, invoice_id: UUID) -> Invoice:
    """A copy of the row, which is locked; `put` writes what may change of it. Raises UnknownInvoice."""
    rows = await fetch(tx, LOCKED, invoice_id)
    if not rows:
        raise UnknownInvoice(invoice_id=invoice_id)
    return Invoice(**dict(rows[0]))


async def put(tx: AnyTx, row: Invoice) -> None:
    values = (row.paid_at, row.ended_at, row.amount_paid, row.credited, row.credited_due)
    await execute(tx, MOVE, row.invoice_id, row.state, *values)


async def pay(tx: AnyTx, payment: InvoicePayment) -> bool:
    """False when it is known."""
    ids = (payment.payment_id, payment.invoice_id, payment.intent_id)
    values = (payment.amount, payment.applied, payment.gateway, bool(payment.disputed), payment.paid_at)
    return bool(await fetch(tx, PAY, *ids, *values))


async def payment(tx: AnyTx, payment_id: UUID) -> Any:
    """The row, or None."""
    rows = await fetch(tx, "select * from invoice_payment where payment_id = $1", payment_id)
    return rows[0] if rows else None


async def get(tx: Tx, invoice_id: UUID, customer_id: UUID | None = None) -> Invoice:
    """Raises UnknownInvoice, also of another customer."""
    row = await tx.get(Invoice, invoice_id, populate_existing=True)
    if row is None or (customer_id and row.customer_id != customer_id):
        raise UnknownInvoice(invoice_id=invoice_id)
    return row


async def lines(tx: Tx, invoice_id: UUID) -> Sequence[InvoiceLine]:
    wanted = select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id).order_by(InvoiceLine.position)
    return (await tx.scalars(wanted)).all()


async def taxes(tx: Tx, invoice_id: UUID) -> Sequence[InvoiceTax]:
    wanted = select(InvoiceTax).where(InvoiceTax.invoice_id == invoice_id)
    return (await tx.scalars(wanted.order_by(InvoiceTax.tax_code, InvoiceTax.tax_rate))).all()


async def payments(tx: Tx, invoice_id: UUID) -> Sequence[InvoicePayment]:
    wanted = select(InvoicePayment).where(InvoicePayment.invoice_id == invoice_id)
    return (await tx.scalars(wanted.order_by(InvoicePayment.paid_at, InvoicePayment.payment_id))).all()


async def party(tx: Tx, invoice_id: UUID) -> InvoiceParty | None:
    return await tx.get(InvoiceParty, invoice_id)


async def page(tx: Tx, page: Page, customer_id: UUID | None) -> tuple[Sequence[Invoice], str]:
    """Rows, and the next page's token."""
    wanted = select(Invoice)
    if customer_id:
        wanted = wanted.where(Invoice.customer_id == customer_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def credits_used(tx: AnyTx, invoice_id: UUID) -> Mapping[UUID, int]:
    """What credit paid for it."""
    rows = await fetch(tx, CREDITS, invoice_id)
    return Counter({row["credit_id"]: row["amount"] for row in rows})


async def forget_lines(tx: AnyTx, invoice_id: UUID) -> None:
    """Of a draft."""
    await execute(tx, "delete from invoice_line where invoice_id = $1", invoice_id)


async def forget(tx: AnyTx, invoice_id: UUID) -> None:
    """A draft."""
    await forget_lines(tx, invoice_id)
    await execute(tx, "delete from invoice where invoice_id = $1 and state = 'DRAFT'", invoice_id)


async def erase_contact(tx: AnyTx, customer_id: UUID) -> None:
    """What the law does not want kept of invoices that it does."""
    sql = """update invoice_party set email = '' from invoice
        where invoice.invoice_id = invoice_party.invoice_id and customer_id = $1 and email <> ''"""
    await execute(tx, sql, customer_id)
