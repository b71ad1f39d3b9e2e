"""Each event is handled once and in its key's order, through crashes, failures and redelivery."""

import asyncio
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.chassis import dead_letters as dead_letters_module, inbox, pull
from services.chassis.bus import DEAD, Bus
from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database, DatabaseAway, Tx, execute
from services.chassis.dead_letters import NoSuchDeadLetter, dead_letter, dead_letters, replay, replay_all
from services.chassis.errors import FailedPrecondition
from services.chassis.events import Envelope, announcement, provenance
from services.chassis.inbox import EVERY, Consumer, Handler
from services.chassis.relay import publish
from tests.chassis.demo import Counted, Happened
from tests.chassis.waiting import until

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Sold(FailedPrecondition):
    """{thing} is gone."""


@pytest.fixture
async def seen(db: Database, bus: Bus) -> Database:
    """The database, with a table that handlers write."""
    await bus.ensure_stream("demo")
    await db.execute("create table seen (n bigint generated always as identity, thing text, note text)")
    return db


async def note(event: Any, envelope: Envelope, tx: Tx) -> None:
    await execute(tx, "insert into seen (thing, note) values ($1, $2)", event.thing, event.note)


def consumer(db: Database, bus: Bus, handler: Handler = note, kind: Any = Happened) -> Consumer:
    return Consumer(db, bus, "listener", kind, handler, Clock())


async def announce(bus: Bus, *notes: str, thing: str = "a") -> list[UUID]:
    events = [announcement(Happened(thing=thing, note=note), uuid7(), AT) for note in notes]
    await publish(bus, events)
    return [event.id for event in events]


async def notes(db: Database, thing: str = "a") -> list[str]:
    return [row["note"] for row in await db.fetch("select note from seen where thing = $1 order by n", thing)]


async def _are(db: Database, expected: Sequence[str], thing: str = "a") -> bool:
    return await notes(db, thing) == list(expected)


async def test_an_event_is_handled_once_however_often_it_is_delivered(
    seen: Database, bus: Bus, running: Any
) -> None:
    events = [announcement(Happened(thing="a", note=str(n)), uuid7(), AT) for n in range(5)]
    for event in events * 10:
        headers = {"Weft-Event": _header(event)}  # Without a message id JetStream keeps every copy.
        await bus.js.publish(f"{event.type}.a", event.payload, headers=headers)
    async with running(consumer(seen, bus).run()):
        await until(lambda: _acknowledged(bus, 50))
    assert await notes(seen) == ["0", "1", "2", "3", "4"]


def _header(event: Envelope) -> str:
    from services.chassis.relay import header

    return header(event)


async def _acknowledged(bus: Bus, count: int) -> bool:
    infos = await bus.js.consumers_info("demo")
    return bool(infos) and infos[0].ack_floor is not None and infos[0].ack_floor.stream_seq >= count


async def test_a_failing_event_holds_its_key_and_no_other(seen: Database, bus: Bus, running: Any) -> None:
    failures = 3

    async def shaky(event: Any, envelope: Envelope, tx: Tx) -> None:
        nonlocal failures
        await note(event, envelope, tx)
        if event.note == "shaky" and failures:
            failures -= 1
            raise ZeroDivisionError

    await announce(bus, "shaky", "after", thing="a")
    await announce(bus, "other", thing="b")
    async with running(consumer(seen, bus, shaky).run()):
        await until(lambda: _are(seen, ["shaky", "after"]))
    order = [row["note"] for row in await seen.fetch("select note from seen order by n")]
    assert order == ["other", "shaky", "after"]


async def test_an_event_that_never_succeeds_goes_to_the_dead_with_its_reason_and_the_rest_goes_on(
    seen: Database, bus: Bus, running: Any
) -> None:
    async def picky(event: Any, envelope: Envelope, tx: Tx) -> None:
        if event.note == "bad":
            raise Sold(thing=event.thing)
        await note(event, envelope, tx)

    ids = await announce(bus, "bad", "good")
    worker = consumer(seen, bus, picky)
    async with running(worker.run()):
        await until(lambda: _are(seen, ["good"]))
    (letter,) = [letter async for letter in dead_letters(bus, worker.name)]
    assert (letter.reasons, letter.attempts) == (["SOLD"], inbox.ATTEMPTS_MAX)
    assert str(ids[0]) in letter.header
    assert Happened.FromString(letter.payload).note == "bad"


