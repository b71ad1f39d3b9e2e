"""Whatever billing can bill is an e-invoice without fault, in both syntaxes and inside of its page."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from lxml import etree

from services.billing.documents.en16931 import Syntax
from services.billing.documents.orders import Make
from services.billing.documents.page import Style
from services.billing.documents.pressing import Press
from services.billing.domain.document import Adjustment, Document, Kind
from tests.billing.documents.papers import BUYER, DAY, RATES, item, paper, papers

CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"


def text(content: bytes, name: str) -> list[str]:
    """The texts of UBL elements of this name, in their order."""
    return [str(each.text) for each in etree.fromstring(content).iter(f"{CBC}{name}")]


def keeps_schema_and_rules(runner: asyncio.Runner, document: Document) -> None:
    async def made() -> dict[Any, Any]:
        press = PRESSES.setdefault("one", Press())
        orders = {form: Make(document=document, style=Style(), format=form) for form in (None, *Syntax)}
        return {form: await press.make(order) for form, order in orders.items()}

    for form, answer in runner.run(made()).items():
        assert (form, answer.broken, answer.electronic) == (form, (), True)


@pytest.mark.parametrize("examples", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_any_document_keeps_schema_and_rules_of_both_syntaxes(runner: asyncio.Runner, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.explicit, Phase.generate],
    )
    @given(document=papers())
    def holds(document: Document) -> None:
        keeps_schema_and_rules(runner, document)

    holds()


PRESSES: dict[str, Press] = {}


@pytest.fixture(scope="module", autouse=True)
def _stopped(runner: asyncio.Runner) -> Any:
    yield
    if press := PRESSES.pop("one", None):
        runner.run(press.stop())


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("code", RATES)
async def test_every_category_stands_alone(press: Press, code: str, kind: Kind) -> None:
    preceding = ("INV-000041", DAY) if kind is Kind.CREDIT_NOTE else None
    document = paper((item(code=code, rate=RATES[code][0]),), kind=kind, preceding=preceding)
    for syntax in Syntax:
        made = await press.make(Make(document=document, style=Style(), format=syntax))
        assert made.broken == ()


async def test_the_numbers_of_the_invoice_are_those_of_its_xml(press: Press) -> None:
    document = paper(
        (item(1, 9_000, allowance=1_000, units=Decimal(4), price=Decimal("25")), item(2, 5_000, rate="7")),
        (Adjustment(amount=500, charge=False, reason="Loyal", code="S", rate=Decimal(19)),),
        prepaid=1_000,
    )
    made = await press.make(Make(document=document, style=Style(), format=Syntax.UBL))
    assert text(made.content, "LineExtensionAmount") == ["140.00", "90.00", "50.00"]
    assert text(made.content, "TaxExclusiveAmount") == ["135.00"]
    assert text(made.content, "TaxAmount") == ["19.65", "3.50", "16.15"]
    assert text(made.content, "TaxInclusiveAmount") == ["154.65"]
    assert text(made.content, "PrepaidAmount") == ["10.00"]
    assert text(made.content, "PayableAmount") == ["144.65"]
    assert text(made.content, "InvoicedQuantity") == ["4", "1"]
    assert text(made.content, "PriceAmount") == ["25", "50"]


async def test_what_the_standard_cannot_say_together_is_told_by_its_rules(press: Press) -> None:
    document = paper((item(1, code="O", rate="0"), item(2)))
    made = await press.make(Make(document=document, style=Style(), format=Syntax.UBL))
    assert not made.electronic
    assert {"BR-O-11", "BR-O-12"} <= set(made.broken)
    printed = await press.make(Make(document=document, style=Style()))
    assert (printed.electronic, printed.content[:5]) == (False, b"%PDF-")
    assert set(printed.broken)


async def test_a_seller_without_a_vat_number_cannot_bill_by_reverse_charge(press: Press) -> None:
    document = paper((item(code="AE", rate="0"),))
    bare = replace(document, buyer=replace(BUYER, vat_number=""))
    made = await press.make(Make(document=bare, style=Style(), format=Syntax.CII))
    assert "BR-AE-02" in made.broken


async def test_texts_of_customers_are_text_in_xml(press: Press) -> None:
    evil = '</cbc:Name><cbc:ID>x</cbc:ID> & "quoted" <![CDATA[ ]]> &amp;'
    document = paper((item(name=evil),), buyer=replace(BUYER, name=evil))
    made = await press.make(Make(document=document, style=Style(), format=Syntax.UBL))
    assert made.broken == ()
    assert evil in text(made.content, "Name")
    assert evil in text(made.content, "RegistrationName")


async def test_factur_x_holds_its_xml_and_says_so(press: Press) -> None:
    from facturx import get_xml_from_pdf

    document = paper()
    whole = await press.make(Make(document=document, style=Style()))
    inside = await press.make(Make(document=document, style=Style(), format=Syntax.CII))
    name, content = get_xml_from_pdf(BytesIO(whole.content), check_xsd=True, check_schematron=False)
    assert (name, content) == ("factur-x.xml", inside.content)
    report = await press.check(inside.content)
    assert (report.unreadable, [finding.rule for finding in report.findings if finding.fatal]) == ("", [])
