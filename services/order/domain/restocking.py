"""Where goods that come back lie again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ANYWHERE = ""  # Where stock is taken from first, as inventory decides.


class Taken(NamedTuple):
    """Units that left a location for an order."""

    sku: str
    location_id: str
    units: int


def origins(
    came: Mapping[str, int], before: Mapping[str, int], taken: Sequence[Taken]
) -> dict[str, dict[str, int]]:
    """Units by SKU, by the location that they were taken from; both arguments are by SKU.

    `before`: what came back earlier, which fills up the first locations. The same question has the same
    answer, whenever it is asked.
    """
    found: dict[str, Counter[str]] = {}
    for sku, units in came.items():
        skip, left = before.get(sku, 0), units
        for each in taken:
            if each.sku == sku and left:
                passed = min(skip, each.units)
                here = min(left, each.units - passed)
                skip, left = skip - passed, left - here
                found.setdefault(each.location_id, Counter())[sku] += here
        found.setdefault(ANYWHERE, Counter())[sku] += left
    made = {where: dict(+units) for where, units in found.items()}
    return {where: units for where, units in made.items() if units}
