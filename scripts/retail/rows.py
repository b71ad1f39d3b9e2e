"""Lines of a wholesaler's export, and why one cannot be taken.

The columns are those of UCI's Online Retail. Times are London's, to the minute.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
ZONE = ZoneInfo("Europe/London")
SKU = re.compile(r"[A-Z0-9][A-Z0-9._:#/-]{0,63}")
UNITS_MAX = 1_000_000  # Of a line, as the contract of imports says.
TITLE_CHARS_MAX = 200  # As the contract says.
DECIMALS_MAX = 6  # Of a price, as the contract says.
CELLS_MAX = 8_192  # Of one column, remembered: the same few thousand come again and again.
CANCELLED, ADJUSTED = "C", "A"  # How numbers of cancellations and of adjusted debts begin.
COUNTRIES = """
AE United Arab Emirates|AT Austria|AU Australia|BE Belgium|BH Bahrain|BR Brazil|CA Canada|CH Switzerland
CY Cyprus|CZ Czech Republic|DE Germany|DK Denmark|ES Spain|FI Finland|FR France|GB United Kingdom|GR Greece
HK Hong Kong|IE EIRE|IL Israel|IS Iceland|IT Italy|JP Japan|LB Lebanon|LT Lithuania|MT Malta|NL Netherlands
NO Norway|PL Poland|PT Portugal|SA Saudi Arabia|SE Sweden|SG Singapore|US USA|ZA RSA
"""  # "Unspecified", "European Community" and "Channel Islands" are no country: not known.
CODES = {each[3:]: each[:2] for each in re.split("[|\n]", COUNTRIES.strip())}


class NoSales(Exception):
    """A file that is none of this kind, in a sentence."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that is not taken, and why."""

    file: str
    line: int
    invoice: str
    sku: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line that can be taken."""

    line: int  # In its file, from 1; the header is the first.
    invoice: str
    sku: str
    title: str
    units: int
    at: datetime
    price: Decimal
    customer: str  # Empty: nobody knows.
    country: str  # ISO 3166-1 alpha-2; empty: not known.

    @property
    def amount(self) -> Decimal:
        return self.units * self.price

    @property
    def month(self) -> str:
        return f"{self.at:%Y-%m}"


class _Bad(ValueError):
    """Reason, and a sentence."""


def read(path: Path) -> Iterator[Row | Refused]:
    """Of a file, compressed or not. Raises NoSales."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise NoSales(f"{path.name}: the columns {', '.join(missing)} are missing")
            for found in reader:
                yield _row(path.name, reader.line_num, found)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise NoSales(f"{path.name}: {error}") from error


def _row(name: str, line: int, found: Mapping[str, str | None]) -> Row | Refused:
    cells = {column: (found.get(column) or "").strip() for column in COLUMNS}
    try:
        row = Row(
            line=line,
            invoice=cells["InvoiceNo"],
            sku=_sku(cells["StockCode"]),
            title=" ".join(cells["Description"].split())[:TITLE_CHARS_MAX],
            units=_units(cells["Quantity"]),
            at=_time(cells["InvoiceDate"]),
            price=_price(cells["UnitPrice"]),
            customer=cells["CustomerID"].removesuffix(".0"),
            country=CODES.get(cells["Country"], ""),
        )
        _sound(row)
    except _Bad as bad:
        return Refused(name, line, cells["InvoiceNo"], cells["StockCode"], *bad.args)
    return row


def _sound(row: Row) -> None:
    if not row.invoice:
        raise _Bad("NO_INVOICE", "InvoiceNo is empty")
    if row.price < 0 and not row.invoice.startswith(ADJUSTED):
        raise _Bad("NEGATIVE_PRICE", f"UnitPrice {row.price} is negative, and the invoice adjusts no debt")
    if row.units > 0 and row.invoice.startswith(CANCELLED):
        raise _Bad("CANCELS_NOTHING", f"Quantity {row.units} of a cancellation is not negative")


@lru_cache(CELLS_MAX)
def _sku(text: str) -> str:
    """In capitals, for the same goods are written either way; blanks are dashes."""
    sku = re.sub(r"\s+", "-", text).upper()
    if not SKU.fullmatch(sku):
        raise _Bad("BAD_SKU", f"StockCode {text!r} names nothing")
    return sku


def _units(text: str) -> int:
    try:
        units = int(text)
    except ValueError:
        raise _Bad("BAD_QUANTITY", f"Quantity {text!r} is not a whole number") from None
    if not 0 < abs(units) <= UNITS_MAX:
        raise _Bad("BAD_QUANTITY", f"Quantity {units} is 0, or beyond {UNITS_MAX:,}")
    return units


@lru_cache(CELLS_MAX)
def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
        decimals = -int(price.normalize().as_tuple().exponent)
    except (InvalidOperation, ValueError):
        raise _Bad("BAD_PRICE", f"UnitPrice {text!r} is not a number") from None
    if decimals > DECIMALS_MAX:
        raise _Bad("BAD_PRICE", f"UnitPrice {text} has more than {DECIMALS_MAX} decimals")
    return price


@lru_cache(CELLS_MAX)
def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)
    except ValueError:
        raise _Bad("BAD_DATE", f"InvoiceDate {text!r} is not a time") from None
