"""Webhooks of gateways: heard only when signed, once each, in any order; never believed, only asked after."""

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from google.api.httpbody_pb2 import HttpBody
from hypothesis import given, strategies as st

from services.chassis.testing import until
from services.payment.domain.remote import DisputeState
from services.payment.domain.webhook import WebhookRefused, WebhookUnreadable, signed, verify
from services.payment.gateways.stripe import notice_of
from tests.data import shared
from tests.payment.stripe_server import StripeServer, stripe_server
from tests.payment.till import Till, refused, state_of, till
from tests.servers import Shared
from weft.payment.v1 import dispute_pb2, intent_pb2 as pb, webhook_pb2
from weft.payment.v1.dispute_pb2_grpc import DisputeServiceStub
from weft.payment.v1.webhook_pb2_grpc import WebhookServiceStub

SECRET = "whsec_test_secret"


class Shop:
    """A payment service on a Stripe-shaped server."""

    def __init__(self, made: Till, server: StripeServer) -> None:
        self.till, self.server = made, server
        self.stub = WebhookServiceStub(made.lab.channel)

    async def hear(self, event: dict[str, Any], *, age_s: int = 0, secret: str = SECRET) -> None:
        body = json.dumps(event).encode()
        header = signed(secret, int(time.time()) - age_s, body)
        await self.send(body, header)

    async def send(self, body: bytes, header: str) -> None:
        request = webhook_pb2.ReceiveWebhookRequest(gateway="stripe", body=HttpBody(data=body))
        await self.stub.ReceiveWebhook(request, metadata=(("stripe-signature", header),))

    async def disputes(self, intent_id: str) -> list[dispute_pb2.Dispute]:
        request = dispute_pb2.ListDisputesRequest(filter=f"intent_id = {intent_id}")
        stub = DisputeServiceStub(self.till.lab.channel)
        return list((await stub.ListDisputes(request, metadata=self.till.me)).disputes)

    def ref(self, intent_id: str) -> str:
        found = self.server.intents.values()
        return next(each["id"] for each in found if each["metadata"]["weft_intent"] == intent_id)


@pytest.fixture(scope="module")
async def shop(servers: Shared) -> Any:
    async with stripe_server() as server:
        settings = {
            "cards": "stripe",
            "stripe_api_base": server.url,
            "stripe_api_key": "sk_test_weft",
            "stripe_webhook_secret": SECRET,
            "poll_s": "300",
            "retry_max_s": "600",
        }
        async with till(servers, **settings) as made:
            yield Shop(made, server)


def event(kind: str, ref: str, **about: Any) -> dict[str, Any]:
    made = {"object": "payment_intent", "id": ref, **about}
    return {"id": f"evt_{uuid4().hex}", "type": kind, "data": {"object": made}}


def dispute(ref: str, status: str, dispute_id: str = "dp_1") -> dict[str, Any]:
    about = {
        "object": "dispute",
        "id": dispute_id,
        "payment_intent": ref,
        "amount": 400,
        "currency": "eur",
        "status": status,
        "reason": "fraudulent",
        "balance_transactions": [{"fee": 1500}],
    }
    return {
        "id": f"evt_{uuid4().hex}",
        "type": "charge.dispute.updated",
        "data": {"object": about},
    }


async def test_a_webhook_makes_us_ask_and_its_own_words_are_not_believed(shop: Shop) -> None:
    paid = await shop.till.pay(card_token="pm_card_authenticationRequired")
    assert state_of(paid) == "REQUIRES_ACTION"
    assert paid.next_action.redirect_url.startswith("https://bank.test/")
    ref = shop.ref(paid.intent_id)
    await shop.hear(event("payment_intent.succeeded", ref, status="succeeded", amount_received=10**6))
    assert state_of(await shop.till.get(paid.intent_id)) == "REQUIRES_ACTION"
    shop.server.agree(ref)
    await shop.hear(event("payment_intent.succeeded", ref))
    done = await shop.till.becomes(paid.intent_id, "SUCCEEDED", captured=1000)
    assert len(done.captures) == 1


