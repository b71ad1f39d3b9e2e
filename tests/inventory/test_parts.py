"""Reservations end in parts, each once; what is released before it is reserved stays released."""

import asyncio

import pytest

from tests.inventory.warehouse import COMMITTED, HELD, RELEASED, Warehouse, new_id, outcomes, refused


async def test_a_part_is_committed_and_the_rest_stays_held(warehouse: Warehouse) -> None:
    name, other = await warehouse.receive(10), await warehouse.receive(10)
    one = (await warehouse.reserve((name, 4), (other, 2))).reservation_id
    made = await warehouse.commit(one, (name, 3), operation_id=new_id())
    assert made.state == HELD
    assert {(line.sku, line.held, line.committed) for line in made.lines} == {(name, 1, 3), (other, 2, 0)}
    assert await warehouse.counters(name) == (7, 1, 6)
    made = await warehouse.release(one, (other, 1), operation_id=new_id())
    assert await warehouse.counters(other) == (10, 1, 9)
    made = await warehouse.commit(one)
    assert made.state == COMMITTED
    assert {(line.sku, line.committed, line.released) for line in made.lines} == {(name, 4, 0), (other, 1, 1)}
    assert await warehouse.counters(name) == (6, 0, 6)
    assert await warehouse.counters(other) == (9, 0, 9)


@pytest.mark.parametrize("verb", ["commit", "release"])
async def test_a_part_is_ended_once_however_often_it_is_asked_for(warehouse: Warehouse, verb: str) -> None:
    name = await warehouse.receive(10)
    one, part = (await warehouse.reserve((name, 8))).reservation_id, new_id()
    end = getattr(warehouse, verb)
    made = await asyncio.gather(*(end(one, (name, 3), operation_id=part) for _ in range(10)))
    assert {each.lines[0].held for each in made} == {5}
    assert await refused(end(one, (name, 4), operation_id=part)) == "OPERATION_ID_REUSED"
    await end(one)
    assert (await end(one, (name, 3), operation_id=part)).lines[0].held == 0


async def test_parts_that_are_ended_at_once_never_exceed_what_is_held(warehouse: Warehouse) -> None:
    name = await warehouse.receive(10)
    one = (await warehouse.reserve((name, 5))).reservation_id
    calls = [warehouse.commit(one, (name, 1), operation_id=new_id()) for _ in range(8)]
    met = await outcomes(*calls)
    assert sorted(set(met)) in (["MORE_THAN_HELD", "OK"], ["OK", "RESERVATION_NOT_HELD"])
    assert met.count("OK") == 5
    assert await warehouse.counters(name) == (5, 0, 5)


async def test_one_operation_id_serves_one_reservation(warehouse: Warehouse) -> None:
    name, part = await warehouse.receive(10), new_id()
    made = [(await warehouse.reserve((name, 2))).reservation_id for _ in range(4)]
    met = await outcomes(*(warehouse.commit(one, (name, 1), operation_id=part) for one in made))
    assert sorted(met) == ["OK", *["OPERATION_ID_REUSED"] * 3]
    assert await warehouse.counters(name) == (9, 7, 2)


async def test_a_part_without_an_operation_id_is_refused(warehouse: Warehouse) -> None:
    name = await warehouse.receive(2)
    one = (await warehouse.reserve((name, 2))).reservation_id
    assert await refused(warehouse.commit(one, (name, 1))) == "OPERATION_ID_REQUIRED"
    assert await refused(warehouse.release(one, (name, 1))) == "OPERATION_ID_REQUIRED"


async def test_parts_of_other_skus_and_of_too_many_units_are_refused_whole(warehouse: Warehouse) -> None:
    name, other = await warehouse.receive(5), await warehouse.receive(5)
    one = (await warehouse.reserve((name, 2))).reservation_id
    for lines in ([(name, 1), (other, 1)], [(name, 3)], [(name, 2), (name, 1)]):
        assert await refused(warehouse.commit(one, *lines, operation_id=new_id())) == "MORE_THAN_HELD"
    assert await warehouse.counters(name) == (5, 2, 3)


async def test_unknown_reservations(warehouse: Warehouse) -> None:
    assert await refused(warehouse.commit(new_id())) == "UNKNOWN_RESERVATION"
    part = warehouse.release(new_id(), ("X", 1), operation_id=new_id())
    assert await refused(part) == "UNKNOWN_RESERVATION"
    assert await refused(warehouse.get(new_id())) == "UNKNOWN_RESERVATION"


async def test_what_was_released_first_holds_nothing_later(warehouse: Warehouse) -> None:
    name, one = await warehouse.receive(5), new_id()
    made = await warehouse.release(one)
    assert (made.state, list(made.lines)) == (RELEASED, [])
    assert await refused(warehouse.reserve((name, 1), reservation_id=one)) == "RESERVATION_NOT_HELD"
    assert await refused(warehouse.commit(one)) == "RESERVATION_NOT_HELD"
    assert (await warehouse.release(one)).state == RELEASED
    assert await warehouse.counters(name) == (5, 0, 5)


async def test_reserve_and_release_at_once_leave_nothing_held(warehouse: Warehouse) -> None:
    name, ids = await warehouse.receive(64), [new_id() for _ in range(32)]
    calls = [
        call
        for one in ids
        for call in (warehouse.reserve((name, 1), reservation_id=one), warehouse.release(one))
    ]
    assert set(await outcomes(*calls)) <= {"OK", "RESERVATION_NOT_HELD"}
    assert await warehouse.counters(name) == (64, 0, 64)
    assert {(await warehouse.get(one)).state for one in ids} == {RELEASED}
