"""Lost disputes, and what they undo. Their invoice is locked."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any
from uuid import UUID

from services.billing.domain.dispute import LostDispute
from services.chassis.db import AnyTx, execute, fetch

NOTE = """
insert into lost_dispute (dispute_id, intent_id, invoice_id, currency, amount, gateway, at, taken)
values ($1, $2, $3, $4, $5, $6, $7, 0) on conflict do nothing returning dispute_id
"""
OF_INTENT = "select * from lost_dispute where intent_id = $1 order by at, dispute_id"
TOOK = "update lost_dispute set taken = taken + $2 where dispute_id = $1"
# Rows from before intents were noted may be of any.
BROUGHT = """
select coalesce(sum(amount), 0)::bigint as brought from invoice_payment
where invoice_id = $1 and amount > 0 and (intent_id = $2 or intent_id is null and gateway <> '')
"""
CAME = "select payment_id from invoice_payment where invoice_id = $1 and amount > 0"
UNSPENT = """
select credit_id, remaining from credit
where credit_id = any($1) and currency = $2 and remaining > 0 order by created_at, credit_id
"""


async def note(tx: AnyTx, lost: LostDispute) -> bool:
    """False when it is known."""
    return bool(await fetch(tx, NOTE, *astuple(lost)))


async def of_intent(tx: AnyTx, intent_id: UUID) -> Sequence[Any]:
    """Oldest first."""
    return await fetch(tx, OF_INTENT, intent_id)


async def took(tx: AnyTx, dispute_id: UUID, amount: int) -> None:
    await execute(tx, TOOK, dispute_id, amount)


async def brought(tx: AnyTx, invoice_id: UUID, intent_id: UUID) -> int:
    """What a payment is known to have brought for its invoice."""
    return int((await fetch(tx, BROUGHT, invoice_id, intent_id))[0]["brought"])


async def came(tx: AnyTx, invoice_id: UUID) -> list[UUID]:
    """Ids of all payments of an invoice."""
    return [row["payment_id"] for row in await fetch(tx, CAME, invoice_id)]


async def unspent(tx: AnyTx, credit_ids: Sequence[UUID], currency: str) -> Sequence[Any]:
    """What is left of these credits. Their customer is locked."""
    return await fetch(tx, UNSPENT, list(credit_ids), currency)
