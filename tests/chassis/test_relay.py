"""Every committed event is published, in the order of its key, however slow its transaction was."""

import asyncio
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from services.chassis import relay as relay_module
from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.events import COLUMNS, Provenance, announcement, emit, envelope, provenance
from services.chassis.lease import LeaseLost
from services.chassis.relay import HEADER, Relay, header, parse, token
from tests.chassis.demo import Happened
from tests.chassis.waiting import until
from tests.servers import start_nats
from weft.notification.v1.events_pb2 import MessageAccepted as MailAsked


@pytest.fixture
async def relay(db: Database, bus: Bus) -> Relay:
    await bus.ensure_stream("demo")
    return Relay(db, bus, "demo", Clock())


async def published(bus: Bus) -> list[Any]:
    """All that is in the stream, decoded, in order."""
    count = (await bus.js.stream_info("demo")).state.messages
    messages = [await bus.js.get_msg("demo", seq=n) for n in range(1, count + 1)]
    return [Happened.FromString(message.data) for message in messages]


async def notes(bus: Bus) -> list[str]:
    return [event.note for event in await published(bus)]


async def write(db: Database, *all_notes: str, thing: str = "a") -> None:
    async with db.transaction() as tx:
        await emit(tx, *(Happened(thing=thing, note=note) for note in all_notes))


async def test_committed_events_are_published_and_rolled_back_ones_are_not(
    db: Database, bus: Bus, relay: Relay, running: Any
) -> None:
    async with running(relay.run()):
        await write(db, "one")
        with pytest.raises(ZeroDivisionError):
            async with db.transaction() as tx:
                await emit(tx, Happened(thing="a", note="never"))
                raise ZeroDivisionError
        await write(db, "two", "three")
        await until(lambda: _is(bus, ["one", "two", "three"]))


async def _is(bus: Bus, expected: list[str]) -> bool:
    return await notes(bus) == expected


async def test_events_of_another_services_contract_go_to_its_stream(
    db: Database, bus: Bus, relay: Relay, running: Any
) -> None:
    await bus.ensure_stream("notification")
    async with db.transaction() as tx:
        await emit(
            tx, Happened(thing="a", note="1"), MailAsked(message_id="m"), Happened(thing="a", note="2")
        )
    async with running(relay.run()):
        await until(lambda: _is(bus, ["1", "2"]))
        info = await bus.js.stream_info("notification")
        assert info.state.messages == 1


async def test_a_slow_transaction_is_waited_for_and_not_skipped(
    db: Database, bus: Bus, relay: Relay, running: Any
) -> None:
    async with running(relay.run()):
        await write(db, "first")
        await until(lambda: _is(bus, ["first"]))
        async with db.fast() as slow:
            await emit(slow, Happened(thing="a", note="slow"))  # Has its position, and stalls.
            for _ in range(20):  # Time enough for a relay that does not wait.
                await write(db, "quick")
            assert await notes(bus) == ["first"]
        await until(lambda: _is(bus, ["first", "slow", *["quick"] * 20]))


async def test_a_key_keeps_its_order_when_the_later_writer_has_the_older_transaction(
    db: Database, bus: Bus, relay: Relay, running: Any
) -> None:
    await db.execute("create table state (key text primary key)")
    await db.execute("insert into state values ('a')")
    bystander = await db.dedicated()
    async with running(relay.run()):
        async with db.fast() as older:
            await older.execute("insert into state values ('other')")  # Takes the lower transaction id.
            stalled = bystander.transaction()
            async with db.fast() as younger:
                await younger.execute("select from state where key = 'a' for update")
                await emit(younger, Happened(thing="a", note="decided first"))
            await stalled.start()
            await bystander.execute("insert into state values ('unrelated')")  # An id above both stays open.
            await older.execute("select from state where key = 'a' for update")
            await emit(older, Happened(thing="a", note="decided second"))
        await until(lambda: _is(bus, ["decided first", "decided second"]))
        await stalled.rollback()
    await bystander.close()


