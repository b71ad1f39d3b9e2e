"""Payments through gRPC: states, captures, refunds, repeats, and who may do what."""

import asyncio
from uuid import uuid4

import pytest

from tests.payment.till import Till, money, outcome_of, refused, request, state_of
from weft.payment.v1 import intent_pb2 as pb, movement_pb2
from weft.payment.v1.refund_pb2 import CreateRefundRequest, GetRefundRequest, ListRefundsRequest


async def test_a_payment_is_captured_at_once_unless_said_otherwise(shared_till: Till) -> None:
    paid = await shared_till.pay()
    assert (state_of(paid), paid.captured.amount_minor, paid.gateway) == ("SUCCEEDED", 1000, "sandbox")
    assert await shared_till.events(paid.intent_id) == ["IntentCreated", "PaymentStarted", "PaymentCaptured"]


async def test_a_payment_is_captured_in_parts_and_no_more_than_was_authorised(shared_till: Till) -> None:
    held = await shared_till.hold()
    assert (state_of(held), held.authorised.amount_minor) == ("AUTHORISED", 1000)
    part = await shared_till.capture(held.intent_id, 300)
    assert (outcome_of(part.capture), state_of(part.intent)) == ("SUCCEEDED", "AUTHORISED")
    assert await refused(shared_till.capture(held.intent_id, 701)) == "MORE_THAN_AUTHORISED"
    rest = await shared_till.capture(held.intent_id)
    assert (state_of(rest.intent), rest.intent.captured.amount_minor) == ("SUCCEEDED", 1000)
    assert [each.amount.amount_minor for each in rest.intent.captures] == [300, 700]
    assert await refused(shared_till.capture(held.intent_id, 1)) == "INTENT_STATE_REFUSED"
    told = ["IntentCreated", "PaymentStarted", "PaymentAuthorised", "PaymentCaptured", "PaymentCaptured"]
    assert await shared_till.events(held.intent_id) == told


async def test_a_final_capture_releases_the_rest(shared_till: Till) -> None:
    held = await shared_till.hold()
    part = await shared_till.capture(held.intent_id, 300, final=True)
    assert (state_of(part.intent), part.intent.captured.amount_minor) == ("SUCCEEDED", 300)


async def test_refunds_never_sum_to_more_than_was_captured(shared_till: Till) -> None:
    paid = await shared_till.pay(minor=270)
    assert outcome_of(await shared_till.refund(paid.intent_id, 180)) == "SUCCEEDED"
    assert await refused(shared_till.refund(paid.intent_id, 91)) == "MORE_THAN_CAPTURED"
    rest = await shared_till.refund(paid.intent_id)
    assert rest.amount.amount_minor == 90
    assert (await shared_till.get(paid.intent_id)).refunded.amount_minor == 270
    assert await refused(shared_till.refund(paid.intent_id)) == "MORE_THAN_CAPTURED"


async def test_sixty_four_refunds_at_once_give_back_what_was_captured_and_no_more(shared_till: Till) -> None:
    paid = await shared_till.pay(minor=1000)
    asked = [shared_till.refund(paid.intent_id, 100) for _ in range(64)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, movement_pb2.Refund) for each in answers) == 10
    assert (await shared_till.get(paid.intent_id)).refunded.amount_minor == 1000


async def test_a_cancelled_authorisation_is_released_and_takes_nothing_any_more(shared_till: Till) -> None:
    held = await shared_till.hold()
    for _ in range(2):
        gone = await shared_till.cancel(held.intent_id)
        assert (state_of(gone), gone.cancel_reason) == ("CANCELLED", "requested")
    assert await refused(shared_till.capture(held.intent_id)) == "INTENT_STATE_REFUSED"
    assert await refused(shared_till.refund(held.intent_id, 1)) == "MORE_THAN_CAPTURED"
    assert (await shared_till.events(held.intent_id)).count("PaymentCancelled") == 1


async def test_cancelling_after_a_part_was_captured_keeps_the_part(shared_till: Till) -> None:
    held = await shared_till.hold()
    await shared_till.capture(held.intent_id, 400)
    left = await shared_till.cancel(held.intent_id)
    assert (state_of(left), left.captured.amount_minor) == ("SUCCEEDED", 400)
    assert (await shared_till.events(held.intent_id))[-1] == "PaymentCancelled"
    assert state_of(await shared_till.cancel(held.intent_id)) == "SUCCEEDED"


