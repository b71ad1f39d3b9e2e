"""An event is written with what it reports, under its own name and by its own option."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.chassis.clock import FakeClock, uuid7
from services.chassis.db import Database
from services.chassis.events import (
    COLUMNS,
    PAYLOAD_BYTES_MAX,
    Envelope,
    EventTooLarge,
    NotAnEvent,
    Provenance,
    announcement,
    emit,
    envelope,
    provenance,
    write,
)
from tests.chassis.demo import Happened, Plain


async def stored(db: Database) -> list[Envelope]:
    return [envelope(row) for row in await db.fetch(f"select {COLUMNS} from event order by position")]


@pytest.mark.parametrize("kind", ["transaction", "fast"])
async def test_what_emit_returns_is_what_is_stored(db: Database, kind: str) -> None:
    cause = uuid4()
    mark = provenance.set(Provenance("user:u1", "user:admin", "ab" * 16, cause))
    async with getattr(db, kind)() as tx:
        made = await emit(tx, Happened(thing="a", person="p1"), Happened(thing="b", note="x"))
    provenance.reset(mark)
    assert await stored(db) == made
    assert [(event.type, event.key, event.subject) for event in made] == [
        ("weft.demo.v1.Happened", "a", "p1"),
        ("weft.demo.v1.Happened", "b", ""),
    ]
    assert {(event.actor, event.acting, event.trace, event.causation) for event in made} == {
        ("user:u1", "user:admin", "ab" * 16, cause)
    }
    assert made[0].position < made[1].position
    assert made[0].service == "demo"


async def test_events_of_several_causes_keep_each_its_own(db: Database) -> None:
    made = []
    for n in range(3):
        mark = provenance.set(Provenance(f"user:u{n}", "", f"{n}" * 32, uuid4()))
        made.append(announcement(Happened(thing="a", units=n), uuid7(), datetime.now(UTC)))
        provenance.reset(mark)
    async with db.fast() as tx:
        written = await write(tx, made)
    assert await stored(db) == written
    assert [replace(event, position=0) for event in written] == made


async def test_many_events_keep_the_order_of_the_call(db: Database) -> None:
    async with db.fast() as tx:
        made = await emit(tx, *(Happened(thing="a", units=n) for n in range(500)))
    assert [Happened.FromString(event.payload).units for event in await stored(db)] == list(range(500))
    assert [event.position for event in made] == sorted(event.position for event in made)
    assert [event.id for event in made] == sorted(event.id for event in made)


async def test_the_time_of_an_event_is_that_of_the_databases_clock(fresh_database: str) -> None:
    clock = FakeClock(datetime(2031, 1, 1, tzinfo=UTC))
    db = Database(fresh_database, clock=clock)
    async with db.fast() as tx:
        (event,) = await emit(tx, Happened(thing="a"))
    await db.close()
    assert event.at == clock.now()
    assert event.id.int >> 80 == int(clock.now().timestamp() * 1000)


async def test_a_message_that_is_no_event_is_a_bug(db: Database) -> None:
    async with db.fast() as tx:
        with pytest.raises(NotAnEvent, match=r"weft\.demo\.v1\.Plain"):
            await emit(tx, Plain(thing="a"))


async def test_an_event_is_bounded(db: Database) -> None:
    async with db.fast() as tx:
        with pytest.raises(EventTooLarge):
            await emit(tx, Happened(thing="a", note="x" * PAYLOAD_BYTES_MAX))


async def test_nothing_emitted_writes_nothing_and_wakes_nobody(db: Database) -> None:
    woken: list[Any] = []
    db.on_emit(lambda: woken.append(1))
    async with db.fast() as tx:
        assert await emit(tx) == []
    assert not woken
    async with db.fast() as tx:
        await emit(tx, Happened(thing="a"), key="other")
        await emit(tx, Happened(thing="a"))
    assert woken == [1]
    assert [event.key for event in await stored(db)] == ["other", "a"]