async def test_concurrent_writers_lose_nothing_and_each_key_keeps_its_order(
    db: Database, bus: Bus, relay: Relay, running: Any
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    await db.execute("create table counter (key text primary key, n bigint not null default 0)")
    for key in "abc":
        await db.execute("insert into counter values ($1)", key)

    async def writer() -> None:
        for _ in range(15):
            fails, key = chance.random() < 0.3, chance.choice("abc")
            try:
                async with db.fast() as tx:
                    n = await tx.fetchval("update counter set n = n + 1 where key = $1 returning n", key)
                    await emit(tx, Happened(thing=key, units=n))
                    await asyncio.sleep(chance.random() / 200)
                    if fails:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                continue

    async with running(relay.run()):
        await asyncio.gather(*(writer() for _ in range(8)))
        total = await db.fetchval("select sum(n)::int from counter")
        await until(lambda: _counted(bus, total))
    for key in "abc":
        units = [event.units for event in await published(bus) if event.thing == key]
        assert units == list(range(1, len(units) + 1)), f"seed {seed}"


async def _counted(bus: Bus, total: int) -> bool:
    return (await bus.js.stream_info("demo")).state.messages == total


async def test_a_relay_killed_between_publishing_and_noting_it_leaves_no_duplicates(
    db: Database, bus: Bus, relay: Relay, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(db, "one", "two")
    with monkeypatch.context() as patch:
        patch.setattr(relay_module, "SAVE", "select 1 / 0, $1::text, $2::bigint")
        with pytest.raises(Exception, match="division by zero"):
            await relay.run()
    assert await notes(bus) == ["one", "two"]
    await write(db, "three")
    async with running(Relay(db, bus, "demo", Clock()).run()):
        await until(lambda: _is(bus, ["one", "two", "three"]))


PROCESS = """
import asyncio, sys
from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis import relay

async def main():
    relay.NEXT = relay.NEXT.replace(str(relay.BATCH_MAX), '10')
    db, bus = Database(sys.argv[1]), Bus(sys.argv[2])
    await bus.connect()
    await relay.Relay(db, bus, "demo", Clock()).run()

asyncio.run(main())
"""


@pytest.mark.timeout(150)  # Two processes start, and three conditions are waited for.
async def test_a_relay_killed_at_any_moment_loses_and_doubles_nothing(
    db: Database, bus: Bus, relay: Relay, running: Any, fresh_database: str, nats_url: str
) -> None:
    async with db.fast() as tx:
        await emit(tx, *(Happened(thing="a", units=n) for n in range(1_000)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for reached in (1, 400):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, fresh_database, nats_url, env=environment
        )
        await until(lambda least=reached: _holds(bus, least))  # type: ignore[misc]
        process.kill()
        await process.wait()
    async with running(relay.run()):
        await until(lambda: _counted(bus, 1_000))
    assert [event.units for event in await published(bus)] == list(range(1_000))


async def _holds(bus: Bus, least: int) -> bool:
    return (await bus.js.stream_info("demo")).state.messages >= least


async def test_one_relay_of_two_works_and_the_other_takes_over(
    db: Database, bus: Bus, relay: Relay, running: Any, fresh_database: str
) -> None:
    other_db = Database(fresh_database)
    standby = Relay(other_db, bus, "demo", Clock())
    first = asyncio.create_task(relay.run())
    await until(lambda: relay.leading)
    async with running(standby.run()):
        await write(other_db, "one")  # Written where the standby is, published by the one at work.
        await until(lambda: _is(bus, ["one"]))
        assert not standby.leading
        await db.execute(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
            " and database = (select oid from pg_database where datname = current_database())"
        )
        with pytest.raises(LeaseLost):
            await first
        await until(lambda: standby.leading)
        await write(db, "two")
        await until(lambda: _is(bus, ["one", "two"]))
    await other_db.close()


async def test_events_wait_while_nats_is_away(
    db: Database, tmp_path: Path, running: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(relay_module, "ACK_S_MAX", 0.3)
    server = start_nats(tmp_path / "nats")
    bus = Bus(server.url)
    await bus.connect()
    await bus.ensure_stream("demo")
    relay = Relay(db, bus, "demo", Clock())
    async with running(relay.run()):
        await write(db, "before")
        await until(lambda: _is(bus, ["before"]))
        server.kill()
        await write(db, "during")
        await until(lambda: "events wait" in caplog.text)
        again = start_nats(tmp_path / "nats", port=int(server.url.rpartition(":")[2]))
        await until(lambda: bus.nc.is_connected)
        await until(lambda: _is(bus, ["before", "during"]))
    await bus.close()
    again.kill()


async def test_the_envelope_arrives_as_it_was_written(
    db: Database, bus: Bus, relay: Relay, running: Any
) -> None:
    mark = provenance.set(Provenance("user:u1", "user:admin", "ab" * 16, None))
    await write(db, "x", thing="ключ с пробелом.и точкой")
    provenance.reset(mark)
    async with running(relay.run()):
        await until(lambda: _is(bus, ["x"]))
    message = await bus.js.get_msg("demo", seq=1)
    assert message.headers
    row = await db.fetchrow(f"select {COLUMNS} from event")
    assert parse(message.headers[HEADER], message.data or b"") == envelope(row)
    assert envelope(row).actor == "user:u1"


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_any_key_is_one_token_of_a_subject(key: str) -> None:
    made = token(key)
    assert made
    assert made.isascii()
    assert not set(made) & set(" .*>\r\n\t\0")
    assert len(made) <= 100


def test_a_header_is_one_line_of_ascii() -> None:
    message = Happened(thing="a\r\nInjected: 1", person="ü")
    text = header(announcement(message, UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC)))
    assert text.isascii()
    assert "\n" not in text
    assert parse(text, b"").key == "a\r\nInjected: 1"
