"""What can be sold: asked for, and watched without missing the last word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.chassis.testing import Lab
from tests.inventory.warehouse import Warehouse, refused, sku
from weft.inventory.v1 import availability_pb2 as pb


async def available(warehouse: Warehouse, *names: str) -> list[Any]:
    request = pb.BatchGetAvailabilityRequest(skus=names)
    return list((await warehouse.availability.BatchGetAvailability(request)).availabilities)


@asynccontextmanager
async def watching(warehouse: Warehouse, *names: str, resume_token: str = "") -> AsyncIterator[Any]:
    request = pb.WatchAvailabilityRequest(skus=names, resume_token=resume_token)
    watch = warehouse.availability.WatchAvailability(request)
    yield watch
    watch.cancel()


async def read(watch: Any) -> Any:
    async with asyncio.timeout(10):
        return await watch.read()


async def test_anyone_may_ask_what_can_be_sold(warehouse: Warehouse) -> None:
    other = await warehouse.open(priority=1)
    name, nothing = await warehouse.receive(5), sku()
    await warehouse.receive(2, name, other)
    await warehouse.threshold(name, -3)
    await warehouse.reserve((name, 1, warehouse.location_id))
    made, none = await available(warehouse, name, nothing)
    assert (made.sku, made.available, made.in_stock) == (name, 9, 6)
    assert [(each.location_id, each.available) for each in made.locations] == [
        (other, 2),
        (warehouse.location_id, 7),
    ]
    assert (none.sku, none.available, list(none.locations)) == (nothing, 0, [])


async def test_less_than_nothing_is_nothing(warehouse: Warehouse) -> None:
    name = await warehouse.receive(5)
    await warehouse.threshold(name, 8)
    (made,) = await available(warehouse, name)
    assert (made.available, made.in_stock) == (0, 0)


async def test_a_watch_tells_how_it_stands_and_what_changes(warehouse: Warehouse) -> None:
    name, other = await warehouse.receive(5), await warehouse.receive(3)
    async with watching(warehouse, name, other) as watch:
        first = [(await read(watch)).availability for _ in range(2)]
        assert [(each.sku, each.available) for each in first] == [(name, 5), (other, 3)]
        await warehouse.reserve((other, 2))
        changed = (await read(watch)).availability
        assert (changed.sku, changed.available) == (other, 1)


async def test_a_watch_goes_on_where_another_ended(warehouse: Warehouse) -> None:
    names = [await warehouse.receive(5) for _ in range(3)]
    async with watching(warehouse, *names) as watch:
        for _ in names:
            token = (await read(watch)).resume_token
    for units in (1, 1, 1):
        await warehouse.reserve((names[1], units))
    async with watching(warehouse, *names, resume_token=token) as watch:
        told = (await read(watch)).availability
        assert (told.sku, told.available) == (names[1], 2), "the last of several changes, and only that"
        await warehouse.reserve((names[2], 1))
        told = (await read(watch)).availability
        assert (told.sku, told.available) == (names[2], 4)


async def test_a_token_of_another_watch_is_refused(warehouse: Warehouse) -> None:
    name = await warehouse.receive(1)

    async def first(token: str) -> None:
        async with watching(warehouse, name, resume_token=token) as watch:
            await read(watch)

    for token in ("x", "AAAA", "AAAAAAAAAAA=", "?"):
        assert await refused(first(token)) == "RESUME_TOKEN_REFUSED"


async def test_many_watch_and_all_hear_the_end_of_it(lab: Lab, warehouse: Warehouse) -> None:
    name = await warehouse.receive(40)

    async def until_sold() -> int:
        async with watching(warehouse, name) as watch:
            while (told := (await read(watch)).availability).available:
                seen.append(told.available)
        return int(told.available)

    seen: list[int] = []
    watches = [asyncio.create_task(until_sold()) for _ in range(20)]
    while len(seen) < 20:  # noqa: ASYNC110 - a list
        await asyncio.sleep(0.01)
    for _ in range(40):
        await warehouse.reserve((name, 1))
    assert await asyncio.gather(*watches) == [0] * 20
