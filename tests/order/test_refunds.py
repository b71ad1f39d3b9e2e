"""What goes back never sums to more than what was taken, and is what was paid for it."""

import asyncio
from uuid import uuid4

import pytest

from services.chassis.testing import until
from tests.order.shop import Shop, refused, standing
from tests.order.world import Out
from weft.order.v1 import order_pb2 as pb, resource_pb2 as resource, return_pb2

REFUNDED, FAILED = resource.REFUND_STATE_REFUNDED, resource.REFUND_STATE_FAILED


async def bought(store: Shop, *lines: tuple[str, int], **rest: object) -> resource.Order:
    """Ordered, paid and shipped."""
    order = await store.order(*lines, **rest)

    async def paid() -> bool:
        return (await store.get(order.order_id)).paid.captured == order.totals.gross

    await until(paid)
    await store.ship(order.order_id)
    return await store.get(order.order_id)


@pytest.fixture
def no_tax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.order.neighbours.RATE", 0)


@pytest.mark.usefixtures("no_tax")
async def test_three_at_100_less_10_percent_are_270_and_two_that_come_back_are_180(store: Shop) -> None:
    order = await bought(store, ("wool", 3), coupon_codes=["TEN"])
    assert order.totals.gross.amount_minor == 27_000
    back = await store.return_(order.order_id, a=2)
    assert back.value.amount_minor == 18_000
    order = await store.get(order.order_id)
    assert order.returns[0].state == resource.RETURN_STATE_REFUNDED
    assert (order.paid.refunded.amount_minor, store.world.charged) == (18_000, 9_000)
    assert (order.lines[0].units_returned, order.lines[0].units_refunded) == (2, 2)
    assert store.world.stock["wool"] == 1_000_000 - 3 + 2


@pytest.mark.usefixtures("no_tax")
async def test_refunds_unit_by_unit_sum_to_what_was_paid(store: Shop) -> None:
    store.world.things["wool"].price = 3_333
    order = await bought(store, ("wool", 3), coupon_codes=["TEN"])
    assert order.totals.gross.amount_minor == 9_000
    refunds = [await store.refund(order.order_id, a=1) for _ in range(3)]
    assert [each.state for each in refunds] == [REFUNDED] * 3
    assert sum(each.gross.amount_minor for each in refunds) == 9_000
    assert store.world.charged == 0
    assert await refused(store.refund(order.order_id, a=1)) == "TOO_MANY_UNITS"


async def test_of_64_refunds_at_once_as_many_are_made_as_there_is_money_for(store: Shop) -> None:
    order = await bought(store, ("wool", 1))
    calls = (store.refund(order.order_id, amount=1_000) for _ in range(64))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, resource.Refund) for each in found) == 12
    assert store.world.charged == 0
    order = await store.get(order.order_id)
    assert (
        order.paid.refunded.amount_minor == 12_000 == sum(each.gross.amount_minor for each in order.refunds)
    )
    assert sum(each.tax.amount_minor for each in order.refunds) == 2_000


async def test_a_refund_names_its_money_and_keeps_its_bounds(store: Shop) -> None:
    order = await bought(store, ("wool", 1))
    assert await refused(store.refund(order.order_id, amount=12_001)) == "REFUND_EXCEEDS_CAPTURED"
    assert await refused(store.refund(order.order_id, amount=-1)) == "REFUND_EXCEEDS_CAPTURED"
    assert await refused(store.refund(order.order_id, a=2)) == "TOO_MANY_UNITS"
    assert await refused(store.refund(order.order_id, z=1)) == "UNKNOWN_LINE"
    assert await refused(store.refund(str(uuid4()))) == "UNKNOWN_ORDER"
    other = pb.RefundOrderRequest(order_id=order.order_id, refund_id=str(uuid4()))
    other.amount.amount_minor, other.amount.currency = 100, "USD"
    assert await refused(store.orders.RefundOrder(other, metadata=store.staff)) == "MIXED_CURRENCIES"
    other.amount.amount_minor, other.amount.currency = 10**15 + 1, "EUR"
    assert await refused(store.orders.RefundOrder(other, metadata=store.staff)) == "MALFORMED"
    refund_id = str(uuid4())
    first = await store.refund(order.order_id, refund_id, amount=100)
    assert await store.refund(order.order_id, refund_id, amount=100) == first
    assert await refused(store.refund(order.order_id, refund_id, amount=200)) == "REFUND_ID_REUSED"
    rest = await store.refund(order.order_id)
    assert (rest.gross.amount_minor, store.world.charged) == (11_900, 0)
    assert await refused(store.refund(order.order_id)) == "REFUND_EXCEEDS_CAPTURED"


