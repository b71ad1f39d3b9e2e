"""What somebody who buys does: first as a guest by gRPC, then as a customer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

from scripts.journey import Journey, StepFailed, soon, tell
from scripts.shop.staff import COUNTRY, CURRENCY
from weft.cart.v1 import cart_pb2, line_pb2
from weft.cart.v1.cart_pb2_grpc import CartServiceStub
from weft.order.v1 import order_lists_pb2, order_pb2, resource_pb2, return_pb2
from weft.order.v1.order_pb2_grpc import OrderServiceStub
from weft.order.v1.return_pb2_grpc import ReturnServiceStub

CARD = "pm_card_visa"  # A card of the sandbox that works.


class Buyer:
    """One person, one cart, one order."""

    def __init__(self, person: Journey) -> None:
        self.person = person
        self._carts: Any = CartServiceStub(person.channel)
        self._orders: Any = OrderServiceStub(person.channel)
        self._returns: Any = ReturnServiceStub(person.channel)
        self._cart_id, self._token = str(uuid4()), ""
        self.order_id = str(uuid4())
        self.events: list[str] = []  # What the live stream told of the order.

    async def fill(self, sku: str, units: int, code: str) -> Any:
        """A guest's cart with goods and a coupon; the cart as it is priced."""
        wanted = cart_pb2.CreateCartRequest(cart_id=self._cart_id, currency=CURRENCY, country=COUNTRY)
        self._token = (await self._carts.CreateCart(wanted)).cart_token
        mine = {"cart_id": self._cart_id, "cart_token": self._token}
        await self._carts.AddLine(line_pb2.AddLineRequest(**mine, sku=sku, units=units))
        await self._carts.ApplyCoupon(line_pb2.ApplyCouponRequest(**mine, code=code))
        return (await self._carts.GetCart(cart_pb2.GetCartRequest(**mine))).cart

    async def merge(self) -> int:
        """The guest's cart becomes the customer's; units in it."""
        request = cart_pb2.MergeCartRequest(
            cart_id=self._cart_id, cart_token=self._token, customer_id=self.person.user_id
        )
        cart = (await self._carts.MergeCart(request, metadata=self.person.bearer)).cart
        self._cart_id, self._token = cart.cart_id, ""
        return sum(line.units for line in cart.lines)

    async def check_out(self, total: Any) -> Any:
        """The order, confirmed and paid for by a card of the sandbox."""
        address = resource_pb2.Address(
            street=["Lange Gasse 1"], city="Nürnberg", postal_code="90402", country=COUNTRY
        )
        request = cart_pb2.CheckoutRequest(
            cart_id=self._cart_id,
            order_id=self.order_id,
            expected_total=total,
            payment=order_pb2.Payment(token=CARD),
            contact=resource_pb2.Contact(
                name=self.person.display_name, email=self.person.email, shipping=address
            ),
        )
        order = (await self._carts.Checkout(request, metadata=self.person.bearer)).order
        if order.state == resource_pb2.ORDER_STATE_CANCELLED:
            raise StepFailed(f"the order was cancelled: {order.cancellation.reason}")
        return await self.paid(order.totals.gross.amount_minor)

    async def order(self) -> Any:
        request = order_pb2.GetOrderRequest(order_id=self.order_id, customer_id=self.person.user_id)
        return (await self._orders.GetOrder(request, metadata=self.person.bearer)).order

    async def paid(self, minor: int) -> Any:
        """The order, once so much is captured."""

        async def there() -> Any:
            found = await self.order()
            return found if found.paid.captured.amount_minor == minor else None

        return await soon(there)

    async def refunded(self) -> Any:
        """The order, once something is refunded."""

        async def there() -> Any:
            found = await self.order()
            return found if found.paid.refunded.amount_minor else None

        return await soon(there)

    async def send_back(self, units: int) -> str:
        request = return_pb2.RequestReturnRequest(
            order_id=self.order_id,
            return_id=str(uuid4()),
            customer_id=self.person.user_id,
            lines=[resource_pb2.LineUnits(line_id="1", units=units)],
            reason="TOO_WARM",
        )
        await self._returns.RequestReturn(request, metadata=self.person.bearer)
        return str(request.return_id)

    async def subjects(self, count: int) -> list[str]:
        """Of the mails that came, first things first."""

        async def came() -> Any:
            answer = await self.person.rest.get("/v1/mailbox", params={"recipient": self.person.email})
            found = answer.json().get("mail", [])
            return found if len(found) >= count else None

        return [str(mail["subject"]) for mail in reversed(await soon(came))]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Tells what happens to the order as it happens, by a gRPC stream, while the block runs."""
        request = order_lists_pb2.WatchOrdersRequest(customer_id=self.person.user_id)
        stream = self._orders.WatchOrders(request, metadata=self.person.bearer)
        await stream.initial_metadata()  # Nothing that happens from here on is missed.
        task = asyncio.create_task(self._watch(stream))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self, stream: Any) -> None:
        async for told in stream:
            if told.event:
                self.events.append(told.event)
                tell(f"    live: {told.event}{_state(told)}")

    async def heard(self, event: str) -> None:
        """Waits until the stream has told of it."""

        async def there() -> Any:
            return event in self.events

        await soon(there)


def _state(told: Any) -> str:
    """Behind a comma, where the order stands after an event that says so."""
    if not told.state:
        return ""
    return ", " + resource_pb2.OrderState.Name(told.state).removeprefix("ORDER_STATE_").lower().replace(
        "_", " "
    )
