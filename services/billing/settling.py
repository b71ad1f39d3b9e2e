"""What settles an invoice: payments, credit notes, voiding, writing off; and what that sets free."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from google.protobuf.timestamp_pb2 import Timestamp

from services.billing.domain.credit import Balance, Credit, Source
from services.billing.domain.dunning import Outcome, begun_again, policy_of, worst
from services.billing.domain.invoice import (
    PAYABLE,
    Invoice,
    InvoiceIsPaidInPart,
    InvoiceNotPayable,
    InvoicePayment,
    InvoiceState,
    PaymentIdReused,
)
from services.billing.domain.profile import Standing
from services.billing.store import credit as credits, dunning, invoice as store, issue, profile
from services.chassis.db import AnyTx, execute
from services.chassis.events import emit
from services.chassis.money import Money
from weft.billing.v1 import events_pb2 as events
from weft.money.v1.money_pb2 import Money as WireMoney

SURPLUS = UUID("8a0ff4f8-3a15-4c27-9f0b-5f6d3b1f2a70")  # Of credits derived from a payment or an invoice.


async def paid(tx: AnyTx, payment: InvoicePayment, currency: str, now: datetime) -> Invoice:
    """Applies money that came. A payment that is known changes nothing.

    What is more than is due, or comes when nothing is, becomes the customer's credit. Raises UnknownInvoice,
    InvoiceNotPayable for drafts, PaymentIdReused.
    """
    invoice = await store.lock(tx, payment.invoice_id)
    if invoice.state == InvoiceState.DRAFT:
        raise InvoiceNotPayable(invoice_id=invoice.invoice_id, state=invoice.state)
    same = currency == invoice.currency
    payment.applied = min(payment.amount, invoice.due) if same else 0
    written_off = invoice.state == InvoiceState.UNCOLLECTIBLE
    if not await store.pay(tx, payment):
        known = await store.payment(tx, payment.payment_id)
        if (known["invoice_id"], known["amount"]) != (payment.invoice_id, payment.amount):
            raise PaymentIdReused(payment_id=payment.payment_id)
        return invoice
    invoice.amount_paid += payment.applied
    if written_off:
        await recovered(tx, invoice, payment.applied, payment.paid_at)
    await settle(tx, invoice, now, payment.paid_at)
    if surplus := payment.amount - payment.applied:
        await grant(tx, invoice, Money(surplus, currency), Source.OVERPAYMENT, payment.payment_id, now)
    return invoice


async def refunded(tx: AnyTx, payment: InvoicePayment, currency: str, now: datetime) -> None:
    """Money went back: credit that the customer has of the same money is spent by it."""
    invoice = await store.lock(tx, payment.invoice_id)
    payment.amount, payment.applied, back = -payment.amount, 0, payment.amount
    if not await store.pay(tx, payment):
        return
    await profile.lock(tx, invoice.customer_id)
    found = await issue.balances(tx, [invoice.customer_id], now)
    used: list[Balance] = []
    left = back
    for balance in found.get((invoice.customer_id, currency), []):
        if balance.own:  # What was given for nothing is no money that could go back.
            left -= balance.pay(left)
            used += [balance] * balance.used
    await issue.spend(tx, used)
    await withdrawn(tx, invoice, Money(back - left, currency), now)


async def settle(tx: AnyTx, invoice: Invoice, now: datetime, at: datetime) -> None:
    """Writes the invoice; it is paid if nothing is due any more. The invoice is locked."""
    done = invoice.state in PAYABLE and invoice.due == 0
    if done:
        invoice.become(InvoiceState.PAID, now)
    await store.put(tx, invoice)
    if done:
        settled = events.InvoicePaid(
            invoice_id=str(invoice.invoice_id),
            customer_id=str(invoice.customer_id),
            gross=money(invoice.gross, invoice),
            effective_time=stamp(at),
        )
        await emit(tx, settled)
        await finished(tx, invoice, Outcome.PAID, now, clear=True)


async def reopen(tx: AnyTx, invoice: Invoice, amount: int, now: datetime) -> None:
    """So much of what had paid it is gone: it is owed again, or lost if nobody expected it. It is locked."""
    was = InvoiceState(invoice.state)
    invoice.amount_paid -= amount
    if was is InvoiceState.PAID:
        invoice.become(InvoiceState.OPEN, now)
    await store.put(tx, invoice)
    about = {"invoice_id": str(invoice.invoice_id), "customer_id": str(invoice.customer_id)}
    owed: dict[str, Any] = {**about, "amount": money(amount, invoice), "effective_time": stamp(now)}
    await emit(tx, events.InvoiceReopened(**owed))
    if was is InvoiceState.PAID:
        policy = policy_of(await dunning.settings(tx, invoice.invoice_id))
        await dunning.begin_again(tx, invoice.invoice_id, begun_again(policy, now)[0].at, now)
    elif was is InvoiceState.UNCOLLECTIBLE:
        await emit(tx, events.InvoiceWrittenOff(**owed))


async def recovered(tx: AnyTx, invoice: Invoice, amount: int, at: datetime) -> None:
    """Announces that so much of what was written off was not lost."""
    if amount:
        found = events.InvoiceRecovered(
            invoice_id=str(invoice.invoice_id),
            customer_id=str(invoice.customer_id),
            amount=money(amount, invoice),
            effective_time=stamp(at),
        )
        await emit(tx, found)


async def withdrawn(tx: AnyTx, invoice: Invoice, amount: Money, now: datetime) -> None:
    """Announces that credit was used up as money of the invoice went back."""
    if amount:
        gone = events.CreditWithdrawn(
            customer_id=str(invoice.customer_id),
            amount=WireMoney(amount_minor=amount.minor, currency=amount.currency),
            invoice_id=str(invoice.invoice_id),
            effective_time=stamp(now),
        )
        await emit(tx, gone)


async def void(tx: AnyTx, invoice: Invoice, now: datetime) -> None:
    """The invoice is locked. Raises InvoiceTransitionRefused, InvoiceIsPaidInPart."""
    if invoice.state in PAYABLE and (invoice.amount_paid or invoice.credited):
        raise InvoiceIsPaidInPart(invoice_id=invoice.invoice_id, state=invoice.state)
    written_off = invoice.due if invoice.state == InvoiceState.UNCOLLECTIBLE else 0
    invoice.become(InvoiceState.VOID, now)
    await store.put(tx, invoice)
    await recovered(tx, invoice, written_off, now)
    voided = events.InvoiceVoided(
        invoice_id=str(invoice.invoice_id),
        customer_id=str(invoice.customer_id),
        net=money(invoice.net, invoice),
        tax=money(invoice.tax, invoice),
        gross=money(invoice.gross, invoice),
        effective_time=stamp(now),
    )
    await emit(tx, voided)
    await finished(tx, invoice, Outcome.VOIDED, now, clear=True)
    if invoice.credit_applied:
        back = Money(invoice.credit_applied, invoice.currency)
        await grant(tx, invoice, back, Source.VOID, invoice.invoice_id, now)


async def write_off(tx: AnyTx, invoice: Invoice, outcome: Outcome, now: datetime) -> None:
    """The invoice is locked. Raises InvoiceTransitionRefused. What it made of the customer stays."""
    due = invoice.due
    invoice.become(InvoiceState.UNCOLLECTIBLE, now)
    await store.put(tx, invoice)
    lost = events.InvoiceWrittenOff(
        invoice_id=str(invoice.invoice_id),
        customer_id=str(invoice.customer_id),
        amount=money(due, invoice),
        effective_time=stamp(now),
    )
    await emit(tx, lost)
    await finished(tx, invoice, outcome, now, clear=False)


async def finished(tx: AnyTx, invoice: Invoice, outcome: Outcome, now: datetime, *, clear: bool) -> None:
    """The chase is over, once. `clear`: it no longer weighs on the customer."""
    if await dunning.finish(tx, invoice.invoice_id, outcome, now):
        over = events.DunningFinished(
            invoice_id=str(invoice.invoice_id), customer_id=str(invoice.customer_id), outcome=outcome
        )
        await emit(tx, over)
    if clear and await dunning.clear(tx, invoice.invoice_id):
        await restand(tx, invoice.customer_id, invoice.invoice_id)


async def restand(tx: AnyTx, customer_id: UUID, invoice_id: UUID) -> None:
    """The customer stands where its invoices put it."""
    before = Standing((await profile.lock(tx, customer_id))["standing"])
    after = worst(await dunning.standings(tx, customer_id))
    if after is before:
        return
    sql = "update billing_profile set standing = $2, revision = revision + 1 where customer_id = $1"
    await execute(tx, sql, customer_id, after)
    await emit(tx, events.BillingProfileChanged(customer_id=str(customer_id)))
    if after is Standing.SUSPENDED:
        suspended = events.ServiceSuspended(customer_id=str(customer_id), invoice_id=str(invoice_id))
        await emit(tx, suspended)
    elif before is Standing.SUSPENDED:
        await emit(tx, events.ServiceResumed(customer_id=str(customer_id)))


async def grant(
    tx: AnyTx, invoice: Invoice, amount: Money, source: Source, cause: UUID, now: datetime
) -> None:
    """Credit of the invoice's customer; its id is derived from what causes it."""
    row = Credit(
        credit_id=credit_id_of(source, cause),
        customer_id=invoice.customer_id,
        currency=amount.currency,
        amount=amount.minor,
        source=source,
        reason=invoice.number_text or "",
        expires_at=None,
        created_at=now,
    )
    if await credits.grant(tx, row):
        await emit(tx, granted(row))


def credit_id_of(source: Source, cause: UUID) -> UUID:
    """Of credit that follows from a payment, a credit note or an invoice."""
    return uuid5(SURPLUS, f"{source}:{cause}")


def granted(row: Credit) -> events.CreditGranted:
    return events.CreditGranted(
        credit_id=str(row.credit_id),
        customer_id=str(row.customer_id),
        amount=WireMoney(amount_minor=row.amount, currency=row.currency),
        source=row.source,
    )


def money(minor: int, invoice: Invoice) -> WireMoney:
    return WireMoney(amount_minor=minor, currency=invoice.currency)


def stamp(at: datetime) -> Timestamp:
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed
