"""What tests of carts have in common: a lab whose pricing, inventory and orders do what they are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import grpc.aio

from services.cart.app import build
from services.chassis.clock import Clock
from services.chassis.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from services.chassis.host import Parts, Tools
from services.chassis.method import Call
from services.chassis.testing import Lab, laboratory, reason
from tests.servers import Shared
from weft.cart.v1 import cart_pb2, line_pb2, resource_pb2
from weft.cart.v1.cart_pb2_grpc import CartServiceStub
from weft.inventory.v1 import availability_pb2 as stock
from weft.inventory.v1.availability_pb2_grpc import (
    AvailabilityServiceServicer,
    add_AvailabilityServiceServicer_to_server,
)
from weft.order.v1 import order_pb2, resource_pb2 as orders
from weft.order.v1.order_pb2_grpc import OrderServiceServicer, add_OrderServiceServicer_to_server
from weft.pricing.v1 import quote_pb2 as pricing
from weft.pricing.v1.quote_pb2_grpc import QuoteServiceServicer, add_QuoteServiceServicer_to_server

OPEN = resource_pb2.CART_STATE_OPEN
CHECKING_OUT = resource_pb2.CART_STATE_CHECKING_OUT
CHECKED_OUT = resource_pb2.CART_STATE_CHECKED_OUT
MERGED = resource_pb2.CART_STATE_MERGED
EXPIRED = resource_pb2.CART_STATE_EXPIRED
CONFIRMED, CANCELLED = orders.ORDER_STATE_CONFIRMED, orders.ORDER_STATE_CANCELLED


class Away(Unavailable):
    """It is away."""


class UnknownSku(NotFound):
    """There is no {sku}."""


class UnknownOrder(NotFound):
    """There is no order."""


class PriceChanged(FailedPrecondition):
    """It costs something else."""


class OrderIdReused(AlreadyExists):
    """It is another order's."""


class Pricing(QuoteServiceServicer):
    """Stands for pricing: each unit costs 10.00, and skus that begin with `NO` have no price."""

    def __init__(self) -> None:
        self.asked: list[pricing.QuoteRequest] = []
        self.away = False

    def build(self, tools: Tools) -> Parts:
        return Parts(servicers={add_QuoteServiceServicer_to_server: self})

    async def Quote(self, request: pricing.QuoteRequest, call: Call) -> pricing.QuoteResponse:
        self.asked.append(request)
        if self.away:
            raise Away
        quote = pricing.Quote(currency=request.currency)
        quote.explanation.add(kind="price", text="what it costs")
        quote.explanation.add(kind="skipped", text="wholesale does not apply: segment")
        for line in request.lines:
            if line.sku.startswith("NO"):
                if not request.without_refused_lines:
                    raise UnknownSku(sku=line.sku)
                quote.refused_lines.add(line_id=line.line_id, why="UNKNOWN_SKU")
                continue
            made = quote.lines.add(
                line_id=line.line_id, sku=line.sku, units=line.units, title=line.sku.lower()
            )
            made.shippable = not line.sku.startswith("DOWNLOAD")
            made.gross.amount_minor, made.gross.currency = line.units * 1000, request.currency
            quote.gross_total.amount_minor += line.units * 1000
        return pricing.QuoteResponse(quote=quote)


class Stock(AvailabilityServiceServicer):
    """Stands for inventory: there are 50 of all, but for what is told."""

    def __init__(self) -> None:
        self.available: dict[str, int] = {}
        self.away = False

    def build(self, tools: Tools) -> Parts:
        return Parts(servicers={add_AvailabilityServiceServicer_to_server: self})

    async def BatchGetAvailability(
        self, request: stock.BatchGetAvailabilityRequest, call: Call
    ) -> stock.BatchGetAvailabilityResponse:
        if self.away:
            raise Away
        found = [stock.Availability(sku=sku, available=self.available.get(sku, 50)) for sku in request.skus]
        return stock.BatchGetAvailabilityResponse(availabilities=found)


class Orders(OrderServiceServicer):
    """Stands for orders: confirms, or does what `ends` says, once for each id."""

    def __init__(self) -> None:
        self.made: dict[str, orders.Order] = {}
        self.requests: list[order_pb2.CreateOrderRequest] = []
        self.first: dict[str, order_pb2.CreateOrderRequest] = {}
        self.gates: list[asyncio.Event] = []  # The next calls wait for them, one each, before they answer.
        self.ends = "confirmed"  # Or: refused, cancelled, deaf, lost (made, and nobody hears of it).
        self.away = False

    def build(self, tools: Tools) -> Parts:
        return Parts(servicers={add_OrderServiceServicer_to_server: self})

    async def CreateOrder(
        self, request: order_pb2.CreateOrderRequest, call: Call
    ) -> order_pb2.CreateOrderResponse:
        self.requests.append(request)
        ends, gate = self.ends, self.gates.pop(0) if self.gates else None
        if gate:
            await gate.wait()
        if ends == "refused":
            raise PriceChanged
        if ends == "deaf":
            raise Away
        if self.first.setdefault(request.order_id, request) != request:
            raise OrderIdReused
        state = CANCELLED if ends == "cancelled" else CONFIRMED
        new = orders.Order(
            order_id=request.order_id, cart_id=request.cart_id, customer_id=request.customer_id, state=state
        )
        made = self.made.setdefault(request.order_id, new)
        if ends == "lost":
            raise Away
        return order_pb2.CreateOrderResponse(order=made)

    async def GetOrder(self, request: order_pb2.GetOrderRequest, call: Call) -> order_pb2.GetOrderResponse:
        if self.away:
            raise Away
        if request.order_id not in self.made:
            raise UnknownOrder
        return order_pb2.GetOrderResponse(order=self.made[request.order_id])


