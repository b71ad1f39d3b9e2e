"""What other services announce, booked: each event once, by ids derived from it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from services.chassis.db import Tx
from services.chassis.errors import Refusal
from services.chassis.events import Envelope, emit
from services.chassis.inbox import Every, Handler
from services.chassis.money import money_from_pb
from services.ledger.domain import posting as rules
from services.ledger.domain.posting import Posting
from services.ledger.house import ensure
from services.ledger.journal import Journal
from services.ledger.store import memo as memos
from weft.billing.v1 import events_pb2 as billing
from weft.identity.v1.events_pb2 import UserDeleted
from weft.ledger.v1.events_pb2 import MemosShredded
from weft.order.v1 import events_pb2 as order
from weft.payment.v1 import events_pb2 as payment

GRANT = "GRANT"  # The source of a credit that nobody paid for.


class Postings:
    """Handlers by event."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def consumers(self) -> Mapping[type[Message] | Every, Handler]:
        return {
            order.OrderConfirmed: self.order_confirmed,
            order.OrderRefunded: self.order_refunded,
            payment.PaymentCaptured: self.payment_captured,
            payment.PaymentRefunded: self.payment_refunded,
            payment.WalletChanged: self.wallet_changed,
            payment.DisputeOpened: self.dispute_opened,
            payment.DisputeWon: self.dispute_won,
            payment.DisputeLost: self.dispute_lost,
            billing.InvoiceFinalised: self.invoice_finalised,
            billing.InvoiceVoided: self.invoice_voided,
            billing.InvoiceWrittenOff: self.invoice_written_off,
            billing.CreditNoteIssued: self.credit_note_issued,
            billing.CreditGranted: self.credit_granted,
            UserDeleted: self.user_deleted,
        }

    async def order_confirmed(self, event: order.OrderConfirmed, of: Envelope, tx: Tx) -> None:
        made = rules.sale(money_from_pb(event.net_total), money_from_pb(event.tax_total))
        await self._book(tx, made, of, f"order:{event.order_id}", event)

    async def order_refunded(self, event: order.OrderRefunded, of: Envelope, tx: Tx) -> None:
        made = rules.sale_returned(money_from_pb(event.net), money_from_pb(event.tax))
        await self._book(tx, made, of, f"order:{event.order_id}", event)

    async def payment_captured(self, event: payment.PaymentCaptured, of: Envelope, tx: Tx) -> None:
        rule = rules.topped_up if event.top_up else rules.payment
        made = rule(money_from_pb(event.amount), event.gateway)
        await self._book(tx, made, of, event.reference, event)

    async def payment_refunded(self, event: payment.PaymentRefunded, of: Envelope, tx: Tx) -> None:
        made = rules.payment_returned(money_from_pb(event.amount), event.gateway)
        await self._book(tx, made, of, event.reference, event)

    async def wallet_changed(self, event: payment.WalletChanged, of: Envelope, tx: Tx) -> None:
        made = rules.wallet_changed(money_from_pb(event.amount), event.reason, event.reference)
        await self._book(tx, made, of, event.reference, event)

    async def dispute_opened(self, event: payment.DisputeOpened, of: Envelope, tx: Tx) -> None:
        fee = money_from_pb(event.fee) if event.HasField("fee") else money_from_pb(event.amount).times(0)
        made = rules.dispute_opened(money_from_pb(event.amount), fee, event.gateway)
        await self._book(tx, made, of, event.reference, event)

    async def dispute_won(self, event: payment.DisputeWon, of: Envelope, tx: Tx) -> None:
        made = rules.dispute_won(money_from_pb(event.amount), event.gateway)
        await self._book(tx, made, of, event.reference, event)

    async def dispute_lost(self, event: payment.DisputeLost, of: Envelope, tx: Tx) -> None:
        await self._book(tx, rules.dispute_lost(money_from_pb(event.amount)), of, event.reference, event)

    async def invoice_finalised(self, event: billing.InvoiceFinalised, of: Envelope, tx: Tx) -> None:
        made = rules.invoice(money_from_pb(event.net), money_from_pb(event.tax))
        await self._book(tx, made, of, f"invoice:{event.invoice_id}", event)

    async def invoice_voided(self, event: billing.InvoiceVoided, of: Envelope, tx: Tx) -> None:
        made = rules.invoice_credited(money_from_pb(event.net), money_from_pb(event.tax))
        await self._book(tx, made, of, f"invoice:{event.invoice_id}", event)

    async def invoice_written_off(self, event: billing.InvoiceWrittenOff, of: Envelope, tx: Tx) -> None:
        made = rules.written_off(money_from_pb(event.amount))
        await self._book(tx, made, of, f"invoice:{event.invoice_id}", event)

    async def credit_note_issued(self, event: billing.CreditNoteIssued, of: Envelope, tx: Tx) -> None:
        made = rules.invoice_credited(money_from_pb(event.net), money_from_pb(event.tax))
        await self._book(tx, made, of, f"invoice:{event.invoice_id}", event)

    async def credit_granted(self, event: billing.CreditGranted, of: Envelope, tx: Tx) -> None:
        if event.source == GRANT:
            made = rules.granted(money_from_pb(event.amount))
            await self._book(tx, made, of, f"credit:{event.credit_id}", event)

    async def user_deleted(self, event: UserDeleted, of: Envelope, tx: Tx) -> None:
        """What the memos say of that person can be read no more."""
        if await memos.shred(tx, event.user_id):
            await emit(tx, MemosShredded(memo_owner_id=event.user_id))

    async def _book(
        self, tx: Tx, postings: Sequence[Posting], of: Envelope, reference: str, event: Any
    ) -> None:
        """Raises the refusal of the first posting that is refused; then none of them stands."""
        await ensure(tx, rules.houses(postings))
        effective = _effective(event) or of.at
        outcomes = await self._journal.record(tx, rules.transfers(postings, of.id, reference, effective))
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                raise outcome


def _effective(event: Any) -> datetime | None:
    """When it happened in business terms; None where the event does not say."""
    if "effective_time" not in event.DESCRIPTOR.fields_by_name or not event.HasField("effective_time"):
        return None
    at: datetime = event.effective_time.ToDatetime(UTC)
    return at