async def test_what_is_heard_while_the_gateway_is_asked_makes_us_ask_again(shop: Shop) -> None:
    paid = await shop.till.pay(card_token="pm_card_authenticationRequired")
    ref, asked = shop.ref(paid.intent_id), asyncio.Event()

    def fault() -> str:
        """The customer agrees just after the first question was answered, and we are told at once."""
        if not asked.is_set():
            asked.set()
            shop.server.after = partial(agree, ref)
        return ""

    async def agree(of: str) -> None:
        shop.server.agree(of)
        await shop.hear(event("payment_intent.succeeded", of))

    shop.server.fault = fault
    await shop.hear(event("payment_intent.requires_action", ref))
    await shop.till.becomes(paid.intent_id, "SUCCEEDED", captured=1000)


async def test_what_comes_twice_and_late_and_out_of_order_changes_nothing(shop: Shop) -> None:
    paid = await shop.till.pay()
    await shop.till.refund(paid.intent_id, 300)
    ref = shop.ref(paid.intent_id)
    before = await shop.till.events(paid.intent_id)
    older = event("payment_intent.created", ref, status="requires_confirmation")
    for each in (event("charge.refunded", ref), older, older, event("payment_intent.processing", ref)):
        await shop.hear(each)
    sql = "select look_at from intent where intent_id = $1"

    async def looked() -> bool:
        return await shop.till.lab.db("payment").fetchval(sql, paid.intent_id) is None

    await until(looked)
    assert await shop.till.events(paid.intent_id) == before
    await shop.hear(older)
    assert await looked(), "what was heard before is not asked after"
    seen = "select count(*) from notice where notice_id = $1"
    assert await shop.till.lab.db("payment").fetchval(seen, older["id"]) == 1


async def test_a_refund_that_was_made_at_the_gateway_by_hand_is_heard_of(shop: Shop) -> None:
    paid = await shop.till.pay()
    ref = shop.ref(paid.intent_id)
    shop.server.answer("POST", "/v1/refunds", {"payment_intent": ref, "amount": "250"}, "")
    await shop.hear(event("charge.refunded", ref))
    found = await shop.till.becomes(paid.intent_id, "SUCCEEDED", refunded=250)
    assert [each.reason for each in found.refunds] == ["at_gateway"]
    assert await refused(shop.till.refund(paid.intent_id, 751)) == "MORE_THAN_CAPTURED"


async def test_forged_old_and_mangled_webhooks_are_refused_alike(shop: Shop) -> None:
    good = event("payment_intent.succeeded", "pi_1")
    assert await refused(shop.hear(good, secret="whsec_other")) == "WEBHOOK_REFUSED"
    assert await refused(shop.hear(good, age_s=400)) == "WEBHOOK_REFUSED"
    assert await refused(shop.hear(good, age_s=-400)) == "WEBHOOK_REFUSED"
    body = json.dumps(good).encode()
    header = signed(SECRET, int(time.time()), body)
    for wrong in ("", "t=1", header.replace("v1=", "v0="), header + "0", header.replace("t=", "t=1,t=")):
        assert await refused(shop.send(body, wrong)) == "WEBHOOK_REFUSED"
    assert await refused(shop.send(body + b" ", header)) == "WEBHOOK_REFUSED"
    other = webhook_pb2.ReceiveWebhookRequest(gateway="nobody", body=HttpBody(data=body))
    assert await refused(shop.stub.ReceiveWebhook(other)) == "UNKNOWN_GATEWAY"
    for gateway in ("wallet", "bank", "sandbox"):
        other.gateway = gateway
        expected = "UNKNOWN_GATEWAY" if gateway == "sandbox" else "WEBHOOK_REFUSED"
        assert await refused(shop.stub.ReceiveWebhook(other)) == expected


async def test_what_is_signed_and_no_event_is_refused_and_of_others_passed_over(shop: Shop) -> None:
    for body in (b"", b"{}", b"[]", b'{"id": 1}', b"\xff", b"[" * 100_000):
        sending = shop.send(body, signed(SECRET, int(time.time()), body))
        assert await refused(sending) == "WEBHOOK_UNREADABLE"
    await shop.hear(event("payment_intent.succeeded", "pi_of_somebody_else"))
    await shop.hear({"id": "evt_x", "type": "plan.created", "data": {"object": {"object": "plan"}}})


