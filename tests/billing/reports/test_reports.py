"""Reports through gRPC: every figure by hand, events in any order and more than once."""

import asyncio
import itertools
from datetime import UTC, date, datetime
from uuid import uuid4

import grpc
import pytest

from services.chassis.testing import Lab, broken_fields, reason
from tests.billing.reports.world import World, berlin, stamp
from weft.billing.v1 import events_pb2 as events, report_pb2 as pb
from weft.billing.v1.report_pb2_grpc import ReportServiceStub
from weft.order.v1.event_line_pb2 import EventLine
from weft.order.v1.events_pb2 import OrderConfirmed, OrderRefunded

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
