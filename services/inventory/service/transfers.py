"""weft.inventory.v1.TransferService."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx
from services.chassis.events import provenance
from services.chassis.method import Call
from services.inventory.domain import transfer as rules
from services.inventory.domain.movement import Cause
from services.inventory.domain.transfer import Transfer
from services.inventory.service import pack
from services.inventory.service.shared import Shared
from services.inventory.service.writing import announced
from services.inventory.store import level as levels, location as locations, transfer as store
from weft.inventory.v1 import transfer_pb2 as pb
from weft.inventory.v1.events_pb2 import TransferEnded, TransferStarted
from weft.inventory.v1.transfer_pb2_grpc import TransferServiceServicer


class Transfers(TransferServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def StartTransfer(self, request: pb.StartTransferRequest, call: Call) -> pb.StartTransferResponse:
        if request.from_location_id == request.to_location_id:
            raise rules.TransferNowhere
        now, sent = self._clock.now(), _summed(request.lines)
        transfer = Transfer(
            transfer_id=UUID(request.transfer_id),
            from_location_id=UUID(request.from_location_id),
            to_location_id=UUID(request.to_location_id),
            state="IN_TRANSIT",
            reference=request.reference,
            created_at=now,
            updated_at=now,
        )
        async with self._db.fast() as tx:
            if await store.add(tx, transfer, sent):
                await self._start(tx, transfer, sent, now)
            row, lines = await self._read(tx, transfer.transfer_id)
        if _asked(row, lines) != _asked(vars(transfer), [{"sku": k, "units": v} for k, v in sent.items()]):
            raise rules.TransferIdReused(transfer_id=transfer.transfer_id)
        return pb.StartTransferResponse(transfer=pack.transfer(row, lines))

    async def _start(self, tx: AnyTx, transfer: Transfer, sent: Mapping[str, int], now: datetime) -> None:
        source, target = transfer.from_location_id, transfer.to_location_id
        await locations.require(tx, [source, target])
        found = await levels.lock_made(tx, sorted((sku, at) for sku in sent for at in (source, target)), now)
        cause = _cause(transfer.transfer_id, "TRANSFER", transfer.reference)
        for sku, units in sent.items():
            found.send((sku, source), units, cause)
            found.by_key[sku, target].incoming += units
        started = TransferStarted(
            transfer_id=str(transfer.transfer_id),
            from_location_id=str(source),
            to_location_id=str(target),
            lines=[pb.TransferLine(sku=sku, units=units) for sku, units in sent.items()],
        )
        await self._shared.writing.write(tx, found, now, announced([started], now, provenance.get()))

    async def ReceiveTransfer(
        self, request: pb.ReceiveTransferRequest, call: Call
    ) -> pb.ReceiveTransferResponse:
        named = _summed(request.lines) if request.lines else None
        async with self._db.fast() as tx:
            row, lines = await self._read(tx, UUID(request.transfer_id), lock=True)
            received = rules.arrived({line["sku"]: line["units"] for line in lines}, named)
            if row["state"] == "IN_TRANSIT":
                row, lines = await self._end(tx, row, "RECEIVED", received)
            elif row["state"] == "CANCELLED" or received != {line["sku"]: line["received"] for line in lines}:
                raise rules.TransferEnded(transfer_id=request.transfer_id, state=row["state"])
        return pb.ReceiveTransferResponse(transfer=pack.transfer(row, lines))

    async def CancelTransfer(
        self, request: pb.CancelTransferRequest, call: Call
    ) -> pb.CancelTransferResponse:
        async with self._db.fast() as tx:
            row, lines = await self._read(tx, UUID(request.transfer_id), lock=True)
            if row["state"] == "RECEIVED":
                raise rules.TransferEnded(transfer_id=request.transfer_id, state=row["state"])
            if row["state"] == "IN_TRANSIT":
                row, lines = await self._end(tx, row, "CANCELLED", {})
        return pb.CancelTransferResponse(transfer=pack.transfer(row, lines))

    async def _end(
        self, tx: AnyTx, row: Any, state: str, received: Mapping[str, int]
    ) -> tuple[Any, list[Any]]:
        """What was received arrives; of a cancelled one all goes back. Returns it as it is then."""
        now, source, target = self._clock.now(), row["from_location_id"], row["to_location_id"]
        sent = {
            line["sku"]: line["units"]
            for line in (await store.lines(tx, [row["transfer_id"]]))[row["transfer_id"]]
        }
        back = state == "CANCELLED"
        found = await levels.lock_made(tx, sorted((sku, at) for sku in sent for at in (source, target)), now)
        cause = _cause(row["transfer_id"], "TRANSFER_CANCELLED" if back else "TRANSFER", row["reference"])
        for sku, units in sent.items():
            found.by_key[sku, target].incoming -= units
            found.move((sku, source if back else target), units if back else received[sku], cause)
        await store.end(tx, row["transfer_id"], state, received, now)
        row, lines = await self._read(tx, row["transfer_id"])
        ended = TransferEnded(
            transfer_id=str(row["transfer_id"]),
            state=pb.TransferState.Value(f"TRANSFER_STATE_{state}"),
            lines=pack.transfer_lines(lines),
        )
        await self._shared.writing.write(tx, found, now, announced([ended], now, provenance.get()))
        return row, lines

    async def _read(self, tx: AnyTx, transfer_id: UUID, *, lock: bool = False) -> tuple[Any, list[Any]]:
        """Raises UnknownTransfer."""
        row = await store.get(tx, transfer_id, lock=lock)
        return row, (await store.lines(tx, [transfer_id]))[transfer_id]

    async def GetTransfer(self, request: pb.GetTransferRequest, call: Call) -> pb.GetTransferResponse:
        async with self._db.fast() as tx:
            row, lines = await self._read(tx, UUID(request.transfer_id))
        return pb.GetTransferResponse(transfer=pack.transfer(row, lines))

    async def ListTransfers(self, request: pb.ListTransfersRequest, call: Call) -> pb.ListTransfersResponse:
        page = store.TRANSFERS.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
            lines = await store.lines(tx, [row.transfer_id for row in rows])
        made = [pack.transfer(row, lines[row.transfer_id]) for row in rows]
        return pb.ListTransfersResponse(transfers=made, next_page_token=token)


def _cause(transfer_id: UUID, reason: str, reference: str) -> Cause:
    return Cause(
        kind="TRANSFER",
        reason=reason,
        operation_id=transfer_id,
        reference=reference,
        actor=provenance.get().actor,
    )


def _asked(row: Any, lines: Iterable[Any]) -> tuple[object, ...]:
    """What a request said, to be compared."""
    units = {line["sku"]: line["units"] for line in lines}
    return (row["from_location_id"], row["to_location_id"], row["reference"], units)


def _summed(lines: Iterable[pb.Part]) -> dict[str, int]:
    units: dict[str, int] = {}
    for line in lines:
        units[line.sku] = units.get(line.sku, 0) + line.units
    return units
