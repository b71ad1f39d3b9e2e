"""Of all pairs of a state and what may be wanted, those that are written here are legal, and no others."""

import asyncio
from itertools import product
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.testing import until
from services.order import telling
from services.order.domain.order import Order
from services.order.domain.states import (
    RETURNS,
    SHIPMENTS,
    IllegalTransition,
    OrderState,
    ReturnState,
    ShipmentState,
)
from tests.order.shop import ACT, HANG, Shop, refused, standing
from weft.order.v1 import order_pb2 as pb, resource_pb2 as resource, return_pb2
from weft.order.v1.fulfilment_pb2 import ReportFulfilmentRequest

LEGAL = {
    ("PENDING", "AWAITING_PAYMENT"),
    ("PENDING", "CONFIRMED"),
    ("PENDING", "CANCELLING"),
    ("PENDING", "CANCELLED"),
    ("AWAITING_PAYMENT", "CONFIRMED"),
    ("AWAITING_PAYMENT", "CANCELLING"),
    ("AWAITING_PAYMENT", "CANCELLED"),
    ("CONFIRMED", "PARTIALLY_SHIPPED"),
    ("CONFIRMED", "SHIPPED"),
    ("CONFIRMED", "COMPLETED"),
    ("CONFIRMED", "CANCELLING"),
    ("PARTIALLY_SHIPPED", "SHIPPED"),
    ("SHIPPED", "COMPLETED"),
    ("SHIPPED", "RETURNED"),
    ("COMPLETED", "RETURNED"),
    ("CANCELLING", "CANCELLED"),
}
SHIPMENT_LEGAL = {("PENDING", "SHIPPED"), ("PENDING", "REFUSED"), ("SHIPPED", "DELIVERED")}
RETURN_LEGAL = {
    ("REQUESTED", "APPROVED"),
    ("REQUESTED", "REFUSED"),
    ("REQUESTED", "WITHDRAWN"),
    ("APPROVED", "RECEIVED"),
    ("APPROVED", "REFUSED"),
    ("APPROVED", "WITHDRAWN"),
    ("RECEIVED", "REFUNDED"),
}


@pytest.mark.parametrize(("before", "after"), list(product(OrderState, OrderState)), ids=str)
def test_an_order_moves_as_the_table_says(before: OrderState, after: OrderState) -> None:
    order = Order("o", state=before)
    if (before, after) in LEGAL:
        assert telling.status(order, after).to == telling.state_pb(after)
    else:
        with pytest.raises(IllegalTransition) as illegal:
            telling.status(order, after)
        assert illegal.value.facts == {"thing": "order", "id": "o", "state": before, "wanted": after.lower()}


def test_shipments_and_returns_move_as_their_tables_say() -> None:
    found = {(a, b) for a in ShipmentState for b in ShipmentState if b in SHIPMENTS[a]}
    assert found == SHIPMENT_LEGAL
    assert {(a, b) for a in ReturnState for b in ReturnState if b in RETURNS[a]} == RETURN_LEGAL


VERBS = ("cancel", "ship", "complete", "refund", "return", "report")
ALLOWED = {
    "PENDING": {"cancel"},
    "AWAITING_PAYMENT": {"cancel"},
    "CONFIRMED": {"cancel", "ship", "refund"},
    "PARTIALLY_SHIPPED": {"ship", "refund", "return"},
    "SHIPPED": {"complete", "refund", "return"},
    "COMPLETED": {"complete", "refund", "return"},
    "RETURNED": {"refund"},
    "CANCELLING": {"cancel"},
    "CANCELLED": {"cancel"},
}


async def one_in(store: Shop, state: str) -> resource.Order:
    """An order of two units that stands there."""
    if state == "PENDING":
        return await store.order(("wool", 2), token=HANG, wait=Duration())
    if state == "AWAITING_PAYMENT":
        return await store.order(("wool", 2), token=ACT)
    order = await store.order(("wool", 2))
    await until(lambda: _paid(store, order.order_id))
    for act in LEADS[state]:
        await act(store, order)
    return await store.get(order.order_id)


async def cancel(store: Shop, order: resource.Order) -> None:
    await store.cancel(order.order_id)


async def cancel_in_vain(store: Shop, order: resource.Order) -> None:
    store.world.refunds_fail = "account_closed"
    asyncio.ensure_future(store.cancel(order.order_id))  # noqa: RUF006 - it ends with the shop
    await store.becomes(order.order_id, "CANCELLING")


