"""Orders are called off, before and after their payment; money that comes too late goes back."""

from uuid import uuid4

from google.protobuf.duration_pb2 import Duration

from services.chassis.clock import FakeClock
from services.chassis.testing import until
from tests.order.shop import ACT, HANG, Shop, refused, shop, standing
from tests.order.test_order_checkout import ANN
from tests.order.till import captured
from tests.order.world import Out
from tests.servers import Shared
from weft.order.v1 import fulfilment_pb2, order_pb2 as pb, process_pb2
from weft.payment.v1 import intent_pb2 as payment
from weft.payment.v1.events_pb2 import PaymentAuthorised


async def paid(store: Shop, minor: int) -> None:
    async def there() -> bool:
        return store.world.charged == minor

    await until(there)


async def test_one_that_is_paid_is_refunded_and_its_goods_go_back(store: Shop) -> None:
    order = await store.order(("wool", 2), contact=ANN)
    await paid(store, 24_000)
    order = await store.cancel(order.order_id, reason="CHANGED_MIND")
    assert standing(order) == "CANCELLED"
    assert (order.cancellation.reason, order.cancellation.step) == ("CHANGED_MIND", "")
    assert order.paid.refunded.amount_minor == 24_000
    assert store.nothing_left
    assert store.world.stock["wool"] == 1_000_000
    undone = store.world.calls[store.world.calls.index("mail") + 1 :]
    assert [name for name in undone if name != "mail"] == [
        "cancel intent",  # The capture is refunded,
        "refund",
        "release",  # what was taken is put back,
        "receive",
        "cancel intent",  # the authorisation voided,
        "release",  # and nothing held.
    ]
    assert (await store.told(order.order_id))[-3:] == [
        "OrderRefunded",
        "OrderStatusUpdated",
        "OrderCancelled",
    ]

    async def mailed() -> bool:
        return [each.template for each in store.world.mails][1:] == ["order_cancelled"]

    await until(mailed)
    assert store.world.mails[1].values["refunded"] == "240.00 EUR"


async def test_one_that_is_authorised_only_is_voided(store: Shop) -> None:
    order = await store.order(("wool", 1), auto_capture=False)
    order = await store.cancel(order.order_id)
    assert standing(order) == "CANCELLED"
    assert store.world.intents[order.payment_intent_id].state == payment.INTENT_STATE_CANCELLED
    assert (store.world.charged, order.refunds[0].gross.amount_minor) == (0, 12_000)
    assert "refund" not in store.world.calls


async def test_one_that_waits_for_its_customer_is_cancelled_at_once(store: Shop) -> None:
    order = await store.order(("wool", 1), token=ACT)
    order = await store.cancel(order.order_id)
    assert standing(order) == "CANCELLED"
    assert "OrderRefunded" not in await store.told(order.order_id)
    assert store.nothing_left


async def test_to_cancel_twice_is_to_cancel_once(store: Shop) -> None:
    order = await store.order(("wool", 1))
    await paid(store, 12_000)
    assert await store.cancel(order.order_id) == await store.cancel(order.order_id)
    assert (await store.told(order.order_id)).count("OrderCancelled") == 1


async def test_what_was_refunded_before_is_not_refunded_again(store: Shop) -> None:
    order = await store.order(("wool", 3))
    await paid(store, 36_000)
    await store.refund(order.order_id, a=1)
    order = await store.cancel(order.order_id)
    assert store.world.charged == 0
    assert sorted(each.gross.amount_minor for each in order.refunds) == [12_000, 24_000]
    assert order.paid.refunded.amount_minor == 36_000


async def test_an_order_that_nobody_pays_is_no_more_and_a_payment_that_comes_later_goes_back(
    servers: Shared,
) -> None:
    async with shop(servers, FakeClock(), checkout_s="60") as store:
        order = await store.order(("wool", 1), token=ACT)
        order = await store.becomes(order.order_id, "CANCELLED")
        assert order.cancellation.reason == "TIMED_OUT"
        intent = store.world.intents[order.payment_intent_id]
        assert intent.state == payment.INTENT_STATE_CANCELLED
        # The gateway took it all the same, and payment has not seen it so.
        intent.state = payment.INTENT_STATE_SUCCEEDED
        intent.captured.CopyFrom(intent.amount)
        store.world.charged += 12_000
        for _ in range(2):
            await store.world.announce(captured(intent))
        await paid(store, 0)
        assert standing(await store.get(order.order_id)) == "CANCELLED"


async def test_an_authorisation_that_comes_after_the_order_was_cancelled_is_voided(store: Shop) -> None:
    order = await store.order(("wool", 1), token=HANG, wait=Duration())
    assert standing(order) == "PENDING"

    async def asked() -> bool:
        return bool(store.world.intents)

    await until(asked)
    order = await store.cancel(order.order_id)
    assert standing(order) == "CANCELLED"
    intent = next(iter(store.world.intents.values()))
    intent.state = payment.INTENT_STATE_AUTHORISED
    event = PaymentAuthorised(intent_id=intent.intent_id, reference=intent.reference)
    await store.world.announce(event)

    async def void() -> bool:
        return intent.state == payment.INTENT_STATE_CANCELLED

    await until(void)


