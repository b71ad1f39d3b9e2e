"""What billing does when others announce something: payments of its invoices, and people who leave."""

from datetime import UTC
from uuid import UUID

from services.billing import disputing, settling
from services.billing.changing import Changing
from services.billing.domain.dispute import LostDispute
from services.billing.domain.dunning import ActionState
from services.billing.domain.invoice import InvoiceNotPayable, InvoicePayment, UnknownInvoice
from services.billing.store import (
    dunning,
    invoice as invoices,
    profile as profiles,
    subscription as subscriptions,
    tax_number,
)
from services.chassis.clock import Clock
from services.chassis.db import Tx
from services.chassis.events import Envelope
from weft.identity.v1.events_pb2 import UserDeleted
from weft.money.v1.money_pb2 import Money
from weft.payment.v1 import events_pb2 as payment

LATE = "late"  # Why payment gave back what came after its intent was cancelled.
PREFIX = "invoice:"  # Of references to invoices, as payment keeps them.


def invoice_of(reference: str) -> UUID | None:
    """None: it is about something else."""
    try:
        return UUID(reference.removeprefix(PREFIX)) if reference.startswith(PREFIX) else None
    except ValueError:
        return None


class Hearing:
    """Handlers of events; each may come again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def captured(self, event: payment.PaymentCaptured, envelope: Envelope, tx: Tx) -> None:
        """An invoice is paid, or part of it."""
        invoice_id = invoice_of(event.reference)
        if invoice_id is None or event.top_up or await dunning.was_cancelled(tx, UUID(event.intent_id)):
            return
        came = _payment(event.capture_id, invoice_id, event.amount, event)
        now = self._clock.now()
        try:
            invoice = await settling.paid(tx, came, event.amount.currency, now)
            await disputing.take_back(tx, invoice, UUID(event.intent_id), now)
        except (UnknownInvoice, InvoiceNotPayable):
            return  # Nobody of ours asked for it: payment and ledger have it in their books.
        await self._ended(tx, event.intent_id, ActionState.DONE, "")

    async def refunded(self, event: payment.PaymentRefunded, envelope: Envelope, tx: Tx) -> None:
        invoice_id = invoice_of(event.reference)
        if invoice_id is None or event.reason == LATE:
            return
        back = _payment(event.refund_id, invoice_id, event.amount, event)
        try:
            await settling.refunded(tx, back, event.amount.currency, self._clock.now())
        except UnknownInvoice:
            return

    async def dispute_lost(self, event: payment.DisputeLost, envelope: Envelope, tx: Tx) -> None:
        """What the payment had covered is owed again. It may come before the payment does."""
        invoice_id = invoice_of(event.reference)
        if invoice_id is None or event.top_up:
            return
        gone = LostDispute(
            dispute_id=UUID(event.dispute_id),
            intent_id=UUID(event.intent_id),
            invoice_id=invoice_id,
            currency=event.amount.currency,
            amount=event.amount.amount_minor,
            gateway=event.gateway,
            at=envelope.at,
        )
        try:
            await disputing.lost(tx, gone, self._clock.now())
        except UnknownInvoice:
            return

    async def failed(self, event: payment.PaymentFailed, envelope: Envelope, tx: Tx) -> None:
        """An attempt came to nothing; the next one is planned."""
        if invoice_of(event.reference):
            await self._ended(tx, event.intent_id, ActionState.FAILED, event.reason)

    async def cancelled(self, event: payment.PaymentCancelled, envelope: Envelope, tx: Tx) -> None:
        """Whatever still comes of it is given back by payment, and pays nothing."""
        if invoice_of(event.reference):
            await dunning.cancelled(tx, UUID(event.intent_id), self._clock.now())
            await self._ended(tx, event.intent_id, ActionState.FAILED, event.reason)

    async def _ended(self, tx: Tx, intent_id: str, state: ActionState, detail: str) -> None:
        await dunning.end(tx, UUID(intent_id), state, detail, self._clock.now())


def _payment(
    payment_id: str, invoice_id: UUID, amount: Money, event: payment.PaymentCaptured | payment.PaymentRefunded
) -> InvoicePayment:
    return InvoicePayment(
        payment_id=UUID(payment_id),
        invoice_id=invoice_id,
        intent_id=UUID(event.intent_id),
        amount=amount.amount_minor,
        applied=0,
        gateway=event.gateway,
        disputed=False,
        paid_at=event.effective_time.ToDatetime(UTC),
    )


class Leaving:
    """What is left to do for people who leave."""

    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def left(self, event: UserDeleted, envelope: Envelope, tx: Tx) -> None:
        """Subscriptions end, and what is owed until now is invoiced; then it is forgotten where to.

        Of finalised invoices the law wants name and address kept.
        """
        customer_id = UUID(event.user_id)
        for sub in await subscriptions.living(tx, customer_id):
            await self._changing.cancel(tx, sub, now=True, credit=False)
        await profiles.erase(tx, customer_id)
        await invoices.erase_contact(tx, customer_id)
        await tax_number.erase(tx, customer_id)
