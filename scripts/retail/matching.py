"""Which sales a credit takes back: the customer's last ones of the same goods at the same price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

from scripts.retail.books import Goods, goods
from scripts.retail.rows import Row


@dataclass(slots=True)
class _Sold:
    """A line of an order, and how much of it nobody has given back."""

    order_id: str
    line_id: str
    left: int


@dataclass
class Matched:
    """What a credit takes back: units by order and line, and what no order is known for."""

    orders: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    unknown: list[Row] = field(
        default_factory=list
    )  # Their units are negative, and may be a part of the line's.


class Matching:
    """Keeps of all that was sold only what is credited at some time."""

    def __init__(self, credited: Set[Goods]) -> None:
        self._credited = credited
        self._sold: dict[Goods, list[_Sold]] = defaultdict(list)

    def sell(self, order_id: str, lines: Iterable[tuple[str, Row]]) -> None:
        for line_id, row in lines:
            if row.customer and goods(row) in self._credited:
                self._sold[goods(row)].append(_Sold(order_id, line_id, row.units))

    def credit(self, rows: Sequence[Row]) -> Matched:
        matched = Matched()
        for row in rows:
            left = self._take(matched, row)
            if left:
                matched.unknown.append(row if left == -row.units else part(row, left))
        return matched

    def _take(self, matched: Matched, row: Row) -> int:
        """How many units nobody is known to have bought."""
        wanted = -row.units
        sold = self._sold.get(goods(row), [])
        while wanted and sold:
            last = sold[-1]
            units = min(wanted, last.left)
            matched.orders[last.order_id][last.line_id] += units
            last.left -= units
            wanted -= units
            if not last.left:
                sold.pop()
        return wanted


def part(row: Row, units: int) -> Row:
    """So many units of a credit."""
    rest = (row.at, row.price, row.customer, row.country)
    return Row(row.line, row.invoice, row.sku, row.title, -units, *rest)
