"""The document that the rows of an invoice or a credit note are."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from services.billing.domain.document import Document, Item, Kind, Party, Payment, TaxPart, priced
from services.billing.domain.tax import EXEMPTIONS, NOTES, Code
from services.billing.domain.tax_number import number
from services.billing.seller_settings import SellerSettings
from services.billing.store.documents import Source

AUTOMATIC = "AUTOMATIC"
ERASED = "-"  # The standard wants a buyer's name (BR-07), and there may be none.


@dataclass(frozen=True)
class Composer:
    """Knows the seller."""

    seller: SellerSettings

    def document(self, source: Source) -> Document:
        """Raises DocumentRefused when the rows do not add up."""
        invoice, note = source.invoice, source.note
        head = note or invoice
        made = Document(
            kind=Kind.CREDIT_NOTE if note else Kind.INVOICE,
            number=head["number_text"],
            issued=self._day(head["issued_at"]),
            due=None if note or not invoice["due_at"] else self._day(invoice["due_at"]),
            currency=head["currency"],
            seller=self._seller(),
            buyer=_buyer(source),
            items=tuple(_credited(source) if note else _billed(source)),
            taxes=tuple(map(_tax, source.taxes)),
            net=head["net"],
            tax=head["tax"],
            gross=head["gross"],
            prepaid=0 if note else invoice["credit_applied"],
            notes=tuple(filter(None, [legible(note["reason"] if note else invoice["memo"])])),
            payment=self._payment(invoice),
            preceding=(invoice["number_text"], self._day(invoice["issued_at"])) if note else None,
            locale=(source.party["locale"] if source.party else "") or "en",
        )
        made.check()
        return made

    def _day(self, at: datetime) -> date:
        return at.astimezone(ZoneInfo(self.seller.seller_time_zone)).date()

    def _seller(self) -> Party:
        of = self.seller
        return Party(
            name=of.seller_name,
            country=of.seller_country,
            lines=tuple(line.strip() for line in of.seller_lines.split("|") if line.strip()),
            postal_code=of.seller_postal_code,
            city=of.seller_city,
            vat_number=of.seller_vat_number,
            tax_number=of.seller_tax_number,
            registration=of.seller_registration,
            email=of.seller_email,
            phone=of.seller_phone,
        )

    def _payment(self, invoice: Any) -> Payment:
        of = self.seller
        automatic = invoice["collection"] == AUTOMATIC
        return Payment(iban=of.seller_iban, bic=of.seller_bic, bank=of.seller_bank, automatic=automatic)


def _buyer(source: Source) -> Party:
    party = source.party or {}
    return Party(
        name=legible(party.get("name") or "") or ERASED,
        country=source.invoice["country"],
        lines=tuple(filter(None, map(legible, party.get("lines") or ()))),
        postal_code=legible(party.get("postal_code", "")),
        city=legible(party.get("city", "")),
        region=legible(party.get("region", "")),
        vat_number=number(party.get("vat_number", "")).compact,
        email=legible(party.get("email", "")),
    )


def _billed(source: Source) -> Iterator[Item]:
    currency = source.invoice["currency"]
    for row in source.lines:
        units, price = priced(row["amount"], row["units"], row["unit_price"], currency)
        yield Item(
            units=units,
            price=price,
            allowance=row["discount"],
            **_shared(source, row),
        )


def _credited(source: Source) -> Iterator[Item]:
    """Part of a line, whatever it is: one unit of what is taken back."""
    for row in source.lines:
        units, price = priced(row["net"], Decimal(1), None, source.invoice["currency"])
        yield Item(units=units, price=price, **_shared(source, row))


def _shared(source: Source, row: Any) -> dict[str, Any]:
    """What lines of either kind have; the last day of a period is the one before its end."""
    zone = ZoneInfo(source.invoice["time_zone"])
    start, end = row["service_start"], row["service_end"]
    return {
        "position": row["position"],
        "name": legible(row["description"]) or row["sku"] or ERASED,
        "sku": row["sku"],
        "net": row["net"],
        "code": row["tax_code"],
        "rate": row["tax_rate"],
        "start": start.astimezone(zone).date() if start and end else None,
        "end": (end - timedelta(microseconds=1)).astimezone(zone).date() if start and end else None,
    }


def legible(text: str) -> str:
    """Without what XML 1.0 cannot hold, and in one line: names are typed, pasted and imported."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _tax(row: Any) -> TaxPart:
    code = Code(row["tax_code"])
    return TaxPart(
        code=code.value,
        rate=row["tax_rate"],
        taxable=row["taxable"],
        tax=row["tax"],
        reason=row["note"] or NOTES.get(code, ""),
        exemption=EXEMPTIONS.get(code, ""),
    )
