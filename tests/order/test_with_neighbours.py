"""Orders with the real catalog, pricing, tax, inventory, payment and mail: what the fakes promise is so."""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict

from services.billing.app import build as billing
from services.catalog.app import build as catalog
from services.chassis.testing import Lab, laboratory, until
from services.inventory.app import build as inventory
from services.notification.app import build as notification
from services.order.app import build
from services.payment.app import build as payment
from services.pricing.app import build as pricing
from tests.catalog.shop import Shop as CatalogShop, list_price, new_sku, variant
from tests.inventory.warehouse import Warehouse
from tests.order.shop import Shop, refused, standing
from tests.order.world import World
from tests.servers import Shared
from weft.catalog.v1.content_pb2 import TAX_CATEGORY_STANDARD
from weft.inventory.v1.location_pb2 import CreateLocationRequest, LocationSettings
from weft.order.v1.resource_pb2 import Contact
from weft.payment.v1 import intent_pb2, sandbox_pb2
from weft.payment.v1.intent_pb2_grpc import IntentServiceStub
from weft.payment.v1.sandbox_pb2_grpc import SandboxServiceStub
from weft.pricing.v1 import coupon_pb2, promotion_pb2
from weft.pricing.v1.coupon_pb2_grpc import CouponServiceStub
from weft.pricing.v1.promotion_pb2_grpc import PromotionServiceStub

SWIFT = {"ROUND_S": "0.05", "RETRY_FIRST_S": "0.05", "POLL_S": "0.2", "LEASE_S": "2", "CALL_S": "1"}
BUILDS: dict[str, Any] = {
    "catalog": catalog,
    "pricing": pricing,
    "billing": billing,
    "inventory": inventory,
    "payment": partial(payment, environ={f"WEFT_PAYMENT_{name}": value for name, value in SWIFT.items()}),
    "notification": notification,
    "order": build,
}


class Market(Shop):
    """A shop with all that belongs to it."""

    def __init__(self, lab: Lab, warehouse: Warehouse) -> None:
        super().__init__(lab, World())
        self.goods, self.warehouse = CatalogShop.of(lab), warehouse
        self.intents, self.sandbox = IntentServiceStub(lab.channel), SandboxServiceStub(lab.channel)

    async def sell(self, units: int, price: str = "10.00") -> str:
        """A thing at a price without tax, so many of it. Returns its sku."""
        sku = new_sku()
        made = variant(sku, list_price(price), tax_category=TAX_CATEGORY_STANDARD)
        await self.goods.on_sale(made, title="Merino wool")
        if units:
            await self.warehouse.receive(units, sku)
        return sku

    async def intent(self, intent_id: str) -> intent_pb2.Intent:
        request = intent_pb2.GetIntentRequest(intent_id=intent_id)
        found: intent_pb2.Intent = (await self.intents.GetIntent(request, metadata=self.staff)).intent
        return found

    async def captured(self, order_id: str, minor: int) -> None:
        async def there() -> bool:
            found = await self.get(order_id)
            return found.paid.captured.amount_minor - found.paid.refunded.amount_minor == minor

        await until(there)


@pytest.fixture(scope="module")
async def market(servers: Shared) -> AsyncIterator[Market]:
    postgres, nats = servers.postgres(), servers.account()
    async with laboratory(BUILDS, postgres_url=postgres, nats_url=nats) as lab:
        warehouse = Warehouse(lab, str(uuid4()))
        settings = LocationSettings(name="Main", priority=1)
        await warehouse.locations.CreateLocation(
            CreateLocationRequest(location_id=warehouse.location_id, settings=settings),
            metadata=lab.as_service(),
        )
        yield Market(lab, warehouse)


async def test_an_order_is_priced_taxed_reserved_paid_shipped_and_sent_back(market: Market) -> None:
    sku = await market.sell(5)
    contact = Contact(name="Ann", email="ann@example.com")
    order = await market.order((sku, 2), contact=contact, token="pm_card_visa")
    assert standing(order) == "CONFIRMED"
    assert (order.totals.net.amount_minor, order.totals.tax.amount_minor) == (2_000, 380)
    assert (order.lines[0].title, order.lines[0].tax_rate) == ("Merino wool", "19")
    await market.captured(order.order_id, 2_380)
    assert await market.warehouse.counters(sku) == (3, 0, 3)
    await market.ship(order.order_id)
    back = await market.return_(order.order_id, a=1)
    assert back.value.amount_minor == 1_190
    await market.captured(order.order_id, 1_190)
    assert (await market.intent(order.payment_intent_id)).refunded.amount_minor == 1_190
    assert await market.warehouse.counters(sku) == (4, 0, 4)
    mails = "select template from message order by create_time"
    rows = await market.lab.db("notification").fetch(mails)
    assert [row["template"] for row in rows] == ["order_confirmed", "order_shipped"]


async def test_a_cancelled_order_leaves_stock_and_money_as_they_were(market: Market) -> None:
    sku = await market.sell(5)
    order = await market.order((sku, 2), token="pm_card_visa")
    await market.captured(order.order_id, 2_380)
    assert standing(await market.cancel(order.order_id)) == "CANCELLED"
    intent = await market.intent(order.payment_intent_id)
    assert intent.refunded.amount_minor == intent.captured.amount_minor == 2_380
    assert await market.warehouse.counters(sku) == (5, 0, 5)
    held = await market.order((sku, 1), token="pm_card_visa", auto_capture=False)
    await market.cancel(held.order_id)
    assert (await market.intent(held.payment_intent_id)).state == intent_pb2.INTENT_STATE_CANCELLED
    assert await market.warehouse.counters(sku) == (5, 0, 5)


