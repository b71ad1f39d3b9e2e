"""Which sales a credit takes back: the customer's last ones of the same goods at the same price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

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
    """What a credit takes back of one order, or of none that is known."""

    lines: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # Units by line; none: not known.
    rows: list[Row] = field(default_factory=list)  # Units are negative; a line may be here in part.


class Matching:
    """Keeps of all that was sold only what is credited at some time."""

    def __init__(self, credited: Set[Goods]) -> None:
        self._credited = credited
        self._sold: dict[Goods, list[_Sold]] = defaultdict(list)

    def sell(self, order_id: str, lines: Iterable[tuple[str, Row]]) -> None:
        for line_id, row in lines:
            if row.customer and goods(row) in self._credited:
                self._sold[goods(row)].append(_Sold(order_id, line_id, row.units))

    def credit(self, rows: Sequence[Row]) -> dict[str, Matched]:
        """By order; what none is known for is under an empty id."""
        matched: dict[str, Matched] = defaultdict(Matched)
        for row in rows:
            wanted, sold = -row.units, self._sold.get(goods(row), [])
            while wanted and sold:
                last = sold[-1]
                units = min(wanted, last.left)
                matched[last.order_id].lines[last.line_id] += units
                matched[last.order_id].rows.append(part(row, units))
                last.left -= units
                wanted -= units
                if not last.left:
                    sold.pop()
            if wanted:
                matched[""].rows.append(part(row, wanted))
        return matched


def part(row: Row, units: int) -> Row:
    """So many units of a credit."""
    return replace(row, units=-units)