async def test_a_dispute_holds_the_money_until_it_is_decided_and_then_stays_decided(shop: Shop) -> None:
    paid = await shop.till.pay()
    ref, lost = shop.ref(paid.intent_id), f"dp_{uuid4().hex}"
    await shop.hear(dispute(ref, "warning_needs_response", lost))
    assert await shop.disputes(paid.intent_id) == []
    for status in ("needs_response", "needs_response", "under_review"):
        await shop.hear(dispute(ref, status, lost))
    assert (await shop.till.get(paid.intent_id)).disputed.amount_minor == 400
    assert await refused(shop.till.refund(paid.intent_id, 601)) == "MORE_THAN_CAPTURED"
    for status in ("lost", "needs_response", "won"):
        await shop.hear(dispute(ref, status, lost))
    [found] = await shop.disputes(paid.intent_id)
    assert (found.state, found.fee.amount_minor) == (dispute_pb2.DISPUTE_STATE_LOST, 1500)
    told = [each for each in await shop.till.events(paid.intent_id) if each.startswith("Dispute")]
    assert told == ["DisputeOpened", "DisputeLost"]


async def test_a_dispute_that_is_heard_of_before_its_capture_is_of_the_whole_sum(shop: Shop) -> None:
    held = await shop.till.pay(capture=pb.CAPTURE_MODE_MANUAL)
    await shop.hear(dispute(shop.ref(held.intent_id), "needs_response", f"dp_{uuid4().hex}"))
    [found] = await shop.disputes(held.intent_id)
    assert found.amount.amount_minor == 400


async def test_a_dispute_that_is_heard_of_when_it_is_won_was_open_once(shop: Shop) -> None:
    paid = await shop.till.pay()
    await shop.hear(dispute(shop.ref(paid.intent_id), "won", f"dp_{uuid4().hex}"))
    told = [each for each in await shop.till.events(paid.intent_id) if each.startswith("Dispute")]
    assert told == ["DisputeOpened", "DisputeWon"]
    assert (await shop.till.refund(paid.intent_id)).amount.amount_minor == 1000


async def test_a_network_that_fails_charges_once(shop: Shop) -> None:
    faults = ["", "cut", "deaf", "broken", "busy", "cut", "broken", ""] * 3
    shop.server.fault = lambda: faults.pop() if faults else ""
    made = [await shop.till.pay(capture=pb.CAPTURE_MODE_MANUAL) for _ in range(4)]
    shop.server.fault = lambda: ""
    for each in made:
        await shop.till.becomes(each.intent_id, "AUTHORISED")
        assert shop.server.charges[each.intent_id] == 1


def test_every_object_of_stripes_own_fixtures_is_read_or_passed_over() -> None:
    with gzip.open(shared("09_billing/stripe_fixtures3.json.gz")) as file:
        resources = json.load(file)["resources"]
    about = 0
    for name, resource in resources.items():
        made = notice_of(
            json.dumps({"id": "evt_1", "type": f"{name}.x", "data": {"object": resource}}).encode()
        )
        about += made is not None
    assert (len(resources), about) == (176, 3), "an intent, and two that name one"
    linked = {**resources["dispute"], "payment_intent": "pi_1", "status": "lost"}
    found = notice_of(json.dumps({"id": "e", "type": "t", "data": {"object": linked}}).encode())
    assert found is not None
    assert found.dispute is not None
    assert (found.dispute.state, found.dispute.amount) == (DisputeState.LOST, 1000)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda each: st.dictionaries(
            st.sampled_from(
                ["id", "type", "data", "object", "payment_intent", "status", "amount", "currency"]
            ),
            each,
        ),
        max_leaves=12,
    )
)
def test_whatever_is_signed_is_read_passed_over_or_refused(made: Any) -> None:
    try:
        notice_of(json.dumps(made).encode())
    except WebhookUnreadable:
        return


@given(st.text(max_size=80), st.binary(max_size=40))
def test_no_header_that_was_made_up_verifies(header: str, body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        verify("secret", header, body, datetime.now(UTC))
    with pytest.raises(WebhookRefused):
        verify("", signed("", int(time.time()), body), body, datetime.now(UTC))
