"""What order asks of inventory, and of pricing's promotions."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass

from google.rpc import code_pb2

from services.chassis.errors import CallFailed
from services.chassis.mesh import Mesh
from services.order.domain.ids import derived
from services.order.domain.order import Order, Units
from services.order.domain.refusals import ReservationLost, UnknownLocation
from services.order.domain.restocking import Taken, origins
from weft.inventory.v1 import reservation_pb2 as reservations, stock_pb2 as stock
from weft.inventory.v1.location_pb2 import GetLocationRequest
from weft.inventory.v1.location_pb2_grpc import LocationServiceStub
from weft.inventory.v1.movement_pb2 import MovementReason
from weft.inventory.v1.reservation_pb2_grpc import ReservationServiceStub
from weft.inventory.v1.stock_pb2_grpc import StockServiceStub
from weft.pricing.v1.redemption_pb2 import RedeemRequest, ReleaseRequest as ReleaseRedemption
from weft.pricing.v1.redemption_pb2_grpc import RedemptionServiceStub

HELD = (reservations.RESERVATION_STATE_HELD, reservations.RESERVATION_STATE_COMMITTED)


@dataclass(frozen=True, slots=True)
class Restock:
    """What of a return goes back into stock."""

    return_id: str
    units: Units  # By line.
    before: Mapping[str, int]  # By SKU: what of the order came back before.
    location_id: str = ""  # Empty: where they were taken from.


class Stocking:
    """Goods and promotions of orders."""

    def __init__(self, mesh: Mesh) -> None:
        self._reservations, self._stock = ReservationServiceStub(mesh), StockServiceStub(mesh)
        self._redemptions, self._locations = RedemptionServiceStub(mesh), LocationServiceStub(mesh)

    async def redeem(self, order: Order) -> None:
        """Raises CallFailed."""
        request = RedeemRequest(
            redemption_id=order.order_id, quote_id=order.quote_id, customer_id=order.customer_id
        )
        await self._redemptions.Redeem(request)

    async def release_redemption(self, order_id: str) -> None:
        await self._redemptions.Release(ReleaseRedemption(redemption_id=order_id))

    async def reserve(self, order: Order, ttl_s: int) -> None:
        """Raises ReservationLost, CallFailed."""
        demand = [reservations.Demand(sku=line.sku, units=line.units) for line in order.shippable]
        request = reservations.ReserveRequest(reservation_id=order.order_id, lines=demand)
        request.ttl.FromSeconds(ttl_s)
        held = (await self._reservations.Reserve(request)).reservation
        if held.state not in HELD:
            raise ReservationLost(state=_name(held.state))

    async def release(self, order_id: str) -> None:
        """Nothing is held any more, nor will be by a call that comes late."""
        try:
            await self._reservations.Release(reservations.ReleaseRequest(reservation_id=order_id))
        except CallFailed as failed:
            if failed.reason != "RESERVATION_NOT_HELD":
                raise

    async def take(self, order_id: str) -> None:
        """Raises CallFailed."""
        await self._reservations.Commit(reservations.CommitRequest(reservation_id=order_id))

    async def put_back(self, order_id: str) -> None:
        """What was taken is where it was; what was not cannot be any more."""
        await self.release(order_id)
        request = reservations.GetReservationRequest(reservation_id=order_id)
        found = (await self._reservations.GetReservation(request)).reservation
        taken: dict[str, list[stock.Receipt]] = {}
        for line in found.lines:
            if line.committed:
                receipt = stock.Receipt(sku=line.sku, units=line.committed)
                taken.setdefault(line.location_id, []).append(receipt)
        for location_id, receipts in taken.items():
            await self._receive(derived(order_id, f"put back {location_id}"), order_id, receipts, location_id)

    async def require_location(self, location_id: str) -> None:
        """Asked in our own name: who receives returns need not be one who reads locations.

        Raises UnknownLocation, CallFailed.
        """

        async def ask() -> None:
            await self._locations.GetLocation(GetLocationRequest(location_id=location_id))

        try:
            await asyncio.create_task(ask(), context=Context())
        except CallFailed as failed:
            if failed.code == code_pb2.NOT_FOUND:
                raise UnknownLocation(location_id=location_id, field="location_id") from failed
            raise

    async def restock(self, order: Order, back: Restock) -> None:
        """Goods that came back are in stock again: where it was said, or where they were taken from."""
        came = Counter[str]()
        for line_id, count in back.units.items():
            came[order.lines[line_id].sku] += count
        places = {back.location_id: dict(came)}
        if not back.location_id:
            places = origins(came, back.before, await self._taken(order.order_id))
        for where, units in places.items():
            receipts = [stock.Receipt(sku=sku, units=count) for sku, count in units.items()]
            key = f"restock {where}".strip()
            await self._receive(derived(back.return_id, key), order.order_id, receipts, where)

    async def _taken(self, order_id: str) -> list[Taken]:
        """What left the stock for an order; nothing is known of one that was imported."""
        try:
            request = reservations.GetReservationRequest(reservation_id=order_id)
            found = (await self._reservations.GetReservation(request)).reservation
        except CallFailed as failed:
            if failed.code == code_pb2.NOT_FOUND:
                return []
            raise
        return [Taken(line.sku, line.location_id, line.committed) for line in found.lines]

    async def _receive(
        self, receipt_id: str, order_id: str, receipts: list[stock.Receipt], location_id: str
    ) -> None:
        request = stock.ReceiveStockRequest(
            receipt_id=receipt_id,
            location_id=location_id,
            lines=receipts,
            reason=MovementReason.MOVEMENT_REASON_RETURN,
            reference=f"order:{order_id}",
        )
        await self._stock.ReceiveStock(request)


def _name(state: int) -> str:
    name = reservations.ReservationState.Name(state)  # type: ignore[arg-type]
    return str(name).removeprefix("RESERVATION_STATE_")
