"""weft.inventory.v1.StockService."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx
from services.chassis.events import provenance
from services.chassis.method import Call
from services.inventory.domain.level import SkuRepeated, UnknownStock
from services.inventory.domain.levels import Key, Levels
from services.inventory.domain.movement import Cause, check_time
from services.inventory.service import pack
from services.inventory.service.importing import Import
from services.inventory.service.shared import Shared
from services.inventory.store import discrepancy, level as store, location as locations, movement as movements
from weft.inventory.v1 import movement_pb2, stock_import_pb2, stock_pb2 as pb
from weft.inventory.v1.stock_pb2_grpc import StockServiceServicer

DISCREPANCIES_MAX = 200  # One would be reason enough to stop and look.


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A request that changes what lies at one location."""

    operation_id: str
    kind: str
    reason: str
    units: Mapping[str, int]  # By SKU.
    request: Any


class StockLevels(StockServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def GetStock(self, request: pb.GetStockRequest, call: Call) -> pb.GetStockResponse:
        async with self._db.fast() as tx:
            rows = await store.read(tx, [(request.sku, UUID(request.location_id))])
        if not rows:
            raise UnknownStock(sku=request.sku, location_id=request.location_id)
        return pb.GetStockResponse(stock=pack.stock(rows[0]))

    async def ListStock(self, request: pb.ListStockRequest, call: Call) -> pb.ListStockResponse:
        page = store.STOCK.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListStockResponse(stock=map(pack.stock, rows), next_page_token=token)

    async def SetThreshold(self, request: pb.SetThresholdRequest, call: Call) -> pb.SetThresholdResponse:
        key, now = (request.sku, UUID(request.location_id)), self._clock.now()
        async with self._db.fast() as tx:
            await locations.require(tx, [key[1]])
            levels = await store.lock_made(tx, [key], now)
            level = levels.by_key[key]
            level.threshold = request.threshold
            level.alert_at = request.alert_at if request.HasField("alert_at") else None
            await self._shared.writing.write(tx, levels, now)
            (row,) = await store.read(tx, [key])
        return pb.SetThresholdResponse(stock=pack.stock(row))

    async def ReceiveStock(self, request: pb.ReceiveStockRequest, call: Call) -> pb.ReceiveStockResponse:
        change = Change(
            operation_id=request.receipt_id,
            kind="RECEIPT",
            reason=pack.reason(request.reason),
            units=_summed(request.lines),
            request=request,
        )
        return pb.ReceiveStockResponse(stock=map(pack.stock, await self._change(change, Levels.move)))

    async def AdjustStock(self, request: pb.AdjustStockRequest, call: Call) -> pb.AdjustStockResponse:
        change = Change(
            operation_id=request.adjustment_id,
            kind="ADJUSTMENT",
            reason=pack.reason(request.reason),
            units=_summed(request.lines),
            request=request,
        )
        return pb.AdjustStockResponse(stock=map(pack.stock, await self._change(change, Levels.move)))

    async def CountStock(self, request: pb.CountStockRequest, call: Call) -> pb.CountStockResponse:
        counted = {line.sku: line.on_hand for line in request.lines}
        if len(counted) < len(request.lines):
            skus = [line.sku for line in request.lines]
            raise SkuRepeated(sku=next(sku for sku in skus if skus.count(sku) > 1), field="lines")
        change = Change(
            operation_id=request.count_id, kind="COUNT", reason="STOCKTAKE", units=counted, request=request
        )
        return pb.CountStockResponse(stock=map(pack.stock, await self._change(change, Levels.count)))

    async def _change(self, change: Change, each: Callable[[Levels, Key, int, Cause], None]) -> list[Any]:
        """Rows of the levels as they are then. Raises what the contract names."""
        now, request = self._clock.now(), change.request
        effective_at = pack.moment(request.effective_time) if request.HasField("effective_time") else None
        check_time(effective_at, now)
        cause = Cause(
            kind=change.kind,
            reason=change.reason,
            operation_id=UUID(change.operation_id),
            reference=request.reference,
            actor=provenance.get().actor,
            effective_at=effective_at,
        )
        digest = sha256(change.kind.encode() + request.SerializeToString(deterministic=True)).digest()
        async with self._db.fast() as tx:
            where = UUID(request.location_id) if request.location_id else await locations.first(tx)
            keys = [(sku, where) for sku in sorted(change.units)]
            if await movements.begin(tx, cause.operation_id, digest, now):
                await self._apply(
                    tx, keys, lambda levels, key: each(levels, key, change.units[key[0]], cause), now
                )
            return sorted(await store.read(tx, keys), key=lambda row: str(row["sku"]))

    async def _apply(
        self, tx: AnyTx, keys: Collection[Key], change: Callable[[Levels, Key], None], now: datetime
    ) -> None:
        await locations.require(tx, {location_id for _, location_id in keys})
        levels = await store.lock_made(tx, keys, now)
        for key in keys:
            change(levels, key)
        await self._shared.writing.write(tx, levels, now)

    async def ImportStock(
        self, requests: AsyncIterator[stock_import_pb2.ImportStockRequest], call: Call
    ) -> stock_import_pb2.ImportStockResponse:
        importing = Import(self._shared, provenance.get())
        async for request in requests:
            await importing.take(request.rows)
        return importing.report

    async def ListMovements(
        self, request: movement_pb2.ListMovementsRequest, call: Call
    ) -> movement_pb2.ListMovementsResponse:
        page = movements.MOVEMENTS.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await movements.page(tx, page)
        return movement_pb2.ListMovementsResponse(movements=map(pack.movement, rows), next_page_token=token)

    async def ListDiscrepancies(
        self, request: pb.ListDiscrepanciesRequest, call: Call
    ) -> pb.ListDiscrepanciesResponse:
        rows = await discrepancy.find(self._db, DISCREPANCIES_MAX)
        made = [pb.Discrepancy(**{**dict(row), "location_id": str(row["location_id"])}) for row in rows]
        return pb.ListDiscrepanciesResponse(discrepancies=made)


def _summed(lines: Any) -> dict[str, int]:
    """Units by SKU."""
    units: dict[str, int] = {}
    for line in lines:
        units[line.sku] = units.get(line.sku, 0) + line.units
    return units