async def test_the_same_request_twice_is_one_payment_and_another_one_is_refused(shared_till: Till) -> None:
    wanted = request(confirm=True)
    first = await shared_till.intents.CreateIntent(wanted, metadata=shared_till.me)
    again = await shared_till.intents.CreateIntent(wanted, metadata=shared_till.me)
    assert first.intent == again.intent
    wanted.amount.amount_minor += 1
    assert (
        await refused(shared_till.intents.CreateIntent(wanted, metadata=shared_till.me)) == "INTENT_ID_REUSED"
    )
    events = await shared_till.events(wanted.intent_id)
    assert events == ["IntentCreated", "PaymentStarted", "PaymentCaptured"]


async def test_sixty_four_confirmations_at_once_charge_once(shared_till: Till) -> None:
    made = await shared_till.create()
    answers = await asyncio.gather(*(shared_till.confirm(made.intent_id) for _ in range(64)))
    assert {state_of(each) for each in answers} <= {"PROCESSING", "SUCCEEDED"}
    done = await shared_till.becomes(made.intent_id, "SUCCEEDED", captured=1000)
    assert len(done.captures) == 1


async def test_repeated_captures_and_refunds_are_one_each(shared_till: Till) -> None:
    held = await shared_till.hold()
    capture_id, refund_id = str(uuid4()), str(uuid4())
    for _ in range(2):
        await shared_till.capture(held.intent_id, 500, capture_id)
        await shared_till.refund(held.intent_id, 200, refund_id)
    assert await refused(shared_till.capture(held.intent_id, 501, capture_id)) == "CAPTURE_ID_REUSED"
    assert await refused(shared_till.refund(held.intent_id, 201, refund_id)) == "REFUND_ID_REUSED"
    found = await shared_till.get(held.intent_id)
    assert (found.captured.amount_minor, found.refunded.amount_minor) == (500, 200)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"minor": 0}, "AMOUNT_NOT_POSITIVE"),
        ({"minor": -5}, "AMOUNT_NOT_POSITIVE"),
        ({"currency": "XAU"}, "UNKNOWN_CURRENCY"),
        ({"currency": "eur"}, "MALFORMED"),
        ({"minor": 10**15 + 1}, "MALFORMED"),
        ({"reference": "order: x"}, "MALFORMED"),
        ({"reference": "order:4242424242424242"}, "CARD_NUMBER_REFUSED"),
        ({"card_token": "4242424242424242"}, "CARD_NUMBER_REFUSED"),
        ({"method_id": str(uuid4())}, "UNKNOWN_METHOD"),
        ({"kind": pb.METHOD_KIND_INVOICE}, "INVOICE_NOT_GRANTED"),
        ({"kind": pb.METHOD_KIND_BANK_TRANSFER, "capture": pb.CAPTURE_MODE_MANUAL}, "CAPTURE_MODE_REFUSED"),
        ({"kind": pb.METHOD_KIND_WALLET, "top_up": True}, "CAPTURE_MODE_REFUSED"),
        ({"kind": pb.METHOD_KIND_CARD}, "MALFORMED"),
        ({"no_source": True, "confirm": True}, "METHOD_REQUIRED"),
        ({"return_url": "nowhere"}, "MALFORMED"),
        ({"intent_id": "x"}, "MALFORMED"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else each,
)
async def test_what_cannot_be_paid_is_refused_by_name(
    shared_till: Till, wanted: dict[str, object], why: str
) -> None:
    assert await refused(shared_till.create(**wanted)) == why


async def test_amounts_of_another_currency_and_unknown_ids_are_refused(shared_till: Till) -> None:
    held = await shared_till.hold()
    other = pb.CaptureIntentRequest(
        intent_id=held.intent_id, capture_id=str(uuid4()), amount=money(100, "USD")
    )
    assert (
        await refused(shared_till.intents.CaptureIntent(other, metadata=shared_till.me)) == "MIXED_CURRENCIES"
    )
    for calling in (shared_till.get, shared_till.confirm, shared_till.cancel, shared_till.capture):
        assert await refused(calling(str(uuid4()))) == "UNKNOWN_INTENT"
    assert await refused(shared_till.refund(str(uuid4()))) == "UNKNOWN_INTENT"


