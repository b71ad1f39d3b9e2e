"""Posting rules: which accounts an event of the business debits and credits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID, uuid5

from services.chassis.money import Money
from services.ledger.domain import chart
from services.ledger.domain.book import Wanted
from services.ledger.domain.chart import House, account_of
from services.ledger.domain.entry import Kind

GRANT = "GRANT"  # The source of credit that nobody paid for.
INVOICE = "invoice:"  # What payments of invoices refer to.
KEPT = "intent:"  # What a wallet's change refers to when a top-up could not be paid out again.


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of a journal. A negative amount goes the other way; none is left out."""

    debit: House
    credit: House
    amount: Money
    code: str


def sale(net: Money, tax: Money) -> list[Posting]:
    """The customer owes; we have sold, and owe the tax."""
    owed, currency = chart.receivables(net.currency), net.currency
    return [
        Posting(owed, chart.sales(currency), net, "sale"),
        Posting(owed, chart.vat(currency), tax, "sale.vat"),
    ]


def sale_returned(net: Money, tax: Money) -> list[Posting]:
    """We owe the customer; the sale and its tax are taken back."""
    owed, currency = chart.receivables(net.currency), net.currency
    return [
        Posting(chart.returns(currency), owed, net, "return"),
        Posting(chart.vat(currency), owed, tax, "return.vat"),
    ]


def invoice(net: Money, tax: Money) -> list[Posting]:
    owed, currency = chart.receivables(net.currency), net.currency
    return [
        Posting(owed, chart.invoices(currency), net, "invoice"),
        Posting(owed, chart.vat(currency), tax, "invoice.vat"),
    ]


def invoice_credited(net: Money, tax: Money) -> list[Posting]:
    owed, currency = chart.receivables(net.currency), net.currency
    return [
        Posting(chart.credit_notes(currency), owed, net, "credit-note"),
        Posting(chart.vat(currency), owed, tax, "credit-note.vat"),
    ]


def written_off(amount: Money) -> list[Posting]:
    """Nobody will pay it."""
    debts = chart.bad_debts(amount.currency)
    return [Posting(debts, chart.receivables(amount.currency), amount, "bad-debt")]


def recovered(amount: Money) -> list[Posting]:
    """Of what was written off, so much was not lost."""
    debts = chart.bad_debts(amount.currency)
    return [Posting(chart.receivables(amount.currency), debts, amount, "bad-debt.recovered")]


def credit_kept(amount: Money, source: str) -> list[Posting]:
    """More came in than was owed, or less was owed than had been paid: we owe it to the customer.

    What was given for nothing costs nothing until it is used; it may lapse.
    """
    if source == GRANT:
        return []
    owed = chart.receivables(amount.currency)
    return [Posting(owed, chart.credits(amount.currency), amount, "credit")]


def credit_used(own: Money, granted: Money) -> list[Posting]:
    """Credit paid an invoice: with the customer's own money, and with what was given for nothing."""
    owed = chart.receivables(own.currency)
    return [
        Posting(chart.credits(own.currency), owed, own, "credit.used"),
        Posting(chart.goodwill(own.currency), owed, granted, "goodwill"),
    ]


def credit_withdrawn(amount: Money) -> list[Posting]:
    """The money that a credit stood for went back to the customer."""
    owed = chart.receivables(amount.currency)
    return [Posting(chart.credits(amount.currency), owed, amount, "credit.withdrawn")]


def topped_up(amount: Money, gateway: str) -> list[Posting]:
    """Money came in, and is the customer's."""
    clearing = chart.clearing(gateway, amount.currency)
    return [Posting(clearing, chart.wallets(amount.currency), amount, "top-up")]


def wallet_changed(amount: Money, reason: str, reference: str) -> list[Posting]:
    """What no payment tells of: gifts and corrections, transfers for nothing else, top-ups paid out again."""
    wallets, owed = chart.wallets(amount.currency), chart.receivables(amount.currency)
    if reason in ("CREDIT", "DEBIT"):
        return [Posting(chart.goodwill(amount.currency), wallets, amount, "wallet.gift")]
    if reason == "TRANSFER":
        return [Posting(chart.clearing("bank", amount.currency), wallets, amount, "wallet.transfer")]
    if reason == "PAID_OUT" or (reason == "GIVEN_BACK" and reference.startswith(KEPT)):
        return [Posting(owed, wallets, amount, "wallet.paid-out")]
    return []


def payment(amount: Money, gateway: str) -> list[Posting]:
    clearing = chart.clearing(gateway, amount.currency)
    return [Posting(clearing, chart.receivables(amount.currency), amount, "payment")]


def payment_returned(amount: Money, gateway: str) -> list[Posting]:
    clearing = chart.clearing(gateway, amount.currency)
    return [Posting(chart.receivables(amount.currency), clearing, amount, "refund")]


def dispute_opened(amount: Money, fee: Money, gateway: str) -> list[Posting]:
    """The gateway takes the amount back for now, and its fee for good."""
    clearing = chart.clearing(gateway, amount.currency)
    return [
        Posting(chart.disputed(amount.currency), clearing, amount, "dispute"),
        Posting(chart.dispute_fees(fee.currency), chart.clearing(gateway, fee.currency), fee, "dispute.fee"),
    ]


def dispute_won(amount: Money, gateway: str) -> list[Posting]:
    clearing = chart.clearing(gateway, amount.currency)
    return [Posting(clearing, chart.disputed(amount.currency), amount, "dispute.won")]


def dispute_lost(amount: Money, reference: str, *, top_up: bool) -> list[Posting]:
    """What an invoice was paid with is owed again, a top-up is out of the wallet; any other sale is lost."""
    lost = chart.chargebacks(amount.currency)
    if top_up:
        lost = chart.wallets(amount.currency)
    elif reference.startswith(INVOICE):
        lost = chart.receivables(amount.currency)
    return [Posting(lost, chart.disputed(amount.currency), amount, "dispute.lost")]


def houses(postings: Sequence[Posting]) -> list[House]:
    """The accounts that they need, by code."""
    needed = {house.code: house for each in postings for house in (each.debit, each.credit) if each.amount}
    return [needed[code] for code in sorted(needed)]


def transfers(
    postings: Sequence[Posting], cause: UUID, reference: str, effective_at: datetime
) -> list[Wanted]:
    """Linked, with ids derived from `cause`: the same event books the same transfers, once."""
    made = []
    for each in postings:
        if not each.amount:
            continue
        ends = (each.debit, each.credit) if each.amount.minor > 0 else (each.credit, each.debit)
        made.append(
            Wanted(
                transfer_id=uuid5(cause, each.code),
                kind=Kind.POSTED,
                asked=sha256(cause.bytes + each.code.encode()).digest(),
                debit_account_id=account_of(ends[0]),
                credit_account_id=account_of(ends[1]),
                amount_minor=abs(each.amount.minor),
                currency=each.amount.currency,
                linked=True,
                code=each.code,
                reference=reference,
                effective_at=effective_at,
            )
        )
    if made:
        made[-1].linked = False
    return made
