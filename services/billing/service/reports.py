"""weft.billing.v1.ReportService."""

import asyncio
from datetime import date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from services.billing.domain.report import (
    BUCKETS,
    Movement,
    TooLittleHistory,
    days,
    opened,
    percent_of,
    span,
)
from services.billing.domain.report_forecast import HISTORY_MAX, HISTORY_MIN, Forecast, forecast
from services.billing.domain.report_revenue import month_of, months_between, next_month
from services.billing.service.stamps import plain, stamp
from services.billing.store import reports as store
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.method import Call
from services.chassis.money import MINOR_MAX, exponent, round_half_up
from weft.billing.v1 import report_pb2 as pb
from weft.billing.v1.report_pb2_grpc import ReportServiceServicer
from weft.money.v1.money_pb2 import Money

AHEAD = 6  # Months of a forecast that names none.


class Reports(ReportServiceServicer):
    def __init__(self, db: Database, clock: Clock, zone: str) -> None:
        self._db, self._clock, self._zone = db, clock, zone

    async def GetRevenueReport(
        self, request: pb.GetRevenueReportRequest, call: Call
    ) -> pb.GetRevenueReportResponse:
        exponent(request.currency)
        months = span(request.span.first_month, request.span.last_month)
        return pb.GetRevenueReportResponse(months=await self._revenue(request.currency, months))

    async def _revenue(self, currency: str, months: list[date]) -> list[pb.RevenueMonth]:
        if not months:
            return []
        found = await store.revenue(self._db, currency, months[0], months[-1])
        made, deferred = [], found.deferred_before
        for month in months:
            billed, recognised = found.billed.get(month, 0), found.recognised.get(month, 0)
            deferred += billed - recognised
            row = pb.RevenueMonth(
                month=_name(month),
                billed=Money(amount_minor=billed, currency=currency),
                recognised=Money(amount_minor=recognised, currency=currency),
                recognised_of_invoices=Money(amount_minor=found.of_invoices.get(month, 0), currency=currency),
                deferred=Money(amount_minor=deferred, currency=currency),
            )
            made.append(row)
        return made

    async def GetRecurringRevenueReport(
        self, request: pb.GetRecurringRevenueReportRequest, call: Call
    ) -> pb.GetRecurringRevenueReportResponse:
        exponent(request.currency)
        months = span(request.span.first_month, request.span.last_month)
        if not months:
            return pb.GetRecurringRevenueReportResponse()
        end = datetime.combine(next_month(months[-1]), time(), ZoneInfo(self._zone))
        moved = await store.movements(self._db, request.currency, self._zone, end)
        rows = [to_pb(row, request.currency) for row in opened(moved, months)]
        return pb.GetRecurringRevenueReportResponse(months=rows)

    async def GetAgingReport(
        self, request: pb.GetAgingReportRequest, call: Call
    ) -> pb.GetAgingReportResponse:
        now = self._clock.now()
        starts = [first for first, _ in BUCKETS]
        rows = await store.aging(self._db, now, self._zone, starts, request.currency)
        found: dict[str, dict[int, tuple[int, int]]] = {}
        for row in rows:
            found.setdefault(row["currency"], {})[row["bucket"]] = (row["amount"], row["invoices"])
        aged = [_aging(currency, buckets) for currency, buckets in found.items()]
        return pb.GetAgingReportResponse(currencies=aged, as_of_time=stamp(now))

    async def GetTaxReport(self, request: pb.GetTaxReportRequest, call: Call) -> pb.GetTaxReportResponse:
        first, last = days(request.first_day, request.last_day)
        rows = await store.tax(self._db, first, last, request.country)
        return pb.GetTaxReportResponse(
            rows=[
                pb.TaxReportRow(
                    country=row["country"],
                    category_code=row["code"],
                    rate=plain(row["rate"]),
                    taxable=Money(amount_minor=row["taxable"], currency=row["currency"]),
                    tax=Money(amount_minor=row["tax"], currency=row["currency"]),
                    documents=row["documents"],
                )
                for row in rows
            ]
        )

    async def GetRevenueForecast(
        self, request: pb.GetRevenueForecastRequest, call: Call
    ) -> pb.GetRevenueForecastResponse:
        exponent(request.currency)
        now = month_of(self._clock.now().astimezone(ZoneInfo(self._zone)).date())
        first = await store.first_month(self._db, request.currency)
        months = [month for month in months_between(first or now, now) if month < now][-HISTORY_MAX:]
        if len(months) < HISTORY_MIN:
            raise TooLittleHistory(wanted=HISTORY_MIN, currency=request.currency, months=len(months))
        history = await self._revenue(request.currency, months)
        past = [Decimal(row.recognised.amount_minor) for row in history]
        said = await asyncio.to_thread(forecast, past, request.months or AHEAD)
        return _forecast(said, now, request.currency, history)


def to_pb(row: Movement, currency: str) -> pb.RecurringRevenueMonth:
    amounts = {
        name: Money(amount_minor=getattr(row, name), currency=currency)
        for name in ("opening", "new", "expansion", "contraction", "churn", "reactivation", "closing")
    }
    kept = row.opening - row.contraction - row.churn
    return pb.RecurringRevenueMonth(
        month=_name(row.month),
        **amounts,
        opening_customers=row.opening_customers,
        new_customers=row.new_customers,
        churned_customers=row.churned_customers,
        reactivated_customers=row.reactivated_customers,
        closing_customers=row.closing_customers,
        churn_rate=percent_of(row.churn, row.opening),
        customer_churn_rate=percent_of(row.churned_customers, row.opening_customers),
        net_retention=percent_of(kept + row.expansion, row.opening),
        gross_retention=percent_of(kept, row.opening),
    )


def _aging(currency: str, found: dict[int, tuple[int, int]]) -> pb.Aging:
    """The first bucket is what is not overdue."""
    buckets = [
        pb.AgingBucket(
            from_days=first,
            to_days=last or 0,
            amount=Money(amount_minor=found.get(bucket, (0, 0))[0], currency=currency),
            invoices=found.get(bucket, (0, 0))[1],
        )
        for bucket, (first, last) in enumerate([(0, None), *BUCKETS])
    ]
    total = sum(bucket.amount.amount_minor for bucket in buckets)
    return pb.Aging(total=Money(amount_minor=total, currency=currency), buckets=buckets)


def _forecast(
    said: Forecast, month: date, currency: str, history: list[pb.RevenueMonth]
) -> pb.GetRevenueForecastResponse:
    made = pb.GetRevenueForecastResponse(
        method=said.method,
        mean_absolute_percentage_error=_two(said.percentage_error),
        mean_absolute_scaled_error=_two(said.scaled_error),
        trials=said.trials,
        history=history,
    )
    for expected, low, high in zip(said.expected, said.low, said.high, strict=True):
        amounts = [_money(value, currency) for value in (expected, low, high)]
        made.forecast.add(month=_name(month), expected=amounts[0], low=amounts[1], high=amounts[2])
        month = next_month(month)
    return made


def _money(value: Decimal, currency: str) -> Money:
    """An estimate as an amount, within what an amount may be."""
    return Money(amount_minor=max(-MINOR_MAX, min(MINOR_MAX, round_half_up(value))), currency=currency)


def _two(value: Decimal | None) -> str:
    return "" if value is None else f"{Decimal(round_half_up(value * 100)).scaleb(-2):.2f}"


def _name(month: date) -> str:
    return f"{month:%Y-%m}"
