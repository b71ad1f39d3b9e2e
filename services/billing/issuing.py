"""Issues invoices: the one place where lines become an invoice with a number.

A batch in one transaction: its customers are locked, so that their coupons and credit are spent once; all is
computed; the numbers are taken last, as taking them holds up everybody else who wants one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from services.billing.domain.coupon import Discount
from services.billing.domain.credit import Balance
from services.billing.domain.dunning import DEFAULT, Policy, policy_from, steps
from services.billing.domain.invoice import InvoiceKind, InvoiceState, TaxUnconfirmed, number_text
from services.billing.domain.profile import Standing, UnknownProfile
from services.billing.domain.report_revenue import days_of, served
from services.billing.domain.subscription import Running
from services.billing.domain.totals import Line, Rate, Totals, totals
from services.billing.store import issue as store, series
from services.billing.tax.determining import Taxes
from services.billing.taxing import Buyer, Case, Known, case_of, determined
from services.chassis.db import AnyTx
from services.chassis.errors import Refusal
from services.chassis.events import emit
from weft.billing.v1.events_pb2 import InvoiceFinalised, InvoicePaid
from weft.money.v1.money_pb2 import Money

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Draft:
    """An invoice to be."""

    invoice_id: UUID
    customer_id: UUID
    currency: str
    kind: InvoiceKind
    at: datetime  # By which it is taxed.
    created_at: datetime
    lines: list[Line]
    subs: Sequence[Running] = ()  # Whose lines they are; what does not fit goes back to them.
    memo: str = ""
    net_days: int | None = None  # None: the customer's terms.
    run_id: UUID | None = None
    digest: bytes | None = None
    stored: bool = False  # It is a row already, a draft.
    last: bool = False  # Of a subscription that has ended: nothing follows that could be waited for.


@dataclass(slots=True)
class Issued:
    """What became of a draft."""

    draft: Draft
    totals: Totals | None = None
    number: str = ""  # Empty: there was nothing to bill.
    refused: Refusal | None = None


@dataclass(slots=True)
class _Rows:
    """What is to be written."""

    lines: list[Sequence[Any]] = field(default_factory=list)
    taxes: list[Sequence[Any]] = field(default_factory=list)
    credits: list[Sequence[Any]] = field(default_factory=list)
    invoices: list[Sequence[Any]] = field(default_factory=list)
    dunning: list[Sequence[Any]] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)


class Issuer:
    """Issues invoices in transactions of others."""

    def __init__(self, taxes: Taxes, hold: timedelta = timedelta()) -> None:
        """`hold`: how long an invoice waits for its buyer's VAT number to be confirmed."""
        self._taxes, self._hold = taxes, hold

    def _holds(self, draft: Draft, now: datetime) -> bool:
        begun = min(draft.at, draft.created_at)
        return not draft.last and now - begun < self._hold

    async def one(self, tx: AnyTx, draft: Draft, now: datetime) -> Issued:
        """Raises what refuses it."""
        (issued,) = await self.issue(tx, [draft], now)
        if issued.refused:
            raise issued.refused
        return issued

    async def issue(self, tx: AnyTx, drafts: Sequence[Draft], now: datetime) -> list[Issued]:
        """In the order of the drafts. One that is refused holds up no other."""
        ids = sorted({draft.customer_id for draft in drafts})
        customers = await store.customers(tx, ids)
        discounts = await store.discounts(tx, ids)
        balances = await store.balances(tx, ids, now)
        rates = await self._rates(tx, drafts, customers)
        made = []
        for draft in drafts:
            customer = customers.get(draft.customer_id)
            if customer is None:
                made.append(Issued(draft, refused=UnknownProfile(customer_id=draft.customer_id)))
                continue
            spendable = balances.get((draft.customer_id, draft.currency), [])
            means = _Means(discounts.get(draft.customer_id, []), spendable)
            made.append(_reckoned(draft, customer, means, rates, self._holds(draft, now)))
        billed = [each for each in made if each.totals and each.totals.lines]
        if billed:
            await store.use(tx, [d for each in discounts.values() for d in each if d.used], now)
            await store.spend(tx, [b for each in balances.values() for b in each if b.used])
            await self._write(tx, billed, customers, now)
        return made

    async def _rates(self, tx: AnyTx, drafts: Sequence[Draft], customers: Mapping[UUID, Any]) -> Known:
        cases: list[Case] = []
        for draft in drafts:
            if customer := customers.get(draft.customer_id):
                buyer = buyer_of(customer)
                cases += {case_of(buyer, line, draft.at): None for line in draft.lines}
        return await determined(self._taxes, tx, cases)

    async def _write(
        self, tx: AnyTx, billed: Sequence[Issued], customers: Mapping[UUID, Any], now: datetime
    ) -> None:
        policies = await _policies(tx, customers)
        rows = _Rows()
        for each in billed:
            _parts(rows, each)
        await store.parts(tx, rows.lines, rows.taxes, rows.credits)
        wanted = Counter(customers[each.draft.customer_id]["series"] for each in billed)
        numbers = {name: await series.take(tx, name, wanted[name], now) for name in sorted(wanted)}
        for each in billed:
            customer = customers[each.draft.customer_id]
            number, at = numbers[customer["series"]]
            numbers[customer["series"]] = number + 1, at
            _invoice(rows, each, customer, number, at, policies)
        stored = [row for row, each in zip(rows.invoices, billed, strict=True) if each.draft.stored]
        fresh = [row for row, each in zip(rows.invoices, billed, strict=True) if not each.draft.stored]
        if fresh:
            await store.invoices(tx, fresh, rows.dunning)
        for row in stored:
            await store.finalise(tx, row, rows.dunning)
        await emit(tx, *rows.events)


