"""Pages: what they say in which language, whatever is written into them, the same to the last byte."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from typing import Any

import pypdfium2
import pytest
from pypdf import PdfReader

from services.billing.documents.orders import Make
from services.billing.documents.page import MISSING, Style
from services.billing.documents.pressing import Press
from services.billing.documents.words import ENGLISH, LANGUAGES
from services.billing.domain.document import Document, Kind, Payment
from tests.billing.documents.papers import BUYER, DAY, item, paper

PIXEL = [
    (b"IHDR", bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0])),
    (b"IDAT", zlib.compress(b"\0" * 4)),
    (b"IEND", b""),
]
PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for kind, data in PIXEL
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><rect width="60" height="20"/></svg>'


async def printed(press: Press, document: Document, style: Style | None = None) -> bytes:
    return (await press.make(Make(document=document, style=style or Style()))).content


def texts(content: bytes) -> list[str]:
    """Of each page."""
    with pypdfium2.PdfDocument(content) as pdf:
        return [re.sub(r"[\s\xa0\u202f]+", " ", page.get_textpage().get_text_range()) for page in pdf]


async def test_a_page_says_who_owes_whom_what_and_how_to_pay(press: Press) -> None:
    [said] = texts(
        await printed(press, paper((item(sku="PRO-1", start=DAY, end=DAY),), notes=("Thank you.",)))
    )
    for part in (
        "Invoice INV-000042",
        "March 1, 2026",
        "March 15, 2026",
        "SA Sodimas",
        "FR40303265045",
        "Pro plan",
        "PRO-1",
        "Net €100.00",
        "VAT 19 % on €100.00 €19.00",
        "Total €119.00",
        "DE02 1203 0000 0000 2020 51",
        "BYLADEM1001",
        "VAT ID DE136695976",
        "Thank you.",
        "Page 1 of 1",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("locale", "parts"),
    [
        ("de", ["Rechnung INV-000042", "01.03.2026", "1.234,50 €", "USt.", "Zu zahlen"]),
        ("fr_FR", ["Facture INV-000042", "1 mars 2026", "1 234,50 €", "Total HT"]),
        ("es", ["Factura INV-000042", "1.234,50 €", "Base imponible"]),
        ("ja", ["Invoice INV-000042", "€1,234.50"]),
        ("no such locale", ["Invoice INV-000042", "€1,234.50"]),
    ],
)
async def test_a_page_is_in_the_readers_language_as_far_as_there_are_words(
    press: Press, locale: str, parts: list[str]
) -> None:
    [said] = texts(await printed(press, paper((item(net=123_450),), locale=locale, prepaid=100)))
    assert [part for part in parts if part not in said] == []


def test_every_language_has_every_word() -> None:
    assert {language: set(ENGLISH) - set(words) for language, words in LANGUAGES.items()} == {
        language: set() for language in LANGUAGES
    }
    for name, english in ENGLISH.items():
        places = sorted(re.findall(r"\{\w+\}", english))
        for words in LANGUAGES.values():
            assert sorted(re.findall(r"\{\w+\}", words[name])) == places


async def test_many_lines_go_over_pages_that_are_numbered_and_headed(press: Press) -> None:
    lines = tuple(item(n, name=f"Line {n} " + "which goes on and on " * (n % 5)) for n in range(1, 121))
    pages = texts(await printed(press, paper(lines)))
    assert len(pages) > 4
    for number, said in enumerate(pages, 1):
        assert f"Page {number} of {len(pages)}" in said
        assert "Description" in said or number == len(pages)
    assert all(any(f"Line {n} " in said for said in pages) for n in range(1, 121))
    assert "Total €14,280.00" in pages[-1]


@pytest.mark.parametrize(
    "name",
    [
        "أحمد بن محمد",
        "שלום ובניו",
        "株式会社日本 中文公司 한국회사",
        "Łódź Ωmega Привет ß Việt Nam ğ",
        "हिन्दी लिमिटेड",
        "บริษัท ไทย จำกัด",
    ],
)
async def test_names_of_the_worlds_scripts_are_shown(press: Press, name: str) -> None:
    [said] = texts(await printed(press, paper(buyer=replace(BUYER, name=name, lines=(name, "1 rue A")))))
    assert MISSING not in said
    assert said.count("SA Sodimas") == 0


HOSTILE = [
    '#panic("x") #include "/etc/passwd" $x$ `raw` *bold* _it_ @ref <label> \\ // /* #{1+1}',
    "🚀 𓂀 \U0010fffd",
    "W" * 400,
    "a\u202eb\u2066c\ufeff\u200b\u00ad",
    "x" * 5_000 + " y" * 2_000,
    '"}, {"json": 1} \\u0000 \\n',
]


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "unknown", "long word", "invisible", "huge", "json"])
async def test_texts_of_customers_are_text_on_the_page(press: Press, text: str) -> None:
    document = paper((item(name=text),), buyer=replace(BUYER, name=text, lines=(text, text)), notes=(text,))
    content = await printed(press, document)
    assert content.startswith(b"%PDF-")
    if "panic" in text:
        assert 'panic("x")' in " ".join(texts(content))


async def test_a_character_that_no_font_has_is_a_box_and_no_failure(press: Press) -> None:
    [said] = texts(await printed(press, paper((item(name="Rocket 🚀 plan"),))))
    assert f"Rocket {MISSING} plan" in said


def pieces(content: bytes) -> Iterator[Any]:
    yield from PdfReader(BytesIO(content)).trailer["/Root"].items()


async def test_a_page_is_pdf_a_3_with_its_fonts_inside(press: Press) -> None:
    content = await printed(press, paper(buyer=replace(BUYER, name="株式会社 شركة")))
    reader = PdfReader(BytesIO(content))
    root = dict(pieces(content))
    assert {"/Metadata", "/OutputIntents", "/AF", "/Names", "/StructTreeRoot", "/Lang"} <= set(root)
    packet = root["/Metadata"].get_object().get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>" in packet
    for fact in ("DocumentFileName", "DocumentType", "Version", "ConformanceLevel"):
        assert packet.count(f"<pdfaProperty:name>{fact}</pdfaProperty:name>") == 1
    assert ">EN 16931</fx:ConformanceLevel>" in packet
    [attached] = [each.get_object() for each in root["/AF"]]
    assert (attached["/AFRelationship"], attached["/UF"]) == ("/Alternative", "factur-x.xml")
    fonts = [font.get_object() for font in reader.pages[0]["/Resources"]["/Font"].values()]
    described = [font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object() for font in fonts]
    assert len(described) > 1
    assert all({"/FontFile2", "/FontFile3"} & set(descriptor) for descriptor in described)
    assert reader.trailer.get("/Encrypt") is None


async def test_the_same_document_is_the_same_bytes_in_another_press(press: Press) -> None:
    document = paper((item(name="Übergröße 株式会社"), item(2, rate="7")), notes=("Thanks",))
    first = await printed(press, document, Style(logo=SVG))
    other = Press()
    try:
        assert await printed(other, document, Style(logo=SVG)) == first
    finally:
        await other.stop()


async def test_a_logo_stands_in_place_of_the_name(press: Press) -> None:
    for logo in (PNG, SVG):
        content = await printed(press, paper(), Style(logo=logo, accent="#aa0000", footer="Managing: A. B."))
        [said] = texts(content)
        assert said.count("Weft Werke GmbH") == 2  # Above the address and at the foot.
        assert "Managing: A. B." in said


async def test_a_payment_code_is_there_where_a_transfer_in_euro_is_due(press: Press) -> None:
    by_transfer = paper()
    without = [
        replace(by_transfer, currency="CHF"),
        replace(by_transfer, payment=Payment(automatic=True)),
        replace(by_transfer, payment=Payment()),
        replace(by_transfer, prepaid=by_transfer.gross),
        replace(by_transfer, kind=Kind.CREDIT_NOTE, due=None, preceding=("INV-000041", DAY)),
    ]
    assert "Scan to pay" in texts(await printed(press, by_transfer))[0]
    assert ["Scan to pay" in texts(await printed(press, each))[0] for each in without] == [False] * 5


def test_the_payment_code_says_account_amount_and_number() -> None:
    import segno
    from segno import helpers

    from services.billing.documents.page import payment_code

    code = payment_code(paper())
    expected = helpers.make_epc_qr(
        name="Weft Werke GmbH",
        iban="DE02120300000000202051",
        bic="BYLADEM1001",
        amount=Decimal("119.00"),
        text="INV-000042",
        encoding="utf-8",
    )
    assert isinstance(expected, segno.QRCode)
    assert code == expected.svg_inline(border=0)
    assert payment_code(paper((item(net=100_000_000_000),))) == ""
