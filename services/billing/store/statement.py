"""A customer's account, read off invoices, payments and credit notes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.billing.domain.statement import ENTRIES_MAX
from services.chassis.db import AnyTx, fetch

# What changed what a customer owes, each with its sign. What was written off is still owed.
ENTRIES = """
select 'INVOICE' as kind, issued_at as at, invoice_id, number_text as number, gross as amount, 1 as place
from invoice where customer_id = $1 and currency = $2 and issued_at is not null
union all
select 'CREDIT', issued_at, invoice_id, number_text, -credit_applied, 2
from invoice where customer_id = $1 and currency = $2 and issued_at is not null and credit_applied > 0
union all
select case when p.disputed then 'DISPUTE' else 'PAYMENT' end, p.paid_at, invoice_id, i.number_text,
    -p.applied, 3
from invoice_payment p join invoice i using (invoice_id)
where customer_id = $1 and currency = $2 and p.applied <> 0
union all
select 'CREDIT_NOTE', n.issued_at, invoice_id, n.number_text, n.to_credit - n.gross, 4
from credit_note n where customer_id = $1 and currency = $2 and n.gross > n.to_credit
union all
select 'VOID', ended_at, invoice_id, number_text, credit_applied - gross, 5
from invoice where customer_id = $1 and currency = $2 and state = 'VOID'
"""
BEFORE = f"select coalesce(sum(amount), 0)::bigint as balance from ({ENTRIES}) as entry where at < $3"
WITHIN = f"""
select * from ({ENTRIES}) as entry where at >= $3 and at < $4
order by at, place, number limit {ENTRIES_MAX + 1}
"""


async def balance(tx: AnyTx, customer_id: UUID, currency: str, before: datetime) -> int:
    """What is owed just before a time."""
    return int((await fetch(tx, BEFORE, customer_id, currency, before))[0]["balance"])


async def entries(
    tx: AnyTx, customer_id: UUID, currency: str, start: datetime, end: datetime
) -> Sequence[Any]:
    """In order of time; one more than ENTRIES_MAX says that there are too many."""
    return await fetch(tx, WITHIN, customer_id, currency, start, end)
