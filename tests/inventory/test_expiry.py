"""A reservation is held until its time, and not much longer; a clock that jumps takes nobody's goods."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.clock import FakeClock
from services.chassis.testing import laboratory, until
from services.inventory.app import build
from services.inventory.service.ending import Ends
from services.inventory.service.writing import Writing
from tests.inventory.warehouse import COMMITTED, EXPIRED, HELD, Warehouse, new_id, outcomes, refused
from tests.servers import Shared
from weft.inventory.v1 import reservation_pb2 as pb


@pytest.fixture(scope="module")
async def timed(servers: Shared) -> AsyncIterator[tuple[Warehouse, FakeClock]]:
    clock = FakeClock()
    builds = {"inventory": build}
    made = laboratory(builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=clock)
    async with made as lab:
        yield await Warehouse.of(lab), clock


def ttl(seconds: float) -> Duration:
    made = Duration()
    made.FromMilliseconds(int(seconds * 1000))
    return made


def at(moment: Any) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


async def passes(clock: FakeClock, seconds: int) -> None:
    """Second by second, as time does: each time whoever slept looks, and sleeps again."""
    sleepers = len(clock._sleepers)
    for _ in range(seconds):
        clock.advance(1)
        async with asyncio.timeout(10):
            while len(clock._sleepers) < sleepers:  # noqa: ASYNC110 - a list
                await asyncio.sleep(0)


async def becomes(warehouse: Warehouse, clock: FakeClock, reservation_id: str, state: int) -> Any:
    async def there() -> Any:
        await passes(clock, 1)
        found = await warehouse.get(reservation_id)
        return found if found.state == state else None

    return await until(there)


async def test_what_is_held_too_long_is_for_sale_again(timed: tuple[Warehouse, FakeClock]) -> None:
    warehouse, clock = timed
    name = await warehouse.receive(5)
    made = await warehouse.reserve((name, 5), ttl=ttl(30))
    assert made.expire_time.ToDatetime() - made.create_time.ToDatetime() == timedelta(seconds=30)
    await passes(clock, 28)
    assert (await warehouse.get(made.reservation_id)).state == HELD
    expired = await becomes(warehouse, clock, made.reservation_id, EXPIRED)
    assert [(line.held, line.released) for line in expired.lines] == [(0, 5)]
    assert await warehouse.counters(name) == (5, 0, 5)
    assert await refused(warehouse.commit(made.reservation_id)) == "RESERVATION_NOT_HELD"
    assert (await warehouse.release(made.reservation_id)).state == EXPIRED


async def test_expiry_takes_what_is_left_after_a_part_was_committed(
    timed: tuple[Warehouse, FakeClock],
) -> None:
    warehouse, clock = timed
    name = await warehouse.receive(5)
    one = (await warehouse.reserve((name, 5), ttl=ttl(5))).reservation_id
    await warehouse.commit(one, (name, 2), operation_id=new_id())
    expired = await becomes(warehouse, clock, one, EXPIRED)
    assert [(line.committed, line.released) for line in expired.lines] == [(2, 3)]
    assert await warehouse.counters(name) == (3, 0, 3)


async def test_a_reservation_that_is_extended_is_held_on(timed: tuple[Warehouse, FakeClock]) -> None:
    warehouse, clock = timed
    name = await warehouse.receive(5)
    one = (await warehouse.reserve((name, 5), ttl=ttl(5))).reservation_id
    request = pb.ExtendReservationRequest(reservation_id=one, ttl=ttl(3_600))
    await warehouse.reservations.ExtendReservation(request, metadata=warehouse.who)
    other = await warehouse.reserve((await warehouse.receive(1), 1), ttl=ttl(60))
    await becomes(warehouse, clock, other.reservation_id, EXPIRED)
    assert (await warehouse.commit(one)).state == COMMITTED
    assert await refused(warehouse.reservations.ExtendReservation(request, metadata=warehouse.who)) == (
        "RESERVATION_NOT_HELD"
    )


async def test_without_a_word_it_is_held_for_fifteen_minutes(timed: tuple[Warehouse, FakeClock]) -> None:
    warehouse, _ = timed
    made = await warehouse.reserve((await warehouse.receive(1), 1))
    assert made.expire_time.seconds - made.create_time.seconds == 900


async def test_times_that_are_past_or_too_far_are_refused(timed: tuple[Warehouse, FakeClock]) -> None:
    warehouse, clock = timed
    name = await warehouse.receive(5)
    for moment in (clock.now(), clock.now() - timedelta(1), clock.now() + timedelta(366, seconds=1)):
        assert await refused(warehouse.reserve((name, 1), expire_time=at(moment))) == "EXPIRY_REFUSED"
    beyond = Timestamp(seconds=300_000_000_000)
    assert await refused(warehouse.reserve((name, 1), expire_time=beyond)) == "EXPIRY_REFUSED"
    made = await warehouse.reserve((name, 1), expire_time=at(clock.now() + timedelta(366)))
    assert made.state == HELD


async def test_a_repeat_is_answered_though_its_time_has_passed(timed: tuple[Warehouse, FakeClock]) -> None:
    warehouse, clock = timed
    name, one = await warehouse.receive(5), new_id()
    moment = at(clock.now() + timedelta(seconds=10))
    await warehouse.reserve((name, 1), reservation_id=one, expire_time=moment)
    await warehouse.commit(one)
    await passes(clock, 20)
    again = await warehouse.reserve((name, 1), reservation_id=one, expire_time=moment)
    assert again.state == COMMITTED


async def test_a_clock_that_jumps_is_not_believed_at_once(timed: tuple[Warehouse, FakeClock]) -> None:
    warehouse, clock = timed
    name = await warehouse.receive(1)
    one = (await warehouse.reserve((name, 1), ttl=ttl(45))).reservation_id
    clock._now += timedelta(days=1)  # As an operator would, by mistake.
    await passes(clock, 30)
    assert (await warehouse.get(one)).state == HELD
    clock._now -= timedelta(days=1)
    await passes(clock, 5)
    assert (await warehouse.get(one)).state == HELD
    await becomes(warehouse, clock, one, EXPIRED)


async def test_expiry_that_races_completion_has_one_winner(timed: tuple[Warehouse, FakeClock]) -> None:
    """Several replicas expire while buyers commit and release: each unit goes one way."""
    warehouse, clock = timed
    db = warehouse.lab.db("inventory")
    name = await warehouse.receive(60)
    ids = [(await warehouse.reserve((name, 1), ttl=ttl(600))).reservation_id for _ in range(60)]
    rivals = [Ends(db, clock, Writing(alerting=False)) for _ in range(3)]
    moment = clock.now() + timedelta(seconds=601)
    ends = [warehouse.commit(one) for one in ids[:30]] + [warehouse.release(one) for one in ids[30:]]
    met, *expired = await asyncio.gather(outcomes(*ends), *(each.expire(moment) for each in rivals))
    states = Counter([(await warehouse.get(one)).state for one in ids])
    committed = states[COMMITTED]
    assert states[HELD] == 0
    assert sum(expired) >= states[EXPIRED]
    assert Counter(met)["OK"] + Counter(met)["RESERVATION_NOT_HELD"] == 60
    assert await warehouse.counters(name) == (60 - committed, 0, 60 - committed)
    assert await warehouse.wrong() == []
