"""Limits hold: however many redeem at once, however often, and whatever is given back."""

import asyncio
from uuid import UUID, uuid4

import grpc.aio
import pytest

from services.chassis.testing import reason, status_of, until
from tests.pricing.world import World, off
from weft.identity.v1.events_pb2 import UserDeleted
from weft.pricing.v1 import promotion_pb2, redemption_pb2
from weft.pricing.v1.quote_pb2 import Quote

TEN = {"percentage": {"percent": "10"}}
REDEEMED = redemption_pb2.REDEMPTION_STATE_REDEEMED
RELEASED = redemption_pb2.REDEMPTION_STATE_RELEASED


@pytest.fixture(scope="module", autouse=True)
def goods(shared_world: World) -> None:
    shared_world.catalog.sell("A", "100")


async def attempt(shop: World, quote: Quote, redemption_id: str = "", customer_id: str = "") -> str:
    """The reason of the refusal; empty: it was redeemed."""
    try:
        await shop.redeem(quote, redemption_id, customer_id)
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return ""


async def race(shop: World, quotes: list[Quote]) -> dict[str, int]:
    """How often each end was met, of one redemption for each quote at the same moment."""
    ends = await asyncio.gather(*(attempt(shop, quote) for quote in quotes))
    return {end: ends.count(end) for end in set(ends)}


async def test_sixty_four_redeem_the_last_uses_and_exactly_the_limit_succeed(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, limits={"usesMax": "7"})
    quotes = [await shop.quote("A") for _ in range(64)]
    assert await race(shop, quotes) == {"": 7, "PROMOTION_EXHAUSTED": 57}
    assert (await shop.promotion(promotion_id)).uses == 7
    assert off(await shop.quote("A")) == [0]


async def test_sixty_four_orders_of_one_customer_use_what_one_customer_may(shop: World) -> None:
    await shop.promote(**TEN, limits={"usesPerCustomerMax": "2"})
    ann, bob = str(uuid4()), str(uuid4())
    quotes = [await shop.quote("A", customer_id=ann) for _ in range(64)]
    assert await race(shop, quotes) == {"": 2, "PROMOTION_EXHAUSTED": 62}
    assert off(await shop.quote("A", customer_id=ann)) == [0]
    assert off(await shop.quote("A", customer_id=bob)) == [1000]


async def test_sixty_four_use_one_coupon_as_often_as_it_says(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, couponNeeded=True)
    await shop.coupon(promotion_id, "RACE", uses_max=3)
    quotes = [await shop.quote("A", coupon_codes=["race"]) for _ in range(64)]
    assert await race(shop, quotes) == {"": 3, "PROMOTION_EXHAUSTED": 61}


async def test_a_budget_is_never_passed(shop: World) -> None:
    budget = {"amountMinor": "3500", "currency": "EUR"}
    promotion_id = await shop.promote(**TEN, currency="EUR", limits={"budget": budget})
    quotes = [await shop.quote("A") for _ in range(20)]
    assert await race(shop, quotes) == {"": 3, "PROMOTION_EXHAUSTED": 17}
    assert (await shop.promotion(promotion_id)).spent.amount_minor == 3000
    assert off(await shop.quote("A")) == [0], "the 500 that are left are less than a discount"


async def test_uses_of_several_promotions_are_taken_all_or_none(shop: World) -> None:
    first = await shop.promote(**TEN, limits={"usesMax": "64"})
    second = await shop.promote(**TEN, limits={"usesMax": "5"})
    third = await shop.promote(**TEN, limits={"usesMax": "64"})
    quotes = [await shop.quote("A") for _ in range(32)]
    assert await race(shop, quotes) == {"": 5, "PROMOTION_EXHAUSTED": 27}
    for promotion_id in (first, second, third):
        assert (await shop.promotion(promotion_id)).uses == 5


async def test_one_order_redeems_once_however_often_it_asks(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, limits={"usesMax": "64"})
    quote, redemption_id = await shop.quote("A"), str(uuid4())
    made = await asyncio.gather(*(shop.redeem(quote, redemption_id) for _ in range(64)))
    assert {each.SerializeToString(deterministic=True) for each in made} == {
        made[0].SerializeToString(deterministic=True)
    }
    assert (await shop.promotion(promotion_id)).uses == 1
    assert await attempt(shop, await shop.quote("A"), redemption_id) == "REDEMPTION_ID_REUSED"


