"""What a lost dispute undoes: money that had paid an invoice is the customer's again, and the debt is back.

Credit that payments of the same invoice left goes first: who paid twice and takes one payment back owes
nothing. What is beyond opens the invoice again. What was spent as credit on other invoices is not undone
there: those are final.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from services.billing import settling
from services.billing.domain.credit import Balance, Source
from services.billing.domain.dispute import LostDispute, takeable
from services.billing.domain.invoice import Invoice, InvoicePayment, InvoiceState
from services.billing.store import dispute as store, invoice as invoices, issue, profile
from services.chassis.db import AnyTx
from services.chassis.money import Money


async def lost(tx: AnyTx, dispute: LostDispute, now: datetime) -> None:
    """Once for each dispute. Raises UnknownInvoice."""
    invoice = await invoices.lock(tx, dispute.invoice_id)
    if invoice.state != InvoiceState.DRAFT and dispute.amount and await store.note(tx, dispute):
        await take_back(tx, invoice, dispute.intent_id, now)


async def take_back(tx: AnyTx, invoice: Invoice, intent_id: UUID, now: datetime) -> None:
    """Undoes what disputes of a payment have lost, as far as its money was heard of. The invoice is locked.

    The rest waits for the capture: events of different kinds have no order.
    """
    disputes = await store.of_intent(tx, intent_id)
    if not disputes:
        return
    brought = await store.brought(tx, invoice.invoice_id, intent_id)
    taken = sum(row["taken"] for row in disputes)
    for row in disputes:
        if back := takeable(row["amount"], row["taken"], brought, taken):
            taken += back
            await _undo(tx, invoice, row, back, now)


async def _undo(tx: AnyTx, invoice: Invoice, row: Any, back: int, now: datetime) -> None:
    await profile.lock(tx, invoice.customer_id)
    of_credit = await _withdraw(tx, invoice, Money(back, row["currency"]), now)
    same = row["currency"] == invoice.currency
    reopened = min(back - of_credit, invoice.amount_paid) if same else 0
    part = uuid5(row["dispute_id"], str(row["taken"])) if row["taken"] else row["dispute_id"]
    gone = InvoicePayment(
        payment_id=part,
        invoice_id=invoice.invoice_id,
        intent_id=row["intent_id"],
        amount=-back,
        applied=-reopened,
        gateway=row["gateway"],
        disputed=True,
        paid_at=row["at"],
    )
    await invoices.pay(tx, gone)
    await store.took(tx, row["dispute_id"], back)
    if reopened:
        await settling.reopen(tx, invoice, reopened, now)


async def _withdraw(tx: AnyTx, invoice: Invoice, wanted: Money, now: datetime) -> int:
    """Spends credit that payments of the invoice left. Returns how much there was."""
    came = await store.came(tx, invoice.invoice_id)
    ids = [settling.credit_id_of(Source.OVERPAYMENT, payment_id) for payment_id in came]
    left, used = wanted.minor, []
    for row in await store.unspent(tx, ids, wanted.currency):
        balance = Balance(row["credit_id"], row["remaining"])
        left -= balance.pay(left)
        used += [balance] * balance.used
    await issue.spend(tx, used)
    await settling.withdrawn(tx, invoice, Money(wanted.minor - left, wanted.currency), now)
    return wanted.minor - left
