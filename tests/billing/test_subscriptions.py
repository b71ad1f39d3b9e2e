"""Subscriptions from first invoice to last: each period once, each change paid for by its part."""

import asyncio
from datetime import UTC, timedelta
from uuid import uuid4

import grpc.aio
import pytest

from services.chassis.testing import reason
from tests.billing.world import NOW, START, World, amounts, flat, metered, seats, stamp, state
from weft.billing.v1 import subscription_messages_pb2 as pb

MONTHLY = {"intervalUnit": "INTERVAL_UNIT_MONTH", "intervalCount": 1}


async def test_what_is_due_at_once_is_invoiced_with_the_call(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("20", tax="CHARGE_TAX_STANDARD"))
    sub = await billing_world.subscribe(customer_id, plan_id)
    assert sub.state == pb.SUBSCRIPTION_STATE_ACTIVE
    (invoice,) = await billing_world.invoices_of(customer_id)
    assert sub.last_invoice_id == invoice.invoice_id
    assert state(invoice) == "OPEN"
    assert (invoice.net.amount_minor, invoice.tax.amount_minor) == (2000, 380), "19 % in Germany"
    assert invoice.address.name == "Ann Example"


async def test_the_same_call_again_answers_the_same_and_another_is_refused(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("20"))
    request = pb.CreateSubscriptionRequest(
        subscription_id=str(uuid4()), customer_id=customer_id, plan_id=plan_id
    )
    create, staff = billing_world.subscriptions.CreateSubscription, billing_world.staff
    answers = await asyncio.gather(*(create(request, metadata=staff) for _ in range(8)))
    assert len({answer.subscription.last_invoice_id for answer in answers}) == 1
    assert len(await billing_world.invoices_of(customer_id)) == 1
    request.quantity = 2
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await create(request, metadata=staff)
    assert reason(refused.value) == "SUBSCRIPTION_ID_REUSED"


async def test_billing_day_31_bills_on_the_last_day_of_short_months_and_returns(own_world: World) -> None:
    customer_id = await own_world.customer(zone="Europe/Berlin")
    sub = await own_world.subscribe(customer_id, await own_world.plan(flat("10"), **MONTHLY))
    starts = [START]
    for month in range(1, 6):
        period = await own_world.subscription(sub.subscription_id)
        starts.append(period.period_end_time.ToDatetime(UTC))
        own_world.clock.advance((starts[-1] - own_world.clock.now()).total_seconds())
        await own_world.billed(customer_id, month + 1)
    assert [(at.month, at.day, at.hour) for at in starts] == [
        (1, 31, 10),
        (2, 28, 10),
        (3, 31, 9),  # Berlin's clock shows 11 all the year.
        (4, 30, 9),
        (5, 31, 9),
        (6, 30, 9),
    ]


