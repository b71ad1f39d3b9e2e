"""Never more is promised than there is, whoever asks for it and however often."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.inventory.warehouse import COMMITTED, HELD, RELEASED, Warehouse, new_id, outcomes, refused, sku
from weft.inventory.v1 import reservation_pb2 as pb


async def test_what_is_reserved_is_not_available(warehouse: Warehouse) -> None:
    name = await warehouse.receive(10)
    made = await warehouse.reserve((name, 4))
    assert made.state == HELD
    assert [(line.sku, line.location_id, line.held) for line in made.lines] == [
        (name, warehouse.location_id, 4)
    ]
    assert await warehouse.counters(name) == (10, 4, 6)
    assert await warehouse.get(made.reservation_id) == made


async def test_sixty_four_buyers_of_the_last_unit_make_one_reservation(warehouse: Warehouse) -> None:
    name = await warehouse.receive(1)
    met = Counter(await outcomes(*(warehouse.reserve((name, 1)) for _ in range(64))))
    assert met == {"OK": 1, "OUT_OF_STOCK": 63}
    assert await warehouse.counters(name) == (1, 1, 0)


async def test_the_same_sku_twice_is_summed(warehouse: Warehouse) -> None:
    name = await warehouse.receive(3)
    assert await refused(warehouse.reserve((name, 2), (name, 2))) == "OUT_OF_STOCK"
    made = await warehouse.reserve((name, 2), (name, 1))
    assert [(line.sku, line.units) for line in made.lines] == [(name, 3)]
    assert await warehouse.counters(name) == (3, 3, 0)


async def test_all_lines_or_none(warehouse: Warehouse) -> None:
    plenty, none = await warehouse.receive(5), sku()
    assert await refused(warehouse.reserve((plenty, 1), (none, 1))) == "OUT_OF_STOCK"
    assert await warehouse.counters(plenty) == (5, 0, 5)


async def test_a_repeat_is_answered_and_holds_nothing_more(warehouse: Warehouse) -> None:
    name = await warehouse.receive(1)
    first = await warehouse.reserve((name, 1), reservation_id=(one := new_id()))
    again = await asyncio.gather(*(warehouse.reserve((name, 1), reservation_id=one) for _ in range(20)))
    assert all(each == first for each in again)
    assert await warehouse.counters(name) == (1, 1, 0)
    assert await refused(warehouse.reserve((name, 2), reservation_id=one)) == "RESERVATION_ID_REUSED"


async def test_a_repeat_beside_new_requests_takes_nothing_from_them(warehouse: Warehouse) -> None:
    """They share a transaction: what was decided for the repeat is given back before it is written."""
    name, known = await warehouse.receive(20), [new_id() for _ in range(5)]
    for one in known:
        await warehouse.reserve((name, 1), reservation_id=one)
    ids = [*known, *(new_id() for _ in range(9))]
    calls = [warehouse.reserve((name, 1), reservation_id=one) for one in ids]
    assert set(await outcomes(*calls)) == {"OK"}
    assert await warehouse.counters(name) == (20, 14, 6)


async def test_commit_takes_what_was_held_once(warehouse: Warehouse) -> None:
    name = await warehouse.receive(10)
    one = (await warehouse.reserve((name, 4))).reservation_id
    done = await asyncio.gather(*(warehouse.commit(one) for _ in range(10)))
    assert {each.state for each in done} == {COMMITTED}
    assert await warehouse.counters(name) == (6, 0, 6)
    assert await refused(warehouse.release(one)) == "RESERVATION_NOT_HELD"


async def test_release_gives_back_once(warehouse: Warehouse) -> None:
    name = await warehouse.receive(10)
    one = (await warehouse.reserve((name, 4))).reservation_id
    done = await asyncio.gather(*(warehouse.release(one) for _ in range(10)))
    assert {each.state for each in done} == {RELEASED}
    assert await warehouse.counters(name) == (10, 0, 10)
    assert await refused(warehouse.commit(one)) == "RESERVATION_NOT_HELD"


@pytest.mark.parametrize("first", ["commit", "release"])
async def test_of_commit_and_release_at_once_one_wins(warehouse: Warehouse, first: str) -> None:
    name = await warehouse.receive(50)
    made = [await warehouse.reserve((name, 1)) for _ in range(20)]
    calls = (
        [warehouse.commit, warehouse.release] if first == "commit" else [warehouse.release, warehouse.commit]
    )
    met = await outcomes(*(call(each.reservation_id) for each in made for call in calls))
    assert Counter(met) == {"OK": 20, "RESERVATION_NOT_HELD": 20}
    on_hand, reserved, _ = await warehouse.counters(name)
    committed = sum([(await warehouse.get(each.reservation_id)).state == COMMITTED for each in made])
    assert (on_hand, reserved) == (50 - committed, 0)


async def test_a_reservation_has_up_to_five_hundred_lines(warehouse: Warehouse) -> None:
    """Its events are split: one of 500 lines would be larger than an event may be."""
    mark = sku()
    names = [f"{mark}-{n:03}-{'x' * 42}" for n in range(500)]
    for start in (0, 250):
        await warehouse.receive_all(1, names[start : start + 250])
    made = await warehouse.reserve(*((name, 1) for name in names))
    assert len(made.lines) == 500
    assert await refused(warehouse.reserve(*((name, 1) for name in [*names, mark]))) == "MALFORMED"
    assert (await warehouse.commit(made.reservation_id)).state == COMMITTED
    assert await warehouse.counters(names[0]) == (0, 0, 0)


async def test_reservations_are_listed_by_state_and_by_what_they_hold(warehouse: Warehouse) -> None:
    name, other = await warehouse.receive(9), await warehouse.receive(9)
    made = [await warehouse.reserve((name, 1), (other, 1)) for _ in range(3)]
    await warehouse.commit(made[0].reservation_id)
    await warehouse.release(made[1].reservation_id, (name, 1), operation_id=new_id())

    async def listed(**fields: Any) -> list[str]:
        request = pb.ListReservationsRequest(**fields)
        answer = await warehouse.reservations.ListReservations(request, metadata=warehouse.who)
        return [each.reservation_id for each in answer.reservations]

    assert await listed(sku=name) == [made[2].reservation_id]
    assert await listed(sku=other) == [made[2].reservation_id, made[1].reservation_id]
    assert await listed(sku=other, filter='state = "COMMITTED"') == []
    assert await listed(filter='state = "COMMITTED"', page_size=1) == [made[0].reservation_id]


async def test_who_may_not_reserve_is_refused(warehouse: Warehouse) -> None:
    name = await warehouse.receive(1)
    request = pb.ReserveRequest(reservation_id=new_id(), lines=[pb.Demand(sku=name, units=1)])
    customer = warehouse.lab.bearer(scope="")
    assert await refused(warehouse.reservations.Reserve(request, metadata=customer)) == "NOT_PERMITTED"
    assert await refused(warehouse.reservations.Reserve(request)) == "SIGN_IN_REQUIRED"


@pytest.mark.parametrize(
    ("units", "name"),
    [(0, "A"), (-1, "A"), (10**9 + 1, "A"), (1, ""), (1, "A B"), (1, "A" * 65)],
    ids=["none", "negative", "too many", "no sku", "a space", "a long sku"],
)
async def test_lines_that_break_a_rule_are_refused(warehouse: Warehouse, units: int, name: str) -> None:
    assert await refused(warehouse.reserve((name, units))) == "MALFORMED"
    assert await refused(warehouse.reserve(("A", 1), reservation_id="x")) == "MALFORMED"
    assert await refused(warehouse.reserve()) == "MALFORMED"
