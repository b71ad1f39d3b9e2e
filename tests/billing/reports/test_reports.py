"""Reports through gRPC: every figure by hand, events in any order and more than once."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.billing.app import build
from services.chassis.clock import FakeClock
from services.chassis.testing import Lab, broken_fields, laboratory, reason, until
from tests.servers import Shared
from weft.billing.v1 import events_pb2 as events, report_pb2 as pb
from weft.billing.v1.report_pb2_grpc import ReportServiceStub
from weft.money.v1.money_pb2 import Money
from weft.order.v1.event_line_pb2 import EventLine
from weft.order.v1.events_pb2 import OrderConfirmed, OrderRefunded

START = datetime(2026, 4, 15, 12, tzinfo=UTC)
ENVIRON = {"WEFT_BILLING_VIES_URL": "", "WEFT_BILLING_SELLER_TIME_ZONE": "Europe/Berlin"}
INVOICE = """
insert into invoice (invoice_id, customer_id, kind, state, series, currency, country, net, discount, tax,
    gross, credit_applied, amount_paid, credited, credited_due, memo, collection, net_days, created_at)
values ($1, $2, 'ONE_OFF', 'DRAFT', 'INV', $3, 'DE', $4, 0, $5, $4::bigint + $5::bigint, 0, 0, 0, 0, '',
    'SENT', 14, $6)
"""
OPENED = """
update invoice
set state = 'OPEN', number = $2, number_text = 'INV-' || $2::bigint, issued_at = $3, due_at = $4
where invoice_id = $1
"""
LINE = """
insert into invoice_line (invoice_id, position, charge, sku, description, units, amount, discount, net,
    tax_category, supply, tax_code, tax_rate, service_start, service_end)
values ($1, $2, '', '', 'x', 1, $3, 0, $3, 'STANDARD', 'SERVICES', 'S', 19, $4, $5)
"""
TAXES = """
insert into invoice_tax (invoice_id, tax_code, tax_rate, taxable, tax, note) values ($1, 'S', 19, $2, $3, '')
"""
PROFILE = """
insert into billing_profile (customer_id, country, time_zone, collection, net_days, series, tax_exempt,
    standing, revision, created_at, updated_at)
values ($1, 'DE', 'Europe/Berlin', 'SENT', 14, 'INV', false, 'GOOD', 1, now(), now())
"""
NOTE = """
insert into credit_note (credit_note_id, invoice_id, customer_id, number, number_text, currency, reason, net,
    tax, gross, to_credit, digest, issued_at)