async def test_what_is_given_back_can_be_used_again_and_only_once(shop: World) -> None:
    ann = str(uuid4())
    promotion_id = await shop.promote(
        **TEN, couponNeeded=True, limits={"usesMax": "1", "usesPerCustomerMax": "1", "usesPerCouponMax": "1"}
    )
    await shop.coupon(promotion_id, "BACK")
    quotes = [await shop.quote("A", coupon_codes=["BACK"], customer_id=ann) for _ in range(3)]
    order = str(uuid4())
    assert await attempt(shop, quotes[0], order) == ""
    assert await attempt(shop, quotes[1]) == "PROMOTION_EXHAUSTED"
    released = await asyncio.gather(*(shop.release(order) for _ in range(64)))
    assert {each.state for each in released} == {RELEASED}
    assert await attempt(shop, quotes[1]) == ""
    assert await attempt(shop, quotes[2]) == "PROMOTION_EXHAUSTED"
    assert (await shop.promotion(promotion_id)).uses == 1


async def test_releasing_again_gives_nothing_back_of_what_others_hold(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, limits={"usesMax": "9"})
    held = [await shop.redeem(await shop.quote("A")) for _ in range(5)]
    for _ in range(3):
        await shop.release(held[0].redemption_id)
    assert (await shop.promotion(promotion_id)).uses == 4


async def test_orders_that_take_and_give_back_several_uses_never_wait_in_vain(shop: World) -> None:
    made = sorted([await shop.promote(draft=True, **TEN, limits={"usesMax": "999"}) for _ in range(3)])
    for n, promotion_id in enumerate(made):  # They are applied in the opposite order of their ids.
        settings = (await shop.promotion(promotion_id)).settings
        settings.priority = n
        update = promotion_pb2.UpdatePromotionRequest(promotion_id=promotion_id, settings=settings)
        await shop.promotions.UpdatePromotion(update, metadata=shop.me)
        activate = promotion_pb2.ActivatePromotionRequest(promotion_id=promotion_id)
        await shop.promotions.ActivatePromotion(activate, metadata=shop.me)
    held = [await shop.redeem(await shop.quote("A")) for _ in range(20)]
    quotes = [await shop.quote("A") for _ in range(20)]
    ends = asyncio.gather(*(shop.release(each.redemption_id) for each in held))
    assert await race(shop, quotes) == {"": 20}
    await ends
    assert [(await shop.promotion(promotion_id)).uses for promotion_id in made] == [20, 20, 20]


async def test_a_redemption_that_was_released_stays_so_even_if_it_comes_later(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, limits={"usesMax": "5"})
    quote, early, late = await shop.quote("A"), str(uuid4()), str(uuid4())
    await shop.redeem(quote, early)
    await shop.release(early)
    assert await attempt(shop, quote, early) == "REDEMPTION_RELEASED"
    assert (await shop.release(late)).state == RELEASED
    assert await attempt(shop, quote, late) == "REDEMPTION_RELEASED"
    assert (await shop.promotion(promotion_id)).uses == 0


async def test_redeeming_and_releasing_at_once_leaves_one_end(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, limits={"usesMax": "1000"})
    quotes = [await shop.quote("A") for _ in range(32)]
    orders = [str(uuid4()) for _ in quotes]
    pairs = zip(quotes, orders, strict=True)
    await asyncio.gather(*(attempt(shop, quote, order) for quote, order in pairs), *map(shop.release, orders))
    assert (await shop.promotion(promotion_id)).uses == 0


async def test_a_guests_quote_becomes_a_customers_order_and_a_customers_nobody_elses(shop: World) -> None:
    ann, bob = str(uuid4()), str(uuid4())
    redemption = await shop.redeem(await shop.quote("A"), customer_id=ann)
    assert redemption.customer_id == ann
    assert await attempt(shop, await shop.quote("A", customer_id=ann), customer_id=bob) == "UNKNOWN_QUOTE"
    assert await attempt(shop, Quote(quote_id=str(uuid4()))) == "UNKNOWN_QUOTE"