async def test_a_declined_card_leaves_nothing_held(market: Market) -> None:
    sku = await market.sell(1)
    order = await market.order((sku, 1), token="pm_card_chargeDeclinedInsufficientFunds")
    assert standing(order) == "CANCELLED"
    assert order.cancellation.message == "The payment was declined: insufficient_funds"
    assert await market.warehouse.counters(sku) == (1, 0, 1)


async def test_a_customer_authenticates_and_the_order_is_confirmed(market: Market) -> None:
    sku = await market.sell(1)
    order = await market.order((sku, 1), token="pm_card_authenticationRequired")
    assert standing(order) == "AWAITING_PAYMENT"
    found = re.search("sandbox_[0-9a-f]{32}", order.next_action_url)
    assert found
    form = HttpBody(data=b"outcome=success")
    request = sandbox_pb2.CompleteAuthenticationRequest(payment_ref=found[0], form=form)
    await market.sandbox.CompleteAuthentication(request, metadata=market.staff)
    await market.becomes(order.order_id, "CONFIRMED")
    await market.captured(order.order_id, 1_190)


async def test_shipments_capture_their_parts(market: Market) -> None:
    sku = await market.sell(3)
    order = await market.order((sku, 3), token="pm_card_visa", auto_capture=False)
    for units, captured in ((1, 1_190), (2, 3_570)):
        await market.ship(order.order_id, a=units)
        await market.captured(order.order_id, captured)
    assert (await market.intent(order.payment_intent_id)).state == intent_pb2.INTENT_STATE_SUCCEEDED


async def test_a_coupon_that_is_used_up_cancels_what_comes_after(market: Market) -> None:
    sku, promotion_id, code = await market.sell(5), str(uuid4()), f"TEN{uuid4().hex[:8].upper()}"
    promotions, coupons = PromotionServiceStub(market.lab.channel), CouponServiceStub(market.lab.channel)
    request = promotion_pb2.CreatePromotionRequest(promotion_id=promotion_id)
    limited = {"percentage": {"percent": "10"}, "limits": {"usesMax": "1"}, "couponNeeded": True}
    ParseDict({"name": "ten off", **limited}, request.settings)
    await promotions.CreatePromotion(request, metadata=market.staff)
    activate = promotion_pb2.ActivatePromotionRequest(promotion_id=promotion_id)
    await promotions.ActivatePromotion(activate, metadata=market.staff)
    coupon = coupon_pb2.CreateCouponRequest(promotion_id=promotion_id, code=code)
    await coupons.CreateCoupon(coupon, metadata=market.staff)
    both = await asyncio.gather(
        *(market.order((sku, 1), coupon_codes=[code], token="pm_card_visa") for _ in range(2)),
        return_exceptions=True,
    )
    orders = [each for each in both if not isinstance(each, BaseException)]
    confirmed = [each for each in orders if standing(each) == "CONFIRMED"]
    assert [each.totals.discount.amount_minor for each in confirmed] == [100]
    on_hand, reserved, _ = await market.warehouse.counters(sku)
    assert (on_hand, reserved) == (4, 0)
    await market.cancel(confirmed[0].order_id)
    again = await market.order((sku, 1), coupon_codes=[code], token="pm_card_visa")
    assert standing(again) == "CONFIRMED"


async def test_the_last_unit_is_sold_once(market: Market) -> None:
    sku = await market.sell(1)
    orders = await asyncio.gather(*(market.order((sku, 1), token="pm_card_visa") for _ in range(24)))
    found = [standing(order) for order in orders]
    assert (found.count("CONFIRMED"), found.count("CANCELLED")) == (1, 23)
    reasons = {order.cancellation.reason for order in orders if standing(order) == "CANCELLED"}
    assert reasons == {"OUT_OF_STOCK"}
    assert await market.warehouse.counters(sku) == (0, 0, 0)


async def test_what_lay_far_away_comes_back_there_or_where_it_is_said(market: Market) -> None:
    far, sku = str(uuid4()), await market.sell(0)
    settings = LocationSettings(name="Far", priority=9)
    as_order = market.lab.as_service()
    await market.warehouse.locations.CreateLocation(
        CreateLocationRequest(location_id=far, settings=settings), metadata=as_order
    )
    await Warehouse(market.lab, far).receive(3, sku)
    order = await market.order((sku, 3))
    await market.captured(order.order_id, order.totals.gross.amount_minor)
    await market.ship(order.order_id)
    await market.return_(order.order_id, a=1)
    assert await Warehouse(market.lab, far).counters(sku) == (1, 0, 1)
    back = await market.ask_back(order.order_id, a=2)
    await market.approve(back)
    assert await refused(market.receive(back, location_id=str(uuid4()))) == "UNKNOWN_LOCATION"
    await market.receive(back, location_id=market.warehouse.location_id)
    assert await market.warehouse.counters(sku) == (2, 0, 2)
