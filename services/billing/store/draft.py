"""Drafts of invoices, made by hand: they have lines, and no number, tax or total yet."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.billing.domain.totals import Line
from services.billing.store.issue import LINE
from services.chassis.db import AnyTx, execute, fetch, insert_many

WRITE = """
insert into invoice (
    invoice_id, customer_id, kind, state, series, currency, country, net, discount, tax, gross,
    credit_applied, amount_paid, credited, credited_due, memo, collection, net_days, digest, created_at
) values ($1, $2, $3, 'DRAFT', $4, $5, $6, 0, 0, 0, 0, 0, 0, 0, 0, $7, $8, $9, $10, $11)
on conflict do nothing returning invoice_id
"""


async def write(tx: AnyTx, draft: Any, profile: Any) -> bool:
    """False when its id is taken."""
    values = (draft.invoice_id, draft.customer_id, draft.kind, profile["series"], draft.currency)
    terms = (profile["country"], draft.memo, profile["collection"], draft.net_days, draft.digest)
    if not await fetch(tx, WRITE, *values, *terms, draft.created_at):
        return False
    await _lines(tx, draft.invoice_id, draft.lines)
    return True


async def replace(tx: AnyTx, invoice_id: UUID, lines: Sequence[Line], memo: str) -> None:
    """The draft is locked."""
    await execute(tx, "delete from invoice_line where invoice_id = $1", invoice_id)
    await execute(tx, "update invoice set memo = $2 where invoice_id = $1", invoice_id, memo)
    await _lines(tx, invoice_id, lines)


async def _lines(tx: AnyTx, invoice_id: UUID, lines: Sequence[Line]) -> None:
    rows = [
        (
            invoice_id, position, line.line_id, None, line.charge, line.sku, line.description, line.units,
            line.unit_price, line.amount, 0, line.amount, line.tax_category, line.supply, "",
            line.rate.percent, line.start, line.end,
        )
        for position, line in enumerate(lines, 1)
    ]  # fmt: skip
    await insert_many(tx, "invoice_line", LINE, rows)


async def lines(tx: AnyTx, invoice_id: UUID) -> list[Line]:
    """The draft is locked."""
    sql = "select * from invoice_line where invoice_id = $1 order by position"
    return [
        Line(
            description=row["description"],
            amount=row["amount"],
            tax_category=row["tax_category"],
            supply=row["supply"],
            charge=row["charge"],
            sku=row["sku"],
            units=row["units"],
            unit_price=row["unit_price"],
            start=row["service_start"],
            end=row["service_end"],
            line_id=row["line_id"],
        )
        for row in await fetch(tx, sql, invoice_id)
    ]