values ($1, $2, $3, $4, 'CN-' || $4::bigint, $5, 'x', $6, $7, $6::bigint + $7::bigint, 0, '', $8)
"""
NOTE_TAXES = """
insert into credit_note_tax (credit_note_id, tax_code, tax_rate, taxable, tax, note)
values ($1, 'S', 19, $2, $3, '')
"""
NUMBERS = itertools.count(1)


def berlin(month: int, day: int, hour: int = 12, year: int = 2026) -> datetime:
    """By the wall clock of the seller in winter."""
    return (
        datetime(year, month, day, hour - 1, tzinfo=UTC) if hour else datetime(year, month, day, tzinfo=UTC)
    )


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


@dataclass
class World:
    """A billing that hears of everything by events. Each test has a currency of its own."""

    lab: Lab
    currency: str = "EUR"

    @property
    def reports(self) -> ReportServiceStub:
        return ReportServiceStub(self.lab.channel)

    def money(self, minor: int) -> Money:
        return Money(amount_minor=minor, currency=self.currency)

    async def invoice(
        self, net: int, at: datetime, *periods: tuple[datetime, datetime], due: Any = None
    ) -> str:
        """One line for each period, of equal amounts, or one of none; as the issuer writes them."""
        invoice_id, customer_id, tax = uuid4(), uuid4(), (net * 19 + 50) // 100
        async with self.lab.db("billing").fast() as tx:
            await tx.execute(PROFILE, customer_id)
            await tx.execute(INVOICE, invoice_id, customer_id, self.currency, net, tax, at)
            for position, period in enumerate(periods or [(None, None)], 1):
                await tx.execute(LINE, invoice_id, position, net // max(len(periods), 1), *period)
            await tx.execute(TAXES, invoice_id, net, tax)
            await tx.execute(OPENED, invoice_id, next(NUMBERS), at, due)
        return str(invoice_id)

    def finalised(self, invoice_id: str, net: int, at: datetime) -> events.InvoiceFinalised:
        return events.InvoiceFinalised(
            invoice_id=invoice_id, customer_id=str(uuid4()), net=self.money(net), effective_time=stamp(at)
        )

    async def note(self, invoice_id: str, net: int, at: datetime, deferred: int) -> events.CreditNoteIssued:
        note_id, tax = uuid4(), (net * 19 + 50) // 100
        async with self.lab.db("billing").fast() as tx:
            told = (note_id, UUID(invoice_id), uuid4(), next(NUMBERS), self.currency, net, tax, at)
            await tx.execute(NOTE, *told)
            await tx.execute(NOTE_TAXES, note_id, net, tax)
        return events.CreditNoteIssued(
            invoice_id=invoice_id,
            credit_note_id=str(note_id),
            net=self.money(net),
            deferred=self.money(deferred),
            effective_time=stamp(at),
        )

    async def revenue(self, first: str, last: str) -> list[tuple[int, int, int]]:
        """Billed, recognised and deferred of each month."""
        request = pb.GetRevenueReportRequest(
            currency=self.currency, span=pb.ReportSpan(first_month=first, last_month=last)
        )
        answer = await self.reports.GetRevenueReport(request, metadata=self.lab.bearer())
        return [
            (row.billed.amount_minor, row.recognised.amount_minor, row.deferred.amount_minor)
            for row in answer.months
        ]

    async def recurring(self, first: str, last: str) -> list[pb.RecurringRevenueMonth]:
        request = pb.GetRecurringRevenueReportRequest(
            currency=self.currency, span=pb.ReportSpan(first_month=first, last_month=last)
        )
        answer = await self.reports.GetRecurringRevenueReport(request, metadata=self.lab.bearer())
        return list(answer.months)

    async def announce(self, *told: Any) -> None:
        """Each twice, and waited for."""
        ids = [await self.lab.announce(event) for event in told]
        for event, event_id in zip(told, ids, strict=True):
            await self.lab.announce(event, event_id)

        async def handled() -> bool:
            seen = await self.lab.db("billing").fetchval(
                "select count(distinct event_id) from inbox where event_id = any($1)", ids
            )
            return bool(seen == len(ids))

        await until(handled, wait_s=50)


@pytest.fixture(scope="module")
async def lab(servers: Shared) -> AsyncIterator[Lab]:
    builds = {"billing": partial(build, environ=ENVIRON)}
    async with laboratory(
        builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=FakeClock(START)
    ) as made:
        yield made


QUARTER = (
    berlin(1, 1, 0),
    datetime(2026, 3, 31, 22, tzinfo=UTC),
)  # In Berlin the day begins at 22 UTC in summer.


async def test_a_quarter_billed_ahead_is_earned_by_its_days_and_deferred_till_then(lab: Lab) -> None:
    world = World(lab, "EUR")
    first, end = datetime(2025, 12, 31, 23, tzinfo=UTC), QUARTER[1]
    invoice_id = await world.invoice(9_000, berlin(1, 1), (first, end))
    await world.announce(world.finalised(invoice_id, 9_000, berlin(1, 1)))
    assert await world.revenue("2025-12", "2026-04") == [
        (0, 0, 0),
        (9_000, 3_100, 5_900),
        (0, 2_800, 3_100),
        (0, 3_100, 0),
        (0, 0, 0),
    ]
    assert await world.revenue("2026-02", "2026-02") == [(0, 2_800, 3_100)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_credit_notes_and_voids_may_be_heard_of_in_any_order(lab: Lab, order: tuple[int, ...]) -> None:
    currency = ["CHF", "GBP", "SEK", "NOK", "DKK", "PLN"][list(itertools.permutations(range(3))).index(order)]
    world = World(lab, currency)
    first, end = datetime(2025, 12, 31, 23, tzinfo=UTC), QUARTER[1]
    invoice_id = await world.invoice(9_000, berlin(1, 1), (first, end))
    note = await world.note(invoice_id, 2_000, berlin(1, 20), deferred=1_180)
    voided = events.InvoiceVoided(
        invoice_id=invoice_id, net=world.money(9_000), effective_time=stamp(berlin(2, 10))
    )
    told = [world.finalised(invoice_id, 9_000, berlin(1, 1)), note, voided]
    for index in order:
        await world.announce(told[index])
    assert await world.revenue("2026-01", "2026-04") == [
        (7_000, 2_280, 4_720),
        (-7_000, -2_280, 0),
        (0, 0, 0),
        (0, 0, 0),
    ]
    request = pb.GetTaxReportRequest(first_day="2026-01-01", last_day="2026-12-31")
    answer = await world.reports.GetTaxReport(request, metadata=lab.bearer())
    rows = [row for row in answer.rows if row.tax.currency == currency]
    assert [(row.taxable.amount_minor, row.tax.amount_minor) for row in rows] == [(0, 0)]


async def test_orders_are_earned_when_they_are_confirmed_in_the_sellers_zone(lab: Lab) -> None:
    world = World(lab, "USD")
    lines = [EventLine(line_id="1", net_minor=10_000, tax_minor=1_900, tax_rate="19")]
    order_id, midnight = str(uuid4()), datetime(2026, 1, 31, 23, tzinfo=UTC)
    sold = OrderConfirmed(
        order_id=order_id,
        currency="USD",
        country="DE",
        lines=lines,
        net_total=world.money(10_000),
        effective_time=stamp(midnight),
        imported=True,
    )
    back = OrderRefunded(
        order_id=order_id,
        refund_id=str(uuid4()),
        currency="USD",
        country="DE",
        lines=[EventLine(line_id="1", net_minor=4_000, tax_minor=760, tax_rate="19")],
        net=world.money(4_000),
        effective_time=stamp(berlin(3, 2)),
    )
    await world.announce(sold, back)
    assert await world.revenue("2026-01", "2026-03") == [(0, 0, 0), (10_000, 10_000, 0), (-4_000, -4_000, 0)]
    request = pb.GetTaxReportRequest(first_day="2026-02-01", last_day="2026-03-31", country="DE")
    answer = await world.reports.GetTaxReport(request, metadata=lab.bearer())
    [row] = [row for row in answer.rows if row.tax.currency == "USD"]
    assert (row.category_code, row.rate, row.taxable.amount_minor) == ("S", "19", 6_000)
    assert (row.tax.amount_minor, row.documents) == (1_140, 2)


async def test_recurring_revenue_moves_by_customer_and_each_month_closes_as_the_next_opens(lab: Lab) -> None:
    """Three customers. A: 100, then 150, then 120, then gone, then back with 80. B: 50 and a second
    subscription of 30; both end at one moment. C: starts in trial, pays 200 from March."""
    world = World(lab, "CAD")
    a, b, c = (str(uuid4()) for _ in range(3))
    subs = {name: str(uuid4()) for name in ["a", "a2", "b", "b2", "c"]}

    def started(of: str, name: str, monthly: int, at: datetime, *, trial: bool = False) -> Any:
        return events.SubscriptionStarted(
            subscription_id=subs[name],
            customer_id=of,
            trial=trial,
            monthly=world.money(monthly),
            effective_time=stamp(at),
        )

    def changed(of: str, name: str, before: int, monthly: int, at: datetime) -> Any:
        return events.SubscriptionChanged(
            subscription_id=subs[name],
            customer_id=of,
            monthly_before=world.money(before),
            monthly=world.money(monthly),
            effective_time=stamp(at),
        )

    def ended(of: str, name: str, before: int, at: datetime) -> Any:
        return events.SubscriptionCancelled(
            subscription_id=subs[name],
            customer_id=of,
            monthly_before=world.money(before),
            effective_time=stamp(at),
        )

    told = [
        started(a, "a", 100, berlin(1, 10)),
        changed(a, "a", 100, 150, berlin(2, 1)),
        changed(a, "a", 150, 120, berlin(2, 20)),
        ended(a, "a", 120, berlin(3, 1)),
        started(a, "a2", 80, berlin(4, 2)),
        started(b, "b", 50, berlin(1, 31)),
        started(b, "b2", 30, berlin(2, 3)),
        ended(b, "b", 50, berlin(3, 15)),
        ended(b, "b2", 30, berlin(3, 15)),
        started(c, "c", 0, berlin(1, 5), trial=True),
        changed(c, "c", 0, 200, berlin(3, 5)),
    ]
    await world.announce(*reversed(told))
    months = await world.recurring("2026-01", "2026-04")
    names = ("opening", "new", "expansion", "contraction", "churn", "reactivation", "closing")
    assert [[getattr(row, name).amount_minor for name in names] for row in months] == [
        [0, 150, 0, 0, 0, 0, 150],
        [150, 0, 80, 30, 0, 0, 200],
        [200, 200, 0, 0, 200, 0, 200],
        [200, 0, 0, 0, 0, 80, 280],
    ]
    assert [(row.opening_customers, row.new_customers, row.churned_customers) for row in months] == [
        (0, 2, 0),
        (2, 0, 0),
        (2, 1, 2),
        (1, 0, 0),
    ]
    assert [row.closing_customers for row in months] == [2, 2, 1, 2]
    assert [(row.churn_rate, row.customer_churn_rate) for row in months] == [
        ("", ""),
        ("0.00", "0.00"),
        ("100.00", "100.00"),
        ("0.00", "0.00"),
    ]
    assert [(row.net_retention, row.gross_retention) for row in months[1:3]] == [
        ("133.33", "80.00"),
        ("0.00", "0.00"),
    ]


async def test_a_change_of_subscription_at_one_moment_is_no_churn(lab: Lab) -> None:
    world = World(lab, "AUD")
    customer, at = str(uuid4()), berlin(2, 1)
    first, second = str(uuid4()), str(uuid4())
    told = [
        events.SubscriptionStarted(
            subscription_id=first,
            customer_id=customer,
            monthly=world.money(100),
            effective_time=stamp(berlin(1, 1)),
        ),
        events.SubscriptionPaused(
            subscription_id=first,
            customer_id=customer,
            monthly_before=world.money(100),
            effective_time=stamp(at),
        ),
        events.SubscriptionResumed(
            subscription_id=second, customer_id=customer, monthly=world.money(160), effective_time=stamp(at)
        ),
    ]
    await world.announce(*told)
    [row] = await world.recurring("2026-02", "2026-02")
    moved = (row.expansion.amount_minor, row.churn.amount_minor, row.reactivation.amount_minor)
    assert moved == (60, 0, 0)


async def test_what_is_owed_ages_by_the_days_since_it_was_due(lab: Lab) -> None:
    """Now is 15 April; due dates are days of Berlin."""
    world = World(lab, "NZD")
    day = datetime(2026, 4, 15, tzinfo=UTC).toordinal()
    for overdue, net in [(-10, 100), (0, 200), (1, 400), (30, 800), (31, 1_600), (90, 3_200), (91, 6_400)]:
        due = datetime.combine(date.fromordinal(day - overdue), datetime.min.time(), UTC).replace(hour=12)
        await world.invoice(net, berlin(1, 1), due=due)
    answer = await world.reports.GetAgingReport(
        pb.GetAgingReportRequest(currency="NZD"), metadata=lab.bearer()
    )
    [aging] = answer.currencies
    gross = [(bucket.from_days, bucket.to_days, bucket.invoices) for bucket in aging.buckets]
    assert gross == [(0, 0, 2), (1, 30, 2), (31, 60, 1), (61, 90, 1), (91, 0, 1)]
    amounts = [bucket.amount.amount_minor for bucket in aging.buckets]
    assert amounts == [357, 1_428, 1_904, 3_808, 7_616]
    assert aging.total.amount_minor == sum(amounts)


async def test_a_forecast_says_what_it_was_made_from_and_how_it_erred(lab: Lab) -> None:
    world = World(lab, "SGD")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.reports.GetRevenueForecast(
            pb.GetRevenueForecastRequest(currency="SGD"), metadata=lab.bearer()
        )
    assert reason(refused.value) == "TOO_LITTLE_HISTORY"
    sold = [
        OrderConfirmed(
            order_id=str(uuid4()),
            currency="SGD",
            net_total=world.money(1_000 + 100 * n),
            effective_time=stamp(datetime(2025, 9 + n, 10, tzinfo=UTC) if n < 4 else berlin(n - 3, 10)),
        )
        for n in range(8)
    ]
    await world.announce(*sold)
    request = pb.GetRevenueForecastRequest(currency="SGD", months=2)
    said = await world.reports.GetRevenueForecast(request, metadata=lab.bearer())
    assert (said.method, said.mean_absolute_percentage_error, said.mean_absolute_scaled_error) == (
        "DRIFT",
        "0.00",
        "0.00",
    )
    assert [row.recognised.amount_minor for row in said.history] == [1_000 + 100 * n for n in range(7)]
    assert [(row.month, row.expected.amount_minor) for row in said.forecast] == [
        ("2026-04", 1_700),
        ("2026-05", 1_800),
    ]


@pytest.mark.parametrize(
    ("currency", "first", "last", "wrong"),
    [
        ("EUR", "2026-13", "2026-12", {"span.first_month"}),
        ("eur", "2026-01", "2026-12", {"currency"}),
        ("EUR", "2016-01", "2026-01", {"span.last_month"}),
    ],
)
async def test_a_span_that_breaks_a_rule_names_its_field(
    lab: Lab, currency: str, first: str, last: str, wrong: set[str]
) -> None:
    for call, request in (
        ("GetRevenueReport", pb.GetRevenueReportRequest),
        ("GetRecurringRevenueReport", pb.GetRecurringRevenueReportRequest),
    ):
        asked = request(currency=currency, span=pb.ReportSpan(first_month=first, last_month=last))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(ReportServiceStub(lab.channel), call)(asked, metadata=lab.bearer())
        assert set(broken_fields(refused.value)) == wrong


async def test_nobody_reads_reports_without_the_permission(lab: Lab) -> None:
    stub, nobody = ReportServiceStub(lab.channel), lab.bearer(scope="account")
    calls = [
        stub.GetAgingReport(pb.GetAgingReportRequest(), metadata=nobody),
        stub.GetTaxReport(
            pb.GetTaxReportRequest(first_day="2026-01-01", last_day="2026-01-31"), metadata=nobody
        ),
        stub.GetRevenueForecast(pb.GetRevenueForecastRequest(currency="EUR"), metadata=nobody),
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.PERMISSION_DENIED
    }