async def test_what_is_no_event_is_dead_at_once(seen: Database, bus: Bus, running: Any) -> None:
    await bus.js.publish("weft.demo.v1.Happened.a", b"\xff\xff", headers={"Weft-Event": "{"})
    await bus.js.publish("weft.demo.v1.Happened.a", b"no header at all")
    event = announcement(Happened(thing="a"), uuid7(), AT)
    await bus.js.publish("weft.demo.v1.Happened.a", b"\xff\xff", headers={"Weft-Event": _header(event)})
    await announce(bus, "fine")
    async with running(consumer(seen, bus).run()):
        await until(lambda: _are(seen, ["fine"]))
    letters = [letter async for letter in dead_letters(bus)]
    assert [letter.attempts for letter in letters] == [1, 1, 1]


async def test_a_replayed_dead_letter_reaches_only_its_consumer_and_keeps_its_reasons(
    seen: Database, bus: Bus, running: Any
) -> None:
    broken = True

    async def fragile(event: Any, envelope: Envelope, tx: Tx) -> None:
        if broken:
            raise Sold(thing=event.thing)
        await note(event, envelope, tx)

    async def bystander(event: Any, envelope: Envelope, tx: Tx) -> None:
        await execute(tx, "insert into seen (thing, note) values ('bystander', $1)", event.note)

    await announce(bus, "x")
    async with running(consumer(seen, bus, fragile).run()), running(consumer(seen, bus, bystander).run()):
        first = await until(lambda: _first(bus))
        await replay(bus, first.number)
        second = await until(lambda: _first(bus, after=first.number))
        assert second.reasons == ["SOLD", "SOLD"]
        broken = False
        assert await replay_all(bus) == 1
        await until(lambda: _are(seen, ["x"]))
    assert await notes(seen, "bystander") == ["x"]
    with pytest.raises(NoSuchDeadLetter):
        await dead_letter(bus, first.number)


