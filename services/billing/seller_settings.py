"""Who sells: what invoices and taxes must know of the business itself; the prefix is WEFT_BILLING_."""

import re
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.billing.documents import logo
from services.billing.settings import PREFIX
from services.chassis.config import BadSetting, setting

LOGO_BYTES_MAX = 256 * 1024  # It is in every page's file.
LOGO_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"<svg", b"<?xml")


@dataclass(frozen=True, kw_only=True)
class SellerSettings:
    """The business, as its invoices say it."""

    seller_name: str = setting("The seller's legal name, as invoices say it.", "Weft Example GmbH")
    seller_lines: str = setting("Street and number; `|` between lines.", "Weberstrasse 1")
    seller_postal_code: str = setting("Postal code.", "10115")
    seller_city: str = setting("City.", "Berlin")
    seller_country: str = setting("Where the seller is established (ISO 3166-1 alpha-2).", "DE")
    seller_time_zone: str = setting("Zone of the dates of documents.", "Europe/Berlin")
    seller_vat_number: str = setting("VAT number, with its country (empty: none).", "DE136695976")
    seller_tax_number: str = setting("Number at the local tax office (empty: none).", "")
    seller_registration: str = setting("Number in the register of companies (empty: none).", "")
    seller_email: str = setting("Address for questions about invoices.", "billing@example.com")
    seller_phone: str = setting("Number for questions about invoices (empty: none).", "")
    seller_iban: str = setting("Account that invoices are paid to (empty: none).", "")
    seller_bic: str = setting("Its bank's BIC (empty: none).", "")
    seller_bank: str = setting("Its bank's name (empty: none).", "")
    document_accent: str = setting("Colour of titles on documents.", "#1f3a5f")
    document_logo: str = setting("File of the logo on documents: PNG, JPEG or SVG (empty: the name).", "")
    document_footer: str = setting("Words at the foot of documents (empty: none).", "")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{2}", self.seller_country):
            raise BadSetting(f"{PREFIX}SELLER_COUNTRY must be two capital letters")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.document_accent):
            raise BadSetting(f"{PREFIX}DOCUMENT_ACCENT must be a colour such as #1f3a5f")
        if not self.seller_name.strip():
            raise BadSetting(f"{PREFIX}SELLER_NAME must be given")
        self._check_zone()
        self.logo()

    def _check_zone(self) -> None:
        try:
            ZoneInfo(self.seller_time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise BadSetting(f"{PREFIX}SELLER_TIME_ZONE must be a zone of the IANA database") from None

    def logo(self) -> bytes:
        """The file's bytes; none where there is no logo."""
        if not self.document_logo:
            return b""
        try:
            content = Path(self.document_logo).read_bytes()
        except OSError:
            raise BadSetting(f"{PREFIX}DOCUMENT_LOGO must be a file that can be read") from None
        if len(content) > LOGO_BYTES_MAX or not content.startswith(LOGO_STARTS):
            raise BadSetting(
                f"{PREFIX}DOCUMENT_LOGO must be PNG, JPEG or SVG of at most {LOGO_BYTES_MAX} bytes"
            )
        if wrong := logo.problem(content):
            raise BadSetting(f"{PREFIX}DOCUMENT_LOGO must be a picture that can be shown: {wrong}")
        return content