async def test_staff_who_refund_have_proven_themselves_lately_and_services_need_not(
    shared_till: Till,
) -> None:
    paid = await shared_till.pay()
    wanted = CreateRefundRequest(refund_id=str(uuid4()), intent_id=paid.intent_id, amount=money(1))
    stale = shared_till.lab.clock.now().timestamp() - 901
    long_ago = {"metadata": shared_till.lab.bearer(auth_time=int(stale))}
    refunds = shared_till.refunds
    assert await refused(refunds.CreateRefund(wanted, **long_ago)) == "STEP_UP_REQUIRED"
    without = {"metadata": shared_till.lab.bearer(scope="payment.intents.*")}
    assert await refused(refunds.CreateRefund(wanted, **without)) == "NOT_PERMITTED"
    service = {"metadata": shared_till.lab.as_service("order")}
    made = (await refunds.CreateRefund(wanted, **service)).refund
    assert made.amount.amount_minor == 1


async def test_lists_are_filtered_and_paged(shared_till: Till) -> None:
    mine = str(uuid4())
    made = [(await shared_till.pay(customer_id=mine)).intent_id for _ in range(3)]
    wanted = pb.ListIntentsRequest(customer_id=mine, page_size=2, filter="state = SUCCEEDED")
    first = await shared_till.ask(shared_till.intents.ListIntents, wanted)
    wanted.page_token = first.next_page_token
    rest = await shared_till.ask(shared_till.intents.ListIntents, wanted)
    assert [each.intent_id for each in (*first.intents, *rest.intents)] == made[::-1]
    for intent_id in made:
        await shared_till.refund(intent_id, 10)
    listed = ListRefundsRequest(filter=f"intent_id = {made[0]} AND state = SUCCEEDED")
    found = await shared_till.ask(shared_till.refunds.ListRefunds, listed)
    assert [each.amount.amount_minor for each in found.refunds] == [10]
    one = GetRefundRequest(refund_id=found.refunds[0].refund_id)
    assert (await shared_till.ask(shared_till.refunds.GetRefund, one)).refund == found.refunds[0]
    assert await refused(shared_till.ask(shared_till.refunds.GetRefund, _unknown())) == "UNKNOWN_REFUND"


def _unknown() -> GetRefundRequest:
    return GetRefundRequest(refund_id=str(uuid4()))


async def test_customers_see_and_cancel_their_own_and_nobody_elses(shared_till: Till) -> None:
    ada, eve = str(uuid4()), str(uuid4())
    mine = {"metadata": shared_till.lab.bearer(ada, scope="")}
    held = await shared_till.hold(customer_id=ada)
    asked = pb.GetIntentRequest(intent_id=held.intent_id, customer_id=ada)
    assert (await shared_till.intents.GetIntent(asked, **mine)).intent.intent_id == held.intent_id
    foreign = pb.GetIntentRequest(intent_id=held.intent_id, customer_id=eve)
    hers = {"metadata": shared_till.lab.bearer(eve, scope="")}
    assert await refused(shared_till.intents.GetIntent(foreign, **hers)) == "UNKNOWN_INTENT"
    assert await refused(shared_till.intents.GetIntent(foreign, **mine)) == "NOT_PERMITTED"
    stolen = pb.CancelIntentRequest(intent_id=held.intent_id, customer_id=eve)
    assert await refused(shared_till.intents.CancelIntent(stolen, **hers)) == "UNKNOWN_INTENT"
    wanted = pb.CaptureIntentRequest(intent_id=held.intent_id, capture_id=str(uuid4()))
    assert await refused(shared_till.intents.CaptureIntent(wanted, **mine)) == "NOT_PERMITTED"
    listed = await shared_till.intents.ListIntents(pb.ListIntentsRequest(customer_id=ada), **mine)
    assert [each.intent_id for each in listed.intents] == [held.intent_id]
