"""A location of one test's own, and the calls of whoever works there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc.aio

from services.chassis.testing import Lab, reason
from services.inventory.store import discrepancy
from weft.inventory.v1 import (
    availability_pb2_grpc,
    location_pb2 as locations,
    location_pb2_grpc,
    movement_pb2,
    reservation_pb2 as reservations,
    reservation_pb2_grpc,
    stock_pb2 as stock,
    stock_pb2_grpc,
    transfer_pb2_grpc,
)

PURCHASE = movement_pb2.MOVEMENT_REASON_PURCHASE
HELD, COMMITTED, RELEASED, EXPIRED = 1, 2, 3, 4


def new_id() -> str:
    return str(uuid4())


def sku() -> str:
    """One that no other test has."""
    return f"SKU-{uuid4().hex[:12]}"


async def refused(call: Awaitable[Any]) -> str:
    """The reason that a call is refused with; `OK` when it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return "OK"


@dataclass
class Warehouse:
    """Made by `of`."""

    lab: Lab
    location_id: str

    @classmethod
    async def of(cls, lab: Lab) -> Warehouse:
        made = cls(lab, "")
        made.location_id = await made.open()
        return made

    def __post_init__(self) -> None:
        channel = self.lab.channel
        self.locations = location_pb2_grpc.LocationServiceStub(channel)
        self.stock = stock_pb2_grpc.StockServiceStub(channel)
        self.transfers = transfer_pb2_grpc.TransferServiceStub(channel)
        self.reservations = reservation_pb2_grpc.ReservationServiceStub(channel)
        self.availability = availability_pb2_grpc.AvailabilityServiceStub(channel)

    @property
    def who(self) -> Any:
        """Metadata of a call by whoever operates the mesh; it is signed for a minute."""
        return self.lab.as_service()

    async def open(self, **settings: Any) -> str:
        """Another location."""
        location_id = new_id()
        request = locations.CreateLocationRequest(
            location_id=location_id,
            settings=locations.LocationSettings(**{"name": "Main", "priority": 100, **settings}),
        )
        await self.locations.CreateLocation(request, metadata=self.who)
        return location_id

    async def receive(self, units: int, name: str = "", at: str = "") -> str:
        """So many units of a SKU, new unless it is named. Returns its name."""
        name = name or sku()
        await self.receive_all(units, [name], at)
        return name

    async def receive_all(self, units: int, names: Iterable[str], at: str = "") -> None:
        """So many units of each."""
        request = stock.ReceiveStockRequest(
            receipt_id=new_id(),
            location_id=at or self.location_id,
            lines=[stock.Receipt(sku=name, units=units) for name in names],
            reason=PURCHASE,
        )
        await self.stock.ReceiveStock(request, metadata=self.who)

    async def level(self, name: str, at: str = "") -> Any:
        request = stock.GetStockRequest(sku=name, location_id=at or self.location_id)
        return (await self.stock.GetStock(request, metadata=self.who)).stock

    async def counters(self, name: str, at: str = "") -> tuple[int, int, int]:
        """On hand, reserved, available."""
        level = await self.level(name, at)
        return level.on_hand, level.reserved, level.available

    async def threshold(self, name: str, threshold: int, at: str = "", **more: Any) -> Any:
        request = stock.SetThresholdRequest(
            sku=name, location_id=at or self.location_id, threshold=threshold, **more
        )
        return (await self.stock.SetThreshold(request, metadata=self.who)).stock

    async def reserve(self, *lines: tuple[str, int] | tuple[str, int, str], **more: Any) -> Any:
        made = [
            reservations.Demand(**dict(zip(("sku", "units", "location_id"), line, strict=False)))
            for line in lines
        ]
        request = reservations.ReserveRequest(**{"reservation_id": new_id(), "lines": made, **more})
        return (await self.reservations.Reserve(request, metadata=self.who)).reservation

    async def commit(self, reservation_id: str, *lines: tuple[str, int], operation_id: str = "") -> Any:
        made = [reservations.Demand(sku=name, units=units) for name, units in lines]
        request = reservations.CommitRequest(
            reservation_id=reservation_id, lines=made, operation_id=operation_id
        )
        return (await self.reservations.Commit(request, metadata=self.who)).reservation

    async def release(self, reservation_id: str, *lines: tuple[str, int], operation_id: str = "") -> Any:
        made = [reservations.Demand(sku=name, units=units) for name, units in lines]
        request = reservations.ReleaseRequest(
            reservation_id=reservation_id, lines=made, operation_id=operation_id
        )
        return (await self.reservations.Release(request, metadata=self.who)).reservation

    async def get(self, reservation_id: str) -> Any:
        request = reservations.GetReservationRequest(reservation_id=reservation_id)
        return (await self.reservations.GetReservation(request, metadata=self.who)).reservation

    async def wrong(self) -> list[Any]:
        """Levels whose counters differ from what they count."""
        return list(await discrepancy.find(self.lab.db("inventory"), 10))


async def outcomes(*calls: Awaitable[Any]) -> list[str]:
    """`OK` or the reason of each, all at once."""
    return list(await asyncio.gather(*map(refused, calls)))