def buyer_of(customer: Any) -> Buyer:
    return Buyer(customer["country"], customer["postal_code"], customer["vat_number"], customer["tax_exempt"])


@dataclass(frozen=True, slots=True)
class _Means:
    """What a customer has to pay with."""

    discounts: Sequence[Discount]
    balances: Sequence[Balance]


def _reckoned(draft: Draft, customer: Any, means: _Means, rates: Known, held: bool) -> Issued:
    """Its totals; what does not fit waits in its subscriptions. `held`: an open question of tax holds it."""
    buyer = buyer_of(customer)

    def rate_of(line: Line) -> Rate:
        found = rates[case_of(buyer, line, draft.at)]
        if isinstance(found, Refusal):
            raise found
        if found.provisional and held:
            raise TaxUnconfirmed
        return found.rate

    try:
        made = totals(draft.lines, means.discounts, draft.currency, rate_of, means.balances)
    except Refusal as refused:
        return Issued(draft, refused=refused)
    _told_to_subscriptions(draft, made)
    return Issued(draft, made)


def _told_to_subscriptions(draft: Draft, made: Totals) -> None:
    by_id = {sub.subscription_id: sub for sub in draft.subs}
    for line in made.carried:
        if line.subscription_id in by_id:
            by_id[line.subscription_id].pending.append(line)
    for position, line in enumerate(made.lines, 1):
        if line.subscription_id in by_id:
            _noted(by_id[line.subscription_id], line, draft.invoice_id, position)


def _noted(sub: Running, line: Line, invoice_id: UUID, position: int) -> None:
    """The subscription knows its invoice, and what was billed in advance by which line."""
    sub.last_invoice_id = invoice_id
    if not line.advance:
        return
    for each in sub.billed:
        if (each.charge, each.start, each.end) == (line.charge, line.start, line.end):
            each.net, each.invoice_id, each.position = line.net, str(invoice_id), position


