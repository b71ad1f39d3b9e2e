"""Coupons: codes in any case, single and many, and why one is refused."""

from datetime import UTC, datetime
from uuid import uuid4

import grpc.aio
import pytest

from services.chassis.testing import broken_fields, reason, status_of
from tests.pricing.world import World, off
from weft.pricing.v1 import coupon_pb2 as pb, promotion_pb2

TEN = {"percentage": {"percent": "10"}, "couponNeeded": True}


@pytest.fixture(scope="module", autouse=True)
def goods(shared_world: World) -> None:
    shared_world.catalog.sell("A", "100")


async def why(shop: World, *codes: str, **rest: object) -> list[str]:
    """Why each code is refused."""
    quote = await shop.quote("A", coupon_codes=codes, without_refused_coupons=True, **rest)
    return [each.why for each in quote.refused_coupons]


async def test_a_promotion_that_needs_a_coupon_applies_for_its_codes_alone(shop: World) -> None:
    await shop.coupon(await shop.promote(**TEN), "Summer-26")
    assert off(await shop.quote("A")) == [0]
    for text in ("SUMMER26", "summer-26", " Sum mer\u201326 ", "ｓｕｍｍｅｒ２６"):
        quote = await shop.quote("A", coupon_codes=[text])
        assert off(quote) == [1000]
        assert quote.discounts[0].code == "SUMMER26"


