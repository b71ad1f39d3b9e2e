"""Plans and profiles: versions that never change, and terms that cannot be."""

from typing import Any
from uuid import uuid4

import grpc.aio
import pytest

from services.chassis.testing import broken_fields, reason
from tests.billing.world import World, flat, metered, seats, wanted
from weft.billing.v1 import plan_pb2, profile_pb2


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return reason(raised.value)


async def test_who_subscribed_to_a_version_stays_with_it(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("10"))
    first = await billing_world.subscribe(customer_id, plan_id)
    publish = plan_pb2.PublishPlanVersionRequest(plan_id=plan_id, version=2, terms=wanted(flat("12")))
    for _ in range(2):
        made = await billing_world.plans.PublishPlanVersion(publish, metadata=billing_world.staff)
        assert made.plan.newest_version == 2
    second = await billing_world.subscribe(customer_id, plan_id)
    assert (first.plan_version, second.plan_version) == (1, 2)
    await billing_world.pass_time(days=28)
    *_, last = await billing_world.billed(customer_id, 3)
    assert sorted(line.amount.amount_minor for line in last.lines) == [1000, 1200]
    get = plan_pb2.GetPlanRequest(plan_id=plan_id, version=1)
    old = await billing_world.plans.GetPlan(get, metadata=billing_world.staff)
    assert [charge.unit_price for charge in old.plan.terms.charges] == ["10"]
    other = plan_pb2.PublishPlanVersionRequest(plan_id=plan_id, version=2, terms=wanted(flat("13")))
    publish_again = billing_world.plans.PublishPlanVersion(other, metadata=billing_world.staff)
    assert await refused(publish_again) == "PLAN_ID_REUSED"


async def test_an_archived_plan_is_sold_no_more_and_billed_on(billing_world: World) -> None:
    customer_id, plan_id = await billing_world.customer(), await billing_world.plan(flat("10"))
    await billing_world.subscribe(customer_id, plan_id)
    archive = plan_pb2.ArchivePlanRequest(plan_id=plan_id)
    await billing_world.plans.ArchivePlan(archive, metadata=billing_world.staff)
    assert await refused(billing_world.subscribe(customer_id, plan_id)) == "PLAN_HAS_ENDED"
    await billing_world.pass_time(days=28)
    await billing_world.billed(customer_id, 2)


@pytest.mark.parametrize(
    ("charges", "terms"),
    [
        ([metered("1", inAdvance=True)], {}),
        ([metered("1", meter="")], {}),
        ([flat("1", meter="calls")], {}),
        ([flat("1", model="CHARGE_MODEL_PACKAGE")], {}),
        ([flat("1"), flat("2")], {}),
        ([flat("1", minimum="5")], {}),
        ([metered("1", rate="5")], {}),
        ([metered("1", model="CHARGE_MODEL_PERCENTAGE", aggregation="METER_AGGREGATION_MAX")], {}),
        ([seats("1", model="CHARGE_MODEL_VOLUME")], {}),
        ([seats("1", model="CHARGE_MODEL_VOLUME", tiers=[{"upTo": "5", "unitPrice": "1"}])], {}),
        ([seats("1", model="CHARGE_MODEL_GRADUATED", tiers=[{"upTo": "5"}, {"upTo": "5"}, {}])], {}),
        ([seats("1", model="CHARGE_MODEL_GRADUATED", tiers=[{}, {}])], {}),
        ([flat("1")], {"intervalUnit": "INTERVAL_UNIT_YEAR", "intervalCount": 11}),
        ([flat("1")], {"alignment": "ALIGNMENT_CALENDAR", "intervalCount": 3}),
        ([flat("1")], {"currency": "XAU"}),
    ],
    ids=[
        "usage-in-advance", "no-meter", "meter-of-flat", "packages-of-flat", "same-code",
        "minimum-in-advance", "rate-of-standard", "percentage-of-max", "no-tiers",
        "last-tier-ends", "tiers-do-not-rise", "tiers-without-end", "eleven-years",
        "three-calendar-weeks", "gold",
    ],
)  # fmt: skip
async def test_terms_that_cannot_be_are_refused(
    billing_world: World, charges: list[dict[str, Any]], terms: dict[str, Any]
) -> None:
    assert await refused(billing_world.plan(*charges, **terms)) in ("PLAN_REFUSED", "UNKNOWN_CURRENCY")


async def test_a_customer_writes_its_profile_and_not_its_terms(billing_world: World) -> None:
    customer_id = str(uuid4())
    me = billing_world.lab.bearer(customer_id, scope="account")
    put = profile_pb2.PutBillingProfileRequest(
        customer_id=customer_id, country="FR", time_zone="Europe/Paris", vat_number="FR40303265045"
    )
    made = (await billing_world.profiles.PutBillingProfile(put, metadata=me)).profile
    put.etag = made.etag
    put.country = "BE"
    moved = (await billing_world.profiles.PutBillingProfile(put, metadata=me)).profile
    assert (moved.country, moved.etag != made.etag) == ("BE", True)
    stale = billing_world.profiles.PutBillingProfile(put, metadata=me)
    assert await refused(stale) == "ETAG_MISMATCH"
    terms = profile_pb2.SetBillingTermsRequest(customer_id=customer_id)
    terms.terms.tax_exempt = True
    assert await refused(billing_world.profiles.SetBillingTerms(terms, metadata=me)) == "NOT_PERMITTED"
    put.etag, put.time_zone = "", "Mars/Olympus"
    assert await refused(billing_world.profiles.PutBillingProfile(put, metadata=me)) == "UNKNOWN_TIME_ZONE"
    terms.terms.dunning_policy_id = str(uuid4())
    call = billing_world.profiles.SetBillingTerms(terms, metadata=billing_world.staff)
    assert await refused(call) == "UNKNOWN_DUNNING_POLICY"
    put.country = "Germany"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await billing_world.profiles.PutBillingProfile(put, metadata=me)
    assert "country" in broken_fields(raised.value)
