"""Locations: their order decides who gives, and none goes away that something lies at."""

import asyncio
from typing import Any

from tests.inventory.warehouse import Warehouse, new_id, refused
from weft.inventory.v1 import location_pb2 as pb


async def create(warehouse: Warehouse, location_id: str, **settings: Any) -> Any:
    request = pb.CreateLocationRequest(
        location_id=location_id, settings=pb.LocationSettings(**{"name": "Shop", **settings})
    )
    return (await warehouse.locations.CreateLocation(request, metadata=warehouse.who)).location


async def get(warehouse: Warehouse, location_id: str) -> Any:
    request = pb.GetLocationRequest(location_id=location_id)
    return (await warehouse.locations.GetLocation(request, metadata=warehouse.who)).location


async def update(warehouse: Warehouse, location_id: str, etag: str = "", **settings: Any) -> Any:
    request = pb.UpdateLocationRequest(
        location_id=location_id, settings=pb.LocationSettings(**{"name": "Shop", **settings}), etag=etag
    )
    return (await warehouse.locations.UpdateLocation(request, metadata=warehouse.who)).location


def delete(warehouse: Warehouse, location_id: str) -> Any:
    request = pb.DeleteLocationRequest(location_id=location_id)
    return warehouse.locations.DeleteLocation(request, metadata=warehouse.who)


async def test_a_location_is_made_once(warehouse: Warehouse) -> None:
    one = new_id()
    made = await asyncio.gather(*(create(warehouse, one, country="DE", priority=7) for _ in range(8)))
    assert all(each == made[0] for each in made)
    assert await get(warehouse, one) == made[0]
    assert await refused(create(warehouse, one, country="FR")) == "LOCATION_ID_REUSED"
    assert await refused(create(warehouse, new_id(), country="Germany")) == "MALFORMED"
    assert await refused(get(warehouse, new_id())) == "UNKNOWN_LOCATION"


async def test_an_update_knows_what_it_replaces(warehouse: Warehouse) -> None:
    made = await create(warehouse, new_id())
    changed = await update(warehouse, made.location_id, made.etag, name="Store", priority=3)
    assert (changed.settings.name, changed.settings.priority) == ("Store", 3)
    assert await refused(update(warehouse, made.location_id, made.etag)) == "ETAG_MISMATCH"
    assert await refused(update(warehouse, new_id())) == "UNKNOWN_LOCATION"


async def test_stock_is_taken_by_priority_and_from_one_location_if_it_can(warehouse: Warehouse) -> None:
    first, second = await warehouse.open(priority=1), await warehouse.open(priority=2)
    name = await warehouse.receive(2, at=first)
    await warehouse.receive(5, name, second)

    async def places(units: int) -> dict[str, int]:
        return {line.location_id: line.held for line in (await warehouse.reserve((name, units))).lines}

    assert await places(1) == {first: 1}
    assert await places(2) == {second: 2}, "the first has one left: two parcels for what one can hold"
    assert await places(4) == {first: 1, second: 3}
    assert await refused(warehouse.reserve((name, 1))) == "OUT_OF_STOCK"


async def test_a_line_that_names_a_location_takes_from_there(warehouse: Warehouse) -> None:
    other = await warehouse.open(priority=1)
    name = await warehouse.receive(2)
    await warehouse.receive(2, name, other)
    made = await warehouse.reserve((name, 2, warehouse.location_id), (name, 1))
    assert {line.location_id: line.held for line in made.lines} == {warehouse.location_id: 2, other: 1}
    assert await refused(warehouse.reserve((name, 1, warehouse.location_id))) == "OUT_OF_STOCK"


async def test_what_is_not_for_sale_is_in_nobodys_reach(warehouse: Warehouse) -> None:
    name = await warehouse.receive(5)
    one = (await warehouse.reserve((name, 2))).reservation_id
    await update(warehouse, warehouse.location_id, not_for_sale=True)
    assert await refused(warehouse.reserve((name, 1))) == "OUT_OF_STOCK"
    assert await refused(warehouse.reserve((name, 1, warehouse.location_id))) == "OUT_OF_STOCK"
    await warehouse.commit(one)
    assert (await warehouse.level(name)).on_hand == 3
    await update(warehouse, warehouse.location_id)
    await warehouse.reserve((name, 3))


async def test_a_location_goes_when_nothing_lies_there(warehouse: Warehouse) -> None:
    name = await warehouse.receive(1)
    assert await refused(delete(warehouse, warehouse.location_id)) == "LOCATION_IN_USE"
    one = (await warehouse.reserve((name, 1))).reservation_id
    await warehouse.commit(one)
    await delete(warehouse, warehouse.location_id)
    assert await refused(delete(warehouse, warehouse.location_id)) == "UNKNOWN_LOCATION"
    assert await refused(warehouse.receive(1, name)) == "UNKNOWN_LOCATION"


async def test_a_location_that_is_deleted_while_goods_come_in_has_none_or_stays(warehouse: Warehouse) -> None:
    for _ in range(5):
        place = await warehouse.open()
        name = await warehouse.receive(1)
        gone, came = await asyncio.gather(
            refused(delete(warehouse, place)), refused(warehouse.receive(1, name, place))
        )
        assert (gone, came) in (("OK", "UNKNOWN_LOCATION"), ("LOCATION_IN_USE", "OK"))


async def test_locations_are_listed_in_the_order_of_giving(warehouse: Warehouse) -> None:
    mark = f"Row {new_id()}"
    made = [await warehouse.open(name=mark, priority=n) for n in (3, 1, 2)]
    request = pb.ListLocationsRequest(filter=f'name = "{mark}"', page_size=2)
    page = await warehouse.locations.ListLocations(request, metadata=warehouse.who)
    assert [each.location_id for each in page.locations] == [made[1], made[2]]
    request.page_token = page.next_page_token
    page = await warehouse.locations.ListLocations(request, metadata=warehouse.who)
    assert [each.location_id for each in page.locations] == [made[0]]