class World:
    """Carts, and whom they ask."""

    def __init__(self, lab: Lab, pricing: Pricing, stock: Stock, orders: Orders) -> None:
        self.lab, self.pricing, self.stock, self.orders = lab, pricing, stock, orders
        self.carts = CartServiceStub(lab.channel)

    def clear(self) -> None:
        self.pricing.away = self.stock.away = self.orders.away = False
        self.orders.ends = "confirmed"

    def guest(self) -> "Shopper":
        return Shopper(self)

    def customer(self, customer_id: str = "") -> "Shopper":
        return Shopper(self, customer_id or str(uuid4()))

    @property
    def staff(self) -> tuple[tuple[str, str], ...]:
        return self.lab.bearer(scope="cart.carts.read cart.carts.write")


class Shopper:
    """Somebody with a cart: a guest, or a customer who is signed in."""

    def __init__(self, world: World, customer_id: str = "") -> None:
        self.world, self.customer_id = world, customer_id
        self.cart_id, self.token = str(uuid4()), ""
        self._carts = world.carts

    @property
    def me(self) -> tuple[tuple[str, str], ...]:
        return self.world.lab.bearer(self.customer_id, scope="") if self.customer_id else ()

    @property
    def cart(self) -> dict[str, str]:
        return {"cart_id": self.cart_id, "cart_token": self.token}

    async def open(self, *skus: str, currency: str = "EUR") -> "Shopper":
        request = cart_pb2.CreateCartRequest(cart_id=self.cart_id, currency=currency, country="DE")
        answer = await patiently(self._carts.CreateCart, request, self.me)
        self.token = answer.cart_token
        for sku in skus:
            await self.add(sku)
        return self

    async def add(self, sku: str, units: int = 1, version: int = 0) -> resource_pb2.Cart:
        request = line_pb2.AddLineRequest(sku=sku, units=units, version=version, **self.cart)
        made: resource_pb2.Cart = (await patiently(self._carts.AddLine, request, self.me)).cart
        return made

    async def change(
        self, sku: str, units: int, *, saved: bool = False, version: int = 0
    ) -> resource_pb2.Cart:
        request = line_pb2.ChangeLineRequest(
            sku=sku, units=units, saved_for_later=saved, version=version, **self.cart
        )
        made: resource_pb2.Cart = (await patiently(self._carts.ChangeLine, request, self.me)).cart
        return made

    async def remove(self, sku: str) -> resource_pb2.Cart:
        request = line_pb2.RemoveLineRequest(sku=sku, **self.cart)
        made: resource_pb2.Cart = (await patiently(self._carts.RemoveLine, request, self.me)).cart
        return made

    async def apply(self, code: str) -> resource_pb2.Cart:
        request = line_pb2.ApplyCouponRequest(code=code, **self.cart)
        made: resource_pb2.Cart = (await patiently(self._carts.ApplyCoupon, request, self.me)).cart
        return made

    async def withdraw(self, code: str) -> resource_pb2.Cart:
        request = line_pb2.RemoveCouponRequest(code=code, **self.cart)
        made: resource_pb2.Cart = (await patiently(self._carts.RemoveCoupon, request, self.me)).cart
        return made

    async def look(self, *, bare: bool = False) -> resource_pb2.Cart:
        request = cart_pb2.GetCartRequest(bare=bare, **self.cart)
        found: resource_pb2.Cart = (await patiently(self._carts.GetCart, request, self.me)).cart
        return found

    async def merge(self, guest: "Shopper") -> resource_pb2.Cart:
        request = cart_pb2.MergeCartRequest(customer_id=self.customer_id, **guest.cart)
        merged: resource_pb2.Cart = (await patiently(self._carts.MergeCart, request, self.me)).cart
        return merged

    async def check_out(self, order_id: str = "", **rest: Any) -> cart_pb2.CheckoutResponse:
        request = cart_pb2.CheckoutRequest(order_id=order_id or str(uuid4()), **self.cart, **rest)
        made: cart_pb2.CheckoutResponse = await patiently(self._carts.Checkout, request, self.me)
        return made

    async def contents(self) -> dict[str, int]:
        return {line.sku: line.units for line in (await self.look(bare=True)).lines}


async def patiently(rpc: Any, request: Any, metadata: Any) -> Any:
    """As a client calls: what a busy database had no room for is asked again."""
    while True:
        try:
            return await rpc(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if reason(error) != "DATABASE_BUSY":
                raise


async def refusal(doing: Any) -> str:
    """The reason of the refusal; empty: it was done."""
    try:
        await doing
    except grpc.aio.AioRpcError as error:
        return reason(error) or error.code().name
    return ""


@asynccontextmanager
async def world(servers: Shared, clock: Clock | None = None, **environ: str) -> AsyncIterator[World]:
    pricing, stock, orders = Pricing(), Stock(), Orders()
    builds = {
        "cart": partial(build, environ=environ),
        "pricing": pricing.build,
        "inventory": stock.build,
        "order": orders.build,
    }
    async with laboratory(
        builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=clock
    ) as lab:
        yield World(lab, pricing, stock, orders)