async def test_payments_of_others_are_none_of_ours(store: Shop) -> None:
    for reference in (f"invoice:{uuid4()}", f"order:{uuid4()}", "order:nonsense"):
        await store.world.announce(PaymentAuthorised(intent_id=str(uuid4()), reference=reference))
    order = await store.order(("wool", 1), token=ACT)
    intent = store.world.intents[order.payment_intent_id]
    intent.state = payment.INTENT_STATE_AUTHORISED
    intent.authorised.CopyFrom(intent.amount)
    event = PaymentAuthorised(intent_id=intent.intent_id, reference=intent.reference)
    await store.world.announce(event)
    await store.becomes(order.order_id, "CONFIRMED")  # Those before it held nothing up.


async def test_a_refund_that_fails_leaves_the_process_stuck_until_a_person_helps(store: Shop) -> None:
    order = await store.order(("wool", 1))
    await paid(store, 12_000)
    store.world.refunds_fail = "account_closed"
    request = pb.CancelOrderRequest(order_id=order.order_id)
    cancelling = store.orders.CancelOrder(request, metadata=store.staff)

    async def stuck() -> process_pb2.OrderProcess | None:
        asked = process_pb2.ListOrderProcessesRequest(state=process_pb2.PROCESS_STATE_STUCK)
        found = (await store.processes.ListOrderProcesses(asked, metadata=store.staff)).processes
        return next((each for each in found if each.order_id == order.order_id), None)

    process = await until(stuck)
    assert (process.kind, process.step, process.reason) == ("checkout", "capture", "CUSTOMER_REQUEST")
    assert standing(await store.get(order.order_id)) == "CANCELLING"
    store.world.refunds_fail = ""
    intent = store.world.intents[order.payment_intent_id]
    del intent.refunds[:]
    retry = process_pb2.RetryOrderProcessRequest(kind=process.kind, process_id=process.process_id)
    await store.processes.RetryOrderProcess(retry, metadata=store.staff)
    assert standing((await cancelling).order) == "CANCELLED"
    assert store.nothing_left
    assert await refused(store.processes.RetryOrderProcess(retry, metadata=store.staff)) == "PROCESS_ENDED"
    retry.process_id = str(uuid4())
    assert await refused(store.processes.RetryOrderProcess(retry, metadata=store.staff)) == "UNKNOWN_PROCESS"


async def test_a_neighbour_that_is_away_delays_the_undoing_and_no_more(store: Shop) -> None:
    order = await store.order(("wool", 2), coupon_codes=["TEN"])
    await paid(store, 21_600)
    left = dict.fromkeys(("cancel intent", "refund", "receive", "release", "unredeem"), 2)

    async def trouble(name: str) -> None:
        if left.get(name):
            left[name] -= 1
            raise Out

    store.world.before = store.world.after = trouble
    await store.cancel(order.order_id)
    await store.becomes(order.order_id, "CANCELLED")
    assert store.nothing_left
    assert store.world.stock["wool"] == 1_000_000


async def test_provisioning_is_waited_for_and_its_refusal_cancels(servers: Shared) -> None:
    clock = FakeClock()
    async with shop(servers, clock, fulfil="1", fulfil_s="60") as store:

        async def report(order_id: str, refusal: str = "") -> str:
            request = fulfilment_pb2.ReportFulfilmentRequest(order_id=order_id, refusal=refusal)
            call = store.fulfilments.ReportFulfilment(request, metadata=store.staff)
            return str((await call).state)

        good, bad, silent = [(await store.order(("book", 1))).order_id for _ in range(3)]
        for order_id in (good, bad, silent):

            async def asked(order_id: str = order_id) -> bool:
                return "OrderFulfilmentRequested" in await store.told(order_id)

            await until(asked)
        await report(good)
        await report(good)
        assert await refused(report(good, "NO_LINE")) == "FULFILMENT_REPORTED_OTHERWISE"
        await report(bad, "NO_LINE")
        await store.becomes(good, "COMPLETED")
        cancelled = await store.becomes(bad, "CANCELLED")
        assert (cancelled.cancellation.reason, cancelled.cancellation.step) == (
            "FULFILMENT_REFUSED",
            "fulfil",
        )
        clock.advance(61)
        late = await store.becomes(silent, "CANCELLED")
        assert late.cancellation.reason == "FULFILMENT_TIMED_OUT"
        assert await refused(report(silent)) == "FULFILMENT_NOT_AWAITED"
        assert await refused(report(str(uuid4()))) == "UNKNOWN_ORDER"
