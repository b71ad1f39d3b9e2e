"""An order is confirmed with all that belongs to it, or is no more and nothing of it is left."""

import asyncio
from uuid import UUID, uuid4

import pytest

from services.chassis.testing import until
from tests.order.shop import ACT, DECLINE, Shop, refused, standing, wanted
from tests.order.till import captured
from tests.order.world import Out, Thing
from weft.catalog.v1.product_messages_pb2 import PRODUCT_STATE_ARCHIVED
from weft.money.v1.money_pb2 import Money
from weft.order.v1 import order_pb2 as pb
from weft.order.v1.resource_pb2 import Address, Contact
from weft.payment.v1 import intent_pb2 as payment

LONG = "x" * 64
ANN = Contact(name="Ann Example", email="ann@example.com", shipping=Address(city="Bonn", country="DE"))


async def test_an_order_is_confirmed_and_paid_and_its_goods_are_taken(store: Shop) -> None:
    order = await store.order(("wool", 3), ("needle", 1), contact=ANN)
    assert standing(order) == "CONFIRMED"
    assert (order.totals.net.amount_minor, order.totals.gross.amount_minor) == (32_500, 39_000)
    assert order.paid.authorised.amount_minor == 39_000
    assert [line.title for line in order.lines] == ["Merino wool", "Needle"]
    assert order.contact == ANN
    order = await store.becomes(order.order_id, "CONFIRMED")

    async def paid() -> bool:
        return (await store.get(order.order_id)).paid.captured.amount_minor == 39_000 == store.world.charged

    await until(paid)
    assert store.world.stock["wool"] == 999_997
    await until(lambda: _mailed(store))
    assert [each.template for each in store.world.mails] == ["order_confirmed"]
    assert store.world.mails[0].values["lines"] == "Merino wool\t3\nNeedle\t1"
    assert store.world.mails[0].recipient.address == "ann@example.com"
    steps = ["variants", "quote", "reserve", "create intent", "take", "capture", "mail"]
    assert sorted(store.world.calls[:2]) == ["quote", "variants"]
    assert store.world.calls[2:] == steps[2:]


async def _mailed(store: Shop) -> bool:
    return bool(store.world.mails)


async def test_the_same_request_gets_the_same_order_and_another_is_refused(store: Shop) -> None:
    request = wanted(("wool", 1))
    first, second = await asyncio.gather(
        *(store.orders.CreateOrder(request, metadata=store.staff) for _ in range(2))
    )
    assert first.order.order_id == second.order.order_id
    assert (await store.told(request.order_id)).count("OrderCreated") == 1
    request.lines[0].units = 2
    assert await refused(store.orders.CreateOrder(request, metadata=store.staff)) == "ORDER_ID_REUSED"
    assert store.world.stock["wool"] == 999_999


async def test_what_can_be_told_beforehand_is_refused_and_leaves_nothing(store: Shop) -> None:
    store.world.things["old"] = Thing(state=PRODUCT_STATE_ARCHIVED)
    store.world.things[LONG] = Thing()
    cases = {
        "UNKNOWN_SKU": wanted(("nothing", 1)),
        "NOT_FOR_SALE": wanted(("old", 1)),
        "COUPON_REFUSED": wanted(("wool", 1), coupon_codes=["NO"]),
        "PRICE_CHANGED": wanted(("wool", 1), expected_total=Money(amount_minor=11_999, currency="EUR")),
        "PAYMENT_MISSING": wanted(("wool", 1), payment=None),
        "LINE_TWICE": wanted(("wool", 1), ("wool", 1)),
        "MALFORMED": wanted(("wool", 0)),
        "ORDER_TOO_LARGE": wanted(("wool", 1)),
    }
    cases["LINE_TWICE"].lines[1].line_id = "a"
    del cases["ORDER_TOO_LARGE"].lines[:]
    for n in range(500):
        cases["ORDER_TOO_LARGE"].lines.add(line_id=f"{n:064}", sku=LONG, units=1)
    for reason, request in cases.items():
        assert await refused(store.orders.CreateOrder(request, metadata=store.staff)) == reason
        found = store.orders.GetOrder(pb.GetOrderRequest(order_id=request.order_id), metadata=store.staff)
        assert await refused(found) == "UNKNOWN_ORDER"
    assert store.world.held == {}


async def test_the_price_that_was_expected_is_good(store: Shop) -> None:
    order = await store.order(("wool", 1), expected_total=Money(amount_minor=12_000, currency="EUR"))
    assert standing(order) == "CONFIRMED"


