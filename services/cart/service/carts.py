"""weft.cart.v1.CartService."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from services.cart import pack
from services.cart.checkout import Checkouts
from services.cart.domain import token as tokens
from services.cart.domain.cart import Cart, CartIdReused, CartOpen, NoOpenCart, State, UnknownCart, normal
from services.cart.service.access import READ, WRITE, let_in, person
from services.cart.settings import CartSettings
from services.cart.showing import Showing
from services.cart.store import cart as store
from services.chassis.db import Connection
from services.chassis.events import emit
from services.chassis.host import Tools
from services.chassis.method import Call
from services.chassis.money import exponent
from weft.cart.v1 import cart_pb2 as pb, line_pb2 as lines, resource_pb2
from weft.cart.v1.cart_pb2_grpc import CartServiceServicer


class Carts(CartServiceServicer):
    def __init__(self, tools: Tools, showing: Showing, checkouts: Checkouts, settings: CartSettings) -> None:
        self._db, self._clock, self._page_key = tools.db, tools.clock, tools.settings.mesh_key
        self._showing, self._checkouts, self._settings = showing, checkouts, settings

    async def CreateCart(self, request: pb.CreateCartRequest, call: Call) -> pb.CreateCartResponse:
        exponent(request.currency)
        customer_id, now = person(call.caller), self._clock.now()
        token = tokens.new() if customer_id is None else ""
        made = Cart(
            cart_id=UUID(request.cart_id),
            customer_id=customer_id,
            token_sha256=tokens.digest(token) if token else None,
            currency=request.currency,
            country=request.country,
            created_at=now,
            updated_at=now,
            expires_at=now + self._settings.lifetime(customer_id),
        )
        async with self._db.fast() as tx:
            found = await self._there(tx, made)
            if found is None:
                await store.add(tx, made)
                await emit(tx, pack.updated(made))
        return pb.CreateCartResponse(cart=pack.cart(found or made), cart_token=token)

    async def _there(self, tx: Connection, made: Cart) -> Cart | None:
        """The cart that was made before by the same call of a customer. Raises CartIdReused, CartOpen."""
        if made.customer_id is not None:
            await store.one_at_a_time(tx, made.customer_id)
        found = await store.find(tx, made.cart_id)
        if found is not None:
            same = (found.customer_id, found.currency, found.country)
            if made.customer_id is None or same != (made.customer_id, made.currency, made.country):
                raise CartIdReused(cart_id=made.cart_id)
            return found
        if made.customer_id and (other := await store.open_of(tx, made.customer_id)):
            raise CartOpen(cart_id=other.cart_id)
        return None

    async def GetCart(self, request: pb.GetCartRequest, call: Call) -> pb.GetCartResponse:
        cart = await self._found(request, call, READ)
        return pb.GetCartResponse(cart=await self._shown(cart, bare=request.bare))

    async def GetOpenCart(self, request: pb.GetOpenCartRequest, call: Call) -> pb.GetOpenCartResponse:
        cart = await store.open_of(self._db, UUID(request.customer_id))
        if cart is None:
            raise NoOpenCart(customer_id=request.customer_id)
        return pb.GetOpenCartResponse(cart=await self._shown(cart))

    async def ListCarts(self, request: pb.ListCartsRequest, call: Call) -> pb.ListCartsResponse:
        page = store.CARTS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            found, token = await store.page(tx, page)
        return pb.ListCartsResponse(carts=map(pack.cart, found), next_page_token=token)

    async def AddLine(self, request: lines.AddLineRequest, call: Call) -> lines.AddLineResponse:
        await self._priced(request, call)
        now = self._clock.now()
        cart = await self._change(request, call, lambda cart: cart.add(request.sku, request.units, now))
        return lines.AddLineResponse(cart=cart)

    async def ChangeLine(self, request: lines.ChangeLineRequest, call: Call) -> lines.ChangeLineResponse:
        await self._priced(request, call)
        wanted = (request.sku, request.units, request.saved_for_later, self._clock.now())
        cart = await self._change(request, call, lambda cart: cart.set(*wanted))
        return lines.ChangeLineResponse(cart=cart)

    async def RemoveLine(self, request: lines.RemoveLineRequest, call: Call) -> lines.RemoveLineResponse:
        cart = await self._change(request, call, lambda cart: cart.remove(request.sku))
        return lines.RemoveLineResponse(cart=cart)

    async def ApplyCoupon(self, request: lines.ApplyCouponRequest, call: Call) -> lines.ApplyCouponResponse:
        code = normal(request.code)
        cart = await self._change(request, call, lambda cart: bool(code) and cart.apply(code))
        return lines.ApplyCouponResponse(cart=cart)

    async def RemoveCoupon(
        self, request: lines.RemoveCouponRequest, call: Call
    ) -> lines.RemoveCouponResponse:
        cart = await self._change(request, call, lambda cart: cart.withdraw(normal(request.code)))
        return lines.RemoveCouponResponse(cart=cart)

    async def MergeCart(self, request: pb.MergeCartRequest, call: Call) -> pb.MergeCartResponse:
        customer_id = UUID(request.customer_id)
        async with self._db.fast() as tx:
            await store.one_at_a_time(tx, customer_id)
            guest = await store.locked(tx, UUID(request.cart_id))
            into = await _merged(tx, guest, customer_id)
            if into is None:
                if not tokens.opens(request.cart_token, guest.token_sha256):
                    raise UnknownCart(cart_id=guest.cart_id)
                into = await self._merge(tx, guest, customer_id)
        return pb.MergeCartResponse(cart=pack.cart(into))

    async def _merge(self, tx: Connection, guest: Cart, customer_id: UUID) -> Cart:
        """Raises CartClosed, CheckoutUnderWay, CartFull."""
        guest.check_open()
        now, lasts = self._clock.now(), self._settings.lifetime(customer_id)
        own = await store.open_of(tx, customer_id)
        if own is None:
            guest.customer_id, guest.token_sha256, into = customer_id, None, guest
        else:
            into = await store.locked(tx, own.cart_id)
            into.check_open()
            into.take_over(guest, now)
            guest.changed(now, lasts)
            await store.save(tx, guest)
        into.changed(now, lasts)
        await store.save(tx, into)
        await emit(tx, pack.merged(guest, into), pack.updated(into))
        return into

    async def Checkout(self, request: pb.CheckoutRequest, call: Call) -> pb.CheckoutResponse:
        async with self._db.fast() as tx:
            cart = await store.locked(tx, UUID(request.cart_id))
            let_in(call.caller, cart, request.cart_token, WRITE)
            under_way = cart.check_out(UUID(request.order_id), request.version)
            if under_way:
                cart.updated_at = self._clock.now()
                await store.save(tx, cart)
        buyer = cart.customer_id or person(call.caller)
        if not under_way:
            return await self._checkouts.made(cart, buyer)
        return await self._checkouts.order(cart, request, buyer)

    async def _found(self, request: Any, call: Call, permission: str) -> Cart:
        """Raises UnknownCart."""
        cart = await store.find(self._db, UUID(request.cart_id))
        if cart is None:
            raise UnknownCart(cart_id=request.cart_id)
        let_in(call.caller, cart, request.cart_token, permission)
        return cart

    async def _priced(self, request: lines.AddLineRequest | lines.ChangeLineRequest, call: Call) -> None:
        """Nothing, if a line that is new can be sold. Raises what pricing refuses with."""
        cart = await self._found(request, call, WRITE)
        cart.check_open(request.version)
        if request.sku not in cart.lines:
            await self._showing.price(request.sku, cart.currency, cart.customer_id)

    async def _change(self, request: Any, call: Call, change: Callable[[Cart], bool]) -> resource_pb2.Cart:
        """The cart after `change`, which says whether it changed anything."""
        async with self._db.fast() as tx:
            cart = await store.locked(tx, UUID(request.cart_id))
            let_in(call.caller, cart, request.cart_token, WRITE)
            cart.check_open(request.version)
            if change(cart):
                cart.changed(self._clock.now(), self._settings.lifetime(cart.customer_id))
                await store.save(tx, cart)
                await emit(tx, pack.updated(cart))
        return pack.cart(cart)

    async def _shown(self, cart: Cart, *, bare: bool = False) -> resource_pb2.Cart:
        shown = pack.cart(cart)
        if not bare and cart.state in (State.OPEN, State.CHECKING_OUT):
            await self._showing.show(shown)
        return shown


async def _merged(tx: Connection, guest: Cart, customer_id: UUID) -> Cart | None:
    """Where the cart went when it was merged into the customer's before."""
    if guest.customer_id == customer_id:
        return guest
    if guest.merged_into_id is None:
        return None
    into = await store.find(tx, guest.merged_into_id)
    return into if into is not None and into.customer_id == customer_id else None
