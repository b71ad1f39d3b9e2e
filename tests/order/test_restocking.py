"""Goods that come back lie where they were taken from, or where whoever received them says."""

from collections import Counter
from uuid import uuid4

from hypothesis import given, strategies as st

from services.order.domain.restocking import ANYWHERE, Taken, origins
from tests.order.neighbours import FAR, LOCATION
from tests.order.shop import Shop, refused
from tests.order.test_refunds import bought
from weft.order.v1 import resource_pb2 as resource


async def from_two_places(store: Shop) -> resource.Order:
    """Of three units two lay here and one far away."""
    order = await bought(store, ("wool", 3))
    [line] = store.world.held[order.order_id].lines
    store.world.held[order.order_id].lines.add(sku="wool", units=1, committed=1, location_id=FAR)
    line.committed = 2
    return order


async def test_units_go_back_to_where_they_were_taken_from_and_each_place_gets_no_more(store: Shop) -> None:
    order = await from_two_places(store)
    await store.return_(order.order_id, a=1)
    assert store.world.received == [(LOCATION, "wool", 1)]
    await store.return_(order.order_id, a=2)
    assert store.world.received == [(LOCATION, "wool", 1), (LOCATION, "wool", 1), (FAR, "wool", 1)]


async def test_whoever_receives_them_may_say_where_they_lie(store: Shop) -> None:
    order = await from_two_places(store)
    back = await store.ask_back(order.order_id, a=3)
    await store.approve(back)
    assert await refused(store.receive(back, location_id=str(uuid4()))) == "UNKNOWN_LOCATION"
    assert store.world.received == []
    for _ in range(2):
        await store.receive(back, location_id=FAR)
    assert store.world.received == [(FAR, "wool", 3)]


async def test_goods_of_an_order_whose_reservation_nobody_knows_go_where_inventory_decides(
    store: Shop,
) -> None:
    order = await bought(store, ("wool", 2))
    del store.world.held[order.order_id]
    await store.return_(order.order_id, a=2)
    assert store.world.received == [(ANYWHERE, "wool", 2)]


PLACES = st.sampled_from(["here", "there", "far"])
TAKEN = st.lists(st.tuples(st.sampled_from(["a", "b"]), PLACES, st.integers(0, 9)), max_size=4)


@given(TAKEN, st.lists(st.integers(1, 5), max_size=4))
def test_all_returns_together_bring_back_to_each_place_at_most_what_it_gave(
    left: list[tuple[str, str, int]], returned: list[int]
) -> None:
    taken = [Taken(*each) for each in left]
    gave, back = Counter[str](), Counter[str]()
    for each in taken:
        gave[each.location_id] += each.units * (each.sku == "a")
    before = 0
    for units in returned:
        found = origins({"a": units}, {"a": before}, taken)
        before += units
        for where, by_sku in found.items():
            assert by_sku["a"] > 0
            back[where] += by_sku["a"]
        assert sum(each["a"] for each in found.values()) == units
    assert all(back[where] <= gave[where] for where in gave)
    assert back[ANYWHERE] == max(0, before - gave.total())
