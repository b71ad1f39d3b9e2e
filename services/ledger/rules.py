"""Which posting rule an event of the business follows: the only place that knows both."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import Message

from services.chassis.money import Money, money_from_pb
from services.ledger.domain import chart, posting
from services.ledger.domain.posting import Posting
from weft.billing.v1 import events_pb2 as billing
from weft.order.v1 import events_pb2 as order
from weft.payment.v1 import events_pb2 as payment


class Booked(NamedTuple):
    """What an event books, and what it is for."""

    reference: str
    postings: list[Posting]


def order_confirmed(event: order.OrderConfirmed) -> Booked:
    made = posting.sale(money_from_pb(event.net_total), money_from_pb(event.tax_total))
    return Booked(f"order:{event.order_id}", made)


def order_refunded(event: order.OrderRefunded) -> Booked:
    made = posting.sale_returned(money_from_pb(event.net), money_from_pb(event.tax))
    return Booked(f"order:{event.order_id}", made)


def payment_captured(event: payment.PaymentCaptured) -> Booked:
    rule = posting.topped_up if event.top_up else posting.payment
    return Booked(event.reference, rule(money_from_pb(event.amount), event.gateway))


def payment_refunded(event: payment.PaymentRefunded) -> Booked:
    return Booked(event.reference, posting.payment_returned(money_from_pb(event.amount), event.gateway))


def wallet_changed(event: payment.WalletChanged) -> Booked:
    made = posting.wallet_changed(money_from_pb(event.amount), event.reason, event.reference)
    return Booked(event.reference, made)


def dispute_opened(event: payment.DisputeOpened) -> Booked:
    amount = money_from_pb(event.amount)
    fee = _or_nothing(event, "fee", amount.currency)
    return Booked(event.reference, posting.dispute_opened(amount, fee, event.gateway))


def dispute_won(event: payment.DisputeWon) -> Booked:
    return Booked(event.reference, posting.dispute_won(money_from_pb(event.amount), event.gateway))


def dispute_lost(event: payment.DisputeLost) -> Booked:
    made = posting.dispute_lost(money_from_pb(event.amount), event.reference, top_up=event.top_up)
    return Booked(event.reference, made)


def invoice_finalised(event: billing.InvoiceFinalised) -> Booked:
    net = money_from_pb(event.net)
    credited, granted = (_or_nothing(event, name, net.currency) for name in ("credited", "granted"))
    made = posting.invoice(net, money_from_pb(event.tax))
    return _of_invoice(event, made + posting.credit_used(credited - granted, granted))


def invoice_payment_recorded(event: billing.InvoicePaymentRecorded) -> Booked:
    return _of_invoice(event, posting.payment(money_from_pb(event.amount), chart.BY_HAND))


def invoice_voided(event: billing.InvoiceVoided) -> Booked:
    made = posting.invoice_credited(money_from_pb(event.net), money_from_pb(event.tax))
    return _of_invoice(event, made)


def invoice_written_off(event: billing.InvoiceWrittenOff) -> Booked:
    return _of_invoice(event, posting.written_off(money_from_pb(event.amount)))


def invoice_recovered(event: billing.InvoiceRecovered) -> Booked:
    return _of_invoice(event, posting.recovered(money_from_pb(event.amount)))


def credit_note_issued(event: billing.CreditNoteIssued) -> Booked:
    made = posting.invoice_credited(money_from_pb(event.net), money_from_pb(event.tax))
    return _of_invoice(event, made)


def credit_granted(event: billing.CreditGranted) -> Booked:
    made = posting.credit_kept(money_from_pb(event.amount), event.source)
    return Booked(f"credit:{event.credit_id}", made)


def credit_withdrawn(event: billing.CreditWithdrawn) -> Booked:
    return _of_invoice(event, posting.credit_withdrawn(money_from_pb(event.amount)))


RULES: Mapping[type[Message], Callable[[Any], Booked]] = {
    order.OrderConfirmed: order_confirmed,
    order.OrderRefunded: order_refunded,
    payment.PaymentCaptured: payment_captured,
    payment.PaymentRefunded: payment_refunded,
    payment.WalletChanged: wallet_changed,
    payment.DisputeOpened: dispute_opened,
    payment.DisputeWon: dispute_won,
    payment.DisputeLost: dispute_lost,
    billing.InvoiceFinalised: invoice_finalised,
    billing.InvoicePaymentRecorded: invoice_payment_recorded,
    billing.InvoiceVoided: invoice_voided,
    billing.InvoiceWrittenOff: invoice_written_off,
    billing.InvoiceRecovered: invoice_recovered,
    billing.CreditNoteIssued: credit_note_issued,
    billing.CreditGranted: credit_granted,
    billing.CreditWithdrawn: credit_withdrawn,
}


def _of_invoice(event: Any, made: list[Posting]) -> Booked:
    return Booked(f"{posting.INVOICE}{event.invoice_id}", made)


def _or_nothing(event: Any, name: str, currency: str) -> Money:
    """An amount that an event need not have."""
    return money_from_pb(getattr(event, name)) if event.HasField(name) else Money(0, currency)
