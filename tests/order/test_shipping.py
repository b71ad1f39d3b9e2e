"""Orders leave whole or in parts; where shipments capture, each takes its part of the payment."""

import asyncio
from uuid import uuid4

from services.chassis.testing import until
from tests.order.shop import Shop, refused, standing
from tests.order.test_order_checkout import ANN
from tests.order.world import Out
from weft.order.v1 import order_pb2 as pb, resource_pb2 as resource, shipment_pb2

SHIPPED, REFUSED = resource.SHIPMENT_STATE_SHIPPED, resource.SHIPMENT_STATE_REFUSED


async def deliver(store: Shop, shipment: resource.Shipment) -> resource.Shipment:
    request = shipment_pb2.DeliverShipmentRequest(
        order_id=shipment.order_id, shipment_id=shipment.shipment_id
    )
    made: resource.Shipment = (await store.shipments.DeliverShipment(request, metadata=store.staff)).shipment
    return made


async def test_an_order_leaves_in_parts_and_is_complete_when_all_has_arrived(store: Shop) -> None:
    order = await store.order(("wool", 3), ("needle", 1), contact=ANN)
    first = await store.ship(order.order_id, a=2)
    assert first.state == SHIPPED
    assert standing(await store.get(order.order_id)) == "PARTIALLY_SHIPPED"
    await deliver(store, first)
    assert standing(await store.get(order.order_id)) == "PARTIALLY_SHIPPED"
    rest = await store.ship(order.order_id)
    assert {line.line_id: line.units for line in rest.lines} == {"a": 1, "b": 1}
    assert standing(await store.get(order.order_id)) == "SHIPPED"
    await deliver(store, rest)
    await deliver(store, rest)
    order = await store.get(order.order_id)
    assert standing(order) == "COMPLETED"
    assert [line.units_shipped for line in order.lines] == [3, 1]

    async def mailed() -> bool:
        return [each.template for each in store.world.mails].count("order_shipped") == 2

    await until(mailed)


async def test_each_shipment_captures_its_part_and_the_last_what_is_left(store: Shop) -> None:
    store.world.things["wool"].price = 3_333  # With 20 % on top 3 are 119.98, which 3 does not divide.
    order = await store.order(("wool", 3), ("book", 1), auto_capture=False)
    assert (order.totals.gross.amount_minor, order.paid.captured.amount_minor) == (13_078, 0)
    taken = [(await store.ship(order.order_id, a=1)).captured.amount_minor for _ in range(3)]
    assert taken == [3_999, 4_000, 5_079]
    assert (await store.get(order.order_id)).paid.captured.amount_minor == 13_078 == store.world.charged


async def test_a_shipment_whose_payment_is_refused_does_not_leave(store: Shop) -> None:
    order = await store.order(("wool", 2), auto_capture=False)
    store.world.captures_fail = "expired_card"
    shipment = await store.ship(order.order_id, a=1)
    assert (shipment.state, shipment.reason) == (REFUSED, "PAYMENT_DECLINED")
    order = await store.get(order.order_id)
    assert (standing(order), order.lines[0].units_shipped) == ("CONFIRMED", 0)
    store.world.captures_fail = ""
    assert (await store.ship(order.order_id, a=2)).state == SHIPPED
    assert store.world.charged == 24_000


async def test_what_is_about_to_leave_can_not_be_cancelled_or_sent_twice(store: Shop) -> None:
    order = await store.order(("wool", 2), auto_capture=False)
    goes_on = asyncio.Event()

    async def before(name: str) -> None:
        if name == "capture":
            await goes_on.wait()

    store.world.before = before
    shipping = asyncio.ensure_future(store.ship(order.order_id, a=1))

    async def begun() -> bool:
        return bool((await store.get(order.order_id)).shipments)

    await until(begun)
    assert await refused(store.cancel(order.order_id)) == "ILLEGAL_TRANSITION"
    assert await refused(store.ship(order.order_id, a=2)) == "TOO_MANY_UNITS"
    goes_on.set()
    assert (await shipping).state == SHIPPED
    assert standing(await store.get(order.order_id)) == "PARTIALLY_SHIPPED"


async def test_a_capture_whose_answer_is_lost_is_made_once(store: Shop) -> None:
    order = await store.order(("wool", 2), auto_capture=False)
    lost = ["capture"]

    async def after(name: str) -> None:
        if name in lost:
            lost.remove(name)
            raise Out

    store.world.after = after
    shipment_id = str(uuid4())
    both = await asyncio.gather(*(store.ship(order.order_id, shipment_id, a=1) for _ in range(2)))
    assert {each.shipment_id for each in both} == {shipment_id}

    async def left() -> bool:
        return (await store.get(order.order_id)).shipments[0].state == SHIPPED

    await until(left)
    assert store.world.charged == 12_000


async def test_the_same_shipment_is_made_once_and_another_by_its_id_is_refused(store: Shop) -> None:
    order = await store.order(("wool", 2))
    shipment_id = str(uuid4())
    assert await store.ship(order.order_id, shipment_id, a=1) == await store.ship(
        order.order_id, shipment_id, a=1
    )
    assert await refused(store.ship(order.order_id, shipment_id, a=2)) == "SHIPMENT_ID_REUSED"
    assert (await store.get(order.order_id)).lines[0].units_shipped == 1


async def test_what_cannot_be_shipped_is_refused_by_its_rule(store: Shop) -> None:
    order = await store.order(("wool", 2), ("book", 1))
    assert await refused(store.ship(order.order_id, a=3)) == "TOO_MANY_UNITS"
    assert await refused(store.ship(order.order_id, b=1)) == "NOT_SHIPPABLE"
    assert await refused(store.ship(order.order_id, z=1)) == "UNKNOWN_LINE"
    assert await refused(store.ship(str(uuid4()), a=1)) == "UNKNOWN_ORDER"
    twice = shipment_pb2.CreateShipmentRequest(
        order_id=order.order_id,
        shipment_id=str(uuid4()),
        lines=[resource.LineUnits(line_id="a", units=1)] * 2,
    )
    assert await refused(store.shipments.CreateShipment(twice, metadata=store.staff)) == "LINE_TWICE"
    unknown = resource.Shipment(order_id=order.order_id, shipment_id=str(uuid4()))
    assert await refused(deliver(store, unknown)) == "UNKNOWN_SHIPMENT"
    complete = pb.CompleteOrderRequest(order_id=order.order_id)
    assert await refused(store.orders.CompleteOrder(complete, metadata=store.staff)) == "ILLEGAL_TRANSITION"
