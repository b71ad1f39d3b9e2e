"""An order service, its neighbours, and words to say to it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import grpc.aio

from services.chassis.clock import Clock, FakeClock
from services.chassis.testing import Lab, laboratory, reason, until
from services.order.app import build
from tests.order.neighbours import build_of
from tests.order.world import Thing, World
from tests.servers import Shared
from weft.order.v1 import (
    order_lists_pb2 as lists,
    order_pb2 as pb,
    resource_pb2 as resource,
    return_pb2 as returns,
    shipment_pb2 as shipments,
)
from weft.order.v1.fulfilment_pb2_grpc import FulfilmentServiceStub
from weft.order.v1.import_pb2_grpc import OrderImportServiceStub
from weft.order.v1.order_pb2_grpc import OrderServiceStub
from weft.order.v1.process_pb2_grpc import OrderProcessServiceStub
from weft.order.v1.return_pb2_grpc import ReturnServiceStub
from weft.order.v1.shipment_pb2_grpc import ShipmentServiceStub
from weft.payment.v1 import intent_pb2 as payment

ACT, DECLINE, HANG = "tok_act", "tok_declined", "tok_processing"
MANY = 1_000_000


class Shop:
    """What a test holds."""

    def __init__(self, lab: Lab, world: World) -> None:
        self.lab, self.world = lab, world
        self.orders, self.shipments = OrderServiceStub(lab.channel), ShipmentServiceStub(lab.channel)
        self.returns, self.fulfilments = ReturnServiceStub(lab.channel), FulfilmentServiceStub(lab.channel)
        self.imports, self.processes = (
            OrderImportServiceStub(lab.channel),
            OrderProcessServiceStub(lab.channel),
        )
        self.staff = lab.bearer()

    async def order(self, *lines: tuple[str, int], order_id: str = "", **rest: Any) -> resource.Order:
        """Orders units by sku, by a card that works unless `token` or `payment` says otherwise."""
        request = wanted(*lines, order_id=order_id, **rest)
        made: resource.Order = (await self.orders.CreateOrder(request, metadata=self.staff)).order
        return made

    async def get(self, order_id: str) -> resource.Order:
        request = pb.GetOrderRequest(order_id=order_id)
        found: resource.Order = (await self.orders.GetOrder(request, metadata=self.staff)).order
        return found

    async def becomes(self, order_id: str, state: str) -> resource.Order:
        async def there() -> resource.Order | None:
            if isinstance(self.lab.clock, FakeClock):
                self.lab.clock.advance(1)
            found = await self.get(order_id)
            return found if standing(found) == state else None

        made: resource.Order = await until(there)
        return made

    async def cancel(self, order_id: str, **rest: Any) -> resource.Order:
        request = pb.CancelOrderRequest(order_id=order_id, **rest)
        made: resource.Order = (await self.orders.CancelOrder(request, metadata=self.staff)).order
        return made

    async def ship(self, order_id: str, shipment_id: str = "", **units: int) -> resource.Shipment:
        """Some units by line; none named: all that are left."""
        request = shipments.CreateShipmentRequest(
            order_id=order_id, shipment_id=shipment_id or str(uuid4()), lines=units_of(units)
        )
        made: resource.Shipment = (await self.shipments.CreateShipment(request, metadata=self.staff)).shipment
        return made

    async def refund(
        self, order_id: str, refund_id: str = "", amount: int = 0, **units: int
    ) -> resource.Refund:
        request = pb.RefundOrderRequest(
            order_id=order_id, refund_id=refund_id or str(uuid4()), lines=units_of(units)
        )
        if amount:
            request.amount.amount_minor, request.amount.currency = amount, "EUR"
        made: resource.Refund = (await self.orders.RefundOrder(request, metadata=self.staff)).refund
        return made

    async def ask_back(self, order_id: str, **units: int) -> resource.Return:
        request = returns.RequestReturnRequest(
            order_id=order_id, return_id=str(uuid4()), lines=units_of(units), reason="DAMAGED"
        )
        answer = await self.returns.RequestReturn(request, metadata=self.staff)
        made: resource.Return = getattr(answer, "return")
        return made

    async def approve(self, back: resource.Return) -> resource.Return:
        request = returns.ApproveReturnRequest(order_id=back.order_id, return_id=back.return_id)
        made: resource.Return = getattr(
            await self.returns.ApproveReturn(request, metadata=self.staff), "return"
        )
        return made

    async def receive(
        self, back: resource.Return, damaged: tuple[str, ...] = (), location_id: str = "", **units: int
    ) -> resource.Return:
        request = returns.ReceiveReturnRequest(
            order_id=back.order_id,
            return_id=back.return_id,
            lines=units_of(units),
            damaged_line_ids=damaged,
            location_id=location_id,
        )
        answer = await self.returns.ReceiveReturn(request, metadata=self.staff)
        made: resource.Return = getattr(answer, "return")
        return made

    async def return_(self, order_id: str, **units: int) -> resource.Return:
        """Asked for, approved, received."""
        back = await self.ask_back(order_id, **units)
        await self.approve(back)
        return await self.receive(back)

    async def told(self, order_id: str) -> list[str]:
        """Names of its events."""
        sql = "select type from event where key = $1 order by position"
        rows = await self.lab.db("order").fetch(sql, order_id)
        return [row["type"].rpartition(".")[2] for row in rows]

    async def history(self, order_id: str) -> list[resource.HistoryEntry]:
        request = lists.GetOrderHistoryRequest(order_id=order_id)
        return list((await self.orders.GetOrderHistory(request, metadata=self.staff)).entries)

    @property
    def nothing_left(self) -> bool:
        """Nobody holds anything for an order that is no more."""
        kept = [each for each in self.world.held.values() if any(line.held for line in each.lines)]
        return not kept and not any(self.world.redeemed.values()) and self.world.charged == 0


def units_of(units: Mapping[str, int]) -> list[resource.LineUnits]:
    return [resource.LineUnits(line_id=line_id, units=count) for line_id, count in units.items()]


def wanted(
    *lines: tuple[str, int], order_id: str = "", token: str = "tok_visa", **rest: Any
) -> pb.CreateOrderRequest:
    """Lines are called a, b, c … in their order."""
    made = [
        pb.NewLine(line_id=chr(ord("a") + n), sku=sku, units=units) for n, (sku, units) in enumerate(lines)
    ]
    rest.setdefault("payment", pb.Payment(token=token))
    rest.setdefault("country", "DE")
    return pb.CreateOrderRequest(order_id=order_id or str(uuid4()), currency="EUR", lines=made, **rest)


def standing(order: resource.Order) -> str:
    return resource.OrderState.Name(order.state).removeprefix("ORDER_STATE_")


async def refused(call: Any) -> str:
    """The reason that a call is refused with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error)
    raise AssertionError("it was not refused")


@asynccontextmanager
async def shop(servers: Shared, clock: Clock | None = None, **settings: str) -> AsyncIterator[Shop]:
    """`settings` as in OrderSettings."""
    own = {f"WEFT_ORDER_{name.upper()}": value for name, value in settings.items()}
    world = World()
    builds = {"order": partial(build, environ=own), "standin": build_of(world)}
    postgres, nats = servers.postgres(), servers.account()
    async with laboratory(builds, postgres_url=postgres, nats_url=nats, clock=clock) as lab:
        clear(world)
        yield Shop(lab, world)


def clear(world: World) -> None:
    """As it is before each test."""
    fresh = World(
        things={"wool": Thing(title="Merino wool"), "needle": Thing(2_500, "Needle")},
        coupons={"TEN": 10},
        gateway={
            ACT: payment.INTENT_STATE_REQUIRES_ACTION,
            DECLINE: payment.INTENT_STATE_FAILED,
            HANG: payment.INTENT_STATE_PROCESSING,
        },
        db=world.db,
    )
    fresh.things["book"] = Thing(900, "E-book", shippable=False)
    fresh.stock.update({"wool": MANY, "needle": MANY})
    vars(world).update(vars(fresh))
