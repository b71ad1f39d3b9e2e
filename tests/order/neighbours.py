"""Stands for what order asks: catalog, pricing, inventory, payment, notification.

They keep what came to be, however often they are asked; a test says what is refused, away or lost.
`tests/order/test_with_neighbours.py` runs the same story with the real ones.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.host import Parts, Tools
from services.chassis.method import Call
from tests.order.till import till
from tests.order.world import Part, World
from weft.catalog.v1 import product_messages_pb2 as catalog
from weft.catalog.v1.product_pb2_grpc import ProductServiceServicer, add_ProductServiceServicer_to_server
from weft.inventory.v1 import location_pb2, reservation_pb2 as inventory, stock_pb2 as stock
from weft.inventory.v1.location_pb2_grpc import (
    LocationServiceServicer,
    add_LocationServiceServicer_to_server,
)
from weft.inventory.v1.reservation_pb2_grpc import (
    ReservationServiceServicer,
    add_ReservationServiceServicer_to_server,
)
from weft.inventory.v1.stock_pb2_grpc import StockServiceServicer, add_StockServiceServicer_to_server
from weft.money.v1.money_pb2 import Money, UnitPrice
from weft.notification.v1 import notification_pb2 as mail
from weft.notification.v1.notification_pb2_grpc import (
    NotificationServiceServicer,
    add_NotificationServiceServicer_to_server,
)
from weft.pricing.v1 import quote_pb2 as pricing, redemption_pb2 as redemption
from weft.pricing.v1.quote_pb2_grpc import QuoteServiceServicer, add_QuoteServiceServicer_to_server
from weft.pricing.v1.redemption_pb2_grpc import (
    RedemptionServiceServicer,
    add_RedemptionServiceServicer_to_server,
)

RATE = 20  # Percent; prices are net.


class UnknownSku(NotFound):
    """Nothing is called {sku}."""


class CouponRefused(FailedPrecondition):
    """The coupon {code} cannot be used: {why}."""


class PromotionExhausted(FailedPrecondition):
    """Nobody can use it any more."""


class OutOfStock(FailedPrecondition):
    """Of {sku} {available} are left, {wanted} are wanted."""


class UnknownReservation(NotFound):
    """There is no reservation {reservation_id}."""


class UnknownLocation(NotFound):
    """There is no location {location_id}."""


class ReservationNotHeld(FailedPrecondition):
    """Nothing is held."""


def build_of(world: World) -> Callable[[Tools], Parts]:
    """All of them as one service."""

    def build(tools: Tools) -> Parts:
        world.db = tools.db
        made = {
            add_ProductServiceServicer_to_server: Products(world),
            add_QuoteServiceServicer_to_server: Quotes(world),
            add_RedemptionServiceServicer_to_server: Redemptions(world),
            add_ReservationServiceServicer_to_server: Reservations(world),
            add_StockServiceServicer_to_server: Stock(world),
            add_LocationServiceServicer_to_server: Locations(world),
            **till(world),
            add_NotificationServiceServicer_to_server: Mails(world),
        }
        return Parts(servicers=made)

    return build


class Products(Part, ProductServiceServicer):
    async def BatchGetVariants(self, request: Any, call: Call) -> Any:
        def look() -> Any:
            known = ((sku, self.world.things[sku]) for sku in request.skus if sku in self.world.things)
            variants = [
                catalog.Variant(sku=sku, title=each.title, state=each.state, shippable=each.shippable)  # type: ignore[arg-type]
                for sku, each in known
            ]
            return catalog.BatchGetVariantsResponse(variants=variants)

        return await self._around("variants", look)


class Quotes(Part, QuoteServiceServicer):
    async def Quote(self, request: Any, call: Call) -> Any:
        return await self._around("quote", lambda: pricing.QuoteResponse(quote=self._quote(request)))

    def _quote(self, request: pricing.QuoteRequest) -> pricing.Quote:
        currency, percent = request.currency, 0
        for code in request.coupon_codes:
            if code not in self.world.coupons:
                raise CouponRefused(code=code, why="unknown")
            percent += self.world.coupons[code]
        quote = pricing.Quote(quote_id="00000000-0000-4000-8000-000000000001", currency=currency)
        quote.country = request.country
        for line in request.lines:
            if line.sku not in self.world.things:
                raise UnknownSku(sku=line.sku)
            quote.lines.append(self._line(line, percent, currency))
        for name in ("net", "tax", "gross"):
            total = sum(getattr(line, name).amount_minor for line in quote.lines)
            getattr(quote, f"{name}_total").CopyFrom(Money(amount_minor=total, currency=currency))
        if percent:
            quote.discounts.add(promotion_id="p")
        return quote

    def _line(self, line: pricing.LineToQuote, percent: int, currency: str) -> pricing.QuotedLine:
        price = self.world.things[line.sku].price
        base = price * line.units
        off = base * percent // 100
        net = base - off
        tax = net * RATE // 100
        made = pricing.QuotedLine(
            line_id=line.line_id,
            sku=line.sku,
            units=line.units,
            unit_price=UnitPrice(amount=f"{price // 100}.{price % 100:02}", currency=currency),
            base=Money(amount_minor=base, currency=currency),
            net=Money(amount_minor=net, currency=currency),
            tax=Money(amount_minor=tax, currency=currency),
            gross=Money(amount_minor=net + tax, currency=currency),
            tax_rate=str(RATE),
            tax_category="standard",
        )
        if off:
            made.discounts.add(promotion_id="p", amount=Money(amount_minor=off, currency=currency))
        return made


class Redemptions(Part, RedemptionServiceServicer):
    async def Redeem(self, request: Any, call: Call) -> Any:
        def redeem() -> Any:
            if request.redemption_id not in self.world.redeemed:
                if sum(self.world.redeemed.values()) >= self.world.redeemable:
                    raise PromotionExhausted
                self.world.redeemed[request.redemption_id] = True
            return redemption.RedeemResponse()

        return await self._around("redeem", redeem)

    async def Release(self, request: Any, call: Call) -> Any:
        def release() -> Any:
            self.world.redeemed[request.redemption_id] = False
            return redemption.ReleaseResponse()

        return await self._around("unredeem", release)


class Reservations(Part, ReservationServiceServicer):
    async def Reserve(self, request: Any, call: Call) -> Any:
        def reserve() -> Any:
            held = self.world.held.get(request.reservation_id)
            if held is None:
                wanted = Counter[str]()
                for line in request.lines:
                    wanted[line.sku] += line.units
                for sku, units in wanted.items():
                    if self.world.stock[sku] < units:
                        raise OutOfStock(sku=sku, available=self.world.stock[sku], wanted=units)
                held = inventory.Reservation(state=inventory.RESERVATION_STATE_HELD)
                for sku, units in wanted.items():
                    self.world.stock[sku] -= units
                    held.lines.add(sku=sku, units=units, held=units, location_id=LOCATION)
                self.world.held[request.reservation_id] = held
            if held.state == inventory.RESERVATION_STATE_RELEASED:
                raise ReservationNotHeld
            return inventory.ReserveResponse(reservation=held)

        return await self._around("reserve", reserve)

    async def Commit(self, request: Any, call: Call) -> Any:
        def commit() -> Any:
            held = self.world.held[request.reservation_id]
            if held.state == inventory.RESERVATION_STATE_RELEASED:
                raise ReservationNotHeld
            held.state = inventory.RESERVATION_STATE_COMMITTED
            for line in held.lines:
                line.held, line.committed = 0, line.units
            return inventory.CommitResponse(reservation=held)

        return await self._around("take", commit)

    async def Release(self, request: Any, call: Call) -> Any:
        def release() -> Any:
            released = inventory.Reservation(state=inventory.RESERVATION_STATE_RELEASED)
            held = self.world.held.setdefault(request.reservation_id, released)
            if held.state == inventory.RESERVATION_STATE_COMMITTED:
                raise ReservationNotHeld
            held.state = inventory.RESERVATION_STATE_RELEASED
            for line in held.lines:
                self.world.stock[line.sku] += line.held
                line.held = 0
            return inventory.ReleaseResponse(reservation=held)

        return await self._around("release", release)

    async def GetReservation(self, request: Any, call: Call) -> Any:
        held = self.world.held.get(request.reservation_id)
        if held is None:
            raise UnknownReservation(reservation_id=request.reservation_id)
        return inventory.GetReservationResponse(reservation=held)


LOCATION, FAR = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"


class Locations(Part, LocationServiceServicer):
    async def GetLocation(self, request: Any, call: Call) -> Any:
        if request.location_id not in (LOCATION, FAR):
            raise UnknownLocation(location_id=request.location_id)
        return location_pb2.GetLocationResponse()


class Stock(Part, StockServiceServicer):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._receipts: set[str] = set()

    async def ReceiveStock(self, request: Any, call: Call) -> Any:
        def receive() -> Any:
            if request.receipt_id not in self._receipts:
                self._receipts.add(request.receipt_id)
                for line in request.lines:
                    self.world.stock[line.sku] += line.units
                    self.world.received.append((request.location_id, line.sku, line.units))
            return stock.ReceiveStockResponse()

        return await self._around("receive", receive)


class Mails(Part, NotificationServiceServicer):
    async def SendMessage(self, request: Any, call: Call) -> Any:
        def send() -> Any:
            if request.message_id not in [each.message_id for each in self.world.mails]:
                self.world.mails.append(request)
            return mail.SendMessageResponse()

        return await self._around("mail", send)
