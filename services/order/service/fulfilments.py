"""weft.order.v1.FulfilmentService."""

from services.chassis.method import Call
from services.order import checkout, keeping
from services.order.domain.order import Order
from services.order.domain.refusals import FulfilmentNotAwaited, FulfilmentReportedOtherwise
from services.order.domain.states import OrderState
from services.order.service.shared import Shared
from services.order.telling import state_pb
from weft.order.v1 import events_pb2 as events, fulfilment_pb2 as pb
from weft.order.v1.fulfilment_pb2_grpc import FulfilmentServiceServicer


class Fulfilments(FulfilmentServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ReportFulfilment(
        self, request: pb.ReportFulfilmentRequest, call: Call
    ) -> pb.ReportFulfilmentResponse:
        async with self._shared.db.fast() as tx:
            found, _ = await keeping.look(self._shared.db, request.order_id)
            await self._shared.sagas.wake(tx, checkout.KIND, found.key)
            held = await keeping.hold(tx, request.order_id)
            if not _told_before(held.order, request.refusal):
                order = held.order
                reported = events.OrderFulfilmentReported(
                    order_id=order.order_id, customer_id=order.customer_id, refusal=request.refusal
                )
                await held.tell(reported)
        return pb.ReportFulfilmentResponse(state=state_pb(held.order.state))


def _told_before(order: Order, refusal: str) -> bool:
    """Raises FulfilmentNotAwaited, FulfilmentReportedOtherwise."""
    if order.fulfilment is not None:
        if order.fulfilment != refusal:
            raise FulfilmentReportedOtherwise(order_id=order.order_id)
        return True
    if order.fulfil_by is None or order.state is not OrderState.CONFIRMED:
        raise FulfilmentNotAwaited(order_id=order.order_id, state=order.state)
    return False
