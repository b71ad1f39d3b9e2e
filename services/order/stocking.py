"""What order asks of inventory, and of pricing's promotions."""

from collections import Counter

from services.chassis.errors import CallFailed
from services.chassis.mesh import Mesh
from services.order.domain.ids import derived
from services.order.domain.order import Order, Units
from services.order.domain.refusals import ReservationLost
from weft.inventory.v1 import reservation_pb2 as reservations, stock_pb2 as stock
from weft.inventory.v1.movement_pb2 import MovementReason
from weft.inventory.v1.reservation_pb2_grpc import ReservationServiceStub
from weft.inventory.v1.stock_pb2_grpc import StockServiceStub
from weft.pricing.v1.redemption_pb2 import RedeemRequest, ReleaseRequest as ReleaseRedemption
from weft.pricing.v1.redemption_pb2_grpc import RedemptionServiceStub

HELD = (reservations.RESERVATION_STATE_HELD, reservations.RESERVATION_STATE_COMMITTED)


class Stocking:
    """Goods and promotions of orders."""

    def __init__(self, mesh: Mesh) -> None:
        self._reservations, self._stock = ReservationServiceStub(mesh), StockServiceStub(mesh)
        self._redemptions = RedemptionServiceStub(mesh)

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

    async def restock(self, order: Order, return_id: str, units: Units) -> None:
        """Goods that came back are for sale again."""
        counted = Counter[str]()
        for line_id, count in units.items():
            counted[order.lines[line_id].sku] += count
        receipts = [stock.Receipt(sku=sku, units=count) for sku, count in counted.items()]
        await self._receive(derived(return_id, "restock"), order.order_id, receipts, "")

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
