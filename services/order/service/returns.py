"""weft.order.v1.ReturnService."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import UUID

from services.chassis.method import Call
from services.order import keeping, refunding, telling
from services.order.domain.ids import derived
from services.order.domain.order import Order, Return
from services.order.domain.refusals import ReturnIdReused
from services.order.domain.states import ORDERS, RETURNS, OrderState, ReturnState, require
from services.order.keeping import Held
from services.order.service import pack
from services.order.service.shared import Shared
from services.order.stocking import Restock
from weft.order.v1 import events_pb2 as events, return_pb2 as pb
from weft.order.v1.resource_pb2 import Return as Packed
from weft.order.v1.return_pb2_grpc import ReturnServiceServicer

NOT_WANTED = "NOT_WANTED"
WAIT_S = 10.0  # For the refund; it goes its way however long anybody waits.
SETTLED = (ReturnState.RECEIVED, ReturnState.REFUNDED)


class Returns(ReturnServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def RequestReturn(self, request: pb.RequestReturnRequest, call: Call) -> pb.RequestReturnResponse:
        wanted = [(line.line_id, line.units) for line in request.lines]
        async with self._db.fast() as tx:
            held = await keeping.hold(tx, request.order_id, request.customer_id)
            known = held.order.returns.get(request.return_id)
            if known is None:
                units = held.order.to_return(wanted)
                state = ReturnState.REQUESTED
                asked = telling.return_(held.order, request.return_id, state, request.reason or NOT_WANTED)
                asked.lines.extend(telling.units_pb(units))
                await held.tell(asked)
            elif dict(wanted) != known.units and known.state not in SETTLED:
                raise ReturnIdReused(return_id=request.return_id)
        return pb.RequestReturnResponse(**_packed(held.order, request.return_id))

    async def ApproveReturn(self, request: pb.ApproveReturnRequest, call: Call) -> pb.ApproveReturnResponse:
        order = await self._move(request, ReturnState.APPROVED)
        return pb.ApproveReturnResponse(**_packed(order, request.return_id))

    async def RefuseReturn(self, request: pb.RefuseReturnRequest, call: Call) -> pb.RefuseReturnResponse:
        order = await self._move(request, ReturnState.REFUSED, request.reason)
        return pb.RefuseReturnResponse(**_packed(order, request.return_id))

    async def WithdrawReturn(
        self, request: pb.WithdrawReturnRequest, call: Call
    ) -> pb.WithdrawReturnResponse:
        order = await self._move(request, ReturnState.WITHDRAWN)
        return pb.WithdrawReturnResponse(**_packed(order, request.return_id))

    async def _move(
        self,
        request: pb.ApproveReturnRequest | pb.RefuseReturnRequest | pb.WithdrawReturnRequest,
        to: ReturnState,
        reason: str = "",
    ) -> Order:
        async with self._db.fast() as tx:
            customer_id = getattr(request, "customer_id", "")
            held = await keeping.hold(tx, request.order_id, customer_id)
            back = held.order.return_(request.return_id)
            if back.state is not to:
                _require(back, to)
                await held.tell(telling.return_(held.order, back.return_id, to, reason))
        return held.order

    async def ReceiveReturn(self, request: pb.ReceiveReturnRequest, call: Call) -> pb.ReceiveReturnResponse:
        if request.location_id:
            await self._shared.stocking.require_location(request.location_id)
        async with self._db.fast() as tx:
            held = await keeping.hold(tx, request.order_id)
            back = held.order.return_(request.return_id)
            if back.state not in SETTLED:
                _require(back, ReturnState.RECEIVED)
                units = held.order.received(back, [(line.line_id, line.units) for line in request.lines])
                held.order.chosen([(line_id, 1) for line_id in request.damaged_line_ids])
                await self._receive(held, back, units, request)
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                refund_id = UUID(derived(request.return_id, "refund"))
                await self._shared.sagas.resting(refunding.KIND, refund_id)
        order, _ = await keeping.look(self._db, request.order_id)
        return pb.ReceiveReturnResponse(**_packed(order, request.return_id))

    async def _receive(
        self, held: Held, back: Return, units: dict[str, int], request: pb.ReceiveReturnRequest
    ) -> None:
        """The goods are here: what they are worth is set aside, and goes back."""
        order, before = held.order, _before(held.order)
        taken = order.worth(units)
        value = taken[1] + taken[2]
        came = telling.return_(order, back.return_id, ReturnState.RECEIVED)
        came.lines.extend(telling.units_pb(units))
        came.value.CopyFrom(telling.money(order, value))
        returned = events.OrderReturned(
            order_id=order.order_id,
            customer_id=order.customer_id,
            return_id=back.return_id,
            lines=telling.lines(order, units),
            last=_last(order, units),
            effective_time=telling.stamp(self._clock.now()),
        )
        told: list[Any] = [came, returned]
        if returned.last and OrderState.RETURNED in ORDERS[order.state]:
            told.append(telling.status(order, OrderState.RETURNED))
        await held.tell(*told)
        paid_back = max(0, min(value - back.exchanged, order.refundable))
        damaged = set(request.damaged_line_ids)
        restocked = {line_id: count for line_id, count in units.items() if line_id not in damaged}
        await self._shared.refunds.begin(
            held,
            derived(back.return_id, "refund"),
            taken,
            paid_back,
            reason=back.reason,
            of_return=Restock(back.return_id, restocked, before, request.location_id),
        )


def _packed(order: Order, return_id: str) -> dict[str, Packed]:
    """`return` is a word of Python's."""
    return {"return": pack.return_(order, order.return_(return_id))}


def _require(back: Return, to: ReturnState) -> None:
    require(to in RETURNS[back.state], "return", back.return_id, back.state, to.lower())


def _before(order: Order) -> dict[str, int]:
    """Units by SKU that came back until now."""
    came = Counter[str]()
    for line in order.lines.values():
        came[line.sku] += line.returned
    return dict(came)


def _last(order: Order, units: dict[str, int]) -> bool:
    """Whether all that was shipped is back."""
    return all(line.shipped == line.returned + units.get(line.line_id, 0) for line in order.lines.values())
