"""Documents through gRPC: of finalised invoices and credit notes, made once, for whom they are about."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from lxml import etree

from services.billing.app import build
from services.chassis.clock import FakeClock
from services.chassis.testing import Lab, broken_fields, laboratory, reason, until
from tests.billing.documents.papers import BIC, IBAN
from tests.servers import Shared
from weft.billing.v1 import (
    credit_note_pb2,
    document_pb2 as pb,
    invoice_messages_pb2 as invoices,
    plan_pb2,
    profile_pb2,
)
from weft.billing.v1.credit_note_pb2_grpc import CreditNoteServiceStub
from weft.billing.v1.document_events_pb2 import DocumentMade
from weft.billing.v1.document_pb2_grpc import DocumentServiceStub
from weft.billing.v1.invoice_pb2_grpc import InvoiceServiceStub
from weft.billing.v1.profile_pb2_grpc import BillingProfileServiceStub
from weft.identity.v1.events_pb2 import UserDeleted
from weft.money.v1.money_pb2 import UnitPrice

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"
PDF, UBL, CII = pb.DOCUMENT_FORMAT_PDF, pb.DOCUMENT_FORMAT_UBL, pb.DOCUMENT_FORMAT_CII
SELLER = {"WEFT_BILLING_VIES_URL": "", "WEFT_BILLING_SELLER_IBAN": IBAN, "WEFT_BILLING_SELLER_BIC": BIC}


@dataclass
class World:
    """A billing whose customers are billed by hand."""

    lab: Lab

    @property
    def documents(self) -> DocumentServiceStub:
        return DocumentServiceStub(self.lab.channel)

    async def customer(self, country: str = "DE", **address: Any) -> str:
        customer_id = str(uuid4())
        told = {"name": "Ann & Söhne <GmbH>", "lines": ["Gasse 1"], "postal_code": "10117", "city": "Berlin"}
        request = profile_pb2.PutBillingProfileRequest(
            customer_id=customer_id, country=country, address=profile_pb2.Address(**{**told, **address})
        )
        stub = BillingProfileServiceStub(self.lab.channel)
        await stub.PutBillingProfile(request, metadata=self.lab.bearer())
        return customer_id

    async def invoice(
        self, customer_id: str, *also: dict[str, Any], final: bool = True, currency: str = "EUR", **line: Any
    ) -> str:
        """Of one line, and of others like it but for what `also` says."""
        price = UnitPrice(amount="33.335", currency=currency)
        told = {"description": "Pro plan", "units": "3", "unit_price": price, **line}
        lines = [invoices.NewInvoiceLine(line_id=str(uuid4()), **(told | more)) for more in ({}, *also)]
        request = invoices.CreateInvoiceRequest(
            invoice_id=str(uuid4()), customer_id=customer_id, currency=currency, lines=lines, memo="Hello"
        )
        stub = InvoiceServiceStub(self.lab.channel)
        await stub.CreateInvoice(request, metadata=self.lab.bearer())
        if final:
            finalise = invoices.FinaliseInvoiceRequest(invoice_id=request.invoice_id)
            await stub.FinaliseInvoice(finalise, metadata=self.lab.bearer())
        return request.invoice_id

    async def document(
        self, invoice_id: str, format: pb.DocumentFormat.ValueType = PDF, customer_id: str = "", **as_: Any
    ) -> pb.GetInvoiceDocumentResponse:
        request = pb.GetInvoiceDocumentRequest(invoice_id=invoice_id, customer_id=customer_id, format=format)
        return await self.documents.GetInvoiceDocument(request, metadata=self.lab.bearer(**as_))

    async def refusal(self, *args: Any, **named: Any) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.document(*args, **named)
        return reason(refused.value)


@pytest.fixture(scope="module")
async def world(servers: Shared) -> AsyncIterator[World]:
    builds = {"billing": partial(build, environ=SELLER)}
    async with laboratory(
        builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=FakeClock(START)
    ) as lab:
        yield World(lab)


def text(content: bytes, name: str) -> list[str]:
    return [str(each.text) for each in etree.fromstring(content).iter(f"{CBC}{name}")]


async def test_a_finalised_invoice_is_a_factur_x_page(world: World) -> None:
    made = await world.document(await world.invoice(await world.customer()))
    assert made.body.content_type == "application/pdf"
    assert made.body.data.startswith(b"%PDF-1.7")
    assert b"factur-x.xml" in made.body.data
    assert made.facts.electronic
    assert made.facts.sha256 == sha256(made.body.data).hexdigest()


async def test_the_xml_says_what_the_invoice_says(world: World) -> None:
    invoice_id = await world.invoice(await world.customer(), units="3")
    made = await world.document(invoice_id, UBL)
    assert made.body.content_type == "application/xml"
    assert text(made.body.data, "TaxExclusiveAmount") == ["100.01"]
    assert text(made.body.data, "TaxAmount") == ["19.00", "19.00"]
    assert text(made.body.data, "TaxInclusiveAmount") == ["119.01"]
    assert text(made.body.data, "PriceAmount") == ["33.335"]
    assert text(made.body.data, "IssueDate") == ["2026-03-01"]
    assert "Ann & Söhne <GmbH>" in text(made.body.data, "RegistrationName")
    row = await world.lab.db("billing").fetchrow(
        "select number_text from invoice where invoice_id = $1", UUID(invoice_id)
    )
    assert text(made.body.data, "ID")[0] == row["number_text"]


async def test_a_document_is_made_once_and_told_once_by_64_callers(world: World) -> None:
    invoice_id = await world.invoice(await world.customer())
    made = await asyncio.gather(*(world.document(invoice_id, CII) for _ in range(64)))
    assert len({answer.body.data for answer in made}) == 1
    events = await world.lab.db("billing").fetch(
        "select type, payload from event where key = $1 and type like '%DocumentMade'", invoice_id
    )
    told = [DocumentMade.FromString(row["payload"]) for row in events]
    assert [(event.format, event.sha256) for event in told] == [(CII, made[0].facts.sha256)]


async def test_what_was_made_stays_when_the_profile_changes(world: World) -> None:
    customer_id = await world.customer()
    invoice_id = await world.invoice(customer_id)
    before = await world.document(invoice_id)
    put = profile_pb2.PutBillingProfileRequest(customer_id=customer_id, country="FR")
    await BillingProfileServiceStub(world.lab.channel).PutBillingProfile(put, metadata=world.lab.bearer())
    assert (await world.document(invoice_id)).body.data == before.body.data
    ubl = await world.document(invoice_id, UBL)
    assert "DE" in text(ubl.body.data, "IdentificationCode")
    assert "Ann & Söhne <GmbH>" in text(ubl.body.data, "RegistrationName")


async def test_a_credit_note_names_its_invoice_and_takes_its_tax_back(world: World) -> None:
    invoice_id = await world.invoice(await world.customer())
    note = credit_note_pb2.IssueCreditNoteRequest(
        credit_note_id=str(uuid4()), invoice_id=invoice_id, reason="A fault"
    )
    await CreditNoteServiceStub(world.lab.channel).IssueCreditNote(note, metadata=world.lab.bearer())
    for format in (PDF, UBL, CII):
        request = pb.GetCreditNoteDocumentRequest(credit_note_id=note.credit_note_id, format=format)
        made = await world.documents.GetCreditNoteDocument(request, metadata=world.lab.bearer())
        assert made.facts.electronic
        if format == UBL:
            assert made.body.data.startswith(b"<?xml")
            assert text(made.body.data, "CreditNoteTypeCode") == ["381"]
            assert text(made.body.data, "PayableAmount") == ["119.01"]
            assert text(made.body.data, "Note") == ["A fault"]
            number = await world.lab.db("billing").fetchval(
                "select number_text from invoice where invoice_id = $1", UUID(invoice_id)
            )
            assert number in text(made.body.data, "ID")
    unknown = pb.GetCreditNoteDocumentRequest(credit_note_id=str(uuid4()))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.documents.GetCreditNoteDocument(unknown, metadata=world.lab.bearer())
    assert reason(refused.value) == "UNKNOWN_CREDIT_NOTE"


async def test_customers_get_their_own_documents_and_no_others(world: World) -> None:
    me, other = await world.customer(), await world.customer()
    mine, foreign = await world.invoice(me), await world.invoice(other)
    person = {"subject": me, "scope": "account"}
    assert (await world.document(mine, customer_id=me, **person)).body.data
    assert await world.refusal(foreign, customer_id=me, **person) == "UNKNOWN_INVOICE"
    assert await world.refusal(foreign, **person) == "NOT_PERMITTED"
    assert await world.refusal(foreign, customer_id=other, **person) == "NOT_PERMITTED"


async def test_a_draft_has_no_document_and_an_unknown_invoice_none(world: World) -> None:
    draft = await world.invoice(await world.customer(), final=False)
    assert await world.refusal(draft) == "DRAFT_HAS_NO_DOCUMENT"
    assert await world.refusal(str(uuid4())) == "UNKNOWN_INVOICE"


async def test_an_amount_of_three_decimals_has_a_page_and_no_xml(world: World) -> None:
    price = UnitPrice(amount="33.335", currency="BHD")
    invoice_id = await world.invoice(await world.customer(), currency="BHD", unit_price=price)
    assert not (await world.document(invoice_id)).facts.electronic
    for format in (UBL, CII):
        assert await world.refusal(invoice_id, format) == "NO_ELECTRONIC_INVOICE"


async def test_an_export_is_an_electronic_invoice_that_says_why_it_bears_no_tax(world: World) -> None:
    abroad = await world.customer("US", name="Acme", city="Boston", postal_code="02101")
    invoice_id = await world.invoice(abroad, goods=True, tax=plan_pb2.CHARGE_TAX_STANDARD)
    made = await world.document(invoice_id, UBL)
    assert made.facts.electronic
    assert text(made.body.data, "TaxExemptionReasonCode") == ["VATEX-EU-G"]


async def test_goods_and_services_exported_together_have_a_page_and_xml_by_no_rule(world: World) -> None:
    """The standard lets category O stand with no other (BR-O-11)."""
    abroad = await world.customer("US", name="Acme", city="Boston", postal_code="02101")
    invoice_id = await world.invoice(abroad, {"goods": False}, goods=True)
    made = await world.document(invoice_id)
    assert not made.facts.electronic
    assert "BR-O-11" in made.facts.broken_rules
    assert made.body.data.startswith(b"%PDF-")
    assert await world.refusal(invoice_id, UBL) == "NO_ELECTRONIC_INVOICE"


async def test_a_name_with_control_characters_is_legible(world: World) -> None:
    customer_id = await world.customer(name="A\x01n\x1fn\u2028\t  B", city="\x7f")
    made = await world.document(await world.invoice(customer_id, description="x\x0by"), UBL)
    assert "A n n B" in text(made.body.data, "RegistrationName")
    assert "x y" in text(made.body.data, "Name")


async def test_after_erasure_documents_are_as_they_were(world: World) -> None:
    customer_id = await world.customer()
    early, late = await world.invoice(customer_id), await world.invoice(customer_id)
    before = await world.document(early)
    await world.lab.announce(UserDeleted(user_id=customer_id))

    async def forgotten() -> bool:
        row = await world.lab.db("billing").fetchrow(
            "select true from billing_party where customer_id = $1", UUID(customer_id)
        )
        return row is None

    await until(forgotten)
    assert (await world.document(early)).body.data == before.body.data
    assert (await world.document(late, UBL)).facts.electronic


async def test_an_electronic_invoice_of_others_is_checked(world: World) -> None:
    content = (await world.document(await world.invoice(await world.customer()), UBL)).body.data
    check = partial(world.documents.CheckElectronicInvoice, metadata=world.lab.bearer())
    assert (await check(pb.CheckElectronicInvoiceRequest(content=content))).valid
    broken = content.replace(b">119.01<", b">119.02<")
    report = await check(pb.CheckElectronicInvoiceRequest(content=broken))
    assert not report.valid
    assert {"BR-CO-15", "BR-CO-16"} & {finding.rule for finding in report.findings}
    assert all(finding.text and finding.location for finding in report.findings)
    assert (await check(pb.CheckElectronicInvoiceRequest(content=b"no"))).unreadable
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(pb.CheckElectronicInvoiceRequest())
    assert set(broken_fields(refused.value)) == {"content"}