@pytest.mark.parametrize("away", ["variants", "quote"])
async def test_while_catalog_or_pricing_is_away_nothing_is_ordered(store: Shop, away: str) -> None:
    async def before(name: str) -> None:
        if name == away:
            raise Out

    store.world.before = before
    assert await refused(store.order(("wool", 1))) == "OUT"


async def test_what_is_out_of_stock_cancels_the_order_and_gives_its_promotion_back(store: Shop) -> None:
    store.world.stock["wool"] = 2
    order = await store.order(("wool", 2), ("wool", 1), coupon_codes=["TEN"])
    assert standing(order) == "CANCELLED"
    assert (order.cancellation.reason, order.cancellation.step) == ("OUT_OF_STOCK", "reserve")
    assert order.cancellation.message == "Of wool 2 are left, 3 are wanted."
    assert store.nothing_left
    assert store.world.stock["wool"] == 2
    assert store.world.calls[-3:] == ["redeem", "reserve", "unredeem"]


async def test_an_exhausted_promotion_cancels_the_order(store: Shop) -> None:
    store.world.redeemable = 1
    orders = [await store.order(("wool", 1), coupon_codes=["TEN"]) for _ in range(2)]
    assert [standing(order) for order in orders] == ["CONFIRMED", "CANCELLED"]
    assert orders[1].cancellation.reason == "PROMOTION_EXHAUSTED"
    assert orders[0].totals.discount.amount_minor == 1_000


async def test_a_declined_payment_gives_the_goods_back(store: Shop) -> None:
    order = await store.order(("wool", 2), token=DECLINE)
    assert standing(order) == "CANCELLED"
    assert (order.cancellation.reason, order.cancellation.step) == ("PAYMENT_DECLINED", "authorise")
    assert order.cancellation.message == "The payment was declined: insufficient_funds"
    assert store.nothing_left
    assert store.world.mails == []


async def test_a_capture_that_is_refused_takes_the_sale_back(store: Shop) -> None:
    store.world.captures_fail = "expired_card"
    order = await store.order(("wool", 2), contact=ANN)
    order = await store.becomes(order.order_id, "CANCELLED")
    assert order.cancellation.step == "capture"
    told = await store.told(order.order_id)
    assert told.index("OrderConfirmed") < told.index("OrderRefunded") < told.index("OrderCancelled")
    assert order.refunds[0].gross.amount_minor == 24_000
    assert order.paid.refunded.amount_minor == 0
    assert store.world.stock["wool"] == 1_000_000
    assert store.nothing_left


async def test_an_order_waits_for_its_customer_to_authenticate(store: Shop) -> None:
    order = await store.order(("wool", 1), token=ACT, contact=ANN)
    assert standing(order) == "AWAITING_PAYMENT"
    assert order.next_action_url == "https://bank.test/authenticate"
    intent = store.world.intents[order.payment_intent_id]
    intent.state, _ = payment.INTENT_STATE_AUTHORISED, intent.authorised.CopyFrom(intent.amount)
    await store.world.announce(captured(intent))
    order = await store.becomes(order.order_id, "CONFIRMED")
    assert order.next_action_url == ""


async def test_an_order_by_bank_transfer_is_confirmed_when_the_money_comes(store: Shop) -> None:
    by_bank = pb.Payment(kind=pb.PAYMENT_KIND_BANK_TRANSFER)
    order = await store.order(("wool", 1), payment=by_bank)
    assert standing(order) == "AWAITING_PAYMENT"
    intent = store.world.intents[order.payment_intent_id]
    assert intent.capture == payment.CAPTURE_MODE_AUTOMATIC
    intent.state = payment.INTENT_STATE_SUCCEEDED
    intent.captured.CopyFrom(intent.amount)
    await store.world.announce(captured(intent))
    order = await store.becomes(order.order_id, "CONFIRMED")
    assert order.paid.captured.amount_minor == 12_000
    assert "capture" not in store.world.calls


async def test_an_order_by_invoice_is_paid_when_the_money_comes(store: Shop) -> None:
    order = await store.order(("wool", 1), payment=pb.Payment(kind=pb.PAYMENT_KIND_INVOICE))
    assert (standing(order), order.paid.captured.amount_minor) == ("CONFIRMED", 0)
    intent = store.world.intents[order.payment_intent_id]
    intent.captured.CopyFrom(intent.amount)
    await store.world.announce(captured(intent))

    async def paid() -> bool:
        return (await store.get(order.order_id)).paid.captured.amount_minor == 12_000

    await until(paid)


