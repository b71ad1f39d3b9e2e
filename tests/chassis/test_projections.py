"""A rebuilt projection equals the live one, byte for byte, while events keep coming."""

import asyncio
import random
from typing import Any

import pytest

from services.chassis import projections
from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Conflict, Database, Tx, execute
from services.chassis.events import Envelope, emit, settle
from services.chassis.inbox import Consumer
from services.chassis.projections import Projection, rebuild
from services.chassis.relay import Relay
from tests.chassis.demo import Counted, Happened
from tests.chassis.waiting import until

TABLE = """
create table tally (thing text primary key, units bigint not null, last text not null);
create index tally_units on tally (units) where units > 0;
create unique index tally_last on tally (thing, last);
"""
ADD = """
insert into tally (thing, units, last) values ($1, $2, $3)
on conflict (thing) do update set units = tally.units + excluded.units, last = excluded.last
"""


async def count(event: Any, envelope: Envelope, tx: Tx) -> None:
    await execute(tx, ADD, event.thing, event.units, str(envelope.id))


TALLY = Projection("tally", ["tally"], count, [Counted])


@pytest.fixture
async def tally(db: Database) -> Database:
    await db.execute(TABLE)
    return db


async def write(db: Database, thing: str, units: int) -> None:
    """As a service does that projects in its own transaction."""
    message = Counted(thing=thing, units=units)
    async with db.transaction() as tx:
        await emit(tx, Happened(thing=thing))
        (envelope,) = await emit(tx, message)
        await TALLY.apply(message, envelope, tx)


async def content(db: Database) -> list[Any]:
    return [tuple(row) for row in await db.fetch("select * from tally order by thing")]


async def indexes(db: Database) -> list[str]:
    rows = await db.fetch("select indexdef from pg_indexes where tablename = 'tally' order by indexname")
    return [row["indexdef"] for row in rows]


async def test_a_rebuilt_projection_equals_the_live_one(
    tally: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "TAIL_MAX", 3)
    for n in range(20):
        await write(tally, "abc"[n % 3], n)
    live, before = await content(tally), await indexes(tally)
    await tally.execute("update tally set units = -1")
    assert await rebuild(tally, TALLY) == 40
    assert (await content(tally), await indexes(tally)) == (live, before)
    await write(tally, "a", 1)
    assert await tally.fetchval("select units from tally where thing = 'a'") == live[0][1] + 1
    assert await rebuild(tally, TALLY) == 42
    assert await tally.fetchval("select count(*)::int from pg_namespace where nspname like 'rebuild%'") == 0


async def test_writers_go_on_during_a_rebuild_and_nothing_is_lost_or_doubled(
    tally: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "TAIL_MAX", 5)
    chance, stop, written = random.Random(1), asyncio.Event(), 0

    async def writer() -> None:
        nonlocal written
        while not stop.is_set():
            try:
                await write(tally, chance.choice("abcdef"), 1)
                written += 1
            except Conflict:
                continue

    writers = [asyncio.create_task(writer()) for _ in range(2)]
    await until(lambda: written > 40)
    for _ in range(3):
        before = written
        await rebuild(tally, TALLY)
        await until(lambda was=before: written > was + 10)  # type: ignore[misc]
    stop.set()
    await asyncio.gather(*writers)
    live = await content(tally)
    assert sum(row[1] for row in live) == written
    await rebuild(tally, TALLY)
    assert await content(tally) == live


async def test_a_consumer_that_lags_does_not_apply_again_what_a_rebuild_has(
    tally: Database, bus: Bus, running: Any
) -> None:
    await bus.ensure_stream("demo")
    async with tally.transaction() as tx:
        await emit(tx, *(Counted(thing="a", units=1) for _ in range(20)))
    await rebuild(tally, TALLY)
    assert await tally.fetchval("select units from tally") == 20
    consumer = Consumer(tally, bus, "demo", Counted, TALLY.apply, Clock())
    async with running(Relay(tally, bus, "demo", Clock()).run()), running(consumer.run()):
        async with tally.transaction() as tx:
            await emit(tx, Counted(thing="a", units=1))
        await until(lambda: tally.fetchval("select units = 21 from tally"))
        await until(lambda: tally.fetchval("select count(*) = 21 from inbox"))
    assert await tally.fetchval("select units from tally") == 21


async def test_a_handler_that_fails_leaves_the_live_tables_alone(tally: Database) -> None:
    await write(tally, "a", 1)

    async def broken(event: Any, envelope: Envelope, tx: Tx) -> None:
        await execute(tx, "delete from tally")
        raise ZeroDivisionError

    live = await content(tally)
    with pytest.raises(ZeroDivisionError):
        await rebuild(tally, Projection("tally", ["tally"], broken, [Counted]))
    assert await content(tally) == live
    await rebuild(tally, TALLY)
    assert await content(tally) == live


async def test_an_event_that_is_not_visible_yet_is_waited_for_before_it_is_replayed_past(
    tally: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "TAIL_MAX", 1)
    waiting = asyncio.Event()

    async def noticing(db: Database) -> None:
        waiting.set()
        await settle(db)

    monkeypatch.setattr(projections, "settle", noticing)
    async with tally.fast() as slow:
        await emit(slow, Counted(thing="slow", units=1))
        async with tally.transaction() as tx:
            await emit(tx, *(Counted(thing="quick", units=1) for _ in range(5)))
        rebuilding = asyncio.create_task(rebuild(tally, TALLY))
        await waiting.wait()
    await rebuilding
    assert await tally.fetchval("select units from tally where thing = 'slow'") == 1


async def test_the_swap_waits_for_a_writer_that_came_late(
    tally: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = await tally.dedicated()
    writing = late.transaction()

    async def settle_then_write(db: Database) -> None:
        await settle(db)
        await writing.start()
        await emit(late, Counted(thing="late", units=1))
        async with tally.transaction() as tx:
            await emit(tx, Counted(thing="quick", units=1))

    monkeypatch.setattr(projections, "settle", settle_then_write)
    rebuilding = asyncio.create_task(rebuild(tally, TALLY))
    await until(lambda: tally.fetchval(LOCK_WAITS))
    await writing.commit()
    await late.close()
    await rebuilding
    assert await tally.fetchval("select units from tally where thing = 'late'") == 1


LOCK_WAITS = "select exists (select from pg_locks where mode = 'ShareRowExclusiveLock' and not granted)"


async def test_a_handler_of_many_makes_what_one_of_each_makes(tally: Database) -> None:
    async def count_all(events: Any, tx: Tx) -> None:
        for event, envelope in events:
            await count(event, envelope, tx)

    many = Projection("tally", ["tally"], types=[Counted], many=count_all)
    for n in range(10):
        async with tally.transaction() as tx:
            messages = [Counted(thing=thing, units=n) for thing in "abc"]
            await many.apply_all(list(zip(messages, await emit(tx, *messages), strict=True)), tx)
    live = await content(tally)
    await rebuild(tally, many)
    assert await content(tally) == live
    await rebuild(tally, TALLY)
    assert await content(tally) == live
