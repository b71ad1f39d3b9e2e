"""A document as a page to print: typeset by Typst from data alone, so that no text of a customer is code.

The same document gives the same bytes: the time of the file is the document's own, the fonts are packages,
and those of the machine are not looked at.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, format_percent

from services.billing.documents.words import words
from services.billing.domain.document import Document, Item, Kind, Party, TaxPart
from services.chassis.money import exponent

TEMPLATES = Path(__file__).parent / "templates"
PRICE_PLACES_MAX = 6  # As weft.money.v1.UnitPrice has them.
EPC_CENTS_MAX = 99_999_999_999  # Of a payment code, by EPC069-12.
MISSING = "□"  # Stands for a character that no font has.


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the seller's pages look."""

    accent: str = "#1f3a5f"
    logo: bytes = b""  # PNG, JPEG or SVG.
    footer: str = ""


def pdf(document: Document, style: Style, inside: bytes = b"") -> bytes:
    """PDF/A-3b, with the XML `inside` attached where there is one."""
    stamp = datetime.combine(document.issued, time(), UTC)
    typeset = compiler(document, style, inside)
    made: bytes = typeset.compile(format="pdf", pdf_standards="a-3b", timestamp=stamp)
    return made


def compiler(document: Document, style: Style, inside: bytes = b"") -> Any:
    """Typst's, with the document's data."""
    import typst

    view = printable(_View(document, style).data()) | {"xml": inside.decode()}
    shown = json.dumps(view, ensure_ascii=False)
    return typst.Compiler(
        str(TEMPLATES / "invoice.typ"),
        root=str(TEMPLATES),
        font_paths=[str(path) for path in _folders()],
        ignore_system_fonts=True,
        sys_inputs={"data": shown},
    )


@cache
def _folders() -> tuple[Path, ...]:
    return tuple(sorted({path.parent for path in font_files()}))


@cache
def font_files() -> tuple[Path, ...]:
    """Upright faces, in the order in which they are looked through."""
    packages = (
        (distribution("fontpkg-noto-sans"), "NotoSans"),
        (distribution("fontpkg-noto-sans-arabic"), "NotoSansArabic"),
        (distribution("fontpkg-noto-sans-devanagari"), "NotoSansDevanagari"),
        (distribution("fontpkg-noto-sans-thai"), "NotoSansThai"),
        (distribution("pylopdf-fonts-he"), "NotoSansHebrew"),
        (distribution("noto-cjk-sans-jp-regular"), "NotoSansCJK"),
    )
    found = []
    for package, prefix in packages:
        for file in package.files or ():
            if (
                file.name.startswith((f"{prefix}[", f"{prefix}-", f"{prefix}jp"))
                and "Italic" not in file.name
            ):
                found.append(Path(str(file.locate())))
    return tuple(found)


@cache
def characters() -> frozenset[int]:
    """What the fonts can show."""
    from fontTools.ttLib import TTFont

    known: set[int] = set()
    for path in font_files():
        with TTFont(path, lazy=True) as font:
            known |= font.getBestCmap().keys()
    return frozenset(known)


