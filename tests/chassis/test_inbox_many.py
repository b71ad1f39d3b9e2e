"""Many events in one transaction: each once, in its key's order, and one that fails fails alone."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.chassis import pull
from services.chassis.bus import Bus
from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database, Tx, execute
from services.chassis.dead_letters import dead_letters
from services.chassis.events import announcement, provenance
from services.chassis.inbox import LANES_MAX, Consumer, Heard, Many
from services.chassis.relay import publish
from tests.chassis.demo import Happened
from tests.chassis.waiting import until

AT = datetime(2026, 1, 1, tzinfo=UTC)
THINGS, NOTES = 40, 5
TABLE = "create table seen (n bigint generated always as identity, thing text, note text, turn bigint)"
WRITE = "insert into seen (thing, note, turn) values ($1, $2, txid_current())"


async def note(heard: Sequence[Heard], tx: Tx) -> None:
    for each in heard:
        if each.event.note == "bad":
            raise ZeroDivisionError
        await execute(tx, WRITE, each.event.thing, each.event.note)


async def test_events_that_wait_are_handled_together_each_once_and_in_order(
    db: Database, bus: Bus, running: Any
) -> None:
    await bus.ensure_stream("demo")
    await db.execute(TABLE)
    told = [Happened(thing=str(thing), note=str(n)) for n in range(NOTES) for thing in range(THINGS)]
    told.insert(len(told) // 2, Happened(thing="poison", note="bad"))
    events = [announcement(event, uuid7(), AT) for event in told]
    await publish(bus, events)
    consumer = Consumer(db, bus, "listener", Happened, Many(note, "any.note"), Clock())
    assert consumer.name.endswith("_any_note")

    async def all_handled() -> bool:
        return bool(await db.fetchval("select count(*) from seen") == THINGS * NOTES)

    async def buried() -> bool:
        return len([each async for each in dead_letters(bus)]) == 1

    async with running(consumer.run()):
        await until(all_handled)
        await until(buried)
    rows = await db.fetch("select thing, note from seen order by n")
    for thing in range(THINGS):
        assert [row["note"] for row in rows if row["thing"] == str(thing)] == [str(n) for n in range(NOTES)]
    assert await db.fetchval("select count(distinct turn) from seen") < THINGS * NOTES
    assert await db.fetchval("select count(*) from inbox") == THINGS * NOTES


async def test_each_of_many_says_what_led_to_what_it_does(db: Database, bus: Bus, running: Any) -> None:
    await bus.ensure_stream("demo")
    causes: list[tuple[UUID, UUID | None, str]] = []

    async def remember(heard: Sequence[Heard], tx: Tx) -> None:
        causes.extend((each.envelope.id, each.by.causation, each.by.actor) for each in heard)
        assert provenance.get().actor == "service:listener"

    events = [announcement(Happened(thing=str(n), note=""), uuid7(), AT) for n in range(5)]
    await publish(bus, events)

    async def told() -> bool:
        return len(causes) == len(events)

    async with running(Consumer(db, bus, "listener", Happened, Many(remember, "any.many"), Clock()).run()):
        await until(told)
    assert sorted(causes) == sorted((each.id, each.id, "service:listener") for each in events)


async def test_a_backlog_is_asked_for_as_soon_as_there_is_room_for_it(
    db: Database, bus: Bus, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "TICK_S", 600.0)  # Nobody waits it out.
    await bus.ensure_stream("demo")
    await db.execute(TABLE)
    told = [Happened(thing=str(n), note="") for n in range(3 * LANES_MAX)]
    await publish(bus, [announcement(event, uuid7(), AT) for event in told])

    async def all_handled() -> bool:
        return bool(await db.fetchval("select count(*) from seen") == 3 * LANES_MAX)

    async with running(Consumer(db, bus, "listener", Happened, Many(note, "any.note"), Clock()).run()):
        await until(all_handled)
