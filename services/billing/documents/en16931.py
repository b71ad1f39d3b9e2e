"""A document in the terms of EN 16931, and from there in UBL 2.1 or CII by the factur-x library."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from services.billing.domain.document import Adjustment, Document, Item, Kind, Party, TaxPart
from services.chassis.money import exponent

PIECE = "C62"  # One, by UN/ECE recommendation 20.
DISCOUNT = "95"  # UNTDID 5189.
SEPA_TRANSFER, TRANSFER, STANDING = "58", "30", "57"  # UNTDID 4461.
EMAIL = "EM"  # Scheme of an electronic address.
OUT_OF_SCOPE = "O"


class Syntax(StrEnum):
    """How EN 16931 may be written."""

    UBL = "ubl-2.1"
    CII = "factur-x"


def xml(document: Document, syntax: Syntax) -> bytes:
    """The document in a syntax; it keeps the syntax's schema, or ValueError is raised."""
    from facturx import generate_xml

    made: bytes = generate_xml(
        terms(document), flavor=syntax, level="en16931", check_xsd=True, check_schematron=False
    )
    return made


def terms(document: Document) -> dict[str, Any]:
    """By the standard's numbers of its terms."""
    said = _Terms(document)
    return _told({**said.header(), **said.parties(), **said.payment(), **said.totals(), **said.groups()})


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is absent: an empty element breaks BR-CL and schema alike."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


@dataclass(frozen=True)
class _Terms:
    """One document being put into terms."""

    of: Document

    def header(self) -> dict[str, Any]:
        preceding = self.of.preceding
        return {
            "BT-1": self.of.number,
            "BT-2": self.of.issued,
            "BT-3": self.of.kind.value,
            "BT-5": self.of.currency,
            "BT-9": self.of.due if self.of.kind is Kind.INVOICE else None,
            "BG-1": [{"BT-22": note} for note in self.of.notes],
            "BG-3": [{"BT-25": preceding[0], "BT-26": preceding[1]}] if preceding else [],
        }

    def parties(self) -> dict[str, Any]:
        return {
            "BG-4": self._party(self.of.seller),
            "BG-7": self._party(self.of.buyer),
            "BG-13": {"country_code": self.of.buyer.country, "name": self.of.buyer.name},
            **self._delivery(),
        }

    def _party(self, party: Party) -> dict[str, Any]:
        hidden = any(part.code == OUT_OF_SCOPE for part in self.of.taxes)  # BR-O-02
        contact = _told({"email": party.email, "phone": party.phone})
        return _told(
            {
                "name": party.name,
                "legal_identifier": party.registration,
                "vat_identifier": "" if hidden else party.vat_number,
                "tax_identifier": party.tax_number,
                "einvoicing_addr": party.email,
                "einvoicing_addr_schemeid": EMAIL if party.email else "",
                "contacts": [contact | {"name": party.name}] if contact else [],
                "country_code": party.country,
                "city": party.city,
                "postcode": party.postal_code,
                "country_subdivision": party.region,
                **{f"addr_l{n}": line for n, line in enumerate(party.lines[:3], 1)},
            }
        )

    def _delivery(self) -> dict[str, Any]:
        """When it was supplied: the period of its lines, else the day of the document."""
        starts = [item.start for item in self.of.items if item.start]
        ends = [item.end for item in self.of.items if item.end]
        if starts and ends and min(starts) <= max(ends):
            return {"BT-73": min(starts), "BT-74": max(ends)}
        return {"BT-72": self.of.issued}

    def payment(self) -> dict[str, Any]:
        payment = self.of.payment
        if self.of.kind is Kind.CREDIT_NOTE or not self.of.payable:
            return {}
        if payment.automatic or not payment.iban:
            return {"BT-81": STANDING, "BT-83": self.of.number} if payment.automatic else {}
        return {
            "BT-81": SEPA_TRANSFER if self.of.currency == "EUR" else TRANSFER,
            "BT-83": self.of.number,
            "BT-84": payment.iban,
            "BT-85": self.of.seller.name,
            "BT-86": payment.bic,
        }

    def totals(self) -> dict[str, Any]:
        of = self.of
        return {
            "BT-20": "" if of.due or of.kind is Kind.CREDIT_NOTE else "Payable on receipt",
            "BT-106": self.amount(of.items_net),
            "BT-107": self.amount(of.allowances) if of.allowances else None,
            "BT-108": self.amount(of.charges) if of.charges else None,
            "BT-109": self.amount(of.net),
            "BT-110": self.amount(of.tax),
            "BT-112": self.amount(of.gross),
            "BT-113": self.amount(of.prepaid) if of.prepaid else None,
            "BT-115": self.amount(of.payable),
        }

    def groups(self) -> dict[str, Any]:
        of = self.of
        return {
            "BG-20": [self._adjustment(each) for each in of.adjustments if not each.charge],
            "BG-21": [self._adjustment(each) for each in of.adjustments if each.charge],
            "BG-23": [self._tax(part) for part in of.taxes],
            "BG-25": [self._item(item) for item in of.items],
        }

    def _adjustment(self, each: Adjustment) -> dict[str, Any]:
        return _told(
            {
                "amount": self.amount(each.amount),
                "reason": each.reason,
                "reason_code": "" if each.charge else DISCOUNT,
                "vat_category_code": each.code,
                "vat_rate": _percent(each.code, each.rate),
            }
        )

    def _tax(self, part: TaxPart) -> dict[str, Any]:
        return _told(
            {
                "BT-116": self.amount(part.taxable),
                "BT-117": self.amount(part.tax),
                "BT-118": part.code,
                "BT-119": _percent(part.code, part.rate),
                "BT-120": part.reason,
                "BT-121": part.exemption,
            }
        )

    def _item(self, item: Item) -> dict[str, Any]:
        allowance = {
            "amount": self.amount(item.allowance),
            "reason": "Discount",
            "reason_code": DISCOUNT,
        }
        return _told(
            {
                "BT-126": str(item.position),
                "BT-127-00": [{"BT-127": item.note}] if item.note else [],
                "BT-129": plain(item.units),
                "BT-130": PIECE,
                "BT-131": self.amount(item.net),
                "BT-134": item.start,
                "BT-135": item.end,
                "BT-146": plain(item.price),
                "BT-151": item.code,
                "BT-152": _percent(item.code, item.rate),
                "BT-153": item.name,
                "BT-155": item.sku,
                "BG-27": [allowance] if item.allowance else [],
            }
        )

    def amount(self, minor: int) -> str:
        """In major units, with the currency's decimals."""
        return f"{Decimal(minor).scaleb(-exponent(self.of.currency)):f}"


def _percent(code: str, rate: Decimal) -> str:
    """Absent outside the scope of the tax (BR-O-05)."""
    return "" if code == OUT_OF_SCOPE else plain(rate)


def plain(number: Decimal) -> str:
    """No exponent, no zeros at the end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