async def ship_one(store: Shop, order: resource.Order) -> None:
    await store.ship(order.order_id, a=1)


async def ship(store: Shop, order: resource.Order) -> None:
    await store.ship(order.order_id)


async def complete(store: Shop, order: resource.Order) -> None:
    await do(store, "complete", order)


async def give_back(store: Shop, order: resource.Order) -> None:
    await store.return_(order.order_id, a=2)


LEADS = {
    "CONFIRMED": (),
    "CANCELLED": (cancel,),
    "CANCELLING": (cancel_in_vain,),
    "PARTIALLY_SHIPPED": (ship_one,),
    "SHIPPED": (ship,),
    "COMPLETED": (ship, complete),
    "RETURNED": (ship, give_back),
}


async def _paid(store: Shop, order_id: str) -> bool:
    return (await store.get(order_id)).paid.captured.amount_minor > 0


async def do(store: Shop, verb: str, order: resource.Order) -> None:
    order_id = order.order_id
    if verb == "cancel":
        await store.orders.CancelOrder(pb.CancelOrderRequest(order_id=order_id), metadata=store.staff)
    elif verb == "ship":
        await store.ship(order_id)
    elif verb == "complete":
        await store.orders.CompleteOrder(pb.CompleteOrderRequest(order_id=order_id), metadata=store.staff)
    elif verb == "refund":
        await store.refund(order_id, amount=100)
    elif verb == "return":
        await store.ask_back(order_id, a=1)
    else:
        request = ReportFulfilmentRequest(order_id=order_id)
        await store.fulfilments.ReportFulfilment(request, metadata=store.staff)


@pytest.mark.parametrize("state", ALLOWED)
async def test_only_what_is_allowed_is_done_with_an_order(store: Shop, state: str) -> None:
    order = await one_in(store, state)
    assert standing(order) == state
    for verb in [verb for verb in VERBS if verb not in ALLOWED[state]]:
        reason = await refused(do(store, verb, order))
        wanted = {"report": "FULFILMENT_NOT_AWAITED", "refund": "ILLEGAL_TRANSITION"}
        money = {"REFUND_EXCEEDS_CAPTURED"} if state == "RETURNED" else set()
        assert reason in {wanted.get(verb, "ILLEGAL_TRANSITION"), *money}, verb
        assert await store.told(order.order_id) == await store.told(order.order_id)
    assert standing(await store.get(order.order_id)) == state
    for verb in ALLOWED[state] - {"cancel"}:
        other = await one_in(store, state)
        if (state, verb) == ("RETURNED", "refund"):  # All of it went back already.
            assert await refused(do(store, verb, other)) == "REFUND_EXCEEDS_CAPTURED"
        else:
            await do(store, verb, other)


@pytest.mark.parametrize("state", ["REQUESTED", "APPROVED", "REFUSED", "WITHDRAWN", "REFUNDED"])
async def test_only_what_is_allowed_is_done_with_a_return(store: Shop, state: str) -> None:
    order = await one_in(store, "SHIPPED")
    back = await store.ask_back(order.order_id, a=1)

    async def move(verb: str) -> None:
        request = getattr(return_pb2, f"{verb}Request")(order_id=back.order_id, return_id=back.return_id)
        await getattr(store.returns, verb)(request, metadata=store.staff)

    way = {
        "REQUESTED": [],
        "APPROVED": ["ApproveReturn"],
        "REFUSED": ["RefuseReturn"],
        "WITHDRAWN": ["WithdrawReturn"],
        "REFUNDED": ["ApproveReturn", "ReceiveReturn"],
    }
    leads = {
        "ApproveReturn": "APPROVED",
        "RefuseReturn": "REFUSED",
        "WithdrawReturn": "WITHDRAWN",
        "ReceiveReturn": "RECEIVED",
    }
    for verb in way[state]:
        await move(verb)
    for verb, to in leads.items():
        again = state == to or (state, to) == ("REFUNDED", "RECEIVED")
        if (state, to) not in RETURN_LEGAL and not again:
            assert await refused(move(verb)) == "ILLEGAL_TRANSITION", verb
    found = (await store.get(order.order_id)).returns[0]
    assert resource.ReturnState.Name(found.state) == f"RETURN_STATE_{state}"


async def test_an_order_that_nobody_made_is_unknown_to_every_verb(store: Shop) -> None:
    nobody = resource.Order(order_id=str(uuid4()))
    for verb in VERBS:
        assert await refused(do(store, verb, nobody)) == "UNKNOWN_ORDER"
