"""Credit notes."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.billing.domain.credit_note import CreditNote, CreditNoteLine, CreditNoteTax, UnknownCreditNote
from services.chassis.db import AnyTx, Tx, execute, fetch, insert_many
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

CREDIT_NOTES = Listing(
    {
        "issue_time": Field(CreditNote.issued_at),
        "credit_note_id": Field(CreditNote.credit_note_id, order=False),
        "customer_id": Field(CreditNote.customer_id, order=False),
        "invoice_id": Field(CreditNote.invoice_id, order=False),
    },
    "issue_time desc",
    "credit_note_id",
)
# Lines of an invoice, and what notes have taken back of each.
CREDITABLE = """
select position, net, tax_code, tax_rate, service_start, service_end, coalesce((
    select sum(n.net) from credit_note_line n join credit_note using (credit_note_id)
    where credit_note.invoice_id = l.invoice_id and n.position = l.position
), 0)::bigint as credited
from invoice_line l where invoice_id = $1 order by position
"""
NAMES = (
    "credit_note_id", "invoice_id", "customer_id", "number", "number_text", "currency", "reason", "net",
    "tax", "gross", "to_credit", "digest", "issued_at",
)  # fmt: skip
WRITE = f"""
insert into credit_note ({", ".join(NAMES)}) values ({", ".join(f"${n}" for n in range(1, len(NAMES) + 1))})
"""
LINE = (
    ("credit_note_id", "uuid"),
    ("position", "integer"),
    ("net", "bigint"),
    ("tax_code", "text"),
    ("tax_rate", "numeric"),
)
TAX = (
    ("credit_note_id", "uuid"),
    ("tax_code", "text"),
    ("tax_rate", "numeric"),
    ("taxable", "bigint"),
    ("tax", "bigint"),
    ("note", "text"),
)


async def creditable(tx: AnyTx, invoice_id: UUID) -> Sequence[Any]:
    """The invoice is locked."""
    return await fetch(tx, CREDITABLE, invoice_id)


async def notes_of_taxes(tx: AnyTx, invoice_id: UUID) -> dict[Any, str]:
    """Why there is no tax, by code and rate."""
    rows = await fetch(
        tx, "select tax_code, tax_rate, note from invoice_tax where invoice_id = $1", invoice_id
    )
    return {(row["tax_code"], row["tax_rate"]): row["note"] for row in rows}


async def digest(tx: AnyTx, credit_note_id: UUID) -> bytes | None:
    """Of the request that made it; None: there is no such note."""
    rows = await fetch(tx, "select digest from credit_note where credit_note_id = $1", credit_note_id)
    return bytes(rows[0]["digest"]) if rows else None


async def write(
    tx: AnyTx, note: CreditNote, lines: Sequence[Sequence[Any]], taxes: Sequence[Sequence[Any]]
) -> None:
    await execute(tx, WRITE, *(getattr(note, name) for name in NAMES))
    await insert_many(tx, "credit_note_line", LINE, lines)
    await insert_many(tx, "credit_note_tax", TAX, taxes)


async def get(tx: Tx, credit_note_id: UUID, customer_id: UUID | None = None) -> CreditNote:
    """Raises UnknownCreditNote, also of another customer."""
    row = await tx.get(CreditNote, credit_note_id)
    if row is None or (customer_id and row.customer_id != customer_id):
        raise UnknownCreditNote(credit_note_id=credit_note_id)
    return row


async def lines(tx: Tx, credit_note_id: UUID) -> Sequence[CreditNoteLine]:
    wanted = select(CreditNoteLine).where(CreditNoteLine.credit_note_id == credit_note_id)
    return (await tx.scalars(wanted.order_by(CreditNoteLine.position))).all()


async def taxes(tx: Tx, credit_note_id: UUID) -> Sequence[CreditNoteTax]:
    wanted = select(CreditNoteTax).where(CreditNoteTax.credit_note_id == credit_note_id)
    return (await tx.scalars(wanted.order_by(CreditNoteTax.tax_code, CreditNoteTax.tax_rate))).all()


async def page(tx: Tx, page: Page, customer_id: UUID | None) -> tuple[Sequence[CreditNote], str]:
    """Rows, and the next page's token."""
    wanted = select(CreditNote)
    if customer_id:
        wanted = wanted.where(CreditNote.customer_id == customer_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())