async def test_what_is_not_shipped_is_neither_reserved_nor_left_open(store: Shop) -> None:
    order = await store.order(("book", 1))
    await store.becomes(order.order_id, "COMPLETED")
    assert "reserve" not in store.world.calls


async def test_what_costs_nothing_needs_no_payment(store: Shop) -> None:
    store.world.things["book"].price = 0
    order = await store.order(("book", 1), payment=None)
    order = await store.becomes(order.order_id, "COMPLETED")
    assert order.payment_intent_id == ""


async def test_the_last_unit_is_sold_once_to_64_buyers(store: Shop) -> None:
    store.world.stock["wool"] = 1
    orders = await asyncio.gather(*(store.order(("wool", 1)) for _ in range(64)))
    found = [standing(order) for order in orders]
    assert (found.count("CONFIRMED"), found.count("CANCELLED")) == (1, 63)
    winner = orders[found.index("CONFIRMED")]

    async def paid() -> bool:
        return store.world.charged == 12_000

    await until(paid)
    assert store.world.stock["wool"] == 0
    assert (await store.get(winner.order_id)).state == winner.state


async def test_a_neighbour_that_is_away_for_a_while_delays_an_order_and_no_more(store: Shop) -> None:
    away = dict.fromkeys(("reserve", "create intent", "take", "capture", "mail"), 2)

    async def before(name: str) -> None:
        if away.get(name):
            away[name] -= 1
            raise Out

    store.world.before = before
    order = await store.order(("wool", 1), contact=ANN)
    await store.becomes(order.order_id, "CONFIRMED")
    await until(lambda: _mailed(store))
    assert store.world.charged == 12_000


async def test_answers_that_are_lost_change_nothing_twice(store: Shop) -> None:
    lost = {"redeem", "reserve", "create intent", "take", "capture", "mail"}

    async def after(name: str) -> None:
        if name in lost:
            lost.remove(name)
            raise Out

    store.world.after = after
    order = await store.order(("wool", 2), coupon_codes=["TEN"], contact=ANN)
    await store.becomes(order.order_id, "CONFIRMED")
    await until(lambda: _mailed(store))
    assert lost == set()
    assert (store.world.charged, store.world.stock["wool"]) == (21_600, 999_998)
    assert (await store.told(order.order_id)).count("OrderConfirmed") == 1


async def test_customers_see_and_cancel_their_own_orders_and_no_others(store: Shop) -> None:
    ann, bob = str(uuid4()), str(uuid4())
    own = store.lab.bearer(ann, scope="")
    request = wanted(("wool", 1), customer_id=ann)
    order = (await store.orders.CreateOrder(request, metadata=own)).order
    for asked, reason in (
        (pb.GetOrderRequest(order_id=order.order_id, customer_id=bob), "UNKNOWN_ORDER"),
        (pb.GetOrderRequest(order_id=order.order_id), "NOT_PERMITTED"),
    ):
        bobs = store.lab.bearer(bob, scope="")
        assert await refused(store.orders.GetOrder(asked, metadata=bobs)) == reason
    foreign = pb.CancelOrderRequest(order_id=order.order_id, customer_id=bob)
    call = store.orders.CancelOrder(foreign, metadata=store.lab.bearer(bob, scope=""))
    assert await refused(call) == "UNKNOWN_ORDER"
    assert standing(await store.get(order.order_id)) == "CONFIRMED"
    cancel = pb.CancelOrderRequest(order_id=order.order_id, customer_id=ann)
    assert standing((await store.orders.CancelOrder(cancel, metadata=own)).order) == "CANCELLED"


async def test_nothing_personal_is_in_an_event_a_process_or_a_list(store: Shop) -> None:
    order = await store.order(("wool", 1), contact=ANN, token="tok_secret_of_ann")
    await store.becomes(order.order_id, "CONFIRMED")
    db = store.lab.db("order")
    found = await db.fetch("select payload from event where key = $1", order.order_id)
    text = b" ".join(bytes(row["payload"]) for row in found)
    text += (await db.fetchval("select data from saga where saga_id = $1", UUID(order.order_id))).encode()
    for secret in (b"Ann", b"example.com", b"Bonn", b"tok_secret"):
        assert secret not in text
    kept = await db.fetchval("select payment from order_detail where order_id = $1", UUID(order.order_id))
    assert kept is None
