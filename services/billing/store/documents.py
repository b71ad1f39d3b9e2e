"""Documents, and what they are made of."""

from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from services.billing.domain.credit_note import UnknownCreditNote
from services.billing.domain.document_file import DocumentContent, DocumentFile, Format
from services.billing.domain.invoice import UnknownInvoice
from services.billing.store.once import written
from services.chassis.db import Database, Tx, fetch

FILED_INVOICE = """
select customer_id, state, sha256, electronic, broken_rules, content
from invoice left join document on subject_id = invoice_id and format = $2
left join document_content using (sha256) where invoice_id = $1
"""
FILED_NOTE = """
select customer_id, '' as state, sha256, electronic, broken_rules, content
from credit_note left join document on subject_id = credit_note_id and format = $2
left join document_content using (sha256) where credit_note_id = $1
"""
INVOICE = """
select invoice.*, coalesce(time_zone, 'UTC') as time_zone
from invoice left join billing_profile using (customer_id) where invoice_id = $1
"""
PARTY = "select * from invoice_party where invoice_id = $1"
LINES = "select * from invoice_line where invoice_id = $1 order by position"
TAXES = "select * from invoice_tax where invoice_id = $1 order by tax_code, tax_rate desc"
CREDIT_NOTE = "select * from credit_note where credit_note_id = $1"
CREDIT_LINES = """
select made.*, description, sku, units, unit_price, amount, service_start, service_end
from credit_note_line as made join credit_note using (credit_note_id)
join invoice_line as line on line.invoice_id = credit_note.invoice_id and line.position = made.position
where credit_note_id = $1 order by made.position
"""
CREDIT_TAXES = "select * from credit_note_tax where credit_note_id = $1 order by tax_code, tax_rate desc"


@dataclass(frozen=True)
class Source:
    """Rows of an invoice, and of a credit note about it where that is meant."""

    invoice: Any
    party: Any  # None: nobody was addressed.
    lines: Any
    taxes: Any
    note: Any = None


async def invoice(tx: Tx, invoice_id: UUID) -> Source:
    """Raises UnknownInvoice."""
    found = await fetch(tx, INVOICE, invoice_id)
    if not found:
        raise UnknownInvoice(invoice_id=invoice_id)
    party, lines = await fetch(tx, PARTY, invoice_id), await fetch(tx, LINES, invoice_id)
    return Source(found[0], party[0] if party else None, lines, await fetch(tx, TAXES, invoice_id))


async def credit_note(tx: Tx, credit_note_id: UUID) -> Source:
    """Raises UnknownCreditNote."""
    found = await fetch(tx, CREDIT_NOTE, credit_note_id)
    if not found:
        raise UnknownCreditNote(credit_note_id=credit_note_id)
    about = await invoice(tx, found[0]["invoice_id"])
    lines = await fetch(tx, CREDIT_LINES, credit_note_id)
    taxes = await fetch(tx, CREDIT_TAXES, credit_note_id)
    return Source(about.invoice, about.party, lines, taxes, note=found[0])


class Filed(NamedTuple):
    """What is told before a document is given out; without `content` it is to be made yet."""

    customer_id: UUID
    state: str  # Of an invoice.
    sha256: bytes | None
    electronic: bool | None
    broken_rules: list[str] | None
    content: bytes | None


async def filed_invoice(db: Database, invoice_id: UUID, format: Format) -> Filed:
    """Raises UnknownInvoice."""
    if (row := await db.fetchrow(FILED_INVOICE, invoice_id, format)) is None:
        raise UnknownInvoice(invoice_id=invoice_id)
    return Filed(**row)


async def filed_note(db: Database, credit_note_id: UUID, format: Format) -> Filed:
    """Raises UnknownCreditNote."""
    if (row := await db.fetchrow(FILED_NOTE, credit_note_id, format)) is None:
        raise UnknownCreditNote(credit_note_id=credit_note_id)
    return Filed(**row)


async def kept(tx: Tx, subject_id: UUID, format: Format) -> tuple[DocumentFile, bytes]:
    """A document that was made, with its bytes."""
    row = await tx.get_one(DocumentFile, (subject_id, format))
    return row, (await tx.get_one(DocumentContent, row.sha256)).content


async def keep(tx: Tx, row: DocumentFile, content: bytes) -> bool:
    """False when somebody else's was first."""
    await written(tx, DocumentContent(sha256=row.sha256, content=content))
    return await written(tx, row)
