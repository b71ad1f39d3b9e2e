"""A cart becomes one order, however many ask, and is open again when it does not."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import grpc.aio
import pytest

from services.cart.checkout import Checkouts
from services.cart.settings import CartSettings
from services.chassis.clock import FakeClock
from services.chassis.testing import reason, until
from tests.cart.world import (
    CANCELLED,
    CHECKED_OUT,
    CHECKING_OUT,
    CONFIRMED,
    OPEN,
    Shopper,
    World,
    refusal,
    world,
)
from tests.servers import Shared
from weft.money.v1.money_pb2 import Money
from weft.order.v1.order_pb2 import Payment
from weft.order.v1.resource_pb2 import Contact


async def state(shopper: Shopper) -> int:
    return int((await shopper.look(bare=True)).state)


async def test_a_cart_becomes_an_order_with_all_that_was_said(shop: World) -> None:
    ann = await shop.customer().open("A", "B#1")
    await ann.change("A", 3)
    await ann.apply("ten")
    order_id = str(uuid4())
    answer = await ann.check_out(
        order_id,
        expected_total=Money(amount_minor=4000, currency="EUR"),
        payment=Payment(token="tok_visa"),
        contact=Contact(name="Ann"),
        auto_capture=False,
    )
    assert (answer.order.state, answer.next_cart_id) == (CONFIRMED, "")
    asked = shop.orders.requests[-1]
    assert [(line.line_id, line.sku, line.units) for line in asked.lines] == [("1", "A", 3), ("2", "B#1", 1)]
    assert (asked.order_id, asked.customer_id, asked.cart_id) == (order_id, ann.customer_id, ann.cart_id)
    assert (asked.currency, asked.country, list(asked.coupon_codes)) == ("EUR", "DE", ["TEN"])
    assert (asked.payment.token, asked.contact.name, asked.auto_capture) == ("tok_visa", "Ann", False)
    assert asked.expected_total.amount_minor == 4000
    cart = await ann.look()
    assert (cart.state, cart.order_id) == (CHECKED_OUT, order_id)
    assert await refusal(ann.add("A")) == "CART_CLOSED"


@pytest.mark.parametrize("owner", ["guest", "customer"])
async def test_sixty_four_checkouts_of_one_cart_are_one_order(shop: World, owner: str) -> None:
    shopper = await getattr(shop, owner)().open("A")
    ends = await asyncio.gather(*(refusal(shopper.check_out()) for _ in range(64)))
    assert ends.count("") == 1
    assert set(ends) <= {"", "CHECKOUT_UNDER_WAY", "CART_CLOSED"}
    assert sum(order.cart_id == shopper.cart_id for order in shop.orders.made.values()) == 1


async def test_sixty_four_checkouts_by_one_order_id_are_that_order(shop: World) -> None:
    ann, order_id = await shop.customer().open("A"), str(uuid4())
    answers = await asyncio.gather(*(ann.check_out(order_id) for _ in range(64)))
    assert {answer.order.order_id for answer in answers} == {order_id}
    asked = len(shop.orders.requests)
    assert (await ann.check_out(order_id)).order.order_id == order_id
    assert len(shop.orders.requests) == asked, "it is asked for, and not made again"
    assert await refusal(ann.check_out()) == "CART_CLOSED"


async def test_an_order_that_is_refused_leaves_the_cart_open(shop: World) -> None:
    guest = await shop.guest().open("A")
    shop.orders.ends = "refused"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await guest.check_out()
    assert reason(error.value) == "PRICE_CHANGED"
    assert await state(guest) == OPEN
    shop.orders.ends = "confirmed"
    assert (await guest.check_out()).order.state == CONFIRMED


async def test_an_order_that_is_cancelled_leaves_the_cart_open_for_another(shop: World) -> None:
    guest, order_id = await shop.guest().open("A"), str(uuid4())
    shop.orders.ends = "cancelled"
    assert (await guest.check_out(order_id)).order.state == CANCELLED
    assert await state(guest) == OPEN
    assert (await guest.check_out(order_id)).order.state == CANCELLED
    shop.orders.ends = "confirmed"
    assert (await guest.check_out()).order.state == CONFIRMED


async def test_a_checkout_that_nobody_answered_goes_on_with_the_same_order(shop: World) -> None:
    guest, order_id = await shop.guest().open("A"), str(uuid4())
    shop.orders.ends = "lost"
    assert await refusal(guest.check_out(order_id)) == "AWAY"
    assert await state(guest) == CHECKING_OUT
    assert await refusal(guest.add("A")) == "CHECKOUT_UNDER_WAY"
    assert await refusal(guest.check_out()) == "CHECKOUT_UNDER_WAY"
    shop.orders.ends = "confirmed"
    assert (await guest.check_out(order_id)).order.order_id == order_id
    assert await state(guest) == CHECKED_OUT
    assert len([order for order in shop.orders.made.values() if order.cart_id == guest.cart_id]) == 1


async def test_an_answer_that_comes_late_leaves_alone_what_became_of_the_cart_since(shop: World) -> None:
    guest, first, second, gate = await shop.guest().open("A"), str(uuid4()), str(uuid4()), asyncio.Event()
    shop.orders.ends = "cancelled"
    shop.orders.gates = [gate]
    late = asyncio.create_task(guest.check_out(first))
    await until(lambda: _asked(shop, first))
    assert (await guest.check_out(first)).order.state == CANCELLED
    shop.orders.ends = "confirmed"
    await guest.check_out(second)
    gate.set()
    assert (await late).order.state == CANCELLED
    cart = await guest.look()
    assert (cart.state, cart.order_id) == (CHECKED_OUT, second)


async def _asked(shop: World, order_id: str) -> bool:
    return any(request.order_id == order_id for request in shop.orders.requests)


async def test_an_order_that_is_there_is_the_carts_though_it_was_asked_for_otherwise(shop: World) -> None:
    guest, order_id = await shop.guest().open("A"), str(uuid4())
    shop.orders.ends = "lost"
    await refusal(guest.check_out(order_id, payment=Payment(token="tok_first")))
    shop.orders.ends = "confirmed"
    answer = await guest.check_out(order_id, payment=Payment(token="tok_second"))
    assert answer.order.order_id == order_id
    assert await state(guest) == CHECKED_OUT


async def test_an_order_id_of_another_cart_is_refused_and_leaves_the_cart_open(shop: World) -> None:
    first, second, order_id = await shop.guest().open("A"), await shop.guest().open("A"), str(uuid4())
    await first.check_out(order_id)
    assert await refusal(second.check_out(order_id)) == "ORDER_ID_REUSED"
    assert await state(second) == OPEN


async def test_checkouts_that_hang_are_looked_into(servers: Shared) -> None:
    clock = FakeClock(datetime(2026, 11, 20, tzinfo=UTC))
    async with world(servers, clock) as shop:
        lost, deaf = await shop.guest().open("A"), await shop.guest().open("A")
        shop.orders.ends = "lost"
        await refusal(lost.check_out())
        shop.orders.ends = "deaf"
        await refusal(deaf.check_out())
        tools = shop.lab.hosted.tools["cart"]
        checkouts = Checkouts(tools.db, tools.mesh, clock, CartSettings())
        await checkouts.round()
        assert [await state(lost), await state(deaf)] == [CHECKING_OUT, CHECKING_OUT], "it is too early"
        clock.advance(121)
        shop.orders.away = True
        await checkouts.round()
        assert [await state(lost), await state(deaf)] == [CHECKING_OUT, CHECKING_OUT]
        shop.orders.away = False
        await checkouts.round()
        assert [await state(lost), await state(deaf)] == [CHECKED_OUT, OPEN]


async def test_what_is_saved_for_later_goes_into_another_cart(shop: World) -> None:
    for shopper in (await shop.guest().open("A", "B"), await shop.customer().open("A", "B")):
        await shopper.change("B", 2, saved=True)
        order_id = str(uuid4())
        answer = await shopper.check_out(order_id)
        assert [line.sku for line in shop.orders.requests[-1].lines] == ["A"]
        assert (await shopper.check_out(order_id)).next_cart_id == answer.next_cart_id
        shopper.cart_id = answer.next_cart_id
        cart = await shopper.look(bare=True)
        assert [(line.sku, line.units, line.saved_for_later) for line in cart.lines] == [("B", 2, True)]
        assert cart.state == OPEN


async def test_nothing_to_buy_is_no_order(shop: World) -> None:
    guest = await shop.guest().open("A")
    await guest.change("A", 1, saved=True)
    assert await refusal(guest.check_out()) == "CART_EMPTY"
    assert await state(guest) == OPEN


async def test_what_was_shown_is_what_is_ordered(shop: World) -> None:
    guest = await shop.guest().open("A")
    version = (await guest.look()).version
    await guest.add("A")
    assert await refusal(guest.check_out(version=version)) == "VERSION_MISMATCH"
    assert await state(guest) == OPEN


async def test_a_guests_cart_that_is_being_ordered_is_not_merged(shop: World) -> None:
    guest, ann = await shop.guest().open("A"), shop.customer()
    shop.orders.ends = "lost"
    await refusal(guest.check_out())
    assert await refusal(ann.merge(guest)) == "CHECKOUT_UNDER_WAY"


async def test_a_guest_who_signed_in_orders_as_themselves(shop: World) -> None:
    guest = await shop.guest().open("A")
    guest.customer_id = str(uuid4())
    await guest.check_out()
    assert shop.orders.requests[-1].customer_id == guest.customer_id


async def test_a_cart_tells_when_it_changes_and_when_it_is_an_order(shop: World) -> None:
    ann = await shop.customer().open("A")
    await ann.check_out()
    rows = await shop.lab.db("cart").fetch(
        "select type, subject from event where key = $1 order by position", ann.cart_id
    )
    assert [row["type"].rpartition(".")[2] for row in rows] == [
        "CartUpdated",
        "CartUpdated",
        "CartCheckedOut",
    ]
    assert {row["subject"] for row in rows} == {ann.customer_id}
