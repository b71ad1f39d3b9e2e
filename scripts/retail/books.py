"""What a wholesaler's lines are in business terms, a day at a time: no more than a day is held in memory.

A line above zero sells. A line below zero takes a sale back. One that costs nothing is given away with what
else is on its invoice, or, where nobody is charged for anything, corrects the stock; postage has none, so
nothing moves. An invoice that begins with A adjusts debts that are bad.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby, islice
from pathlib import Path

from scripts.retail.rows import ADJUSTED, Refused, Row, read

Goods = tuple[str, str, Decimal]  # Customer, sku, price of one.

PENNY = Decimal("0.01")
# Postage, fees, discounts, adjustments by hand, samples: nothing that lies on a shelf.
INTANGIBLE = {"POST", "DOT", "C2", "D", "M", "S", "B", "BANK-CHARGES", "AMAZONFEE", "CRUK"}


@dataclass
class Day:
    """Lines of one day of one file, each in the one place that it belongs to. By invoice."""

    on: date
    file: str
    rows: int = 0
    refused: list[Refused] = field(default_factory=list)
    sales: dict[str, list[Row]] = field(default_factory=dict)
    credits: dict[str, list[Row]] = field(default_factory=dict)
    corrections: dict[str, list[Row]] = field(default_factory=dict)
    debts: list[Row] = field(default_factory=list)

    def taken(self) -> Iterator[Row]:
        for kind in (self.sales, self.credits, self.corrections):
            for rows in kind.values():
                yield from rows
        yield from self.debts


def days(paths: Sequence[Path], count: int | None = None) -> Iterator[Day]:
    """The first so many; all if it is not said. Raises NoSales."""
    return islice((day for path in paths for day in _days(path)), count)


def _days(path: Path) -> Iterator[Day]:
    """Lines come in the order of their days; one that cannot be read belongs to the day before it."""
    last = date.min

    def on(row: Row | Refused) -> date:
        nonlocal last
        last = row.at.date() if isinstance(row, Row) else last
        return last

    for day, found in groupby(read(path), on):
        yield _day(Day(day, path.name), found)


def _day(day: Day, found: Iterator[Row | Refused]) -> Day:
    invoices: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        day.rows += 1
        if isinstance(row, Refused):
            day.refused.append(row)
        else:
            invoices[row.invoice].append(row)
    for invoice, rows in invoices.items():
        _sort(day, invoice, rows)
    return day


def _sort(day: Day, invoice: str, rows: Sequence[Row]) -> None:
    charged = any(row.price for row in rows) or bool(rows[0].customer)
    for row in rows:
        if invoice.startswith(ADJUSTED):
            day.debts.append(row)
        elif not row.price and (row.units < 0 or not charged) and row.sku in INTANGIBLE:
            message = f"nobody is charged, and {row.sku} is nothing that lies in stock"
            day.refused.append(Refused(day.file, row.line, invoice, row.sku, "NOTHING_MOVED", message))
        elif not row.price and (row.units < 0 or not charged):
            day.corrections.setdefault(invoice, []).append(row)
        else:
            (day.sales if row.units > 0 else day.credits).setdefault(invoice, []).append(row)


@dataclass
class Moved:
    """Units of a month by sku."""

    sold: Counter[str] = field(default_factory=Counter)
    back: Counter[str] = field(default_factory=Counter)
    end: datetime | None = None  # When the last of them moved.


@dataclass
class Survey:
    """What must be known of all days before the first is taken; its size is that of the assortment."""

    rows: int = 0
    invoices: int = 0
    refused: list[Refused] = field(default_factory=list)
    net: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))  # Exact, by month.
    orders: Counter[str] = field(default_factory=Counter)  # By month.
    sales: Counter[str] = field(default_factory=Counter)  # Pence by month, as they are booked: line by line.
    credited: set[Goods] = field(default_factory=set)
    titles: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    prices: dict[str, Counter[Decimal]] = field(default_factory=lambda: defaultdict(Counter))
    moved: dict[str, Moved] = field(default_factory=lambda: defaultdict(Moved))
    corrected: Counter[str] = field(default_factory=Counter)  # Units by sku, found less lost.
    lost: Counter[str] = field(default_factory=Counter)
    begin: datetime | None = None

    def add(self, day: Day) -> None:
        self.rows += day.rows
        self.refused += day.refused
        self.invoices += len(day.sales) + len(day.credits)
        for row in day.taken():
            self._note(row)
        for rows in day.sales.values():
            self.count(rows)
        for rows in day.credits.values():
            self.count(rows)
            self.credited.update(map(goods, rows))
        for row in (row for rows in day.corrections.values() for row in rows):
            self.corrected[row.sku] += row.units
            self.lost[row.sku] += max(0, -row.units)

    def _note(self, row: Row) -> None:
        self.net[row.month] += row.amount
        self.begin = min(self.begin or row.at, row.at)
        moved = self.moved[row.month]
        moved.end = max(moved.end or row.at, row.at)
        self.titles[row.sku][row.title] += bool(row.title)
        self.prices[row.sku][row.price] += row.price > 0

    def count(self, rows: Sequence[Row], sign: int = 1) -> None:
        """What one invoice sells or takes back; with -1, that it does not."""
        month, sells = rows[0].month, rows[0].units > 0
        self.orders[month] += sign if sells else 0
        for row in rows:
            (self.moved[month].sold if sells else self.moved[month].back)[row.sku] += sign * abs(row.units)
            self.sales[month] += sign * pence(row.amount) if sells else 0

    def withdraw(self, rows: Sequence[Row]) -> None:
        """It was refused."""
        self.count(rows, -1)
        self.net[rows[0].month] -= sum((row.amount for row in rows), Decimal())

    def opening(self) -> Counter[str]:
        """What must have lain there for all of it to leave: nobody wrote it down."""
        units = Counter(self.lost)
        for moved in self.moved.values():
            units.update(moved.sold)
        return tangible(units)

    def closing(self, opening: Counter[str]) -> Counter[str]:
        """What lies there in the end, by sku."""
        units = Counter(opening)
        units.update(self.corrected)
        for moved in self.moved.values():
            units.subtract(moved.sold)
            units.update(moved.back)
        return tangible(units)


def tangible(units: Counter[str]) -> Counter[str]:
    return Counter({sku: count for sku, count in units.items() if sku not in INTANGIBLE and count})


def goods(row: Row) -> Goods:
    return row.customer, row.sku, row.price


def pence(amount: Decimal) -> int:
    """Half up, away from zero."""
    return int(amount.quantize(PENNY, ROUND_HALF_UP).scaleb(2))