async def test_three_plans_of_one_customer_are_one_invoice(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    soon = billing_world.clock.now() + timedelta(hours=1)
    yearly = await billing_world.plan(flat("500"), intervalUnit="INTERVAL_UNIT_YEAR")
    for plan_id in (await billing_world.plan(flat("40")), await billing_world.plan(flat("60")), yearly):
        await billing_world.subscribe(customer_id, plan_id, start_time=stamp(soon))
    await billing_world.pass_time(hours=2)
    (first,) = await billing_world.billed(customer_id, 1)
    assert sorted(amounts(first.lines)) == [4000, 6000, 50_000]
    await billing_world.pass_time(days=28)
    _, second = await billing_world.billed(customer_id, 2)
    assert sorted(amounts(second.lines)) == [4000, 6000]


async def test_an_upgrade_in_the_middle_is_invoiced_at_once(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    old, new = await billing_world.plan(flat("10")), await billing_world.plan(flat("20"))
    sub = await billing_world.subscribe(customer_id, old)
    await billing_world.pass_time(days=14)
    changed = await billing_world.change(sub.subscription_id, plan_id=new)
    assert amounts(changed.invoice.lines) == [-500, 1000]
    assert changed.invoice.net.amount_minor == 500
    assert changed.subscription.plan_id == new
    assert await billing_world.told("SubscriptionChanged", sub.subscription_id) == 1


async def test_a_downgrade_comes_with_the_next_period_unless_it_is_taken_back(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    dear, cheap = await billing_world.plan(flat("30")), await billing_world.plan(flat("10"))
    sub = await billing_world.subscribe(customer_id, dear)
    changed = await billing_world.change(sub.subscription_id, plan_id=cheap)
    assert changed.subscription.plan_id == dear
    assert changed.subscription.planned.plan_id == cheap
    keep = pb.KeepSubscriptionRequest(subscription_id=sub.subscription_id)
    kept = await billing_world.subscriptions.KeepSubscription(keep, metadata=billing_world.staff)
    assert not kept.subscription.HasField("planned")
    await billing_world.change(sub.subscription_id, plan_id=cheap)
    await billing_world.pass_time(days=28)
    _, second = await billing_world.billed(customer_id, 2)
    assert amounts(second.lines) == [1000]


async def test_what_a_downgrade_at_once_gives_back_lessens_the_next_invoice(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    sub = await billing_world.subscribe(customer_id, await billing_world.plan(flat("40")))
    await billing_world.pass_time(days=14)
    cheap = await billing_world.plan(flat("10"))
    changed = await billing_world.change(sub.subscription_id, plan_id=cheap, effective_from=NOW)
    assert amounts(changed.invoice.lines) == [-500, 500], "no category falls below zero"
    await billing_world.pass_time(days=14)
    *_, third = await billing_world.billed(customer_id, 3)
    assert sorted(amounts(third.lines)) == [-1000, 1000]
    assert state(third) == "PAID"
    await billing_world.pass_time(days=31)
    *_, fourth = await billing_world.billed(customer_id, 4)
    assert sorted(amounts(fourth.lines)) == [-500, 1000], "20.00 were not used, and are given back in all"


async def test_seats_are_paid_from_when_they_are_taken(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("100"), seats("10"))
    sub = await billing_world.subscribe(customer_id, plan_id, quantity=2)
    await billing_world.pass_time(days=14)
    changed = await billing_world.change(sub.subscription_id, quantity=4)
    assert amounts(changed.invoice.lines) == [-1000, 2000], "the flat part is not touched"
    later = await billing_world.change(sub.subscription_id, quantity=5, bill_later=True)
    assert not later.HasField("invoice")
    await billing_world.pass_time(days=14)
    *_, third = await billing_world.billed(customer_id, 3)
    assert sorted(amounts(third.lines)) == [-2000, 2500, 5000, 10_000]


async def test_a_change_that_is_sent_twice_counts_once(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    sub = await billing_world.subscribe(customer_id, await billing_world.plan(seats("10")))
    request = pb.ChangeSubscriptionRequest(
        subscription_id=sub.subscription_id, quantity=3, effective_from=NOW, etag=sub.etag
    )
    change, staff = billing_world.subscriptions.ChangeSubscription, billing_world.staff
    results = await asyncio.gather(
        *(change(request, metadata=staff) for _ in range(6)), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, grpc.aio.AioRpcError)]
    assert len(refused) == 5
    assert {reason(each) for each in refused} == {"ETAG_MISMATCH"}
    assert len(await billing_world.invoices_of(customer_id)) == 2


async def test_a_preview_says_what_a_change_would_bill_and_changes_nothing(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    old, new = await billing_world.plan(flat("10")), await billing_world.plan(flat("20"))
    sub = await billing_world.subscribe(customer_id, old)
    await billing_world.pass_time(days=14)
    request = pb.PreviewChangeRequest(subscription_id=sub.subscription_id, plan_id=new)
    shown = await billing_world.subscriptions.PreviewChange(request, metadata=billing_world.staff)
    assert (shown.amount_minor, shown.upgrade) == (500, True)
    assert (await billing_world.subscription(sub.subscription_id)).etag == sub.etag


async def test_a_trial_is_free_and_ends_in_the_first_period(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("10"), metered("1"), trialDays=14)
    sub = await billing_world.subscribe(customer_id, plan_id)
    assert sub.state == pb.SUBSCRIPTION_STATE_TRIALING
    begun = billing_world.clock.now()
    await billing_world.used(sub.subscription_id, "7")
    await billing_world.pass_time(days=14)
    (first,) = await billing_world.billed(customer_id, 1)
    assert amounts(first.lines) == [1000]
    await billing_world.used(sub.subscription_id, "5", time=stamp(begun))  # Late, and of the trial.
    await billing_world.used(sub.subscription_id, "3")
    await billing_world.pass_time(days=28)
    _, second = await billing_world.billed(customer_id, 2)
    assert sorted(amounts(second.lines)) == [300, 1000]


async def test_a_trial_that_is_cancelled_costs_nothing(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    sub = await billing_world.subscribe(customer_id, await billing_world.plan(flat("10"), trialDays=14))
    cancelled = await billing_world.cancel(sub.subscription_id, now=False)
    assert cancelled.cancel_time == cancelled.trial_end_time
    await billing_world.pass_time(days=14)

    async def ended() -> bool:
        now = await billing_world.subscription(sub.subscription_id)
        return now.state == pb.SUBSCRIPTION_STATE_CANCELLED

    await billing_world.settles(ended)
    assert await billing_world.invoices_of(customer_id) == []


async def test_pause_bills_nothing_and_resume_bills_what_is_left(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("28"), metered("1"))
    sub = await billing_world.subscribe(customer_id, plan_id)
    await billing_world.used(sub.subscription_id, "4")
    pause = pb.PauseSubscriptionRequest(subscription_id=sub.subscription_id)
    paused = await billing_world.subscriptions.PauseSubscription(pause, metadata=billing_world.staff)
    assert paused.subscription.state == pb.SUBSCRIPTION_STATE_PAUSED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await billing_world.used(sub.subscription_id, "1")
    assert reason(refused.value) == "USAGE_REFUSED"
    await billing_world.pass_time(days=28)
    _, usage = await billing_world.billed(customer_id, 2)
    assert amounts(usage.lines) == [400]
    assert not (await billing_world.subscription(sub.subscription_id)).HasField("next_bill_time")
    await billing_world.pass_time(days=62)
    assert len(await billing_world.invoices_of(customer_id)) == 2
    resume = pb.ResumeSubscriptionRequest(subscription_id=sub.subscription_id)
    resumed = (
        await billing_world.subscriptions.ResumeSubscription(resume, metadata=billing_world.staff)
    ).subscription
    assert resumed.state == pb.SUBSCRIPTION_STATE_ACTIVE
    *_, part = await billing_world.billed(customer_id, 3)
    assert (resumed.period_end_time.seconds - sub.period_end_time.seconds) % (28 * 86_400) == 0
    assert part.net.amount_minor == 2200, "6 of 28 days have passed"


async def test_cancel_now_gives_the_unused_part_back_by_a_credit_note(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    plan_id = await billing_world.plan(flat("28", tax="CHARGE_TAX_STANDARD"))
    sub = await billing_world.subscribe(customer_id, plan_id)
    await billing_world.pay(sub.last_invoice_id, 3332)
    await billing_world.pass_time(days=7)
    cancelled = await billing_world.cancel(sub.subscription_id, credit_unused=True)
    assert cancelled.state == pb.SUBSCRIPTION_STATE_CANCELLED
    note = await billing_world.db.fetchrow("select * from credit_note where customer_id = $1", customer_id)
    assert (note["net"], note["tax"], note["to_credit"]) == (2100, 399, 2499)
    again = await billing_world.cancel(sub.subscription_id, credit_unused=True)
    assert again.end_time == cancelled.end_time
    assert await billing_world.told("CreditNoteIssued", sub.last_invoice_id) == 1


async def test_cancel_with_the_period_bills_the_usage_and_no_more(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    sub = await billing_world.subscribe(customer_id, await billing_world.plan(flat("10"), metered("0.5")))
    await billing_world.used(sub.subscription_id, "3", "4")
    await billing_world.cancel(sub.subscription_id, now=False)
    await billing_world.pass_time(days=28)
    _, last = await billing_world.billed(customer_id, 2)
    assert amounts(last.lines) == [350]
    assert await billing_world.told("SubscriptionCancelled", sub.subscription_id) == 1


async def test_after_a_long_outage_each_period_is_billed_once(own_world: World) -> None:
    customer_id = await own_world.customer()
    await own_world.subscribe(customer_id, await own_world.plan(flat("10"), **MONTHLY))
    await own_world.pass_time(days=119)
    found = await own_world.billed(customer_id, 4)
    starts = [each.lines[0].service_start_time.ToDatetime(UTC) for each in found]
    assert [(at.month, at.day) for at in starts] == [(1, 31), (2, 28), (3, 31), (4, 30)]
    assert await own_world.numbers() == [1, 2, 3, 4]