def _parts(rows: _Rows, issued: Issued) -> None:
    made, invoice_id = issued.totals, issued.draft.invoice_id
    assert made
    for position, line in enumerate(made.lines, 1):
        rows.lines.append(
            (
                invoice_id, position, line.line_id, line.subscription_id, line.charge, line.sku,
                line.description, line.units, line.unit_price, line.amount, line.discount, line.net,
                line.tax_category, line.supply, line.rate.code, line.rate.percent, line.start, line.end,
            )
        )  # fmt: skip
    for tax in made.taxes:
        rate = tax.rate
        rows.taxes.append((invoice_id, rate.code, rate.percent, tax.taxable, tax.tax, rate.note))
    rows.credits += [(invoice_id, credit_id, amount) for credit_id, amount in made.credits]


def _invoice(
    rows: _Rows, issued: Issued, customer: Any, number: int, at: datetime, policies: Mapping[Any, Policy]
) -> None:
    draft, made = issued.draft, issued.totals
    assert made
    issued.number = number_text(customer["series"], number)
    net_days = customer["net_days"] if draft.net_days is None else draft.net_days
    due_at, paid = at + timedelta(days=net_days), made.due == 0
    state = InvoiceState.PAID if paid else InvoiceState.OPEN
    rows.invoices.append(
        (
            draft.invoice_id, draft.customer_id, draft.kind, state, customer["series"], number,
            issued.number, draft.currency, customer["country"], made.net, made.discount, made.tax,
            made.gross, made.credited, 0, 0, 0, draft.memo, customer["collection"], net_days,
            draft.digest, draft.run_id, draft.created_at, at, due_at, at if paid else None,
        )
    )  # fmt: skip
    rows.events.append(_finalised(issued, at, customer["time_zone"]))
    if paid:
        rows.events.append(_paid(draft, made, at))
    else:
        policy = policies[customer["dunning_policy_id"]]
        first = at + first_delay(policy, customer["collection"], due_at - at)
        rows.dunning.append(
            (
                draft.invoice_id, draft.customer_id, customer["dunning_policy_id"], 0, first,
                Standing.GOOD, 0, at,
            )
        )  # fmt: skip


@lru_cache(1_000)
def first_delay(policy: Policy, collection: str, net: timedelta) -> timedelta:
    """From an invoice's date to the first step; most customers have the same terms."""
    return steps(policy, collection, EPOCH, EPOCH + net)[0].at - EPOCH


async def _policies(tx: AnyTx, customers: Mapping[UUID, Any]) -> dict[Any, Policy]:
    wanted = {row["dunning_policy_id"] for row in customers.values()} - {None}
    kept = await store.policies(tx, wanted)
    read = {policy_id: policy_from(msgspec.json.decode(text)) for policy_id, text in kept.items()}
    return {None: DEFAULT, **read}


def deferred(lines: Sequence[Line], at: datetime, zone: str) -> int:
    """Of the net amounts, what is for days after that of `at` on the customer's calendar."""
    total, day = 0, at.astimezone(ZoneInfo(zone)).date()
    for line in lines:
        if days := days_of(line.start, line.end, zone):
            total += line.net - served(line.net, *days, day)
    return total


def _finalised(issued: Issued, at: datetime, zone: str) -> InvoiceFinalised:
    draft, made = issued.draft, issued.totals
    assert made

    def money(minor: int) -> Money:
        return Money(amount_minor=minor, currency=draft.currency)

    return InvoiceFinalised(
        invoice_id=str(draft.invoice_id),
        number=issued.number,
        customer_id=str(draft.customer_id),
        net=money(made.net),
        tax=money(made.tax),
        gross=money(made.gross),
        deferred=money(deferred(made.lines, at, zone)),
        credited=money(made.credited),
        granted=money(made.granted),
        effective_time=_stamp(at),
    )


def _paid(draft: Draft, made: Totals, at: datetime) -> InvoicePaid:
    return InvoicePaid(
        invoice_id=str(draft.invoice_id),
        customer_id=str(draft.customer_id),
        gross=Money(amount_minor=made.gross, currency=draft.currency),
        effective_time=_stamp(at),
    )


def _stamp(at: datetime) -> Timestamp:
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed
