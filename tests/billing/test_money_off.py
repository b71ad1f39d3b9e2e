"""Coupons and credit: their order, their limits under parallel use, and what they never do."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, strategies as st

from services.billing.domain.coupon import Discount
from services.billing.domain.credit import Balance
from services.billing.domain.totals import Line
from services.chassis.testing import reason
from tests.billing.plans import line, taxed
from tests.billing.world import World, flat, stamp
from weft.billing.v1 import coupon_pb2, credit_pb2

ONCE, FOREVER = "COUPON_DURATION_ONCE", "COUPON_DURATION_FOREVER"


async def coupon(world: World, **given: Any) -> str:
    """Makes one. Returns its code."""
    code = f"C{uuid4().hex[:10].upper()}"
    made = ParseDict({"couponId": str(uuid4()), "code": code, "title": "Off", **given}, coupon_pb2.Coupon())
    await world.coupons.CreateCoupon(coupon_pb2.CreateCouponRequest(coupon=made), metadata=world.staff)
    return code


async def redeem(world: World, code: str, customer_id: str, **rest: str) -> coupon_pb2.CouponRedemption:
    request = coupon_pb2.RedeemCouponRequest(
        **{"redemption_id": str(uuid4()), "code": code, "customer_id": customer_id, **rest}
    )
    await world.pass_time(seconds=1)  # Who came first takes off first.
    made: coupon_pb2.CouponRedemption = (
        await world.coupons.RedeemCoupon(request, metadata=world.staff)
    ).redemption
    return made


async def grant(world: World, customer_id: str, minor: int, **rest: Any) -> None:
    request = credit_pb2.GrantCreditRequest(credit_id=str(uuid4()), customer_id=customer_id, **rest)
    request.amount.amount_minor, request.amount.currency = minor, "EUR"
    await world.credits.GrantCredit(request, metadata=world.staff)


async def test_64_redeem_the_last_three_and_three_have_it(billing_world: World) -> None:
    code = await coupon(billing_world, percent="10", redemptionsMax=3)
    customers = [await billing_world.customer() for _ in range(8)]
    results = await asyncio.gather(
        *(redeem(billing_world, code, customers[n % 8]) for n in range(64)), return_exceptions=True
    )
    assert sum(not isinstance(each, BaseException) for each in results) == 3
    refused = {reason(each) for each in results if isinstance(each, grpc.aio.AioRpcError)}
    assert refused == {"COUPON_EXHAUSTED"}


async def test_a_customer_redeems_as_often_as_it_may(billing_world: World) -> None:
    code = await coupon(billing_world, percent="10", perCustomerMax=1)
    customer_id = await billing_world.customer()
    first = await redeem(billing_world, code, customer_id)
    again = await redeem(billing_world, code, customer_id, redemption_id=first.redemption_id)
    assert again == first
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await redeem(billing_world, code, customer_id)
    assert reason(refused.value) == "COUPON_USED_UP"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await redeem(billing_world, code, await billing_world.customer(), redemption_id=first.redemption_id)
    assert reason(refused.value) == "REDEMPTION_ID_REUSED"


async def test_coupons_lie_upon_each_other_and_last_as_long_as_they_say(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("100"))
    repeating = {"duration": "COUPON_DURATION_REPEATING", "invoices": 2}
    await redeem(billing_world, await coupon(billing_world, percent="50", **repeating), customer_id)
    off = {"amountMinor": "1000", "currency": "EUR"}
    await redeem(billing_world, await coupon(billing_world, amount=off, duration=ONCE), customer_id)
    await redeem(billing_world, await coupon(billing_world, percent="10", duration=FOREVER), customer_id)
    await billing_world.subscribe(customer_id, plan_id)
    for _ in range(2):
        await billing_world.pass_time(days=28)
    nets = [each.net.amount_minor for each in await billing_world.billed(customer_id, 3)]
    assert nets == [3600, 4500, 9000]


async def test_a_coupon_of_a_plan_takes_nothing_off_others(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    mine, other = await billing_world.plan(flat("10")), await billing_world.plan(flat("30"))
    await redeem(billing_world, await coupon(billing_world, percent="100", planIds=[mine]), customer_id)
    await billing_world.subscribe(customer_id, other)
    await billing_world.subscribe(customer_id, mine)
    nets = [each.net.amount_minor for each in await billing_world.billed(customer_id, 2)]
    assert nets == [3000, 0]


async def test_credit_pays_what_lapses_soonest_first_and_never_lapsed(billing_world: World) -> None:
    customer_id = await billing_world.customer(taxExempt=True)
    now = billing_world.clock.now()
    await grant(billing_world, customer_id, 500)
    await grant(billing_world, customer_id, 300, expire_time=stamp(now + timedelta(days=30)))
    await grant(billing_world, customer_id, 900, expire_time=stamp(now + timedelta(days=1)))
    await billing_world.pass_time(days=2)
    first = await billing_world.finalise(await billing_world.draft(customer_id, {"price": "4"}))
    assert first.amount_due.amount_minor == 0
    rows = await billing_world.db.fetch(
        "select remaining from credit where customer_id = $1 order by amount", UUID(customer_id)
    )
    assert [row["remaining"] for row in rows] == [0, 400, 900]


async def test_credit_is_spent_once_by_invoices_that_race(billing_world: World) -> None:
    customer_id = await billing_world.customer(taxExempt=True)
    await grant(billing_world, customer_id, 1000)
    drafts = [await billing_world.draft(customer_id, {"price": "3"}) for _ in range(12)]
    made = await asyncio.gather(*map(billing_world.finalise, drafts))
    assert sum(each.credit_applied.amount_minor for each in made) == 1000
    assert sorted(each.credit_applied.amount_minor for each in made)[-4:] == [100, 300, 300, 300]


@pytest.mark.parametrize(
    "given",
    [
        {"percent": "0"},
        {"amount": {"amountMinor": "0", "currency": "EUR"}},
        {"amount": {"amountMinor": "-5", "currency": "EUR"}},
        {"amount": {"amountMinor": "5", "currency": "XAU"}},
        {"percent": "10", "invoices": 3},
    ],
    ids=["nothing", "nothing-off", "negative", "gold", "once-for-three"],
)
async def test_a_coupon_that_cannot_be_is_refused(billing_world: World, given: dict[str, Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await coupon(billing_world, **given)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(refused.value) in ("COUPON_REFUSED", "UNKNOWN_CURRENCY")


def percent(value: int) -> Discount:
    return Discount(uuid4(), Decimal(value), None, "EUR", (), None, None)


def off(minor: int) -> Discount:
    return Discount(uuid4(), None, minor, "EUR", (), None, None)


lines = st.lists(
    st.builds(line, st.integers(-(10**6), 10**6), st.sampled_from(["STANDARD", "REDUCED", "ZERO"])),
    max_size=8,
)
discounts = st.lists(st.one_of(st.integers(1, 100).map(percent), st.integers(1, 10**7).map(off)), max_size=4)
balances = st.lists(st.integers(0, 10**6).map(lambda minor: Balance(uuid4(), minor)), max_size=4)


@given(lines, discounts, balances)
def test_no_invoice_is_below_nothing_and_nothing_is_lost(
    given: list[Line], coupons: list[Discount], credit: list[Balance]
) -> None:
    total, before = sum(each.amount for each in given), sum(each.remaining for each in credit)
    made = taxed(*given, percent="19", discounts=coupons, balances=credit)
    categories = {each.tax_category for each in made.lines}
    for category in categories:
        assert sum(each.net for each in made.lines if each.tax_category == category) >= 0
    assert sum(each.amount for each in (*made.lines, *made.carried)) == total
    assert made.net == sum(each.amount for each in made.lines) - made.discount
    assert all(0 <= each.discount <= max(each.amount, 0) for each in made.lines)
    assert made.due >= 0
    assert made.credited == before - sum(each.remaining for each in credit)
    assert made.due == 0 or sum(each.remaining for each in credit) == 0
