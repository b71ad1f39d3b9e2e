"""weft.order.v1.OrderService."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

from services.chassis.method import Call
from services.chassis.money import money_from_pb
from services.chassis.saga import Start
from services.chassis.saga_store import UnknownProcess, find, steps_of
from services.order import checkout, keeping, telling
from services.order.domain.order import Order
from services.order.domain.refusals import OrderIdReused, RefundIdReused
from services.order.domain.states import GONE, OPEN, OrderState, ShipmentState, require
from services.order.domain.words import query
from services.order.erasing import erase
from services.order.placing import Placed, require_payment
from services.order.service import pack, watching
from services.order.service.shared import Shared
from services.order.store import detail, history, summary
from weft.order.v1 import order_lists_pb2 as lists, order_pb2 as pb
from weft.order.v1.order_pb2_grpc import OrderServiceServicer
from weft.order.v1.resource_pb2 import Contact, HistoryEntry, Order as Packed

WAIT_S = 10.0  # As CreateOrder promises.
CUSTOMER_REQUEST, GOODWILL = "CUSTOMER_REQUEST", "GOODWILL"
UNSETTLED = (OrderState.PENDING, OrderState.CANCELLING)


class Orders(OrderServiceServicer):
    def __init__(self, shared: Shared, watchers: watching.Watchers) -> None:
        self._shared, self._db, self._clock, self._sagas = shared, shared.db, shared.clock, shared.sagas
        self._watchers = watchers

    async def CreateOrder(self, request: pb.CreateOrderRequest, call: Call) -> pb.CreateOrderResponse:
        order_id, mac = UUID(request.order_id), self._mac(request)
        found = await detail.find(self._db, order_id)
        if found is None:
            placed = await self._shared.placing.place(request)
            found = await self._make(request, placed, mac)
        if found is not None and found.request_mac != mac:
            raise OrderIdReused(order_id=order_id)
        seconds = request.wait.ToMilliseconds() / 1000 if request.HasField("wait") else WAIT_S
        await self._settled(order_id, seconds)
        return pb.CreateOrderResponse(order=await self._shown(request.order_id))

    def _mac(self, request: pb.CreateOrderRequest) -> bytes:
        """Of what is ordered: however long one waits for it, it is the same."""
        asked = pb.CreateOrderRequest()
        asked.CopyFrom(request)
        asked.ClearField("wait")
        return self._shared.sealing.mac(asked)

    async def _make(self, request: pb.CreateOrderRequest, placed: Placed, mac: bytes) -> detail.Found | None:
        """None: it is made. Else what another call with this id made meanwhile."""
        created, order_id = placed.created, UUID(request.order_id)
        async with self._db.fast() as tx:
            if request.HasField("exchange"):
                await self._shared.exchanges.pay(tx, request, created)
            due = require_payment(created, request)
            if not await detail.make(tx, self._detail(request, placed, mac, due)):
                made = None
            else:
                made = await keeping.new(tx, order_id)
                order = await made.tell(created)
                await self._sagas.start(tx, self._checkout(order, placed, due, request))
        return None if made else await detail.find(self._db, order_id)

    def _detail(self, request: pb.CreateOrderRequest, placed: Placed, mac: bytes, due: int) -> detail.Made:
        order_id, contact = UUID(request.order_id), request.contact
        skus = [line.sku for line in request.lines]
        return detail.Made(
            order_id=order_id,
            request_mac=mac,
            customer_id=UUID(request.customer_id) if request.customer_id else None,
            created_at=placed.created.effective_time.ToDatetime(tzinfo=self._clock.now().tzinfo),
            titles=placed.titles,
            words=detail.texts(request.reference, skus, placed.titles.values(), *_personal(contact)),
            contact=contact.SerializeToString() if request.HasField("contact") else None,
            payment=self._shared.sealing.seal(request.payment, order_id) if due > 0 else None,
        )

    def _checkout(self, order: Order, placed: Placed, due: int, request: pb.CreateOrderRequest) -> Start:
        settings = self._shared.settings
        transfers = request.payment.kind == pb.PaymentKind.PAYMENT_KIND_BANK_TRANSFER
        return Start(
            kind=checkout.KIND,
            saga_id=order.key,
            subject=order.order_id,
            after="create",
            timeout_s=settings.transfer_s if transfers else settings.checkout_s,
            data={
                "redeems": placed.redeems,
                "stocks": bool(order.shippable),
                "pays": due > 0,
                "captures": due > 0 and order.auto_capture,
                "fulfils": settings.fulfil,
            },
        )

    async def _settled(self, order_id: UUID, seconds: float) -> None:
        """Waits until the order is confirmed, cancelled, or waits for its customer; at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (await keeping.look(self._db, order_id))[0].state in UNSETTLED:
                    await self._shared.settling.wait(str(order_id))

    async def GetOrder(self, request: pb.GetOrderRequest, call: Call) -> pb.GetOrderResponse:
        return pb.GetOrderResponse(order=await self._shown(request.order_id, request.customer_id))

    async def _shown(self, order_id: str, customer_id: str = "") -> Packed:
        order, version = await keeping.look(self._db, order_id, customer_id)
        message = ""
        if order.state is OrderState.CANCELLED:
            with suppress(UnknownProcess):
                message = (await find(self._db, checkout.KIND, order.key)).message
        return pack.order(order, version, await detail.find(self._db, order.key), message)

    async def ListOrders(self, request: lists.ListOrdersRequest, call: Call) -> lists.ListOrdersResponse:
        page = summary.ORDERS.page(request, self._shared.page_key)
        customer_id = UUID(request.customer_id) if request.customer_id else None
        rows, token = await summary.page(self._db, page, customer_id)
        return lists.ListOrdersResponse(orders=pack.summaries(rows), next_page_token=token)

    async def SearchOrders(
        self, request: lists.SearchOrdersRequest, call: Call
    ) -> lists.SearchOrdersResponse:
        page = summary.FOUND.page(request, self._shared.page_key)
        rows, token = await summary.found(self._db, page, query(request.text))
        return lists.SearchOrdersResponse(orders=pack.summaries(rows), next_page_token=token)

    async def CancelOrder(self, request: pb.CancelOrderRequest, call: Call) -> pb.CancelOrderResponse:
        reason = request.reason or CUSTOMER_REQUEST
        async with self._db.fast() as tx:
            # The process first, the order after it: so does the process when it records a step.
            await self._sagas.call_off(tx, checkout.KIND, UUID(request.order_id), reason)
            held = await keeping.hold(tx, request.order_id, request.customer_id)
            if held.order.state not in GONE:
                _cancellable(held.order)
                await held.tell(telling.status(held.order, OrderState.CANCELLING, reason))
        await self._settled(UUID(request.order_id), WAIT_S)
        return pb.CancelOrderResponse(order=await self._shown(request.order_id))

    async def CompleteOrder(self, request: pb.CompleteOrderRequest, call: Call) -> pb.CompleteOrderResponse:
        async with self._db.fast() as tx:
            held = await keeping.hold(tx, request.order_id)
            order = held.order
            if order.state is not OrderState.COMPLETED:
                if order.state is OrderState.CONFIRMED:
                    allowed = not order.shippable
                    require(allowed, "order", order.order_id, "confirmed and not shipped", "completed")
                await held.tell(*checkout.completed(order, self._clock))
        return pb.CompleteOrderResponse(order=await self._shown(request.order_id))

    async def RefundOrder(self, request: pb.RefundOrderRequest, call: Call) -> pb.RefundOrderResponse:
        wanted = {line.line_id: line.units for line in request.lines}
        amount = request.amount.amount_minor if request.HasField("amount") else None
        async with self._db.fast() as tx:
            held = await keeping.hold(tx, request.order_id)
            order = held.order
            known = order.refunds.get(request.refund_id)
            if known is None:
                order.require_in(OPEN | {OrderState.RETURNED}, "refunded")
                if amount is not None:
                    money_from_pb(request.amount) + order.money(0)  # Of one currency.
                units = order.chosen([(line.line_id, line.units) for line in request.lines])
                taken = order.to_refund(units, amount)
                gross, reason = taken[1] + taken[2], request.reason or GOODWILL
                await self._shared.refunds.begin(held, request.refund_id, taken, gross, reason=reason)
            elif {line_id: units for line_id, (units, _, _) in known.lines.items()} != wanted or (
                amount not in (None, known.gross) and not wanted
            ):
                raise RefundIdReused(refund_id=request.refund_id)
        await self._rested(request.refund_id)
        order, _ = await keeping.look(self._db, request.order_id)
        return pb.RefundOrderResponse(refund=pack.refund(order, order.refunds[request.refund_id]))

    async def _rested(self, refund_id: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await self._sagas.resting("refund", UUID(refund_id))

    async def GetOrderHistory(
        self, request: lists.GetOrderHistoryRequest, call: Call
    ) -> lists.GetOrderHistoryResponse:
        await keeping.look(self._db, request.order_id, request.customer_id)
        told = keeping.decoded(await history.events_of(self._db, keeping.KIND, request.order_id))
        entries = [
            HistoryEntry(
                time=telling.stamp(envelope.at),
                what=envelope.type.rpartition(".")[2],
                actor=envelope.actor,
                detail=getattr(event, "reason", ""),
            )
            for event, envelope in told
        ]
        entries += [
            HistoryEntry(
                time=telling.stamp(step["at"]),
                what=f"{step['kind']}.{step['step']}",
                outcome=step["outcome"],
                actor="service:order",
                detail=step["detail"],
            )
            for step in await steps_of(self._db, request.order_id)
        ]
        entries.sort(key=lambda entry: entry.time.ToNanoseconds())
        return lists.GetOrderHistoryResponse(entries=entries)

    async def WatchOrders(
        self, request: lists.WatchOrdersRequest, call: Call
    ) -> AsyncIterator[lists.WatchOrdersResponse]:
        async for message in self._watchers.watch(request, call):
            yield message

    async def EraseOrderContact(
        self, request: pb.EraseOrderContactRequest, call: Call
    ) -> pb.EraseOrderContactResponse:
        async with self._db.fast() as tx:
            await erase(await keeping.hold(tx, request.order_id))
        return pb.EraseOrderContactResponse()


def _cancellable(order: Order) -> None:
    """Raises IllegalTransition while a part of it is about to leave."""
    leaving = any(each.state is ShipmentState.PENDING for each in order.shipments.values())
    require(not leaving, "order", order.order_id, "about to be shipped", "cancelled")


def _personal(contact: Contact) -> list[str]:
    """What of a person an order is found by."""
    places = [contact.billing, contact.shipping]
    towns = [text for place in places for text in (place.city, place.postal_code, place.company)]
    return [contact.name, contact.email, contact.phone, *towns]
