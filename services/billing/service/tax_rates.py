"""weft.billing.v1.TaxRateService."""

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from services.billing.domain.tax import Rate
from services.billing.domain.tax_rate import (
    IMPORT_ROWS_MAX,
    TaxRate,
    TaxRateIdReused,
    TaxRateTaken,
    TooManyRows,
    percent,
    span,
)
from services.billing.domain.tax_territory import ALIASES
from services.billing.service.shared import Shared
from services.billing.service.stamps import plain, stamp
from services.billing.service.tax import kind
from services.billing.store import tax_rate as store
from services.chassis.db import Tx
from services.chassis.errors import Refusal
from services.chassis.events import emit
from services.chassis.masks import check_etag, etag
from services.chassis.method import Call
from weft.billing.v1 import tax_pb2, tax_rate_pb2 as pb
from weft.billing.v1.tax_events_pb2 import TaxRateChanged, TaxRateDeleted
from weft.billing.v1.tax_rate_pb2_grpc import TaxRateServiceServicer

REPORT_MAX = 1_000  # Refused rows that an answer tells apart; the rest is counted.


class TaxRates(TaxRateServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateTaxRate(self, request: pb.CreateTaxRateRequest, call: Call) -> pb.CreateTaxRateResponse:
        rate = from_pb(request.tax_rate_id, request.settings)
        async with self._shared.db.transaction() as tx:
            row, _ = await self._create(tx, rate)
        return pb.CreateTaxRateResponse(tax_rate=to_pb(row))

    async def _create(self, tx: Tx, rate: Rate) -> tuple[TaxRate, bool]:
        """The row, and whether it is new. Raises TaxRateIdReused, TaxRateTaken."""
        row = fresh(rate, self._shared.clock.now())
        if await store.written(tx, row):
            await emit(tx, changed(rate))
            return row, True
        there = await tx.get(TaxRate, rate.tax_rate_id)
        if there is None:
            raise TaxRateTaken(taken_by=await store.beginning(tx, rate), valid_from=rate.valid_from)
        if not there.says(rate):
            raise TaxRateIdReused(tax_rate_id=rate.tax_rate_id)
        return there, False

    async def GetTaxRate(self, request: pb.GetTaxRateRequest, call: Call) -> pb.GetTaxRateResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.tax_rate_id))
        return pb.GetTaxRateResponse(tax_rate=to_pb(row))

    async def ListTaxRates(self, request: pb.ListTaxRatesRequest, call: Call) -> pb.ListTaxRatesResponse:
        page = store.TAX_RATES.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListTaxRatesResponse(tax_rates=map(to_pb, rows), next_page_token=token)

    async def UpdateTaxRate(self, request: pb.UpdateTaxRateRequest, call: Call) -> pb.UpdateTaxRateResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.tax_rate_id), lock=True)
            check_etag(request.etag, row.revision)
            _, valid_to = span(row.valid_from.isoformat(), request.valid_to)
            told = (percent(request.percent), valid_to)
            if (row.percent, row.valid_to) != told:
                row.percent, row.valid_to = told
                row.revision, row.updated_at = row.revision + 1, self._shared.clock.now()
                await emit(tx, changed(row.as_rate()))
        return pb.UpdateTaxRateResponse(tax_rate=to_pb(row))

    async def DeleteTaxRate(self, request: pb.DeleteTaxRateRequest, call: Call) -> pb.DeleteTaxRateResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.tax_rate_id), lock=True)
            await tx.delete(row)
            await emit(tx, TaxRateDeleted(tax_rate_id=str(row.tax_rate_id), country=row.country))
        return pb.DeleteTaxRateResponse()

    async def ImportTaxRates(
        self, requests: AsyncIterator[pb.ImportTaxRatesRequest], call: Call
    ) -> pb.ImportTaxRatesResponse:
        report, rows = pb.ImportTaxRatesResponse(), 0
        async for request in requests:
            rows += 1
            if rows > IMPORT_ROWS_MAX:
                raise TooManyRows(max=IMPORT_ROWS_MAX)
            try:
                rate = from_pb(request.tax_rate_id, request.settings)
                async with self._shared.db.transaction() as tx:
                    _, new = await self._create(tx, rate)
            except Refusal as refusal:
                _refuse(report, rows, request.tax_rate_id, refusal)
            else:
                report.created += new
                report.unchanged += not new
        return report


def _refuse(report: pb.ImportTaxRatesResponse, row: int, tax_rate_id: str, refusal: Refusal) -> None:
    report.refused_total += 1
    if len(report.refused) < REPORT_MAX:
        report.refused.add(row=row, tax_rate_id=tax_rate_id, reason=refusal.reason(), message=str(refusal))


def from_pb(tax_rate_id: str, settings: pb.TaxRateSettings) -> Rate:
    """Raises TaxRateRefused."""
    country = ALIASES.get(settings.country, settings.country)
    valid_from, valid_to = span(settings.valid_from, settings.valid_to)
    return Rate(
        UUID(tax_rate_id),
        country,
        settings.region,
        kind(settings.kind),
        percent(settings.percent),
        valid_from,
        valid_to,
    )


def fresh(rate: Rate, now: datetime) -> TaxRate:
    return TaxRate(
        tax_rate_id=rate.tax_rate_id,
        country=rate.country,
        region=rate.region,
        kind=rate.kind,
        percent=rate.percent,
        valid_from=rate.valid_from,
        valid_to=rate.valid_to,
        revision=1,
        created_at=now,
        updated_at=now,
    )


def changed(rate: Rate) -> TaxRateChanged:
    return TaxRateChanged(
        tax_rate_id=str(rate.tax_rate_id),
        country=rate.country,
        region=rate.region,
        kind=tax_pb2.TaxCategory.Value(f"TAX_CATEGORY_{rate.kind}"),
        percent=plain(rate.percent),
        valid_from=rate.valid_from.isoformat(),
        valid_to=rate.valid_to.isoformat() if rate.valid_to else "",
    )


def to_pb(row: TaxRate) -> pb.TaxRate:
    return pb.TaxRate(
        tax_rate_id=str(row.tax_rate_id),
        settings=pb.TaxRateSettings(
            country=row.country,
            region=row.region,
            kind=tax_pb2.TaxCategory.Value(f"TAX_CATEGORY_{row.kind}"),
            percent=plain(row.percent),
            valid_from=row.valid_from.isoformat(),
            valid_to=row.valid_to.isoformat() if row.valid_to else "",
        ),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )
