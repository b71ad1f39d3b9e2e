"""Promotions: what each kind takes off, which goes first, and which tolerates which."""

from typing import Any
from uuid import uuid4

import grpc.aio
import pytest

from services.chassis.testing import broken_fields, reason
from tests.pricing.world import World, amounts, off, shipping, skipped
from weft.money.v1.money_pb2 import Money
from weft.pricing.v1 import promotion_pb2 as pb

ORDER = "LEVEL_ORDER"


def euro(minor: int) -> dict[str, Any]:
    return {"amountMinor": str(minor), "currency": "EUR"}


@pytest.fixture(scope="module", autouse=True)
def goods(shared_world: World) -> None:
    sell = shared_world.catalog.sell
    sell("A", "100", category_ids=["shoes", "clothes"])
    sell("B", "50", category_ids=["shirts", "clothes"])
    sell("C", "10", category_ids=["books"])
    sell("VENDURE", "519.60")
    sell("PARCEL", "5", shippable=False)


async def test_ten_percent_off_items_then_ten_off_the_order_as_vendure_has_it(shop: World) -> None:
    await shop.promote(percentage={"percent": "10"})
    assert amounts(await shop.quote(("VENDURE", 3))) == (140292, 28058, 168350)
    await shop.promote(percentage={"percent": "10", "level": ORDER})
    assert amounts(await shop.quote(("VENDURE", 3))) == (126263, 25253, 151516)


async def test_three_for_a_hundred_less_ten_percent_are_270(shop: World) -> None:
    await shop.promote(percentage={"percent": "10", "level": ORDER})
    assert (await shop.quote(("A", 3))).net_total.amount_minor == 27000


async def test_a_promotion_means_skus_and_categories_but_those_excluded(shop: World) -> None:
    await shop.promote(
        percentage={"percent": "10"},
        target={"skus": ["C"], "categoryIds": ["clothes"], "excludedCategoryIds": ["shirts"]},
    )
    assert off(await shop.quote("A", "B", "C")) == [1000, 0, 100]
    await shop.clear()
    await shop.promote(percentage={"percent": "10"}, target={"excludedSkus": ["A"]})
    assert off(await shop.quote("A", "B", "C")) == [0, 500, 100]


@pytest.mark.parametrize(
    ("level", "taken"),
    [("LEVEL_LINE", [700, 700]), ("LEVEL_UNIT", [1400, 2100]), (ORDER, [280, 420])],
    ids=["line", "unit", "order"],
)
async def test_an_amount_is_taken_off_lines_units_or_the_order(
    shop: World, level: str, taken: list[int]
) -> None:
    await shop.promote(fixedAmount={"amount": euro(700), "level": level}, currency="EUR")
    assert off(await shop.quote(("C", 2), ("C", 3))) == taken


async def test_an_amount_takes_no_more_than_is_left(shop: World) -> None:
    await shop.promote(fixedAmount={"amount": euro(100_000), "level": ORDER}, currency="EUR")
    quote = await shop.quote("B", "C")
    assert off(quote) == [5000, 1000]
    assert amounts(quote) == (0, 0, 0)
    await shop.promote(percentage={"percent": "10", "level": ORDER}, priority=-1)
    assert off(await shop.quote("B", "C")) == [5000, 1000]


async def test_an_amount_is_of_its_currency_alone(shop: World) -> None:
    shop.catalog.sell("DOLLAR", "10", "USD")
    await shop.promote(fixedAmount={"amount": euro(100), "level": ORDER}, currency="EUR")
    quote = await shop.quote("DOLLAR", currency="USD")
    assert off(quote) == [0]
    assert skipped(quote) == ["sale does not apply: currency"]


async def test_a_percentage_takes_no_more_than_its_bound(shop: World) -> None:
    await shop.promote(percentage={"percent": "50", "amountMax": euro(3000)}, currency="EUR")
    assert off(await shop.quote("A", "B")) == [2000, 1000]


@pytest.mark.parametrize(
    ("units", "free"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (9, 3)], ids=lambda n: str(n)
)
async def test_two_bought_one_free(shop: World, units: int, free: int) -> None:
    await shop.promote(buyXGetY={"buyUnits": "2", "getUnits": "1"})
    assert off(await shop.quote(("C", units))) == [free * 1000]


async def test_the_cheapest_units_are_those_for_less(shop: World) -> None:
    await shop.promote(buyXGetY={"buyUnits": "2", "getUnits": "1", "percent": "50"})
    assert off(await shop.quote(("A", 2), ("B", 1), ("C", 3))) == [0, 0, 1000]
    assert off(await shop.quote(("A", 3), ("B", 3))) == [0, 5000]


async def test_a_round_that_is_paid_for_need_not_be_full(shop: World) -> None:
    await shop.promote(buyXGetY={"buyUnits": "1", "getUnits": "2"})
    assert [off(await shop.quote(("C", n)))[0] for n in (1, 2, 3, 4, 5)] == [0, 1000, 2000, 2000, 3000]


async def test_a_thing_bought_makes_another_cheaper(shop: World) -> None:
    await shop.promote(
        buyXGetY={"buyUnits": "2", "getUnits": "1", "get": {"categoryIds": ["books"]}, "timesMax": "2"},
        target={"categoryIds": ["clothes"]},
    )
    assert off(await shop.quote("A", ("C", 3))) == [0, 0]
    assert off(await shop.quote("A", "B", ("C", 3))) == [0, 0, 1000]
    assert off(await shop.quote(("A", 9), ("C", 3))) == [0, 2000]


async def test_the_more_the_more_off(shop: World) -> None:
    await shop.promote(
        tiered={"tiers": [{"units": "2", "percent": "5"}, {"units": "10", "percent": "20"}]},
        target={"skus": ["C"]},
    )
    assert off(await shop.quote("A", ("C", 1))) == [0, 0]
    assert off(await shop.quote("A", ("C", 2))) == [0, 100]
    assert off(await shop.quote("A", ("C", 10))) == [0, 2000]


async def test_steps_by_amount_take_amounts(shop: World) -> None:
    await shop.promote(
        tiered={
            "tiers": [
                {"amount": euro(10000), "fixed": euro(500)},
                {"amount": euro(20000), "fixed": euro(2500)},
            ]
        },
        currency="EUR",
    )
    assert [sum(off(await shop.quote(("B", n)))) for n in (1, 2, 3, 4)] == [0, 500, 500, 2500]


async def test_free_shipping_is_of_shipping_lines_alone(shop: World) -> None:
    await shop.promote(freeShipping={}, condition="order.subtotal_minor >= 5000")
    assert off(await shop.quote("C", shipping("PARCEL"))) == [0, 0]
    quote = await shop.quote("B", shipping("PARCEL"))
    assert off(quote) == [0, 500]
    assert quote.gross_total.amount_minor == 6000


async def test_free_shipping_up_to_a_bound(shop: World) -> None:
    await shop.promote(freeShipping={"amountMax": euro(300)}, currency="EUR")
    assert off(await shop.quote("C", shipping("PARCEL"))) == [0, 300]


async def test_the_higher_priority_goes_first(shop: World) -> None:
    await shop.promote(fixedAmount={"amount": euro(1000)}, currency="EUR", priority=1)
    await shop.promote(percentage={"percent": "50"}, priority=2)
    assert off(await shop.quote("A")) == [6000]
    await shop.promote(fixedAmount={"amount": euro(2000)}, currency="EUR", priority=3)
    assert off(await shop.quote("A")) == [2000 + 4000 + 1000]


async def test_promotions_of_lines_go_before_those_of_the_order_whatever_their_priority(shop: World) -> None:
    await shop.promote(fixedAmount={"amount": euro(1000), "level": ORDER}, currency="EUR", priority=9)
    await shop.promote(percentage={"percent": "10"}, priority=1)
    assert off(await shop.quote("A")) == [1000 + 1000]


async def test_an_exclusive_promotion_goes_alone_or_not_at_all(shop: World) -> None:
    await shop.promote(name="all", percentage={"percent": "10"}, priority=5)
    only = await shop.promote(
        name="only", percentage={"percent": "30"}, stacking="STACKING_EXCLUSIVE", priority=9
    )
    quote = await shop.quote("A")
    assert off(quote) == [3000]
    assert [each.promotion_id for each in quote.discounts] == [only]
    assert skipped(quote) == ["all does not apply: excluded"]
    await shop.promote(name="first", percentage={"percent": "1"}, priority=10)
    assert off(await shop.quote("A")) == [1090]


async def test_an_exclusive_promotion_that_takes_nothing_excludes_nobody(shop: World) -> None:
    await shop.promote(
        percentage={"percent": "90"}, stacking="STACKING_EXCLUSIVE", priority=9, target={"skus": ["B"]}
    )
    await shop.promote(percentage={"percent": "10"})
    assert off(await shop.quote("A")) == [1000]


async def test_a_promotion_that_is_alone_on_its_lines_leaves_the_others_open(shop: World) -> None:
    await shop.promote(
        percentage={"percent": "50"},
        target={"skus": ["A"]},
        stacking="STACKING_ALONE_ON_LINE",
        priority=2,
    )
    await shop.promote(percentage={"percent": "10"}, priority=1)
    await shop.promote(percentage={"percent": "10", "level": ORDER})
    assert off(await shop.quote("A", "B")) == [5000, 950]


