"""Lost disputes: what a payment had covered is owed again, once, in whatever order it is heard of."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from services.billing.domain.dispute import takeable
from services.billing.domain.dunning import DEFAULT, StepKind, begun_again
from tests.billing.test_dunning import becomes, chase, done, owing, stands
from tests.billing.world import START, World, stamp, state
from weft.billing.v1 import invoice_messages_pb2, statement_pb2


@pytest.fixture
def world(billing_world: World) -> World:
    billing_world.payment.decline, billing_world.payment.pays = "", True
    return billing_world


def applied(invoice: invoice_messages_pb2.Invoice) -> list[int]:
    return sorted(each.applied.amount_minor for each in invoice.payments)


async def statement(world: World, customer_id: str) -> list[tuple[str, int, int]]:
    """Kinds, amounts and balances."""
    request = statement_pb2.GetStatementRequest(customer_id=customer_id, currency="EUR")
    request.start_time.CopyFrom(stamp(START))
    request.end_time.CopyFrom(stamp(world.clock.now() + timedelta(seconds=1)))
    found = await world.statements.GetStatement(request, metadata=world.staff)
    kind = statement_pb2.StatementEntryKind.Name
    return [
        (kind(each.kind).rpartition("_")[2], each.amount.amount_minor, each.balance.amount_minor)
        for each in found.entries
    ]


async def heard(world: World, type_name: str, key: str, count: int = 1) -> None:
    async def there() -> bool:
        return await world.told(type_name, key) == count

    await world.settles(there)


async def test_a_lost_dispute_opens_the_invoice_again_and_its_customer_is_reminded_and_not_charged(
    world: World,
) -> None:
    world.payment.decline = "insufficient_funds"
    invoice = await owing(world)
    failed, reminded = ("ATTEMPT", "FAILED"), ("REMIND", "DONE")
    intent_id = (await done(world, invoice.invoice_id, failed)).actions[0].action_id
    await world.pass_time(days=1)
    await done(world, invoice.invoice_id, failed, reminded)
    await world.payment.capture(intent_id)
    await becomes(world, invoice.invoice_id, "PAID")
    await stands(world, invoice.customer_id, "GOOD")
    dispute_id = await world.payment.lose(intent_id, 400, times=3)
    opened = await becomes(world, invoice.invoice_id, "OPEN")
    assert (opened.amount_due.amount_minor, opened.HasField("paid_time")) == (400, False)
    await world.pass_time(days=1)
    found = await done(world, invoice.invoice_id, failed, reminded, reminded)
    assert (found.outcome, found.HasField("next_time")) == ("", True)
    await stands(world, invoice.customer_id, "OVERDUE")
    await world.payment.lose(intent_id, 400, dispute_id)
    await world.pay(invoice.invoice_id, 400)
    assert await world.standing(invoice.customer_id) == "GOOD"
    kinds = [("INVOICE", 1000, 1000), ("PAYMENT", -1000, 0), ("DISPUTE", 400, 400), ("PAYMENT", -400, 0)]
    assert await statement(world, invoice.customer_id) == kinds
    assert await world.told("InvoiceReopened", invoice.invoice_id) == 1
    assert await world.told("InvoicePaid", invoice.invoice_id) == 2
    assert await world.told("DunningFinished", invoice.invoice_id) == 2
    mine = [each for each in world.payment.intents.values() if each.customer_id == invoice.customer_id]
    assert len(mine) == 1, "who had its bank take a payment back is not charged again"


async def test_a_dispute_that_is_heard_of_before_its_payment_waits_for_it(world: World) -> None:
    world.payment.pays = False
    invoice = await owing(world)
    intent_id = (await done(world, invoice.invoice_id, ("ATTEMPT", "CALLED"))).actions[0].action_id
    await world.pay(invoice.invoice_id, 400)
    dispute_id = await world.payment.lose(intent_id, 600, times=2)
    sql = "select taken from lost_dispute where dispute_id = $1"

    async def noted() -> bool:
        return bool(await world.db.fetchval(sql, dispute_id) == 0)

    await world.settles(noted)
    assert (await world.invoice(invoice.invoice_id)).amount_due.amount_minor == 600
    await world.payment.capture(intent_id, 600, times=2)
    await heard(world, "InvoiceReopened", invoice.invoice_id)
    found = await world.invoice(invoice.invoice_id)
    assert (state(found), found.amount_due.amount_minor) == ("OPEN", 600)
    assert applied(found) == [-600, 400, 600]


async def test_who_paid_twice_and_takes_one_payment_back_owes_nothing(world: World) -> None:
    invoice = await owing(world)
    await becomes(world, invoice.invoice_id, "PAID")
    intent_id = (await chase(world, invoice.invoice_id)).actions[0].action_id
    await world.payment.capture(intent_id, 1000)
    await heard(world, "CreditGranted", invoice.customer_id)
    await world.payment.lose(intent_id, 1000)
    await heard(world, "CreditWithdrawn", invoice.customer_id)
    assert state(await world.invoice(invoice.invoice_id)) == "PAID"
    await world.payment.lose(intent_id, 300)
    found = await becomes(world, invoice.invoice_id, "OPEN")
    assert found.amount_due.amount_minor == 300
    assert applied(found) == [-300, 0, 0, 1000]


async def test_disputes_of_what_nobody_asked_for_change_nothing(world: World) -> None:
    invoice = await owing(world)
    await becomes(world, invoice.invoice_id, "PAID")
    intent_id = (await chase(world, invoice.invoice_id)).actions[0].action_id
    request = world.payment.intents[intent_id]
    strange: list[Any] = [f"invoice:{uuid4()}", "invoice:none", f"order:{invoice.invoice_id}"]
    for reference in strange:
        other = type(request)()
        other.CopyFrom(request)
        other.reference = reference
        world.payment.intents[(other_id := str(uuid4()))] = other
        await world.payment.lose(other_id, 1000)
    await world.payment.lose(intent_id, 0)
    await world.payment.lose(intent_id, 10)  # Of the same consumer, and later.
    await becomes(world, invoice.invoice_id, "OPEN")
    assert (await world.invoice(invoice.invoice_id)).amount_due.amount_minor == 10


@given(st.lists(st.integers(1, 50), max_size=4), st.lists(st.integers(1, 50), max_size=4), st.data())
def test_in_any_order_no_more_is_undone_than_came_and_all_that_was_lost(
    captures: list[int], disputes: list[int], data: st.DataObject
) -> None:
    told = data.draw(
        st.permutations([("came", n) for n in captures] + [("lost", n) for n in range(len(disputes))])
    )
    brought, taken = 0, [0] * len(disputes)
    known: list[int] = []
    for what, value in told:
        if what == "came":
            brought += value
        else:
            known.append(value)
        for each in known:
            taken[each] += takeable(disputes[each], taken[each], brought, sum(taken))
        assert sum(taken) <= brought
    assert sum(taken) == min(sum(captures), sum(disputes))


def test_a_chase_that_begins_anew_charges_nobody_and_ends_as_any_other() -> None:
    planned = begun_again(DEFAULT, START)
    assert StepKind.ATTEMPT not in {step.kind for step in planned}
    days = [((step.at - START).days, step.kind.value) for step in planned]
    assert days[:2] == [(1, "REMIND"), (1, "OVERDUE")]
    assert days[-1] == (30, "GIVE_UP")
