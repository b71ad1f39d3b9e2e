"""What a checkout needs is killed while orders come: each is confirmed and paid, or leaves nothing."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from services.chassis.caller import OPERATOR
from services.chassis.config import Settings, load
from services.chassis.errors import CallFailed, Refusal
from services.chassis.jobs.surroundings import Surroundings, surrounding
from tests.chaos.faults import back, eventually, healthy, kill
from tests.meshes import Mesh
from weft.catalog.v1 import product_messages_pb2 as catalog
from weft.catalog.v1.content_pb2 import ListPrice, ProductContent, VariantContent
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub
from weft.inventory.v1 import location_pb2, movement_pb2, stock_pb2
from weft.inventory.v1.location_pb2_grpc import LocationServiceStub
from weft.inventory.v1.stock_pb2_grpc import StockServiceStub
from weft.money.v1.money_pb2 import UnitPrice
from weft.order.v1 import order_pb2 as pb, resource_pb2 as resource
from weft.order.v1.order_pb2_grpc import OrderServiceStub
from weft.payment.v1.intent_pb2 import GetIntentRequest, Intent
from weft.payment.v1.intent_pb2_grpc import IntentServiceStub

PARTS = ("order", "payment", "inventory", "pricing", "catalog", "postgres", "nats")
HOST = "127.0.0.1"
STOCK = 1_000
BUYERS = 4  # Side by side; each orders again and again.
PAUSE_S = 0.05
GOOD, BAD = "pm_card_visa", "pm_card_chargeDeclined"
FAILS, CANCELS = {1, 6}, {2, 5, 7}  # Of each TURNS orders, so that even a few end in every way.
TURNS = 10
SETTLED = {resource.ORDER_STATE_CONFIRMED, resource.ORDER_STATE_CANCELLED}


@dataclass
class Trade:
    """What a test holds, and what was ordered."""

    around: Surroundings
    chance: random.Random
    sku: str = field(default_factory=lambda: f"SKU-{uuid4().hex[:12]}")
    location_id: str = field(default_factory=lambda: str(uuid4()))
    ordered: dict[str, pb.CreateOrderRequest] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        mesh = self.around.mesh
        self.orders, self.stock = OrderServiceStub(mesh), StockServiceStub(mesh)
        self.products, self.locations = ProductServiceStub(mesh), LocationServiceStub(mesh)
        self.intents = IntentServiceStub(mesh)

    async def answered(self, call: Any, request: Any) -> Any:
        """However often it has to be asked for."""
        while True:
            try:
                return await call(request, timeout=15)
            except (CallFailed, Refusal, OSError, TimeoutError):
                await asyncio.sleep(self.chance.uniform(0.1, 0.5))

    async def open(self) -> None:
        """A thing on sale, and so many of it."""
        variant = catalog.NewVariant(content=VariantContent(sku=self.sku, shippable=True))
        variant.prices.append(ListPrice(price=UnitPrice(amount="10.00", currency="EUR")))
        product_id = str(uuid4())
        made = catalog.CreateProductRequest(
            product_id=product_id, content=ProductContent(title="Wool"), variants=[variant]
        )
        await self.answered(self.products.CreateProduct, made)
        publish = catalog.PublishProductRequest(product_id=product_id)
        await self.answered(self.products.PublishProduct, publish)
        settings = location_pb2.LocationSettings(name="Main")
        location = location_pb2.CreateLocationRequest(location_id=self.location_id, settings=settings)
        await self.answered(self.locations.CreateLocation, location)
        receive = stock_pb2.ReceiveStockRequest(
            receipt_id=str(uuid4()),
            location_id=self.location_id,
            lines=[stock_pb2.Receipt(sku=self.sku, units=STOCK)],
            reason=movement_pb2.MOVEMENT_REASON_PURCHASE,
        )
        await self.answered(self.stock.ReceiveStock, receive)

    async def buy(self) -> None:
        """Orders until it is stopped; of some it thinks better."""
        while not self.stopping.is_set():
            turn = len(self.ordered) % TURNS
            token = BAD if turn in FAILS else GOOD
            line = pb.NewLine(line_id="1", sku=self.sku, units=self.chance.randint(1, 3))
            request = pb.CreateOrderRequest(order_id=str(uuid4()), currency="EUR", country="DE", lines=[line])
            request.payment.token = token
            self.ordered[request.order_id] = request
            await self.answered(self.orders.CreateOrder, request)
            if turn in CANCELS:
                cancel = pb.CancelOrderRequest(order_id=request.order_id)
                await self.answered(self.orders.CancelOrder, cancel)
            await asyncio.sleep(PAUSE_S)

    async def seen(self, order_id: str) -> resource.Order:
        order: resource.Order = (
            await self.answered(self.orders.GetOrder, pb.GetOrderRequest(order_id=order_id))
        ).order
        return order

    async def intent(self, order_id: str) -> Intent | None:
        request = GetIntentRequest(intent_id=str(uuid5(UUID(order_id), "intent")))
        try:
            intent: Intent = (await self.intents.GetIntent(request)).intent
        except CallFailed as failed:
            if failed.reason == "UNKNOWN_INTENT":
                return None
            raise
        return intent


@asynccontextmanager
async def trade(mesh: Mesh, seed: int) -> AsyncIterator[Trade]:
    secrets: dict[str, str] = json.loads((mesh.home / "secrets.json").read_text())
    environ = {
        "WEFT_NATS_URL": f"nats://weft:{secrets['nats']}@{HOST}:{mesh.ports['nats']}",
        "WEFT_MESH_KEY": secrets["mesh_key"],
        "WEFT_MESH_ADDRESS": f"{HOST}:{mesh.ports['mesh']}",
        "WEFT_METRICS_ADDRESS": "",
    }
    async with surrounding(load(Settings, environ), OPERATOR) as around:
        made = Trade(around, random.Random(seed))
        await made.open()
        yield made


async def judge(one: Trade) -> Counter[str]:
    """Each order ended as a whole; goods and money are where the orders say. Returns how many ended how."""
    ended = Counter[str]()
    sold = 0
    for order_id, request in one.ordered.items():

        async def settled(order_id: str = order_id) -> bool:
            order = await one.seen(order_id)
            done = order.state == resource.ORDER_STATE_CANCELLED or order.paid.captured == order.totals.gross
            return order.state in SETTLED and done

        await eventually(f"order {order_id} is settled", settled)
        order, intent = await one.seen(order_id), await one.intent(order_id)
        ended[resource.OrderState.Name(order.state).removeprefix("ORDER_STATE_")] += 1
        kept = intent.captured.amount_minor - intent.refunded.amount_minor if intent else 0
        if order.state == resource.ORDER_STATE_CONFIRMED:
            assert request.payment.token == GOOD
            assert kept == order.totals.gross.amount_minor, order_id
            sold += request.lines[0].units
        else:
            assert kept == 0, order_id
    request = stock_pb2.GetStockRequest(sku=one.sku, location_id=one.location_id)
    level = (await one.answered(one.stock.GetStock, request)).stock
    assert (level.on_hand, level.reserved) == (STOCK - sold, 0)
    return ended


@pytest.mark.timeout(300)
async def test_orders_outlive_the_death_of_all_that_they_need(shop: Mesh, seed: int) -> None:
    async with trade(shop, seed) as one:
        buying = [asyncio.create_task(one.buy()) for _ in range(BUYERS)]
        for part in ("order", *one.chance.sample(PARTS[1:], 2)):
            for dead, pid in kill(shop, part).items():
                await back(shop, dead, pid)
        one.stopping.set()
        await asyncio.gather(*buying)
        ended = await judge(one)
        assert set(ended) == {"CONFIRMED", "CANCELLED"}
        await healthy(shop)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_thousands_of_orders_outlive_many_deaths(shop: Mesh, seed: int) -> None:
    async with trade(shop, seed) as one:
        buying = [asyncio.create_task(one.buy()) for _ in range(BUYERS)]
        for _ in range(60):
            parts = one.chance.sample(PARTS, one.chance.randint(1, 2))
            for dead, pid in kill(shop, *parts).items():
                await back(shop, dead, pid)
            await asyncio.sleep(one.chance.uniform(0, 3))
        one.stopping.set()
        await asyncio.gather(*buying)
        await judge(one)
        await healthy(shop)
