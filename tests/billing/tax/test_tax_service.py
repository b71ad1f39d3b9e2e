"""Taxes and their rates through gRPC: determined alone and in batches, kept as resources, imported."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.testing import Lab, broken_fields, reason
from weft.billing.v1 import tax_pb2 as pb, tax_rate_pb2 as rates_pb
from weft.billing.v1.tax_pb2_grpc import TaxServiceStub
from weft.billing.v1.tax_rate_pb2_grpc import TaxRateServiceStub

STANDARD, REDUCED = pb.TAX_CATEGORY_STANDARD, pb.TAX_CATEGORY_REDUCED


@pytest.fixture
def taxes(lab: Lab) -> TaxServiceStub:
    return TaxServiceStub(lab.channel)


@pytest.fixture
def rates(lab: Lab) -> TaxRateServiceStub:
    return TaxRateServiceStub(lab.channel)


def at(*when: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime(*when, tzinfo=UTC))  # type: ignore[arg-type, misc]
    return stamp


def new_rate(
    country: str, percent: str, since: str = "2020-01-01", **more: Any
) -> rates_pb.CreateTaxRateRequest:
    settings = rates_pb.TaxRateSettings(
        country=country, kind=STANDARD, percent=percent, valid_from=since, **more
    )
    return rates_pb.CreateTaxRateRequest(tax_rate_id=str(uuid4()), settings=settings)


async def test_a_sale_at_home_bears_the_rate_of_its_day(lab: Lab, taxes: TaxServiceStub) -> None:
    for when, rate in [((2020, 12, 31, 22), "16"), ((2020, 12, 31, 23), "19"), ((2020, 6, 30, 12), "19")]:
        asked = pb.DetermineTaxRequest(buyer_country="DE", tax_category=STANDARD, at=at(*when))
        tax = (await taxes.DetermineTax(asked, metadata=lab.bearer())).tax
        assert (tax.rate, tax.category_code, tax.country) == (rate, "S", "DE")
        assert tax.tax_rate_id


async def test_a_batch_answers_in_its_order(lab: Lab, taxes: TaxServiceStub) -> None:
    sales = [
        pb.DetermineTaxRequest(buyer_country=country, tax_category=REDUCED, at=at(2025, 9, 1))
        for country in ("SK", "FI", "DE", "US", "EL")
    ]
    answer = await taxes.BatchDetermineTax(pb.BatchDetermineTaxRequest(sales=sales), metadata=lab.bearer())
    assert [(tax.country, tax.rate, tax.category_code) for tax in answer.taxes] == [
        ("SK", "19", "S"),
        ("FI", "14", "S"),
        ("DE", "7", "S"),
        ("US", "0", "G"),
        ("GR", "13", "S"),
    ]


async def test_an_unknown_number_is_unconfirmed_and_a_malformed_one_invalid(
    lab: Lab, taxes: TaxServiceStub
) -> None:
    said = []
    for number in ("FR40303265045", "FR41303265045", "nonsense", ""):
        asked = pb.DetermineTaxRequest(
            buyer_country="FR", tax_category=STANDARD, vat_number=number, supply=pb.SUPPLY_SERVICES
        )
        tax = (await taxes.DetermineTax(asked, metadata=lab.bearer())).tax
        said.append((tax.rate, pb.VatNumberState.Name(tax.vat_number_state)[17:], tax.provisional))
    assert said == [
        ("20", "UNCONFIRMED", True),
        ("20", "INVALID", False),
        ("20", "INVALID", False),
        ("20", "UNSPECIFIED", False),
    ]


async def test_what_cannot_be_determined_is_refused_by_its_rule(lab: Lab, taxes: TaxServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as nowhere:
        await taxes.DetermineTax(
            pb.DetermineTaxRequest(seller_country="JP", buyer_country="JP", tax_category=STANDARD),
            metadata=lab.bearer(),
        )
    assert reason(nowhere.value) == "NO_TAX_RATE"
    with pytest.raises(grpc.aio.AioRpcError) as empty:
        await taxes.DetermineTax(pb.DetermineTaxRequest(buyer_country="de"), metadata=lab.bearer())
    assert set(broken_fields(empty.value)) == {"buyer_country", "tax_category"}


async def test_nobody_reads_or_writes_taxes_without_the_permission(
    lab: Lab, taxes: TaxServiceStub, rates: TaxRateServiceStub
) -> None:
    nobody = lab.bearer(scope="")
    sale = pb.DetermineTaxRequest(buyer_country="DE", tax_category=STANDARD)
    for call in (
        taxes.DetermineTax(sale, metadata=nobody),
        rates.CreateTaxRate(new_rate("KE", "16"), metadata=nobody),
        rates.ImportTaxRates(iter(()), metadata=nobody),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_rate_is_made_once_changed_with_its_etag_and_deleted(
    lab: Lab, taxes: TaxServiceStub, rates: TaxRateServiceStub
) -> None:
    new = new_rate("KE", "16")
    made = (await rates.CreateTaxRate(new, metadata=lab.bearer())).tax_rate
    assert (await rates.CreateTaxRate(new, metadata=lab.bearer())).tax_rate == made
    change = rates_pb.UpdateTaxRateRequest(tax_rate_id=made.tax_rate_id, percent="14.5", etag=made.etag)
    changed = (await rates.UpdateTaxRate(change, metadata=lab.bearer())).tax_rate
    assert changed.settings.percent == "14.5"
    with pytest.raises(grpc.aio.AioRpcError) as stale:
        await rates.UpdateTaxRate(change, metadata=lab.bearer())
    assert reason(stale.value) == "ETAG_MISMATCH"
    kenya = pb.DetermineTaxRequest(seller_country="KE", buyer_country="KE", tax_category=STANDARD)
    assert (await taxes.DetermineTax(kenya, metadata=lab.bearer())).tax.rate == "14.5"
    gone = rates_pb.DeleteTaxRateRequest(tax_rate_id=made.tax_rate_id)
    await rates.DeleteTaxRate(gone, metadata=lab.bearer())
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await rates.DeleteTaxRate(gone, metadata=lab.bearer())
    assert reason(unknown.value) == "UNKNOWN_TAX_RATE"
    told = await lab.db("billing").fetch("select type from event where key = 'KE' order by position")
    assert [row["type"].rpartition(".")[2] for row in told] == [
        "TaxRateChanged",
        "TaxRateChanged",
        "TaxRateDeleted",
    ]


async def test_ids_and_first_days_are_taken_by_one_rate(lab: Lab, rates: TaxRateServiceStub) -> None:
    new = new_rate("TZ", "18")
    await rates.CreateTaxRate(new, metadata=lab.bearer())
    other = rates_pb.CreateTaxRateRequest(tax_rate_id=new.tax_rate_id, settings=new_rate("TZ", "19").settings)
    again = rates_pb.CreateTaxRateRequest(tax_rate_id=str(uuid4()), settings=new.settings)
    said = []
    for request in (other, again):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rates.CreateTaxRate(request, metadata=lab.bearer())
        said.append(reason(refused.value))
    assert said == ["TAX_RATE_ID_REUSED", "TAX_RATE_TAKEN"]


async def test_64_callers_make_one_rate(lab: Lab, rates: TaxRateServiceStub) -> None:
    new = new_rate("UG", "18")

    async def made() -> bytes:
        """Asks again while the database has no room."""
        while True:
            try:
                answer = await rates.CreateTaxRate(new, metadata=lab.bearer())
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                return answer.SerializeToString()

    assert len(set(await asyncio.gather(*(made() for _ in range(64))))) == 1
    assert await lab.db("billing").fetchval("select count(*) from event where key = 'UG'") == 1


@pytest.mark.parametrize(
    ("percent", "since", "until", "field"),
    [
        ("100.001", "2020-01-01", "", "settings.percent"),
        ("1.2345", "2020-01-01", "", "settings.percent"),
        ("-1", "2020-01-01", "", "settings.percent"),
        ("1e1", "2020-01-01", "", "settings.percent"),
        ("5", "2020-02-30", "", "settings.valid_from"),
        ("5", "2020-01-01", "2020-01-01", "settings.valid_to"),
    ],
)
async def test_a_rate_that_breaks_a_rule_names_its_field(
    lab: Lab, rates: TaxRateServiceStub, percent: str, since: str, until: str, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await rates.CreateTaxRate(new_rate("RW", percent, since, valid_to=until), metadata=lab.bearer())
    assert set(broken_fields(refused.value)) == {field}


async def test_an_import_takes_good_rows_and_reports_the_others(lab: Lab, rates: TaxRateServiceStub) -> None:
    days = [("18", "2020-01-01"), ("18", "2020-01-01"), ("101", "2021-01-01"), ("17", "2022-01-01")]
    rows = [new_rate("BI", *day) for day in days]
    rows.append(rows[0])

    async def stream() -> AsyncIterator[rates_pb.ImportTaxRatesRequest]:
        for row in rows:
            yield rates_pb.ImportTaxRatesRequest(tax_rate_id=row.tax_rate_id, settings=row.settings)

    report = await rates.ImportTaxRates(stream(), metadata=lab.bearer())
    assert (report.created, report.unchanged, report.refused_total) == (2, 1, 2)
    assert [(row.row, row.reason) for row in report.refused] == [
        (2, "TAX_RATE_TAKEN"),
        (3, "TAX_RATE_REFUSED"),
    ]


async def test_lists_filter_by_country_and_page(lab: Lab, rates: TaxRateServiceStub) -> None:
    seen: list[str] = []
    token = ""
    while True:
        asked = rates_pb.ListTaxRatesRequest(filter='country = "DE"', page_size=4, page_token=token)
        answer = await rates.ListTaxRates(asked, metadata=lab.bearer())
        seen += [f"{rate.settings.percent} {rate.settings.valid_from}" for rate in answer.tax_rates]
        token = answer.next_page_token
        if not token:
            break
    assert seen == [
        "7 1983-07-01",
        "5 2020-07-01",
        "7 2021-01-01",
        "19 2007-01-01",
        "16 2020-07-01",
        "19 2021-01-01",
    ]
