"""Streams and consumers of jobs are as their queues say, however often that is said."""

import asyncio

from services.chassis.bus import Bus
from services.chassis.jetstream.connection import Connection
from services.chassis.jobs.streams import ensure_queue, ensure_streams, remove_queue


async def consumers(bus: Bus) -> dict[str, str]:
    return {info.name: info.config.filter_subject or "" for info in await bus.js.consumers_info("jobs")}


async def test_streams_are_made_once_by_however_many(bus: Bus) -> None:
    await asyncio.gather(*(ensure_streams(bus) for _ in range(4)))
    names = sorted(info.config.name or "" for info in await bus.js.streams_info())
    assert names == ["jobs", "jobs-claims", "jobs-live"]
    assert await consumers(bus) == {"record": ""}


async def test_each_place_of_a_queue_has_its_consumer(bus: Bus) -> None:
    await asyncio.gather(*(ensure_queue(bus, "mails", 0) for _ in range(3)))
    await ensure_queue(bus, "mails-2", 0)
    await ensure_queue(bus, "ledger", 3)
    found = await consumers(bus)
    assert found.pop("record") == ""
    assert found == {
        **{f"mails_{place}": f"jobs.q.mails.{place}" for place in "hml"},
        **{f"mails-2_{place}": f"jobs.q.mails-2.{place}" for place in "hml"},
        **{f"ledger_k{lane}": f"jobs.q.ledger.k{lane}" for lane in range(3)},
    }


async def test_a_queue_with_fewer_lanes_loses_the_consumers_of_the_others(bus: Bus) -> None:
    await ensure_queue(bus, "ledger", 4)
    await ensure_queue(bus, "ledger", 2)
    assert sorted(await consumers(bus)) == ["ledger_k0", "ledger_k1", "record"]


async def test_a_removed_queue_leaves_nothing_and_takes_nothing_of_others(bus: Bus) -> None:
    for queue in ("a", "a-b"):
        await ensure_queue(bus, queue, 0)
        await bus.publish(f"jobs.q.{queue}.h", b"")
        await bus.publish(
            f"jobs.s.{queue}.x",
            b"",
            {"Nats-Schedule": "@at 2999-01-01T00:00:00Z", "Nats-Schedule-Target": f"jobs.q.{queue}.h"},
        )
    await remove_queue(bus, "a")
    await remove_queue(bus, "a")
    assert sorted(await consumers(bus)) == ["a-b_h", "a-b_l", "a-b_m", "record"]
    state = (await bus.js.stream_info("jobs", subjects_filter=">")).state
    assert sorted(state.subjects or {}) == ["jobs.q.a-b.h", "jobs.s.a-b.x"]


async def test_what_happens_now_is_kept_without_being_acknowledged(bus: Bus, connection: Connection) -> None:
    for n in range(3):
        connection.publish("jobs.live.mails.x", b"%d" % n)
    await connection.flush()
    state = (await bus.js.stream_info("jobs-live")).state
    assert state.messages == 3
