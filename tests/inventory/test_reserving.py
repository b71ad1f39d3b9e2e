"""Never more is promised than there is, whoever asks for it and however often."""

import asyncio
from collections import Counter

import pytest

from tests.inventory.warehouse import COMMITTED, HELD, RELEASED, Warehouse, new_id, outcomes, refused, sku


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