async def test_what_was_not_captured_is_not_refunded(store: Shop) -> None:
    order = await store.order(("wool", 1), auto_capture=False)
    assert await refused(store.refund(order.order_id, amount=1)) == "REFUND_EXCEEDS_CAPTURED"


async def test_a_refund_that_the_payment_refuses_frees_its_amount(store: Shop) -> None:
    order = await bought(store, ("wool", 2))
    store.world.refunds_fail = "account_closed"
    failed = await store.refund(order.order_id, a=1)
    assert failed.state == FAILED
    order = await store.get(order.order_id)
    assert (order.paid.refunded.amount_minor, order.lines[0].units_refunded) == (0, 0)
    assert "OrderRefunded" not in await store.told(order.order_id)
    store.world.refunds_fail = ""
    assert (await store.refund(order.order_id, a=2)).gross.amount_minor == 24_000


async def test_a_refund_whose_answer_is_lost_is_made_once(store: Shop) -> None:
    order = await bought(store, ("wool", 2))
    lost = ["refund", "refund"]

    async def after(name: str) -> None:
        if name in lost:
            lost.remove(name)
            raise Out

    store.world.after = after
    await store.refund(order.order_id, a=1)

    async def settled() -> bool:
        return (await store.get(order.order_id)).refunds[0].state == REFUNDED

    await until(settled)
    assert (lost, store.world.charged) == ([], 12_000)
    assert (await store.told(order.order_id)).count("OrderRefunded") == 1


async def test_a_return_is_asked_for_and_refused_or_withdrawn_and_its_units_are_free_again(
    store: Shop,
) -> None:
    order = await bought(store, ("wool", 2))
    for verb in ("RefuseReturn", "WithdrawReturn"):
        back = await store.ask_back(order.order_id, a=2)
        assert await refused(store.ask_back(order.order_id, a=1)) == "TOO_MANY_UNITS"
        request = getattr(return_pb2, f"{verb}Request")(order_id=back.order_id, return_id=back.return_id)
        for _ in range(2):
            await getattr(store.returns, verb)(request, metadata=store.staff)
    assert store.world.charged == 24_000


async def test_less_may_come_back_than_was_to_and_what_is_damaged_is_not_for_sale_again(store: Shop) -> None:
    order = await bought(store, ("wool", 3), ("needle", 1))
    back = await store.ask_back(order.order_id, a=3, b=1)
    await store.approve(back)
    assert await refused(store.receive(back, a=4)) == "TOO_MANY_UNITS"
    assert await refused(store.receive(back, z=1)) == "UNKNOWN_LINE"
    back = await store.receive(back, damaged=("a",), a=2, b=1)
    assert (await store.receive(back)).value == back.value
    assert back.value.amount_minor == 27_000
    assert (store.world.stock["wool"], store.world.stock["needle"]) == (999_997, 1_000_000)
    assert standing(await store.get(order.order_id)) == "SHIPPED"
    await store.return_(order.order_id, a=1)
    assert standing(await store.get(order.order_id)) == "RETURNED"
    assert store.world.charged == 0


async def test_goods_that_were_refunded_before_are_worth_nothing_when_they_come_back(store: Shop) -> None:
    order = await bought(store, ("wool", 2))
    await store.refund(order.order_id, a=1)
    back = await store.return_(order.order_id, a=2)
    assert back.value.amount_minor == 12_000
    assert (store.world.charged, store.world.stock["wool"]) == (0, 1_000_000)