async def test_dead_letters_are_listed_shown_and_replayed_from_the_command_line(
    seen: Database, bus: Bus, nats_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("WEFT_NATS_URL", nats_url)
    monkeypatch.setenv("WEFT_DEVELOPMENT", "1")
    await bus.ensure_dead()
    headers = {"Weft-Dead": json.dumps(DEAD_FACTS), "Weft-Event": "{}"}
    await bus.js.publish("dead.listener", b"\x01", headers=headers)
    await dead_letters_module._main("list")
    assert (
        capsys.readouterr().out == "1  2026-01-01T00:00:00+00:00  listener  weft.demo.v1.Happened.a  SOLD\n"
    )
    await dead_letters_module._main("show", "1")
    assert json.loads(capsys.readouterr().out)["payload"] == "01"
    await dead_letters_module._main("replay", "all", "listener")
    assert capsys.readouterr().out == "1 replayed\n"
    replayed = await bus.js.get_last_msg("demo", "replay.demo.listener.a")
    assert replayed.data == b"\x01"


DEAD_FACTS = {
    "consumer": "listener",
    "stream": "demo",
    "subject": "weft.demo.v1.Happened.a",
    "attempts": 5,
    "at": "2026-01-01T00:00:00+00:00",
    "reasons": ["SOLD"],
}


async def _first(bus: Bus, after: int = 0) -> Any:
    await bus.ensure_dead()
    letters = [letter async for letter in dead_letters(bus) if letter.number > after]
    return letters[0] if letters else None


async def test_a_missing_database_is_never_the_events_fault(
    seen: Database, bus: Bus, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "RETRY_S_MAX", 0.03)
    attempts = 0

    async def unlucky(event: Any, envelope: Envelope, tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= inbox.ATTEMPTS_MAX * 2:
            raise DatabaseAway
        await note(event, envelope, tx)

    await announce(bus, "patient")
    async with running(consumer(seen, bus, unlucky).run()):
        await until(lambda: _are(seen, ["patient"]))


async def test_an_outage_uses_up_none_of_an_events_attempts(
    seen: Database, bus: Bus, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "RETRY_S", 0.001)
    raised = iter([*[TimeoutError("away")] * inbox.ATTEMPTS_MAX, ValueError("a bug"), TimeoutError("away")])

    async def unlucky(event: Any, envelope: Envelope, tx: Tx) -> None:
        if error := next(raised, None):
            raise error
        await note(event, envelope, tx)

    await announce(bus, "late")
    async with running(consumer(seen, bus, unlucky).run()):
        await until(lambda: _are(seen, ["late"]))


async def test_a_successor_handles_first_what_the_dead_process_had_in_hand(
    seen: Database, bus: Bus, running: Any, fresh_database: str
) -> None:
    reached = asyncio.Event()

    async def stuck(event: Any, envelope: Envelope, tx: Tx) -> None:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        await note(event, envelope, tx)

    await announce(bus, "in hand", "behind it")
    crashing_db = Database(fresh_database)
    crashing = asyncio.create_task(consumer(crashing_db, bus, stuck).run())
    await reached.wait()
    crashing.cancel()
    await asyncio.gather(crashing, return_exceptions=True)
    await crashing_db.close()
    await announce(bus, "newer")
    async with running(consumer(seen, bus, stuck).run()):
        await until(lambda: _are(seen, ["in hand", "behind it", "newer"]))


async def test_two_replicas_keep_the_order_of_each_key(
    seen: Database, bus: Bus, running: Any, fresh_database: str
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)

    async def slow(event: Any, envelope: Envelope, tx: Tx) -> None:
        await asyncio.sleep(chance.random() / 500)
        await note(event, envelope, tx)

    other = Database(fresh_database)
    async with running(consumer(seen, bus, slow).run()), running(consumer(other, bus, slow).run()):
        for n in range(40):
            await announce(bus, str(n), thing=chance.choice("abc"))
        await until(lambda: seen.fetchval("select count(*) = 40 from seen"))
    await other.close()
    for thing in "abc":
        order = [int(text) for text in await notes(seen, thing)]
        assert order == sorted(order), f"seed {seed}"


async def test_every_hears_of_producers_that_come_later(
    seen: Database, bus: Bus, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "DISCOVER_EVERY_S", 0.05)

    async def trail(payload: bytes, envelope: Envelope, tx: Tx) -> None:
        await execute(tx, "insert into seen (thing, note) values ('trail', $1)", envelope.type)

    async with running(consumer(seen, bus, trail, EVERY).run()):
        await announce(bus, "known")
        await until(lambda: _are(seen, ["weft.demo.v1.Happened"], "trail"))
        await bus.ensure_stream("late")
        event = announcement(Counted(thing="a"), uuid7(), AT)
        headers = {"Weft-Event": _header(event)}
        await bus.js.publish("weft.late.v1.Counted.a", event.payload, headers=headers)
        await until(lambda: _are(seen, ["weft.demo.v1.Happened", "weft.demo.v1.Counted"], "trail"))


async def test_what_a_handler_causes_names_its_cause(seen: Database, bus: Bus, running: Any) -> None:
    causes = []

    async def curious(event: Any, envelope: Envelope, tx: Tx) -> None:
        causes.append(provenance.get())

    (event_id,) = await announce(bus, "x")
    async with running(consumer(seen, bus, curious).run()):
        await until(lambda: causes)
    assert (causes[0].actor, causes[0].causation) == ("service:listener", event_id)


async def test_stopping_finishes_what_is_in_hand(seen: Database, bus: Bus) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def slow(event: Any, envelope: Envelope, tx: Tx) -> None:
        reached.set()
        await go.wait()
        await note(event, envelope, tx)

    await announce(bus, "x")
    worker = consumer(seen, bus, slow)
    task = asyncio.create_task(worker.run())
    await reached.wait()
    worker.stop()
    go.set()
    await task
    assert await notes(seen) == ["x"]
    await until(lambda: _acknowledged(bus, 1))  # What is sent the server counts a moment later.


async def test_dead_letters_are_kept_in_a_stream_of_their_own(bus: Bus) -> None:
    await bus.ensure_dead()
    await bus.ensure_dead()
    assert (await bus.js.stream_info(DEAD)).config.subjects == [f"{DEAD}.>"]


async def test_an_event_after_a_long_silence_is_handled_at_once(
    seen: Database, bus: Bus, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "EXPIRES_S", 0.1)  # Requests end unserved …
    monkeypatch.setattr(pull, "LOST_S", 3_600.0)  # … and are never taken for lost.
    monkeypatch.setattr(pull, "TICK_S", 0.05)
    asked: list[int] = []
    publish_raw = bus.nc.publish

    async def counting(subject: str, *args: Any, **kwargs: Any) -> None:
        asked.append("MSG.NEXT" in subject)
        await publish_raw(subject, *args, **kwargs)

    monkeypatch.setattr(bus.nc, "publish", counting)
    async with running(consumer(seen, bus).run()):
        await until(lambda: sum(asked) > 5)
        await announce(bus, "at last")
        await until(lambda: _are(seen, ["at last"]))


async def test_an_event_that_takes_long_is_not_delivered_again(
    seen: Database, bus: Bus, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "ACK_WAIT_S", 0.6)
    monkeypatch.setattr(inbox, "ACK_WAIT_S", 0.6)

    async def long(event: Any, envelope: Envelope, tx: Tx) -> None:
        await asyncio.sleep(2.0)
        await note(event, envelope, tx)

    await announce(bus, "x")
    async with running(consumer(seen, bus, long).run()):
        await until(lambda: _are(seen, ["x"]))
        await until(lambda: _acknowledged(bus, 1))
    (info,) = await bus.js.consumers_info("demo")
    assert info.num_redelivered == 0
    assert info.delivered
    assert info.delivered.consumer_seq == 1
