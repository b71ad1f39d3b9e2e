"""A value is loaded once, known to all, and gone everywhere when it is dropped."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from services.chassis import cache as cache_module
from services.chassis.bus import Bus
from services.chassis.cache import Cache
from services.chassis.clock import FakeClock
from tests.chassis.waiting import until
from tests.servers import start_nats

Load = Callable[[], Awaitable[str | None]]


class Owner:
    """Who knows the value, and how often it was asked."""

    def __init__(self, value: str | None = "value") -> None:
        self.value, self.loads = value, 0

    async def load(self) -> str | None:
        self.loads += 1
        return self.value


def cache(bus: Bus, entries_max: int = 100) -> Cache[str]:
    return Cache(bus, "things", 60.0, entries_max, dump=str.encode, parse=bytes.decode)


@pytest.fixture
async def one(bus: Bus) -> Cache[str]:
    made = cache(bus)
    await made.open()
    return made


@pytest.fixture
async def other(nats_url: str) -> AsyncIterator[Cache[str]]:
    """The cache of another process."""
    connection = Bus(nats_url)
    await connection.connect()
    made = cache(connection)
    await made.open()
    yield made
    await connection.close()


async def test_a_value_is_loaded_once_for_all_processes(one: Cache[str], other: Cache[str]) -> None:
    owner = Owner()
    for _ in range(3):
        assert await one.get("k", owner.load) == "value"
        assert await other.get("k", owner.load) == "value"
    assert owner.loads == 1


async def test_those_who_ask_at_once_wait_for_one_load(one: Cache[str]) -> None:
    owner = Owner()
    assert await asyncio.gather(*(one.get("k", owner.load) for _ in range(50))) == ["value"] * 50
    assert owner.loads == 1


async def test_a_dropped_value_is_gone_in_all_processes(one: Cache[str], other: Cache[str]) -> None:
    owner = Owner("old")
    assert [await one.get("k", owner.load), await other.get("k", owner.load)] == ["old", "old"]
    owner.value = "new"
    await one.drop("k")
    assert await one.get("k", owner.load) == "new"

    async def seen() -> bool:
        return await other.get("k", owner.load) == "new"

    await until(seen)


async def test_what_was_being_loaded_while_it_was_dropped_is_kept_nowhere(
    one: Cache[str], other: Cache[str]
) -> None:
    reading, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        reading.set()
        await go.wait()
        return "old"

    flight = asyncio.create_task(one.get("k", slow))
    await reading.wait()
    await other.drop("k")
    go.set()
    assert await flight == "old"
    owner = Owner("new")
    assert await other.get("k", owner.load) == "new"

    async def seen() -> bool:
        return await one.get("k", owner.load) == "new"

    await until(seen)


async def test_an_error_of_the_owner_is_given_to_all_and_not_kept(one: Cache[str]) -> None:
    async def broken() -> str:
        raise ZeroDivisionError

    outcomes = await asyncio.gather(*(one.get("k", broken) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 3
    assert await one.get("k", Owner().load) == "value"


async def test_one_who_gives_up_does_not_stop_the_load_of_others(one: Cache[str]) -> None:
    go = asyncio.Event()

    async def slow() -> str:
        await go.wait()
        return "value"

    first, second = asyncio.create_task(one.get("k", slow)), asyncio.create_task(one.get("k", slow))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go.set()
    assert await second == "value"


async def test_absence_is_remembered_for_a_short_time(
    one: Cache[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, owner = FakeClock(), Owner(None)
    monkeypatch.setattr(one, "_clock", clock)
    assert [await one.get("k", owner.load) for _ in range(3)] == [None] * 3
    assert owner.loads == 1
    clock.advance(cache_module.NEGATIVE_S_MAX + 0.1)
    owner.value = "value"
    assert await one.get("k", owner.load) == "value"


async def test_a_value_expires_and_the_least_used_goes_first(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, clock, owner = cache(bus, entries_max=2), FakeClock(), Owner()
    monkeypatch.setattr(small, "_clock", clock)
    for key in ("a", "b", "a", "c", "a"):
        await small.get(key, owner.load)
    assert owner.loads == 3
    await small.get("b", owner.load)
    assert owner.loads == 4
    clock.advance(60.1)
    await small.get("b", owner.load)
    assert owner.loads == 5


async def test_without_nats_each_process_keeps_its_own_and_starts_anew_afterwards(tmp_path: Path) -> None:
    server = start_nats(tmp_path / "nats")
    bus = Bus(server.url)
    await bus.connect()
    one = cache(bus)
    await one.open()
    owner = Owner("old")
    assert await one.get("k", owner.load) == "old"
    server.kill()
    await until(lambda: not bus.nc.is_connected)
    assert await one.get("k", owner.load) == "old"
    assert await one.get("other", owner.load) == "old"
    assert owner.loads == 2
    owner.value = "new"
    again = start_nats(tmp_path / "nats", port=int(server.url.rpartition(":")[2]))
    await until(lambda: bus.nc.is_connected)

    async def fresh() -> bool:
        return await one.get("other", owner.load) == "new"

    await until(fresh)
    await bus.close()
    again.kill()