async def test_a_return_of_what_was_not_paid_yet_takes_the_sale_back_and_pays_nothing(store: Shop) -> None:
    order = await store.order(("wool", 1), payment=pb.Payment(kind=pb.PAYMENT_KIND_INVOICE))
    await store.ship(order.order_id)
    await store.return_(order.order_id, a=1)
    found = await store.get(order.order_id)
    assert (found.refunds[0].gross.amount_minor, found.paid.refunded.amount_minor) == (12_000, 0)
    assert store.world.charged == 0


async def test_returns_keep_their_bounds(store: Shop) -> None:
    order = await bought(store, ("wool", 2), ("book", 1))
    assert await refused(store.ask_back(order.order_id, a=3)) == "TOO_MANY_UNITS"
    assert await refused(store.ask_back(order.order_id, b=1)) == "TOO_MANY_UNITS"
    assert await refused(store.ask_back(order.order_id, z=1)) == "UNKNOWN_LINE"
    unknown = resource.Return(order_id=order.order_id, return_id=str(uuid4()))
    assert await refused(store.approve(unknown)) == "UNKNOWN_RETURN"
    back = await store.ask_back(order.order_id, a=1)
    again = return_pb2.RequestReturnRequest(
        order_id=back.order_id,
        return_id=back.return_id,
        lines=[resource.LineUnits(line_id="a", units=2)],
    )
    assert await refused(store.returns.RequestReturn(again, metadata=store.staff)) == "RETURN_ID_REUSED"


async def exchanged(
    store: Shop, back: resource.Return, *lines: tuple[str, int], **rest: object
) -> resource.Order:
    exchange = pb.Exchange(order_id=back.order_id, return_id=back.return_id)
    return await store.order(*lines, exchange=exchange, **rest)


async def test_goods_that_come_back_pay_for_those_that_replace_them(store: Shop) -> None:
    order = await bought(store, ("wool", 2))
    back = await store.approve(await store.ask_back(order.order_id, a=1))
    dearer = await exchanged(store, back, ("wool", 1), ("needle", 1))
    assert (dearer.paid.credit.amount_minor, dearer.paid.authorised.amount_minor) == (12_000, 3_000)
    assert await refused(exchanged(store, back, ("wool", 1))) == "RETURN_NOT_EXCHANGEABLE"
    assert await refused(store.refund(order.order_id, amount=12_001)) == "REFUND_EXCEEDS_CAPTURED"
    await store.receive(back)
    found = await store.get(order.order_id)
    assert (found.returns[0].exchanged.amount_minor, found.paid.refunded.amount_minor) == (12_000, 0)
    assert found.refunds[0].gross.amount_minor == 12_000

    async def paid() -> bool:
        return store.world.charged == 27_000

    await until(paid)
    # What replaced them comes back as well: its money first, then that of the first order.
    await store.ship(dearer.order_id)
    await store.return_(dearer.order_id, a=1, b=1)
    assert store.world.charged == 12_000


async def test_goods_that_replace_cheaper_cost_nothing_and_the_rest_goes_back(store: Shop) -> None:
    order = await bought(store, ("wool", 1))
    back = await store.approve(await store.ask_back(order.order_id, a=1))
    cheaper = await exchanged(store, back, ("needle", 1), payment=None)
    assert (standing(cheaper), cheaper.payment_intent_id) == ("CONFIRMED", "")
    await store.receive(back)
    assert store.world.charged == 3_000


@pytest.mark.parametrize("received", [False, True], ids=["before", "after"])
async def test_an_exchange_that_is_given_up_gives_its_value_back(store: Shop, received: bool) -> None:
    order = await bought(store, ("wool", 1))
    back = await store.approve(await store.ask_back(order.order_id, a=1))
    other = await exchanged(store, back, ("wool", 1), payment=None)
    if received:
        await store.receive(back)
        assert store.world.charged == 12_000
    await store.cancel(other.order_id)
    if not received:
        await store.receive(back)

    async def paid_back() -> bool:
        return store.world.charged == 0

    await until(paid_back)
    assert (await store.get(order.order_id)).paid.refunded.amount_minor == 12_000
