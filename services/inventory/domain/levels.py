"""Levels that one transaction has locked: what is done to them, and what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from services.inventory.domain.level import Level, OutOfStock
from services.inventory.domain.movement import Cause, Moved

Key = tuple[str, UUID]


@dataclass(frozen=True, slots=True)
class Demand:
    """So many units; `location_id` None: of any location."""

    sku: str
    location_id: UUID | None
    units: int


@dataclass(frozen=True, slots=True)
class Share:
    """What a location gives."""

    sku: str
    location_id: UUID
    units: int


def summed(demands: Iterable[Demand]) -> list[Demand]:
    """The same SKU at the same location once, in order of SKU; those that name a location come first."""
    units: dict[tuple[str, UUID | None], int] = {}
    for each in demands:
        key = (each.sku, each.location_id)
        units[key] = units.get(key, 0) + each.units
    made = [Demand(sku, location, count) for (sku, location), count in units.items()]
    return sorted(made, key=lambda one: (one.sku, one.location_id is None, str(one.location_id)))


@dataclass(slots=True)
class Levels:
    """By SKU and location."""

    by_key: dict[Key, Level]
    movements: list[Moved] = field(default_factory=list)
    _by_sku: Mapping[str, Sequence[Level]] | None = None

    @classmethod
    def of(cls, levels: Iterable[Level]) -> "Levels":
        return cls({(each.sku, each.location_id): each for each in levels})

    def hold(self, demands: Sequence[Demand]) -> list[Share]:
        """Reserves all, which `summed` has made, or nothing. Raises OutOfStock."""
        shares: list[Share] = []
        try:
            for demand in demands:
                shares += self._hold(demand)
        except OutOfStock:
            for share in shares:
                self.give_back(share)
            raise
        return shares

    def _hold(self, demand: Demand) -> list[Share]:
        levels = [each for each in self._of(demand.sku) if demand.location_id in (None, each.location_id)]
        shares = allocate(demand.units, levels)
        if not shares:
            available = sum(max(0, each.available) for each in levels)
            raise OutOfStock(sku=demand.sku, wanted=demand.units, available=available)
        for level, units in shares:
            level.reserved += units
        return [Share(level.sku, level.location_id, units) for level, units in shares]

    def _of(self, sku: str) -> Sequence[Level]:
        """By priority."""
        if self._by_sku is None:
            by_sku: dict[str, list[Level]] = {}
            for level in self.by_key.values():
                by_sku.setdefault(level.sku, []).append(level)
            for levels in by_sku.values():
                levels.sort(key=lambda one: (one.priority, one.location_id))
            self._by_sku = by_sku
        return self._by_sku.get(sku, ())

    def give_back(self, share: Share) -> None:
        """What was reserved is for sale again."""
        self.by_key[share.sku, share.location_id].reserved -= share.units

    def commit(self, share: Share, cause: Cause) -> None:
        """What was reserved leaves."""
        level = self.by_key[share.sku, share.location_id]
        level.commit(share.units)
        self._moved(level, -share.units, cause)

    def move(self, key: Key, units: int, cause: Cause) -> None:
        """Raises NotOnHand, TooMuchStock."""
        level = self.by_key[key]
        level.move(units)
        self._moved(level, units, cause)

    def send(self, key: Key, units: int, cause: Cause) -> None:
        """Raises NotEnoughFree."""
        level = self.by_key[key]
        level.send(units)
        self._moved(level, -units, cause)

    def count(self, key: Key, on_hand: int, cause: Cause) -> None:
        """It was counted; what is reserved stays so."""
        level = self.by_key[key]
        units, level.on_hand = on_hand - level.on_hand, on_hand
        self._moved(level, units, cause)

    def _moved(self, level: Level, units: int, cause: Cause) -> None:
        if units:
            self.movements.append(Moved(level.sku, level.location_id, units, level.on_hand, cause))

    @property
    def changed(self) -> list[Level]:
        return [level for level in self.by_key.values() if level.changed]


def allocate(units: int, levels: Sequence[Level]) -> list[tuple[Level, int]]:
    """Who gives how much, of levels in order of preference; nothing when all together have too little.

    What lies there goes before what has yet to come, one location before several.
    """
    for level in levels:
        if level.in_stock >= units:
            return [(level, units)]
    given: dict[int, int] = {}
    left = units
    for backorder in (False, True):
        for n, level in enumerate(levels):
            most = (level.available if backorder else level.in_stock) - given.get(n, 0)
            take = min(left, max(0, most))
            if take:
                given[n] = given.get(n, 0) + take
                left -= take
    return [] if left else [(levels[n], count) for n, count in sorted(given.items())]
