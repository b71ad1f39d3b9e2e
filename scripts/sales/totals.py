"""What an import counts, row by row; small enough to be a checkpoint."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

COLUMNS = ("InvoiceNo", "StockCode", "Quantity", "UnitPrice", "CustomerID")
CANCELLED = "C"  # How numbers of cancelled invoices begin.


class BadRow(ValueError):
    """A row that cannot be counted; says which, and why."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Of one file."""

    rows: int
    invoices: int
    cancel_invoices: int
    lines_no_customer: int
    customers: int
    skus: int
    net: str  # Exact decimals.
    began_at: int = 0  # The row at which the last attempt went on.


@dataclass
class Tally:
    """On the way there: what is a checkpoint."""

    rows: int = 0
    lines_no_customer: int = 0
    net: str = "0"
    invoices: set[str] = field(default_factory=set)
    customers: set[str] = field(default_factory=set)
    skus: set[str] = field(default_factory=set)

    def add(self, row: Mapping[str, str]) -> None:
        """Raises BadRow, and has counted nothing then."""
        try:
            amount = Decimal(row["Quantity"]) * Decimal(row["UnitPrice"])
        except (InvalidOperation, TypeError):
            raise BadRow(f"row {self.rows + 1}: Quantity and UnitPrice are not both numbers") from None
        self.rows += 1
        self.net = str(Decimal(self.net) + amount)
        self.invoices.add(row["InvoiceNo"])
        self.skus.add(row["StockCode"])
        if row["CustomerID"]:
            self.customers.add(row["CustomerID"])
        else:
            self.lines_no_customer += 1

    def totals(self, began_at: int = 0) -> Totals:
        return Totals(
            rows=self.rows,
            invoices=len(self.invoices),
            cancel_invoices=sum(number.startswith(CANCELLED) for number in self.invoices),
            lines_no_customer=self.lines_no_customer,
            customers=len(self.customers),
            skus=len(self.skus),
            net=str(Decimal(self.net)),
            began_at=began_at,
        )


def rows(path: Path) -> Iterator[Mapping[str, str]]:
    """Of a CSV file, compressed or not. Raises BadRow when columns are missing."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise BadRow(f"the columns {', '.join(missing)} are missing")
        yield from reader
