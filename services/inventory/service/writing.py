"""The end of every change: levels, movements and events, written together."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from google.protobuf.message import Message

from services.chassis.clock import uuid7
from services.chassis.db import AnyTx, after_commit
from services.chassis.events import Envelope, Provenance, announcement, provenance, write
from services.inventory.domain.level import Level
from services.inventory.domain.levels import Levels, Share
from services.inventory.store import level as store, low_stock, movement as movements
from weft.inventory.v1.events_pb2 import LowStock, StockUpdated
from weft.inventory.v1.reservation_pb2 import LineAmount

AMOUNTS_MAX = 400  # Lines of one event: 48 kB at their longest, where an event has at most 64.
ITSELF = Provenance(actor="service:inventory")


class Writing:
    """Writes what a transaction did. Whoever changes levels has locked them."""

    def __init__(self, *, alerting: bool) -> None:
        """Without `alerting` nobody reads of low stock, so nothing is noted for them."""
        self._alerting = alerting
        self.on_low: Callable[[], None] = lambda: None

    async def write(
        self,
        tx: AnyTx,
        levels: Levels,
        now: datetime,
        told: Sequence[Envelope] = (),
        by: Provenance | None = None,
    ) -> None:
        """`told` goes before what is told of levels, which is `by` the caller unless it is said by whom."""
        changed = levels.changed
        if changed:
            await store.write(tx, changed, now)
        await movements.add(tx, levels.movements, now)
        fell = [level for level in changed if level.fell_low]
        if fell and self._alerting:
            await low_stock.add(tx, fell, now)
            after_commit(tx, self.on_low)
        news: list[Message] = [_updated(level) for level in changed]
        news += [_low(level) for level in fell]
        await write(tx, [*told, *announced(news, now, by or provenance.get())])


def announced(messages: Iterable[Message], now: datetime, by: Provenance) -> list[Envelope]:
    """The events that `messages` are, done by `by`."""
    mark = provenance.set(by)
    try:
        return [announcement(message, uuid7(now), now) for message in messages]
    finally:
        provenance.reset(mark)


def common(causes: Iterable[Provenance]) -> Provenance:
    """Who did what many did together: one of them if he is all, else the service."""
    different = set(causes)
    return different.pop() if len(different) == 1 else ITSELF


def amounts(shares: Sequence[Share]) -> list[list[LineAmount]]:
    """As many lines as fit an event, in each; one empty list for none."""
    made = [LineAmount(sku=each.sku, location_id=str(each.location_id), units=each.units) for each in shares]
    return [made[n : n + AMOUNTS_MAX] for n in range(0, len(made), AMOUNTS_MAX)] or [[]]


def _updated(level: Level) -> StockUpdated:
    return StockUpdated(
        sku=level.sku,
        location_id=str(level.location_id),
        on_hand=level.on_hand,
        reserved=level.reserved,
        available=level.available,
        threshold=level.threshold,
        revision=level.revision,
    )


def _low(level: Level) -> LowStock:
    return LowStock(
        sku=level.sku,
        location_id=str(level.location_id),
        available=level.available,
        threshold=level.alert_at or 0,
    )
