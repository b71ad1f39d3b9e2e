"""What tests of reports have in common: a billing that hears of everything by events, and words to say."""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.testing import Lab, until
from weft.billing.v1 import events_pb2 as events, report_pb2 as pb
from weft.billing.v1.report_pb2_grpc import ReportServiceStub
from weft.money.v1.money_pb2 import Money

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
