"""Carts: whose they are, what is in them, what they cost now, and what they may not hold."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import grpc.aio
import pytest
from grpc import StatusCode

from services.cart.domain.cart import COUPONS_MAX, LINES_MAX
from services.cart.settings import CartSettings
from services.cart.tidying import Tidying
from services.chassis.clock import FakeClock
from services.chassis.testing import broken_fields, until
from tests.cart.world import EXPIRED, OPEN, World, refusal, world
from tests.servers import Shared
from weft.cart.v1 import cart_pb2, line_pb2
from weft.identity.v1.events_pb2 import UserDeleted


async def test_a_guest_shops_with_the_token_of_their_cart(shop: World) -> None:
    guest = await shop.guest().open("A", "B")
    assert len(guest.token) == 43
    assert await guest.contents() == {"A": 1, "B": 1}
    kept = await shop.lab.db("cart").fetchrow("select * from cart where cart_id = $1", UUID(guest.cart_id))
    assert guest.token not in str(dict(kept))


async def test_a_cart_is_unknown_to_everybody_else(shop: World) -> None:
    guest, ann = await shop.guest().open("A"), await shop.customer().open("A")
    for other in (await shop.guest().open(), shop.guest(), shop.customer()):
        for cart_id in (guest.cart_id, ann.cart_id, str(uuid4())):
            other.cart_id = cart_id
            assert await refusal(other.look()) == "UNKNOWN_CART"
            assert await refusal(other.add("A")) == "UNKNOWN_CART"
            assert await refusal(other.remove("A")) == "UNKNOWN_CART"
            assert await refusal(other.apply("A")) == "UNKNOWN_CART"
            assert await refusal(other.check_out()) == "UNKNOWN_CART"
    assert await guest.contents() == await ann.contents() == {"A": 1}


async def test_staff_see_and_change_all_by_permission(shop: World) -> None:
    guest = await shop.guest().open("A")
    get = cart_pb2.GetCartRequest(cart_id=guest.cart_id)
    add = line_pb2.AddLineRequest(cart_id=guest.cart_id, sku="B", units=1)
    await shop.carts.AddLine(add, metadata=shop.staff)
    found = (await shop.carts.GetCart(get, metadata=shop.staff)).cart
    assert [line.sku for line in found.lines] == ["A", "B"]
    reader = shop.lab.bearer(scope="cart.carts.read")
    assert await refusal(shop.carts.GetCart(get, metadata=reader)) == ""
    assert await refusal(shop.carts.AddLine(add, metadata=reader)) == "UNKNOWN_CART"


async def test_an_application_without_the_account_does_not_shop_for_its_user(shop: World) -> None:
    ann = await shop.customer().open("A")
    get = cart_pb2.GetCartRequest(cart_id=ann.cart_id)
    for scope, ends in (("", "UNKNOWN_CART"), ("account", "")):
        token = shop.lab.bearer(ann.customer_id, scope=scope, client_id="app", kind="client")
        assert await refusal(shop.carts.GetCart(get, metadata=token)) == ends


async def test_a_customer_has_one_open_cart(shop: World) -> None:
    ann = await shop.customer().open("A")
    again = shop.customer(ann.customer_id)
    assert await refusal(again.open()) == "CART_OPEN"
    again.cart_id = ann.cart_id
    await again.open()
    assert again.token == ""
    assert await refusal(again.open(currency="USD")) == "CART_ID_REUSED"
    request = cart_pb2.GetOpenCartRequest(customer_id=ann.customer_id)
    assert (await shop.carts.GetOpenCart(request, metadata=ann.me)).cart.cart_id == ann.cart_id
    bob = shop.customer()
    assert await refusal(shop.carts.GetOpenCart(request, metadata=bob.me)) == "NOT_PERMITTED"
    request.customer_id = bob.customer_id
    assert await refusal(shop.carts.GetOpenCart(request, metadata=bob.me)) == "NO_OPEN_CART"


async def test_sixty_four_carts_of_one_customer_at_once_are_one(shop: World) -> None:
    customer_id = str(uuid4())
    ends = await asyncio.gather(*(refusal(shop.customer(customer_id).open()) for _ in range(64)))
    assert sorted(ends) == [""] + ["CART_OPEN"] * 63


async def test_a_guest_whose_answer_was_lost_makes_another_cart(shop: World) -> None:
    guest = await shop.guest().open()
    assert await refusal(guest.open()) == "CART_ID_REUSED"


async def test_units_of_a_sku_are_summed_however_many_add_at_once(shop: World) -> None:
    guest = await shop.guest().open("A")
    await asyncio.gather(*(guest.add("A", 2) for _ in range(32)))
    cart = await guest.look(bare=True)
    assert [(line.sku, line.units) for line in cart.lines] == [("A", 65)]
    assert cart.version == 34


async def test_a_line_is_set_saved_wanted_again_and_removed(shop: World) -> None:
    guest = await shop.guest().open("A", "B")
    version = (await guest.change("A", 5)).version
    assert (await guest.change("A", 5)).version == version, "nothing changed"
    saved = await guest.change("B", 1, saved=True)
    assert [line.saved_for_later for line in saved.lines] == [False, True]
    assert [line.saved_for_later for line in (await guest.add("B")).lines] == [False, False]
    await guest.remove("A")
    assert await guest.contents() == {"B": 2}
    assert (await guest.remove("A")).version == (await guest.look(bare=True)).version


async def test_a_change_of_another_version_is_refused(shop: World) -> None:
    guest = await shop.guest().open("A")
    version = (await guest.look(bare=True)).version
    await guest.add("A", version=version)
    assert await refusal(guest.add("A", version=version)) == "VERSION_MISMATCH"
    assert await refusal(guest.change("A", 9, version=version)) == "VERSION_MISMATCH"
    assert await guest.contents() == {"A": 2}


async def test_adding_again_with_the_same_key_adds_once(shop: World) -> None:
    guest = await shop.guest().open("A")
    request = line_pb2.AddLineRequest(sku="A", units=3, **guest.cart)
    for _ in range(3):
        await shop.carts.AddLine(request, metadata=(("idempotency-key", guest.cart_id),))
    assert await guest.contents() == {"A": 4}


async def test_what_has_no_price_is_not_put_in(shop: World) -> None:
    guest = await shop.guest().open()
    assert await refusal(guest.add("NOTHING")) == "UNKNOWN_SKU"
    assert await refusal(guest.change("NOTHING", 3)) == "UNKNOWN_SKU"
    assert await guest.contents() == {}
    shop.pricing.away = True
    await guest.add("NOTHING")
    assert await guest.contents() == {"NOTHING": 1}
    shop.pricing.away = False
    assert (await guest.look()).lines[0].problem == "UNKNOWN_SKU"


async def test_a_cart_is_priced_anew_whenever_it_is_shown(shop: World) -> None:
    ann = await shop.customer().open("A", "B")
    await ann.change("A", 3)
    await ann.change("B", 2, saved=True)
    await ann.apply("ten-off")
    cart = await ann.look()
    assert cart.quote.gross_total.amount_minor == 3000
    assert [(line.title, line.gross.amount_minor, line.available) for line in cart.lines] == [
        ("a", 3000, 50),
        ("", 0, 50),
    ]
    asked = shop.pricing.asked[-1]
    assert (asked.customer_id, asked.country, asked.transient) == (ann.customer_id, "DE", True)
    assert list(asked.coupon_codes) == ["TENOFF"]
    assert not (await ann.look(bare=True)).HasField("quote")


async def test_a_line_says_what_is_wrong_with_it(shop: World) -> None:
    guest = await shop.guest().open("A", "B")
    shop.stock.available["B"] = 0
    assert [line.problem for line in (await guest.look()).lines] == ["", "OUT_OF_STOCK"]
    await guest.change("A", 51)
    assert [line.problem for line in (await guest.look()).lines] == ["OUT_OF_STOCK", "OUT_OF_STOCK"]


async def test_what_is_no_goods_is_never_out_of_stock(shop: World) -> None:
    guest = await shop.guest().open("DOWNLOAD")
    shop.stock.available["DOWNLOAD"] = 0
    line = (await guest.look()).lines[0]
    assert (line.problem, line.HasField("available")) == ("", False)


async def test_a_shopper_is_not_told_of_promotions_for_others(shop: World) -> None:
    guest = await shop.guest().open("A")
    assert [step.text for step in (await guest.look()).quote.explanation] == ["what it costs"]


async def test_a_cart_is_shown_without_what_cannot_be_asked(shop: World) -> None:
    guest = await shop.guest().open("A")
    shop.pricing.away = True
    cart = await guest.look()
    assert (cart.HasField("quote"), cart.lines[0].available) == (False, 50)
    shop.pricing.away, shop.stock.away = False, True
    cart = await guest.look()
    assert (cart.HasField("quote"), cart.lines[0].HasField("available")) == (True, False)


async def test_an_empty_cart_costs_nothing_and_asks_nobody(shop: World) -> None:
    guest = await shop.guest().open()
    asked = len(shop.pricing.asked)
    assert not (await guest.look()).HasField("quote")
    assert len(shop.pricing.asked) == asked


async def test_a_cart_has_bounds(shop: World) -> None:
    guest = await shop.guest().open("A")
    await guest.change("A", 100_000)
    assert await refusal(guest.add("A")) == "TOO_MANY_UNITS"
    for n in range(COUPONS_MAX):
        await guest.apply(f"code-{n}")
    await guest.apply("CODE 0")
    assert await refusal(guest.apply("one more")) == "TOO_MANY_COUPONS"
    await guest.withdraw("code0")
    assert len((await guest.apply("one more")).coupon_codes) == COUPONS_MAX
    lines = [
        {"sku": f"S-{n}", "units": 1, "saved": False, "at": "2026-01-01T00:00:00+00:00"} for n in range(199)
    ]
    await shop.lab.db("cart").execute(
        "update cart set lines = lines || $2::jsonb where cart_id = $1",
        UUID(guest.cart_id),
        json.dumps(lines),
    )
    assert len((await guest.look()).lines) == LINES_MAX
    assert await refusal(guest.add("Z")) == "CART_FULL"
    assert await refusal(guest.add("A")) == "TOO_MANY_UNITS"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("units", 0),
        ("units", -1),
        ("units", 100_001),
        ("sku", ""),
        ("sku", "a b"),
        ("cart_id", "x"),
        ("version", -1),
    ],
    ids=["none", "negative", "too many", "no sku", "space", "no uuid", "negative version"],
)
async def test_a_field_that_breaks_its_rule_is_named(shop: World, field: str, value: object) -> None:
    guest = await shop.guest().open()
    request = line_pb2.AddLineRequest(sku="A", units=1, **guest.cart)
    setattr(request, field, value)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.carts.AddLine(request)
    assert error.value.code() == StatusCode.INVALID_ARGUMENT
    assert field in broken_fields(error.value)


async def test_an_unknown_currency_makes_no_cart(shop: World) -> None:
    assert await refusal(shop.guest().open(currency="ZZZ")) == "UNKNOWN_CURRENCY"


async def test_a_guests_cart_becomes_the_customers_when_they_have_none(shop: World) -> None:
    guest, ann = await shop.guest().open("A"), shop.customer()
    for _ in range(2):
        cart = await ann.merge(guest)
        assert (cart.cart_id, cart.customer_id) == (guest.cart_id, ann.customer_id)
    assert await refusal(guest.look()) == "UNKNOWN_CART", "the token is worth nothing any more"
    ann.cart_id = guest.cart_id
    assert await ann.contents() == {"A": 1}
    assert await refusal(shop.customer().merge(guest)) == "UNKNOWN_CART"


async def test_a_guests_cart_goes_into_the_customers_once(shop: World) -> None:
    guest, ann = await shop.guest().open("A", "B"), await shop.customer().open("B", "C")
    await guest.apply("guest")
    await ann.apply("own")
    await guest.change("A", 1, saved=True)
    merged = await asyncio.gather(*(ann.merge(guest) for _ in range(32)))
    assert {cart.cart_id for cart in merged} == {ann.cart_id}
    cart = await ann.look(bare=True)
    assert {line.sku: (line.units, line.saved_for_later) for line in cart.lines} == {
        "B": (2, False),
        "C": (1, False),
        "A": (1, True),
    }
    assert list(cart.coupon_codes) == ["OWN", "GUEST"]
    assert await refusal(guest.add("A")) == "UNKNOWN_CART"
    gone = cart_pb2.GetCartRequest(cart_id=guest.cart_id)
    found = (await shop.carts.GetCart(gone, metadata=shop.staff)).cart
    assert found.merged_into_id == ann.cart_id


async def test_a_cart_is_merged_by_whom_has_its_token_into_their_own(shop: World) -> None:
    guest, ann, bob = await shop.guest().open("A"), await shop.customer().open(), shop.customer()
    stranger = await shop.guest().open()
    stranger.cart_id = guest.cart_id
    assert await refusal(ann.merge(stranger)) == "UNKNOWN_CART"
    request = cart_pb2.MergeCartRequest(customer_id=bob.customer_id, **guest.cart)
    assert await refusal(shop.carts.MergeCart(request, metadata=ann.me)) == "NOT_PERMITTED"
    bob.cart_id = ann.cart_id
    assert await refusal(bob.merge(bob)) == "UNKNOWN_CART"


async def test_carts_are_listed_for_staff_alone(shop: World) -> None:
    ann = await shop.customer().open("A")
    request = cart_pb2.ListCartsRequest(
        filter=f'customer_id = "{ann.customer_id}" AND state = OPEN AND units > 0'
    )
    found = (await shop.carts.ListCarts(request, metadata=shop.staff)).carts
    assert [cart.cart_id for cart in found] == [ann.cart_id]
    assert await refusal(shop.carts.ListCarts(request, metadata=ann.me)) == "NOT_PERMITTED"


async def test_nobody_comes_back_and_the_cart_expires_and_is_forgotten(servers: Shared) -> None:
    clock = FakeClock(datetime(2026, 11, 20, tzinfo=UTC))
    async with world(servers, clock, WEFT_CART_GUEST_DAYS="2", WEFT_CART_KEPT_DAYS="1") as shop:
        guest, ann = await shop.guest().open("A"), await shop.customer().open("A")
        tidying = Tidying(shop.lab.db("cart"), clock, CartSettings(guest_days=2, kept_days=1))
        clock.advance(86_400)
        await guest.add("A")
        clock.advance(1.5 * 86_400)
        await tidying.round()
        assert (await guest.look(bare=True)).state == OPEN
        clock.advance(86_400)
        await tidying.round()

        async def expired() -> bool:
            return bool((await guest.look(bare=True)).state == EXPIRED)

        await until(expired)  # By this round, or by the service's own, which may hold the row meanwhile.
        assert not (await guest.look()).HasField("quote")
        assert await refusal(guest.add("A")) == "CART_CLOSED"
        assert await refusal(guest.check_out()) == "CART_CLOSED"
        assert (await ann.look(bare=True)).state == OPEN
        clock.advance(2 * 86_400)
        await tidying.round()

        async def forgotten() -> bool:
            return not await shop.lab.db("cart").fetch("select from cart where cart_id = $1", guest.cart_id)

        await until(forgotten)
        assert await refusal(guest.look()) == "UNKNOWN_CART"
        types = await shop.lab.db("cart").fetch("select type from event where key = $1", guest.cart_id)
        assert [row["type"].rpartition(".")[2] for row in types] == ["CartUpdated"] * 3 + ["CartExpired"]


async def test_an_erased_customers_carts_are_gone(shop: World) -> None:
    ann = await shop.customer().open("A")
    await shop.lab.announce(UserDeleted(user_id=ann.customer_id))

    async def gone() -> bool:
        return await refusal(ann.look()) == "UNKNOWN_CART"

    await until(gone)


async def test_no_index_has_a_column_that_each_change_touches(shop: World) -> None:
    indexed = await shop.lab.db("cart").fetch(
        """select distinct attname from pg_index
        join pg_attribute on attrelid = indrelid and attnum = any(indkey) where indrelid = 'cart'::regclass"""
    )
    touched = {"version", "lines", "units", "coupon_codes", "updated_at", "expires_at"}
    assert touched & {row["attname"] for row in indexed} == set()