async def test_a_coupon_that_cannot_be_used_refuses_the_quote_or_is_named_in_it(shop: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.quote("A", coupon_codes=["nonsense"])
    assert reason(error.value) == "COUPON_REFUSED"
    assert "NONSENSE" in status_of(error.value).message
    assert await why(shop, "nonsense", "no code at all!") == ["unknown", "unknown"]


async def test_each_reason_of_a_refused_coupon_has_its_name(shop: World) -> None:
    cases = {
        "not_active": {"draft": True},
        "expired": {"validTo": "2001-01-01T00:00:00Z"},
        "not_yet_valid": {"validFrom": "2999-01-01T00:00:00Z"},
        "segment": {"segments": ["vip"]},
        "country": {"countries": ["FR"]},
        "currency": {"currency": "USD"},
        "condition": {"condition": "order.units > 5"},
        "nothing_to_discount": {"target": {"skus": ["B"]}},
        "customer_needed": {"limits": {"usesPerCustomerMax": "1"}},
    }
    for n, settings in enumerate(cases.values()):
        await shop.coupon(await shop.promote(**TEN, **settings), f"CODE{n}")
    for n, name in enumerate(cases):
        assert await why(shop, f"CODE{n}", country="DE") == [name]


async def test_a_second_code_of_the_same_promotion_counts_for_nothing(shop: World) -> None:
    promotion_id = await shop.promote(**TEN)
    await shop.coupon(promotion_id, "FIRST")
    await shop.coupon(promotion_id, "SECOND")
    quote = await shop.quote("A", coupon_codes=["FIRST", "first", "SECOND"], without_refused_coupons=True)
    assert off(quote) == [1000]
    assert [(each.code, each.why) for each in quote.refused_coupons] == [("SECOND", "excluded")]


async def test_a_code_is_used_as_often_as_it_says(shop: World) -> None:
    promotion_id = await shop.promote(**TEN, limits={"usesPerCouponMax": "1"})
    await shop.coupon(promotion_id, "ONCE")
    await shop.coupon(promotion_id, "TWICE", uses_max=2)
    await shop.redeem(await shop.quote("A", coupon_codes=["once"]))
    assert await why(shop, "ONCE") == ["exhausted"]
    for _ in range(2):
        await shop.redeem(await shop.quote("A", coupon_codes=["twice"]))
    assert await why(shop, "TWICE") == ["exhausted"]


async def test_a_revoked_code_is_worthless_even_for_a_quote_that_has_it(shop: World) -> None:
    await shop.coupon(await shop.promote(**TEN), "LEAKED")
    quote = await shop.quote("A", coupon_codes=["LEAKED"])
    revoke = pb.RevokeCouponRequest(code="leaked")
    for _ in range(2):
        assert (await shop.coupons.RevokeCoupon(revoke, metadata=shop.me)).coupon.revoked
    assert await why(shop, "LEAKED") == ["not_active"]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.redeem(quote)
    assert reason(error.value) == "PROMOTION_EXHAUSTED"


async def test_a_code_has_its_own_end(shop: World) -> None:
    promotion_id = await shop.promote(**TEN)
    request = pb.CreateCouponRequest(promotion_id=promotion_id, code="BRIEF")
    request.valid_to.FromDatetime(datetime(2999, 1, 1, tzinfo=UTC))
    await shop.coupons.CreateCoupon(request, metadata=shop.me)
    assert await why(shop, "BRIEF") == []
    assert await why(shop, "BRIEF", at=datetime(2999, 1, 1, tzinfo=UTC)) == ["expired"]
    request.code = "PAST1"
    request.valid_to.FromDatetime(datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.coupons.CreateCoupon(request, metadata=shop.me)
    assert reason(error.value) == "VALIDITY_REFUSED"


async def test_a_code_is_of_one_promotion_for_ever(shop: World) -> None:
    promotion_id = await shop.promote(**TEN)
    made = await shop.coupon(promotion_id, "TAKEN-1")
    assert await shop.coupon(promotion_id, "taken1") == made
    for other, uses_max in ((await shop.promote(**TEN), 0), (promotion_id, 5)):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await shop.coupon(other, "TAKEN1", uses_max=uses_max)
        assert reason(error.value) == "COUPON_CODE_TAKEN"


@pytest.mark.parametrize("code", ["--- -", "A!B", "ÄÖÜ", "x" * 41], ids=["empty", "sign", "umlauts", "long"])
async def test_what_is_no_code_is_refused(shop: World, code: str) -> None:
    promotion_id = await shop.promote(**TEN)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.coupon(promotion_id, code)
    assert reason(error.value) == "CODE_REFUSED"
    assert "code" in broken_fields(error.value)


async def test_codes_are_made_by_the_thousand_once_for_each_batch(shop: World) -> None:
    promotion_id = await shop.promote(**TEN)
    request = pb.GenerateCouponsRequest(
        promotion_id=promotion_id, batch_id=str(uuid4()), coupons=12_345, prefix="we-ft"
    )
    for _ in range(2):
        assert (await shop.coupons.GenerateCoupons(request, metadata=shop.me)).coupons == 12_345
    count = "select count(*) from coupon where batch_id = $1"
    assert await shop.lab.db("pricing").fetchval(count, request.batch_id) == 12_345
    page = await shop.coupons.ListCoupons(
        pb.ListCouponsRequest(promotion_id=promotion_id, filter=f'batch_id = "{request.batch_id}"'),
        metadata=shop.me,
    )
    code = page.coupons[0].code
    assert code.startswith("WEFT")
    assert len(code) == 16
    assert page.next_page_token
    await shop.redeem(await shop.quote("A", coupon_codes=[code.lower()]))
    assert await why(shop, code) == ["exhausted"]
    found = (await shop.coupons.GetCoupon(pb.GetCouponRequest(code=code), metadata=shop.me)).coupon
    assert (found.uses, found.uses_max) == (1, 1)
    request.coupons = 5
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.coupons.GenerateCoupons(request, metadata=shop.me)
    assert reason(error.value) == "BATCH_ID_REUSED"


async def test_no_codes_for_what_is_unknown_or_archived(shop: World) -> None:
    gone = await shop.promote(**TEN)
    archive = promotion_pb2.ArchivePromotionRequest(promotion_id=gone)
    await shop.promotions.ArchivePromotion(archive, metadata=shop.me)
    for promotion_id, name in ((str(uuid4()), "UNKNOWN_PROMOTION"), (gone, "PROMOTION_ARCHIVED")):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await shop.coupon(promotion_id, "NEVER")
        assert reason(error.value) == name
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.coupons.GetCoupon(pb.GetCouponRequest(code="NEVER"), metadata=shop.me)
    assert reason(error.value) == "UNKNOWN_COUPON"