async def test_a_limit_that_is_set_later_counts_what_was_before(shop: World) -> None:
    ann = str(uuid4())
    promotion_id = await shop.promote(**TEN)
    for _ in range(3):
        await shop.redeem(await shop.quote("A", customer_id=ann))
    last = await shop.redeem(await shop.quote("A"))
    await shop.release(last.redemption_id)
    quotes = [await shop.quote("A", customer_id=str(uuid4())) for _ in range(5)]
    read = await shop.promotion(promotion_id)
    update = promotion_pb2.UpdatePromotionRequest(promotion_id=promotion_id, settings=read.settings)
    update.settings.limits.uses_max = 5
    update.settings.limits.uses_per_customer_max = 3
    assert (await shop.promotions.UpdatePromotion(update, metadata=shop.me)).promotion.uses == 3
    assert off(await shop.quote("A", customer_id=ann)) == [0]
    assert await race(shop, quotes) == {"": 2, "PROMOTION_EXHAUSTED": 3}


async def test_a_limit_is_set_while_orders_redeem_and_counts_each_of_them(shop: World) -> None:
    promotion_id = await shop.promote(**TEN)
    quotes = [await shop.quote("A") for _ in range(32)]
    read = await shop.promotion(promotion_id)
    update = promotion_pb2.UpdatePromotionRequest(promotion_id=promotion_id, settings=read.settings)
    update.settings.limits.uses_max = 1_000
    ends, _ = await asyncio.gather(
        race(shop, quotes), shop.promotions.UpdatePromotion(update, metadata=shop.me)
    )
    assert ends == {"": 32}
    assert (await shop.promotion(promotion_id)).uses == 32


async def test_an_archived_promotion_is_not_redeemed_and_a_paused_one_is(shop: World) -> None:
    promotion_id = await shop.promote(**TEN)
    quotes = [await shop.quote("A") for _ in range(2)]
    pause = promotion_pb2.PausePromotionRequest(promotion_id=promotion_id)
    await shop.promotions.PausePromotion(pause, metadata=shop.me)
    assert await attempt(shop, quotes[0]) == ""
    archive = promotion_pb2.ArchivePromotionRequest(promotion_id=promotion_id)
    await shop.promotions.ArchivePromotion(archive, metadata=shop.me)
    assert await attempt(shop, quotes[1]) == "PROMOTION_EXHAUSTED"


async def test_the_refusal_names_the_promotion_and_the_limit(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, limits={"usesMax": "1"})
    quotes = [await shop.quote("A") for _ in range(2)]
    await shop.redeem(quotes[0])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.redeem(quotes[1])
    assert f"{promotion_id} has no use left: total" in status_of(error.value).message


async def test_a_report_tells_what_a_promotion_did(shop: World) -> None:
    ann = str(uuid4())
    promotion_id = await shop.promote(**TEN)
    for customer_id in (ann, ann, ""):
        await shop.redeem(await shop.quote("A", customer_id=customer_id))
    gone = await shop.redeem(await shop.quote(("A", 5)))
    await shop.release(gone.redemption_id)
    request = promotion_pb2.GetPromotionReportRequest(promotion_id=promotion_id)
    report = await shop.promotions.GetPromotionReport(request, metadata=shop.me)
    total = report.totals[0]
    assert (total.uses, total.discount.amount_minor, total.orders_net.amount_minor) == (3, 3000, 27000)
    assert (report.customers, report.released, len(report.days)) == (1, 1, 1)
    request.to.FromSeconds(1)
    assert not (await shop.promotions.GetPromotionReport(request, metadata=shop.me)).totals


async def test_an_erased_customer_is_named_nowhere_and_still_counted(shop: World) -> None:
    ann = str(uuid4())
    promotion_id = await shop.promote(**TEN, limits={"usesMax": "9", "usesPerCustomerMax": "2"})
    await shop.join(ann, "vip")
    redemption = await shop.redeem(await shop.quote("A", customer_id=ann))
    await shop.lab.announce(UserDeleted(user_id=ann))
    tables = ("segment_member", "customer_use", "quote", "redemption")

    async def forgotten() -> bool:
        counts = [
            await shop.lab.db("pricing").fetchval(
                f"select count(*) from {table} where customer_id = $1", UUID(ann)
            )
            for table in tables
        ]
        return not any(counts)

    await until(forgotten)
    get = redemption_pb2.GetRedemptionRequest(redemption_id=redemption.redemption_id)
    found = (await shop.redemptions.GetRedemption(get, metadata=shop.me)).redemption
    assert (found.state, found.customer_id) == (REDEEMED, "")
    assert (await shop.promotion(promotion_id)).uses == 1
