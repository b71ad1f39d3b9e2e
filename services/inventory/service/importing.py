"""Levels from outside, by the thousand: sound rows are set, the others reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.chassis.clock import uuid7
from services.chassis.db import AnyTx
from services.chassis.events import Provenance
from services.inventory.domain.importing import BadRow, NewLevel, location_of, unknown_location
from services.inventory.domain.levels import Levels
from services.inventory.domain.movement import Cause
from services.inventory.service.shared import Shared
from services.inventory.store import level as store, location as locations
from weft.inventory.v1 import stock_import_pb2 as pb

ROWS_MAX = 1_000  # Of one transaction: reservations of these SKUs wait for its end.
REFUSALS_MAX = 1_000  # An answer's; whoever has more has sent the wrong file.
SHOWN_CHARS_MAX = 64  # Of a SKU that came in any length.

Numbered = tuple[int, NewLevel]


class Import:
    """One stream's rows, and the report of them."""

    def __init__(self, shared: Shared, by: Provenance) -> None:
        self._shared, self.report = shared, pb.ImportStockResponse()
        operation_id = uuid7(shared.clock.now())
        self._cause = Cause(kind="COUNT", reason="IMPORT", operation_id=operation_id, actor=by.actor)

    async def take(self, rows: Sequence[pb.StockRow]) -> None:
        """Sets the levels; they stay whatever comes after them."""
        for start in range(0, len(rows), ROWS_MAX):
            some = rows[start : start + ROWS_MAX]
            first = self.report.rows
            self.report.rows += len(some)
            sound = self._sound(enumerate(some, first))
            if sound:
                await self._set(sound)

    def _sound(self, rows: Iterable[tuple[int, pb.StockRow]]) -> list[Numbered]:
        sound = []
        for number, row in rows:
            try:
                sound.append((number, _read(row)))
            except BadRow as bad:
                self._refuse(number, row.sku, bad)
        return sound

    async def _set(self, rows: Sequence[Numbered]) -> None:
        now = self._shared.clock.now()
        async with self._shared.db.fast() as tx:
            rows = await self._placed(tx, rows)
            keys = sorted({(row.sku, row.location_id) for _, row in rows})
            if keys:
                levels = await store.lock_made(tx, keys, now)
                changed = sum(self._apply(levels, row) for _, row in rows)
                await self._shared.writing.write(tx, levels, now)
                self.report.changed += changed
                self.report.unchanged += len(rows) - changed

    async def _placed(self, tx: AnyTx, rows: Sequence[Numbered]) -> list[Numbered]:
        """Those whose location is there."""
        known = await locations.known(tx, {row.location_id for _, row in rows})
        placed = []
        for number, row in rows:
            if row.location_id in known:
                placed.append((number, row))
            else:
                self._refuse(number, row.sku, unknown_location(row.location_id))
        return placed

    def _apply(self, levels: Levels, row: NewLevel) -> bool:
        """Whether it changed anything."""
        key = (row.sku, row.location_id)
        level = levels.by_key[key]
        differs = row.differs(level)
        if row.on_hand is not None:
            levels.count(key, row.on_hand, self._cause)
        if row.threshold is not None:
            level.threshold = row.threshold
        if row.alert_at is not None:
            level.alert_at = row.alert_at
        return differs

    def _refuse(self, number: int, sku: str, bad: BadRow) -> None:
        self.report.refused += 1
        if len(self.report.refusals) < REFUSALS_MAX:
            self.report.refusals.add(
                row=number,
                sku=sku[:SHOWN_CHARS_MAX],
                field=bad.field,
                reason=bad.reason,
                message=bad.message,
            )


def _read(row: pb.StockRow) -> NewLevel:
    """Raises BadRow."""
    made = NewLevel(
        row.sku,
        location_of(row.location_id),
        row.on_hand if row.HasField("on_hand") else None,
        row.threshold if row.HasField("threshold") else None,
        row.alert_at if row.HasField("alert_at") else None,
    )
    made.check()
    return made
