"""Dunning: attempts, reminders and standings in their order, each once, over with the payment."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, strategies as st

from services.billing.domain.dunning import DEFAULT, Policy, StepKind, steps
from services.billing.domain.profile import Collection
from services.chassis.testing import reason
from tests.billing.world import START, World, flat, metered, state
from weft.billing.v1 import dunning_pb2 as pb, invoice_messages_pb2
from weft.identity.v1.events_pb2 import UserDeleted

AUTOMATIC: dict[str, Any] = {"netDays": 0, "taxExempt": True}
SENT: dict[str, Any] = {"netDays": 14, "collection": "COLLECTION_SENT", "taxExempt": True}


async def chase(world: World, invoice_id: str) -> pb.Dunning:
    request = pb.GetDunningRequest(invoice_id=invoice_id)
    found: pb.Dunning = (await world.dunning.GetDunning(request, metadata=world.staff)).dunning
    return found


async def done(world: World, invoice_id: str, *wanted: tuple[str, str]) -> pb.Dunning:
    """Waits until the actions stand so, in their order."""

    async def there() -> pb.Dunning | None:
        found = await chase(world, invoice_id)
        now = [(action.kind, action.state) for action in found.actions]
        return found if now == list(wanted) else None

    found: pb.Dunning = await world.settles(there)
    return found


async def stands(world: World, customer_id: str, wanted: str) -> None:
    async def there() -> bool:
        return await world.standing(customer_id) == wanted

    await world.settles(there)


async def becomes(world: World, invoice_id: str, wanted: str) -> invoice_messages_pb2.Invoice:
    async def there() -> invoice_messages_pb2.Invoice | None:
        found = await world.invoice(invoice_id)
        return found if state(found) == wanted else None

    found: invoice_messages_pb2.Invoice = await world.settles(there)
    return found


async def owing(world: World, **terms: Any) -> invoice_messages_pb2.Invoice:
    """An invoice of a customer with a method."""
    customer_id = await world.customer(**{**AUTOMATIC, **terms})
    world.payment.methods[customer_id] = str(uuid4())
    return await world.finalise(await world.draft(customer_id, {"price": "10"}))


@pytest.fixture
def world(billing_world: World) -> World:
    billing_world.payment.decline, billing_world.payment.pays = "", True
    return billing_world


async def test_the_method_is_charged_and_the_payment_pays(world: World) -> None:
    invoice = await owing(world)
    paid = await becomes(world, invoice.invoice_id, "PAID")
    assert [payment.gateway for payment in paid.payments] == ["sandbox"]
    found = await done(world, invoice.invoice_id, ("ATTEMPT", "DONE"))
    assert found.outcome == "PAID"
    request = world.payment.intents[found.actions[0].action_id]
    assert request.reference == f"invoice:{invoice.invoice_id}"
    assert (request.amount.amount_minor, request.confirm) == (1000, True)


async def test_the_wallet_is_asked_first_and_credit_before_it(world: World) -> None:
    invoice = await world.open_invoice("5", **AUTOMATIC)
    await world.pay(invoice.invoice_id, 700)
    world.payment.wallets[invoice.customer_id] = 800
    following = await world.finalise(await world.draft(invoice.customer_id, {"price": "10"}))
    assert following.amount_due.amount_minor == 800
    found = await done(world, following.invoice_id, ("ATTEMPT", "DONE"))
    assert world.payment.intents[found.actions[0].action_id].WhichOneof("source") == "kind"


async def test_declined_attempts_are_spaced_and_standing_falls_until_it_is_paid(world: World) -> None:
    world.payment.decline = "insufficient_funds"
    invoice = await owing(world)
    attempt, remind = ("ATTEMPT", "FAILED"), ("REMIND", "DONE")
    found = await done(world, invoice.invoice_id, attempt)
    assert found.actions[0].detail == "insufficient_funds"
    assert await world.standing(invoice.customer_id) == "GOOD"
    await world.pass_time(days=1)
    await done(world, invoice.invoice_id, attempt, remind)
    await stands(world, invoice.customer_id, "OVERDUE")
    mail = world.mail.sent[(await chase(world, invoice.invoice_id)).actions[1].action_id]
    assert (mail.recipient.address, mail.values["number"]) == ("ann@example.com", invoice.number)
    await world.pass_time(days=2)
    await done(world, invoice.invoice_id, attempt, remind, attempt)
    await world.pass_time(days=2)
    await world.pass_time(days=2)
    await stands(world, invoice.customer_id, "BLOCKED")
    await world.pass_time(days=7)
    await stands(world, invoice.customer_id, "SUSPENDED")
    assert await world.told("ServiceSuspended", invoice.customer_id) == 1
    world.payment.decline = ""
    await world.pay(invoice.invoice_id, 1000)
    assert await world.standing(invoice.customer_id) == "GOOD"
    assert await world.told("ServiceResumed", invoice.customer_id) == 1
    assert await world.told("DunningFinished", invoice.invoice_id) == 1
    assert await world.told("InvoiceOverdue", invoice.invoice_id) == 1
    assert not (await chase(world, invoice.invoice_id)).HasField("next_time")


async def test_who_is_blocked_changes_no_plan_until_it_has_paid(world: World) -> None:
    world.payment.decline = "insufficient_funds"
    customer_id = await world.customer(**AUTOMATIC)
    plan_id, dearer = await world.plan(flat("10")), await world.plan(flat("20"))
    sub = await world.subscribe(customer_id, plan_id)
    await world.pass_time(days=8)
    await stands(world, customer_id, "BLOCKED")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.change(sub.subscription_id, plan_id=dearer)
    assert reason(refused.value) == "CHANGES_BLOCKED"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.subscribe(customer_id, plan_id)
    assert reason(refused.value) == "CHANGES_BLOCKED"
    await world.pay(sub.last_invoice_id, 1000)
    changed = await world.change(sub.subscription_id, plan_id=dearer)
    assert changed.subscription.plan_id == dearer


async def test_of_two_overdue_invoices_both_are_paid_before_the_standing_is_good(world: World) -> None:
    world.payment.decline = "insufficient_funds"
    first = await owing(world)
    second = await world.finalise(await world.draft(first.customer_id, {"price": "3"}))
    await world.pass_time(days=15)
    await stands(world, first.customer_id, "SUSPENDED")
    await world.pay(first.invoice_id, 1000)
    assert await world.standing(first.customer_id) == "SUSPENDED"
    await world.pay(second.invoice_id, 300)
    assert await world.standing(first.customer_id) == "GOOD"
    assert await world.told("ServiceResumed", first.customer_id) == 1


async def test_who_pays_by_itself_is_reminded_before_and_after_and_never_charged(world: World) -> None:
    invoice = await world.open_invoice("10", **SENT)
    await world.pass_time(days=11)
    await done(world, invoice.invoice_id, ("REMIND", "DONE"))
    await world.pass_time(days=4)
    found = await done(world, invoice.invoice_id, ("REMIND", "DONE"), ("REMIND", "DONE"))
    early, late = (world.mail.sent[action.action_id] for action in found.actions)
    assert (early.values["late"], late.values["late"]) == ("", "1")
    assert not any(
        intent.reference == f"invoice:{invoice.invoice_id}" for intent in world.payment.intents.values()
    )


async def test_after_an_outage_of_weeks_one_reminder_comes_and_not_all(world: World) -> None:
    invoice = await world.open_invoice("10", **SENT)
    await world.pass_time(days=29)
    await done(world, invoice.invoice_id, ("REMIND", "DONE"))
    await stands(world, invoice.customer_id, "SUSPENDED")


async def test_an_answer_that_was_lost_charges_nobody_twice(world: World) -> None:
    world.payment.loses = 1
    world.payment.pays = False
    invoice = await owing(world)

    async def asked() -> bool:
        return world.payment.loses == 0

    await world.settles(asked)
    await world.pass_time(minutes=6)
    found = await done(world, invoice.invoice_id, ("ATTEMPT", "CALLED"))
    mine = [i for i in world.payment.intents.values() if i.customer_id == invoice.customer_id]
    assert len(mine) == 1
    await world.payment.capture(found.actions[0].action_id, capture_id=str(uuid4()), times=3)
    paid = await becomes(world, invoice.invoice_id, "PAID")
    assert len(paid.payments) == 1


async def test_while_one_attempt_is_open_no_other_is_made(world: World) -> None:
    world.payment.pays = False
    invoice = await owing(world)
    await done(world, invoice.invoice_id, ("ATTEMPT", "CALLED"))
    collect = invoice_messages_pb2.CollectInvoiceRequest(invoice_id=invoice.invoice_id)
    await world.invoices.CollectInvoice(collect, metadata=world.staff)
    assert len((await chase(world, invoice.invoice_id)).actions) == 1
    await world.payment.fail((await chase(world, invoice.invoice_id)).actions[0].action_id, "expired_card")
    await done(world, invoice.invoice_id, ("ATTEMPT", "FAILED"))
    await world.invoices.CollectInvoice(collect, metadata=world.staff)
    await done(world, invoice.invoice_id, ("ATTEMPT", "FAILED"), ("ATTEMPT", "CALLED"))


async def test_what_comes_after_a_payment_was_given_up_pays_nothing(world: World) -> None:
    world.payment.pays = False
    invoice = await owing(world)
    found = await done(world, invoice.invoice_id, ("ATTEMPT", "CALLED"))
    intent_id = found.actions[0].action_id
    await world.payment.cancel(intent_id)
    await done(world, invoice.invoice_id, ("ATTEMPT", "FAILED"))
    await world.payment.capture(intent_id)
    await world.payment.refund(intent_id, 1000, "late")
    other = await owing(world)  # Of the same consumers, and later.
    await world.payment.capture(
        (await done(world, other.invoice_id, ("ATTEMPT", "CALLED"))).actions[0].action_id
    )
    await becomes(world, other.invoice_id, "PAID")
    assert state(await world.invoice(invoice.invoice_id)) == "OPEN"


async def test_a_refund_spends_the_credit_that_stood_for_it(world: World) -> None:
    invoice = await owing(world)
    await becomes(world, invoice.invoice_id, "PAID")
    await world.credit(invoice.invoice_id)
    sql = "select coalesce(sum(remaining), 0) from credit where customer_id = $1"
    assert await world.db.fetchval(sql, UUID(invoice.customer_id)) == 1000
    await world.payment.refund((await chase(world, invoice.invoice_id)).actions[0].action_id, 1000)

    async def spent() -> bool:
        return bool(await world.db.fetchval(sql, UUID(invoice.customer_id)) == 0)

    await world.settles(spent)


async def test_a_policy_of_its_own_writes_off(world: World) -> None:
    policy = ParseDict(
        {"title": "Short", "attemptDays": [0], "blockDays": 1, "giveUpDays": 3, "writeOff": True},
        pb.DunningPolicy(policy_id=str(uuid4())),
    )
    create = pb.CreateDunningPolicyRequest(policy=policy)
    for _ in range(2):
        made = await world.dunning.CreateDunningPolicy(create, metadata=world.staff)
        assert made.policy == policy
    world.payment.decline = "lost_card"
    invoice = await owing(world, dunningPolicyId=policy.policy_id)
    await world.pass_time(days=4)
    await becomes(world, invoice.invoice_id, "UNCOLLECTIBLE")
    assert (await chase(world, invoice.invoice_id)).outcome == "WRITTEN_OFF"
    create.policy.give_up_days, create.policy.suspend_days = 1, 2
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.dunning.CreateDunningPolicy(create, metadata=world.staff)
    assert reason(refused.value) == "DUNNING_POLICY_REFUSED"


async def test_of_somebody_who_left_the_address_goes_and_the_invoice_stays(world: World) -> None:
    invoice = await world.open_invoice()
    sub = await world.subscribe(invoice.customer_id, await world.plan(flat("5"), metered("1")))
    await world.used(sub.subscription_id, "3")
    await world.lab.announce(UserDeleted(user_id=invoice.customer_id))

    async def gone() -> bool:
        return not (await world.invoice(invoice.invoice_id)).address.email

    await world.settles(gone)
    assert (await world.invoice(invoice.invoice_id)).address.name == "Ann Example"
    assert (await world.subscription(sub.subscription_id)).HasField("end_time")
    *_, last = await world.invoices_of(invoice.customer_id)
    assert (last.net.amount_minor, last.address.name) == (300, "Ann Example"), "what was used is owed"
    sql = "select count(*) from billing_party where customer_id = $1"
    assert await world.db.fetchval(sql, UUID(invoice.customer_id)) == 0


@given(
    st.sets(st.integers(0, 60), max_size=6),
    st.sets(st.integers(-30, 60), max_size=6),
    st.sampled_from(Collection),
)
def test_steps_come_in_order_and_end_with_giving_up(
    attempts: set[int], reminders: set[int], collection: Collection
) -> None:
    policy = Policy(tuple(attempts), tuple(reminders), block=20, suspend=30, give_up=60)
    due_at = START + timedelta(days=14)
    planned = steps(policy, collection, START, due_at)
    assert planned == sorted(planned, key=lambda step: step.at)
    kinds = [step.kind for step in planned]
    assert [kinds.count(kind) for kind in list(StepKind)[2:]] == [1, 1, 1, 1]
    assert kinds.index(StepKind.OVERDUE) < kinds.index(StepKind.BLOCK) < kinds.index(StepKind.SUSPEND)
    assert kinds[-1] is StepKind.GIVE_UP
    assert (StepKind.ATTEMPT in kinds) == bool(attempts and collection is Collection.AUTOMATIC)


def test_the_default_policy_holds_its_own_rules() -> None:
    planned = steps(DEFAULT, Collection.AUTOMATIC, START, START)
    days = [((step.at - START).days, step.kind.value) for step in planned]
    assert days[:3] == [(0, "ATTEMPT"), (1, "REMIND"), (1, "OVERDUE")]
    assert days[-1] == (30, "GIVE_UP")
