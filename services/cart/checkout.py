"""Makes one order of one cart, whoever asks how often, and whatever is killed meanwhile.

The cart is closed for one order's id before the order service is asked, and is an order, or open again, after
its answer. Where no answer came, the order service is asked again later what became of that id.
"""

import logging
from datetime import timedelta
from uuid import UUID

from google.rpc import code_pb2

from services.cart import pack
from services.cart.domain.cart import Cart, State, leftover_id
from services.cart.settings import CartSettings
from services.cart.store import cart as store
from services.chassis.clock import Clock
from services.chassis.db import Connection, Database
from services.chassis.errors import CallFailed, Relayed
from services.chassis.events import emit
from services.chassis.mesh import Mesh
from weft.cart.v1.cart_pb2 import CheckoutRequest, CheckoutResponse
from weft.order.v1 import order_pb2 as pb, resource_pb2 as orders
from weft.order.v1.order_pb2_grpc import OrderServiceStub

LOOK_EVERY_S = 30.0
BATCH_MAX = 100  # Carts of one look.
ANSWER_S_MAX = 25.0  # The longest wait of a caller, with room.

# With these nothing was made: the cart can be open again.
REFUSED = frozenset(
    {
        code_pb2.INVALID_ARGUMENT,
        code_pb2.NOT_FOUND,
        code_pb2.FAILED_PRECONDITION,
        code_pb2.PERMISSION_DENIED,
        code_pb2.UNAUTHENTICATED,
        code_pb2.OUT_OF_RANGE,
        code_pb2.UNIMPLEMENTED,
    }
)
LOST = frozenset({orders.ORDER_STATE_CANCELLING, orders.ORDER_STATE_CANCELLED})

log = logging.getLogger("weft.cart")


class Checkouts:
    """Talks with the order service."""

    def __init__(self, db: Database, mesh: Mesh, clock: Clock, settings: CartSettings) -> None:
        self._db, self._clock, self._settings = db, clock, settings
        self._orders = OrderServiceStub(mesh)

    async def order(self, cart: Cart, request: CheckoutRequest, buyer: UUID | None) -> CheckoutResponse:
        """Of a cart that is closed for `request.order_id`. Raises what the order service refuses with."""
        try:
            answer = await self._orders.CreateOrder(_order(cart, request, buyer), timeout=ANSWER_S_MAX)
            made: orders.Order | None = answer.order
        except CallFailed as failed:
            made = await self._made(cart) if failed.code == code_pb2.ALREADY_EXISTS else None
            if made is None:
                if failed.code in REFUSED or failed.code == code_pb2.ALREADY_EXISTS:
                    await self._settle(cart, None)
                raise Relayed(failed) from failed
        assert made is not None
        return await self._settle(cart, made)

    async def made(self, cart: Cart, buyer: UUID | None) -> CheckoutResponse:
        """Of a cart that is an order already."""
        request = pb.GetOrderRequest(order_id=str(cart.order_id), customer_id=str(buyer or ""))
        try:
            answer = await self._orders.GetOrder(request)
        except CallFailed as failed:
            raise Relayed(failed) from failed
        return CheckoutResponse(order=answer.order, next_cart_id=await self._next(cart))

    async def run(self) -> None:
        """For ever: looks into checkouts whose outcome nobody heard."""
        while True:
            await self.round()
            await self._clock.sleep(LOOK_EVERY_S)

    async def round(self) -> None:
        since = self._clock.now() - timedelta(seconds=self._settings.hanging_s)
        for cart_id in await store.hanging(self._db, since, BATCH_MAX):
            cart = await store.find(self._db, cart_id)
            if cart is None or cart.state is not State.CHECKING_OUT:
                continue
            try:
                await self._settle(cart, await self._made(cart))
            except CallFailed as failed:
                log.warning("a checkout hangs on: %s", failed)

    async def _made(self, cart: Cart) -> orders.Order | None:
        """The order, if there is one and it is this cart's. Raises CallFailed when nobody can say."""
        try:
            request = pb.GetOrderRequest(order_id=str(cart.order_id))
            answer = await self._orders.GetOrder(request)
        except CallFailed as failed:
            if failed.code != code_pb2.NOT_FOUND:
                raise
            return None
        return answer.order if answer.order.cart_id == str(cart.cart_id) else None

    async def _settle(self, cart: Cart, order: orders.Order | None) -> CheckoutResponse:
        """The cart is the order, or open again when there is none or it is lost."""
        async with self._db.fast() as tx:
            found = await store.locked(tx, cart.cart_id)
            if found.state is State.CHECKING_OUT and found.order_id == cart.order_id:
                found.changed(self._clock.now(), self._settings.lifetime(found.customer_id))
                if order is None or order.state in LOST:
                    found.reopen()
                    await store.save(tx, found)
                    await emit(tx, pack.updated(found))
                else:
                    await self._close(tx, found)
        return CheckoutResponse(order=order, next_cart_id=await self._next(cart))

    async def _close(self, tx: Connection, cart: Cart) -> None:
        """What was saved for later goes into another cart."""
        cart.state = State.CHECKED_OUT
        await store.save(tx, cart)
        await emit(tx, pack.checked_out(cart))
        lasts = self._settings.lifetime(cart.customer_id)
        rest = cart.leftover(self._clock.now(), lasts)
        if rest is not None and await store.add(tx, rest):
            await emit(tx, pack.updated(rest))

    async def _next(self, cart: Cart) -> str:
        next_id = leftover_id(cart.cart_id)
        return str(next_id) if await store.find(self._db, next_id) else ""


def _order(cart: Cart, request: CheckoutRequest, buyer: UUID | None) -> pb.CreateOrderRequest:
    made = pb.CreateOrderRequest(
        order_id=request.order_id,
        customer_id=str(buyer or ""),
        currency=cart.currency,
        coupon_codes=cart.coupon_codes,
        country=cart.country,
        cart_id=str(cart.cart_id),
    )
    for n, line in enumerate(cart.wanted, 1):
        made.lines.add(line_id=str(n), sku=line.sku, units=line.units)
    for name in ("expected_total", "payment", "contact", "wait"):
        if request.HasField(name):
            getattr(made, name).CopyFrom(getattr(request, name))
    if request.HasField("auto_capture"):
        made.auto_capture = request.auto_capture
    return made
