"""Usage: counted once, in the right period, added up as its meter says."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import uuid4

import grpc.aio
import pytest
from hypothesis import given, strategies as st

from services.billing.domain.charge import (
    Charge,
    Model,
    Tier,
    Usage,
    graduated,
    percentages,
    usage_cost,
    volume,
)
from services.chassis.testing import reason
from tests.billing.plans import metered as rule
from tests.billing.world import NOW, World, amounts, flat, metered, stamp
from weft.billing.v1 import usage_pb2 as pb


async def record(world: World, *events: pb.UsageEvent) -> int:
    request = pb.RecordUsageRequest(events=events)
    return int((await world.usage.RecordUsage(request, metadata=world.staff)).recorded)


async def subscribed(world: World, **charge: str) -> tuple[str, str]:
    customer_id = await world.customer()
    sub = await world.subscribe(customer_id, await world.plan(metered("1", **charge)))
    return customer_id, sub.subscription_id


async def test_an_event_that_comes_again_counts_once(billing_world: World) -> None:
    customer_id, sub = await subscribed(billing_world)
    event = pb.UsageEvent(subscription_id=sub, event_id="a", meter="calls", value="5")
    counts = await asyncio.gather(*(record(billing_world, event, event) for _ in range(16)))
    assert sum(counts) == 1
    other = pb.UsageEvent(subscription_id=sub, event_id="a", meter="calls", value="6")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await record(billing_world, other)
    assert reason(refused.value) == "USAGE_ID_REUSED"
    await billing_world.pass_time(days=28)
    (invoice,) = await billing_world.billed(customer_id, 1)
    assert amounts(invoice.lines) == [500]


async def test_late_events_are_billed_with_the_next_invoice_and_never_twice(billing_world: World) -> None:
    customer_id, sub = await subscribed(billing_world)
    early = billing_world.clock.now() + timedelta(days=1)
    await billing_world.pass_time(days=2)
    await billing_world.used(sub, "1", time=stamp(early))
    await billing_world.pass_time(days=26)
    await billing_world.billed(customer_id, 1)
    await billing_world.used(sub, "10", time=stamp(early))
    await billing_world.pass_time(days=28)
    found = await billing_world.billed(customer_id, 2)
    assert [amounts(each.lines) for each in found] == [[100], [1000]]


async def test_each_aggregation_sees_the_same_events_in_its_own_way(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    ways = ("SUM", "COUNT", "MAX", "UNIQUE", "LAST")
    charges = [metered("1", code=way.lower(), aggregation=f"METER_AGGREGATION_{way}") for way in ways]
    sub = await billing_world.subscribe(customer_id, await billing_world.plan(*charges))
    start = billing_world.clock.now()
    await billing_world.pass_time(days=1)
    for number, (value, key) in enumerate([("7", "x"), ("2.5", "y"), ("4", "x")]):
        at = stamp(start + timedelta(hours=3 - number))  # The last to come happened first.
        await billing_world.used(sub.subscription_id, value, unique_key=key, time=at)
    request = pb.GetUsageRequest(subscription_id=sub.subscription_id)
    shown = await billing_world.usage.GetUsage(request, metadata=billing_world.staff)
    assert [each.units for each in shown.charges] == ["13.5", "3", "7", "2", "7"]
    await billing_world.pass_time(days=27)
    (invoice,) = await billing_world.billed(customer_id, 1)
    assert amounts(invoice.lines) == [1350, 300, 700, 200, 700]


async def test_a_change_of_plan_bills_usage_by_the_terms_that_held(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    old, new = await billing_world.plan(flat("1"), metered("1")), await billing_world.plan(metered("2"))
    sub = await billing_world.subscribe(customer_id, old)
    await billing_world.used(sub.subscription_id, "3")
    await billing_world.pass_time(days=14)
    changed = await billing_world.change(sub.subscription_id, plan_id=new, effective_from=NOW)
    assert amounts(changed.invoice.lines) == [-50, 300]
    await billing_world.used(sub.subscription_id, "5")
    await billing_world.pass_time(days=14)
    *_, last = await billing_world.billed(customer_id, 3)
    assert amounts(last.lines) == [1000]


@pytest.mark.parametrize(
    ("days", "rule"), [(-70, "USAGE_REFUSED"), (1, "USAGE_REFUSED")], ids=["too-old", "to-come"]
)
async def test_events_of_no_time_of_ours_are_refused(billing_world: World, days: int, rule: str) -> None:
    _, sub = await subscribed(billing_world)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        at = stamp(billing_world.clock.now() + timedelta(days=days))
        await billing_world.used(sub, "1", time=at)
    assert reason(refused.value) == rule


async def test_of_a_batch_with_a_stranger_nothing_is_recorded(billing_world: World) -> None:
    _, sub = await subscribed(billing_world)
    good = pb.UsageEvent(subscription_id=sub, event_id="a", meter="calls")
    bad = pb.UsageEvent(subscription_id=str(uuid4()), event_id="b", meter="calls")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await record(billing_world, good, bad)
    assert reason(refused.value) == "UNKNOWN_SUBSCRIPTION"
    assert await record(billing_world, good) == 1


async def test_usage_and_bill_that_race_lose_and_double_nothing(billing_world: World) -> None:
    customer_id, sub = await subscribed(billing_world)
    await billing_world.pass_time(days=27, hours=23, minutes=59)
    before = stamp(billing_world.clock.now())
    await billing_world.used(sub, "1")
    racing = [billing_world.used(sub, "1", time=before) for _ in range(40)]
    await asyncio.gather(*racing[:20], billing_world.later(minutes=2), *racing[20:])
    await billing_world.used(sub, "1")
    await billing_world.pass_time(days=28)
    found = await billing_world.billed(customer_id, 2)
    assert sum(sum(amounts(each.lines)) for each in found) == 4200


values = st.integers(0, 10**7).map(lambda n: Decimal(n) / 100)
steps_of = st.lists(st.integers(1, 10**5), min_size=0, max_size=5, unique=True).map(sorted)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    bounds = [Decimal(bound) for bound in draw(steps_of)]
    return tuple(Tier(bound, draw(values), draw(values)) for bound in [*bounds, None])


@given(tiers(), st.integers(0, 2 * 10**5), st.integers(0, 100))
def test_graduated_costs_never_fall_and_start_at_nothing(
    given: tuple[Tier, ...], units: int, more: int
) -> None:
    assert graduated(given, Decimal(0)) == 0
    assert graduated(given, Decimal(units)) <= graduated(given, Decimal(units + more))


@given(values, st.integers(0, 10**6))
def test_one_tier_is_the_same_in_both_ways(price: Decimal, units: int) -> None:
    one = (Tier(None, price),)
    assert graduated(one, Decimal(units)) == volume(one, Decimal(units))


@given(st.lists(values, max_size=20), st.integers(0, 5), values)
def test_free_events_and_amounts_only_ever_lessen_a_percentage(
    events: list[Decimal], free_events: int, free_amount: Decimal
) -> None:
    charge = rule(model=Model.PERCENTAGE, rate=Decimal("1.5"), fixed=Decimal("0.1"))
    usage = Usage(len(events), sum(events, Decimal(0)), events=events)
    _, whole = usage_cost(charge, usage)
    free = rule(
        model=Model.PERCENTAGE,
        rate=Decimal("1.5"),
        fixed=Decimal("0.1"),
        free_events=free_events,
        free_amount=free_amount,
    )
    assert 0 <= usage_cost(free, usage)[1] <= whole


def test_the_event_that_passes_the_free_amount_pays_for_what_lies_beyond() -> None:
    charge: Charge = rule(
        model=Model.PERCENTAGE, rate=Decimal(10), fixed=Decimal("0.10"), free_amount=Decimal(100)
    )
    fees = list(percentages(charge, [Decimal(60), Decimal(60), Decimal(10)]))
    assert fees == [0, Fraction(21, 10), Fraction(11, 10)]