async def test_of_a_group_the_first_that_takes_anything_is_the_only_one(shop: World) -> None:
    await shop.promote(percentage={"percent": "90"}, target={"skus": ["C"]}, group="week", priority=3)
    await shop.promote(percentage={"percent": "20"}, group="week", priority=2)
    await shop.promote(percentage={"percent": "10"}, group="week", priority=1)
    assert off(await shop.quote("A")) == [2000]


async def test_a_promotion_is_for_segments_countries_and_times(shop: World) -> None:
    ann = str(uuid4())
    await shop.join(ann, "wholesale")
    await shop.promote(percentage={"percent": "10"}, segments=["wholesale"], countries=["DE", "FR"])
    assert off(await shop.quote("A", customer_id=ann, country="DE")) == [1000]
    assert skipped(await shop.quote("A", customer_id=ann, country="PL")) == ["sale does not apply: country"]
    assert skipped(await shop.quote("A", country="DE")) == ["sale does not apply: segment"]
    await shop.clear()
    await shop.promote(percentage={"percent": "10"}, validFrom="2999-01-01T00:00:00Z")
    await shop.promote(percentage={"percent": "10"}, validTo="2001-01-01T00:00:00Z")
    whys = [text.rpartition(" ")[2] for text in skipped(await shop.quote("A"))]
    assert sorted(whys) == ["expired", "not_yet_valid"]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("order.subtotal_minor >= 16000", True),
        ("order.subtotal_minor > 16000", False),
        ("order.units == 3 && order.country == 'DE'", True),
        ("'books' in order.category_ids && !order.guest", False),
        ("lines.exists(l, l.sku == 'A' && l.units >= 1)", True),
        ("'vip' in order.segments", True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_condition_asks_for_the_order_and_its_lines(shop: World, condition: str, holds: bool) -> None:
    await shop.promote(percentage={"percent": "10"}, condition=condition)
    quote = await shop.quote("A", "B", "C", shipping("PARCEL"), segments=["vip"], country="DE")
    assert bool(quote.discounts) is holds


@pytest.mark.parametrize(
    ("settings", "why", "field"),
    [
        ({"percentage": {"percent": "0"}}, "PROMOTION_REFUSED", "settings.percentage.percent"),
        (
            {"percentage": {"percent": "5", "level": "LEVEL_UNIT"}},
            "PROMOTION_REFUSED",
            "settings.percentage.level",
        ),
        ({"percentage": {"percent": "101"}}, "", "settings.percentage.percent"),
        ({"percentage": {"percent": "-5"}}, "", "settings.percentage.percent"),
        ({}, "", "settings.effect"),
        ({"fixedAmount": {"amount": euro(100)}}, "PROMOTION_REFUSED", "settings.currency"),
        (
            {"fixedAmount": {"amount": euro(-1)}, "currency": "EUR"},
            "NEGATIVE_AMOUNT",
            "settings.fixed_amount.amount",
        ),
        (
            {"fixedAmount": {"amount": euro(0)}, "currency": "EUR"},
            "PROMOTION_REFUSED",
            "settings.fixed_amount.amount",
        ),
        ({"fixedAmount": {"amount": euro(1)}, "currency": "USD"}, "MIXED_CURRENCIES", ""),
        ({"percentage": {"percent": "5"}, "currency": "ZZZ"}, "UNKNOWN_CURRENCY", ""),
        (
            {"percentage": {"percent": "5"}, "condition": "order.nothing("},
            "CONDITION_REFUSED",
            "settings.condition",
        ),
        (
            {"percentage": {"percent": "5"}, "condition": "secrets == 1"},
            "CONDITION_REFUSED",
            "settings.condition",
        ),
        (
            {"percentage": {"percent": "5"}, "condition": "order.units"},
            "CONDITION_REFUSED",
            "settings.condition",
        ),
        (
            {"percentage": {"percent": "5"}, "limits": {"usesPerCouponMax": "1"}},
            "PROMOTION_REFUSED",
            "settings.limits.uses_per_coupon_max",
        ),
        (
            {"tiered": {"tiers": [{"units": "5", "percent": "5"}, {"units": "5", "percent": "6"}]}},
            "PROMOTION_REFUSED",
            "settings.tiered.tiers",
        ),
        (
            {
                "tiered": {"tiers": [{"units": "5", "percent": "5"}, {"amount": euro(5), "percent": "6"}]},
                "currency": "EUR",
            },
            "PROMOTION_REFUSED",
            "settings.tiered.tiers",
        ),
        ({"freeShipping": {}, "target": {"skus": ["A"]}}, "PROMOTION_REFUSED", "settings.target"),
        (
            {
                "percentage": {"percent": "5"},
                "validFrom": "2030-01-01T00:00:00Z",
                "validTo": "2030-01-01T00:00:00Z",
            },
            "VALIDITY_REFUSED",
            "settings.valid_to",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_promotion_that_breaks_a_rule_is_refused_by_its_field(
    shop: World, settings: dict[str, Any], why: str, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.promote(**settings)
    assert not why or reason(error.value) == why
    assert not field or field in broken_fields(error.value)


async def test_a_promotion_is_a_draft_then_active_paused_and_archived_for_ever(shop: World) -> None:
    promotion_id = await shop.promote(draft=True, percentage={"percent": "10"})
    only = {"promotion_id": promotion_id}
    assert off(await shop.quote("A")) == [0]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.promotions.PausePromotion(pb.PausePromotionRequest(**only), metadata=shop.me)
    assert reason(error.value) == "PROMOTION_NOT_ACTIVE"
    await shop.promotions.ActivatePromotion(pb.ActivatePromotionRequest(**only), metadata=shop.me)
    assert off(await shop.quote("A")) == [1000]
    await shop.promotions.PausePromotion(pb.PausePromotionRequest(**only), metadata=shop.me)
    assert off(await shop.quote("A")) == [0]
    await shop.promotions.ArchivePromotion(pb.ArchivePromotionRequest(**only), metadata=shop.me)
    for verb, request in (
        (shop.promotions.ActivatePromotion, pb.ActivatePromotionRequest(**only)),
        (shop.promotions.PausePromotion, pb.PausePromotionRequest(**only)),
        (
            shop.promotions.UpdatePromotion,
            pb.UpdatePromotionRequest(settings=(await shop.promotion(promotion_id)).settings, **only),
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await verb(request, metadata=shop.me)
        assert reason(error.value) == "PROMOTION_ARCHIVED"


async def test_a_preview_tells_what_a_draft_would_do(shop: World) -> None:
    await shop.promote(percentage={"percent": "10"})
    draft = await shop.promote(
        draft=True, percentage={"percent": "50"}, priority=-1, validFrom="2999-01-01T00:00:00Z"
    )
    before = await shop.lab.db("pricing").fetchval("select count(*) from quote")
    assert off(await shop.preview("A")) == [1000]
    assert off(await shop.preview("A", promotion_ids=[draft])) == [5500]
    assert off(await shop.preview("A", promotion_ids=[draft], alone=True)) == [5000]
    assert await shop.lab.db("pricing").fetchval("select count(*) from quote") == before
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.preview("A", promotion_ids=[str(uuid4())])
    assert reason(error.value) == "UNKNOWN_PROMOTION"


async def test_settings_are_replaced_by_whom_read_them_last(shop: World) -> None:
    promotion_id = await shop.promote(percentage={"percent": "10"})
    read = await shop.promotion(promotion_id)
    update = pb.UpdatePromotionRequest(promotion_id=promotion_id, settings=read.settings, etag=read.etag)
    update.settings.percentage.percent = "20"
    await shop.promotions.UpdatePromotion(update, metadata=shop.me)
    assert off(await shop.quote("A")) == [2000]
    update.settings.percentage.percent = "30"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.promotions.UpdatePromotion(update, metadata=shop.me)
    assert reason(error.value) == "ETAG_MISMATCH"


async def test_making_a_promotion_again_answers_it_and_another_body_is_refused(shop: World) -> None:
    promotion_id = await shop.promote(draft=True, percentage={"percent": "10"})
    read = await shop.promotion(promotion_id)
    request = pb.CreatePromotionRequest(promotion_id=promotion_id, settings=read.settings)
    assert (await shop.promotions.CreatePromotion(request, metadata=shop.me)).promotion == read
    request.settings.name = "another"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.promotions.CreatePromotion(request, metadata=shop.me)
    assert reason(error.value) == "PROMOTION_ID_REUSED"


async def test_promotions_are_listed_by_filter_and_order(shop: World) -> None:
    names = [f"listed {n}" for n in range(3)]
    for n, name in enumerate(names):
        await shop.promote(name=name, percentage={"percent": "1"}, priority=n)
    request = pb.ListPromotionsRequest(filter='state = ACTIVE AND name:"listed*"', order_by="priority")
    found = await shop.promotions.ListPromotions(request, metadata=shop.me)
    assert [each.settings.name for each in found.promotions] == names


async def test_what_was_taken_is_told_of_each_promotion_and_line(shop: World) -> None:
    promotion_id = await shop.promote(name="Ten off", percentage={"percent": "10"})
    quote = await shop.quote("A", "B")
    assert [(each.promotion_id, each.amount) for each in quote.discounts] == [
        (promotion_id, Money(amount_minor=1500, currency="EUR"))
    ]
    assert quote.discount_total.amount_minor == 1500
    texts = [step.text for step in quote.explanation if step.kind == "discount"]
    assert texts == ["Ten off takes off 15.00 EUR"]