def printable(value: Any) -> Any:
    """The same, each character that no font has replaced: PDF/A refuses what cannot be shown."""
    if isinstance(value, str):
        return "".join(c if ord(c) in characters() or c in "\n\u200e\u200f" else MISSING for c in value)
    if isinstance(value, Mapping):
        return {name: each if name == "svg" else printable(each) for name, each in value.items()}
    return [printable(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class _View:
    """What the template needs, in words and figures of the reader's language."""

    of: Document
    style: Style

    @property
    def locale(self) -> Locale:
        try:
            return Locale.parse(self.of.locale.replace("-", "_"))
        except (UnknownLocaleError, ValueError):
            return Locale("en")

    @property
    def words(self) -> Mapping[str, str]:
        return words(self.locale.language)

    def data(self) -> dict[str, Any]:
        of = self.of
        return {
            "language": self.locale.language,
            "accent": self.style.accent,
            "logo": list(self.style.logo),
            "footer": self.style.footer,
            "title": self.words["invoice" if of.kind is Kind.INVOICE else "credit_note"],
            "number": of.number,
            "words": dict(self.words),
            "seller": self.party(of.seller),
            "buyer": self.party(of.buyer),
            "facts": self.facts(),
            "items": [self.item(item) for item in of.items],
            "totals": self.totals(),
            "reasons": list(dict.fromkeys(part.reason for part in of.taxes if part.reason)),
            "notes": list(of.notes),
            "payment": self.payment(),
        }

    def party(self, party: Party) -> dict[str, Any]:
        town = " ".join(part for part in (party.postal_code, party.city) if part)
        country = self.locale.territories.get(party.country, party.country)
        address = [party.name, *party.lines, town, party.region, country]
        return {**asdict(party), "address": [line for line in address if line]}

    def facts(self) -> list[tuple[str, str]]:
        of, said = self.of, self.words
        facts = [(said["number"], of.number), (said["date"], self.day(of.issued))]
        if of.kind is Kind.INVOICE:
            facts.append((said["due"], self.day(of.due) if of.due else said["on_receipt"]))
        if of.preceding:
            facts.append((said["about"], f"{of.preceding[0]}, {self.day(of.preceding[1])}"))
        if of.buyer.vat_number:
            facts.append((said["buyer_vat"], of.buyer.vat_number))
        return facts

    def item(self, item: Item) -> dict[str, Any]:
        period = ""
        if item.start and item.end:
            period = f"{self.day(item.start)} {self.words['to']} {self.day(item.end)}"
        discount = f"{self.words['discount']} {self.money(-item.allowance)}" if item.allowance else ""
        return {
            "position": str(item.position),
            "name": item.name,
            "details": [detail for detail in (period, item.sku, item.note, discount) if detail],
            "units": format_decimal(item.units, "#,##0.######", locale=self.locale),
            "price": self.price(item.price),
            "rate": self.percent(item.rate),
            "amount": self.money(item.net),
        }

    def totals(self) -> list[dict[str, Any]]:
        of, said = self.of, self.words
        rows = []
        if of.adjustments:
            rows.append((said["items_net"], of.items_net, False))
            rows += [
                (each.reason, each.amount if each.charge else -each.amount, False) for each in of.adjustments
            ]
        rows.append((said["net"], of.net, False))
        rows += [(self.tax(part), part.tax, False) for part in of.taxes]
        rows.append((said["gross"], of.gross, True))
        if of.prepaid:
            rows.append((said["prepaid"], -of.prepaid, False))
            rows.append((said["payable"], of.payable, True))
        return [{"name": name, "amount": self.money(minor), "strong": strong} for name, minor, strong in rows]

    def tax(self, part: TaxPart) -> str:
        said = self.words["tax_of" if part.rate else "no_tax"]
        return said.format(rate=self.percent(part.rate), taxable=self.money(part.taxable))

    def payment(self) -> dict[str, Any]:
        of, said = self.of, self.words
        if of.kind is Kind.CREDIT_NOTE:
            return {}
        if not of.payable:
            return {"text": said["nothing_due"]}
        told = {"amount": self.money(of.payable), "number": of.number}
        if of.payment.automatic or not of.payment.iban:
            return {"text": said["by_method"].format(**told)} if of.payment.automatic else {}
        text = said["by_transfer"].format(due=self.day(of.due), **told) if of.due else ""
        account = [(said["account"], _spaced(of.payment.iban)), ("BIC", of.payment.bic)]
        return {
            "text": text or said["by_transfer_now"].format(**told),
            "account": [row for row in [*account, (said["bank"], of.payment.bank)] if row[1]],
            "svg": payment_code(of),
        }

    def money(self, minor: int) -> str:
        major = Decimal(minor).scaleb(-exponent(self.of.currency))
        return format_currency(major, self.of.currency, locale=self.locale)

    def price(self, price: Decimal) -> str:
        """With at least the currency's decimals, and as many more as it has."""
        places = max(exponent(self.of.currency), -int(price.normalize().as_tuple().exponent))
        shape = "#,##0." + "0" * places if places else "#,##0"
        return format_decimal(price, shape, locale=self.locale)

    def percent(self, rate: Decimal) -> str:
        return format_percent(rate / 100, "#,##0.###\u00a0%", locale=self.locale)

    def day(self, day: date) -> str:
        return format_date(day, "long" if self.locale.language == "en" else "medium", locale=self.locale)


def payment_code(of: Document) -> str:
    """An EPC QR code as SVG, for transfers in euro; empty where the standard has none."""
    import segno.helpers

    if of.currency != "EUR" or not 0 < of.payable <= EPC_CENTS_MAX:
        return ""
    code = segno.helpers.make_epc_qr(
        name=of.seller.name[:70],
        iban=of.payment.iban,
        bic=of.payment.bic or None,
        amount=Decimal(of.payable).scaleb(-2),
        text=of.number[:140],
        encoding="utf-8",
    )
    return str(code.svg_inline(border=0))


def _spaced(iban: str) -> str:
    return " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
