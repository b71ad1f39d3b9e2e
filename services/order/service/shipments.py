"""weft.order.v1.ShipmentService."""

import asyncio
from contextlib import suppress
from uuid import UUID

from services.chassis.method import Call
from services.order import checkout, keeping, shipping, telling
from services.order.domain.order import Order
from services.order.domain.refusals import ShipmentIdReused
from services.order.domain.states import SHIPMENTS, OrderState, ShipmentState, require
from services.order.keeping import Held
from services.order.service import pack
from services.order.service.shared import Shared
from weft.order.v1 import shipment_pb2 as pb
from weft.order.v1.shipment_pb2_grpc import ShipmentServiceServicer

WAIT_S = 10.0  # For a payment to be captured; the shipment goes its way however long anybody waits.


class Shipments(ShipmentServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def CreateShipment(
        self, request: pb.CreateShipmentRequest, call: Call
    ) -> pb.CreateShipmentResponse:
        wanted = [(line.line_id, line.units) for line in request.lines]
        async with self._db.fast() as tx:
            held = await keeping.hold(tx, request.order_id)
            known = held.order.shipments.get(request.shipment_id)
            if known is None:
                units = held.order.to_ship(wanted)
                about = (request.carrier, request.tracking_number)
                await self._shared.shipping.begin(held, request.shipment_id, units, about)
            elif (known.carrier, known.tracking_number) != (request.carrier, request.tracking_number) or (
                wanted and dict(wanted) != known.units
            ):
                raise ShipmentIdReused(shipment_id=request.shipment_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await self._shared.sagas.resting(shipping.KIND, UUID(request.shipment_id))
        order, _ = await keeping.look(self._db, request.order_id)
        return pb.CreateShipmentResponse(shipment=pack.shipment(order, order.shipment(request.shipment_id)))

    async def DeliverShipment(
        self, request: pb.DeliverShipmentRequest, call: Call
    ) -> pb.DeliverShipmentResponse:
        async with self._db.fast() as tx:
            held = await keeping.hold(tx, request.order_id)
            order, shipment = held.order, held.order.shipment(request.shipment_id)
            if shipment.state is not ShipmentState.DELIVERED:
                allowed = ShipmentState.DELIVERED in SHIPMENTS[shipment.state]
                require(allowed, "shipment", shipment.shipment_id, shipment.state, "delivered")
                arrived = telling.shipment(order, shipment.shipment_id, ShipmentState.DELIVERED)
                await held.tell(arrived)
                await self._complete(held)
        return pb.DeliverShipmentResponse(shipment=pack.shipment(order, shipment))

    async def _complete(self, held: Held) -> None:
        """All of it has arrived."""
        if held.order.state is OrderState.SHIPPED and _arrived(held.order):
            await held.tell(*checkout.completed(held.order, self._clock))


def _arrived(order: Order) -> bool:
    over = (ShipmentState.DELIVERED, ShipmentState.REFUSED)
    return all(each.state in over for each in order.shipments.values())
