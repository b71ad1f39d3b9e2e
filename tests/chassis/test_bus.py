"""Streams and buckets are made once, and a watcher misses nothing, outages included."""

import asyncio
import signal
from pathlib import Path

import nats.errors
import pytest

from services.chassis.bus import Bus
from tests.chassis.waiting import until
from tests.servers import free_port, start_nats


async def test_a_stream_is_made_once_by_however_many(bus: Bus) -> None:
    await asyncio.gather(*(bus.ensure_stream("demo") for _ in range(5)))
    await bus.ensure_stream("other")
    await bus.ensure_dead()
    assert await bus.event_streams() == ["demo", "other"]


async def test_a_bucket_is_made_once_by_however_many(bus: Bus) -> None:
    buckets = await asyncio.gather(*(bus.kv("things") for _ in range(5)))
    await buckets[0].put("k", b"v")
    assert [await bucket.get("k") for bucket in buckets] == [b"v"] * 5
    await buckets[1].delete("k")
    assert await buckets[2].get("k") is None


def test_who_we_are_is_said_to_every_server_of_a_cluster() -> None:
    """Servers that others tell of come without a name and a password."""
    bus = Bus("nats://weft:p%40ss@127.0.0.1:1,nats://weft:p%40ss@127.0.0.1:2", replicas=3)
    assert bus._identity() == {"user": "weft", "password": "p@ss"}
    assert Bus("nats://secret@127.0.0.1:1")._identity() == {"token": "secret"}
    assert Bus("127.0.0.1:4222")._identity() == {}


async def test_a_missing_server_is_said_at_once() -> None:
    with pytest.raises(OSError, match=r"refused|failed"):
        await Bus(f"nats://127.0.0.1:{free_port()}").connect()


async def test_a_lost_server_fails_the_check_until_it_is_back(tmp_path: Path) -> None:
    server = start_nats(tmp_path / "nats")
    bus = Bus(server.url)
    await bus.connect()
    await bus.check()
    server.kill()
    await until(lambda: not bus.nc.is_connected)
    with pytest.raises(ConnectionError):
        await bus.check()
    again = start_nats(tmp_path / "nats", port=int(server.url.rpartition(":")[2]))
    await until(lambda: bus.nc.is_connected)
    await bus.check()
    await bus.close()
    again.kill()


async def test_a_server_that_was_paused_is_heard_again(tmp_path: Path) -> None:
    server = start_nats(tmp_path / "nats")
    bus = Bus(server.url)
    await bus.connect()
    await bus.ensure_stream("demo")
    server.process.send_signal(signal.SIGSTOP)
    await until(lambda: _is_deaf(bus))
    server.process.send_signal(signal.SIGCONT)
    await until(lambda: _is_well(bus))
    await bus.publish("weft.demo.v1.Happened.a", b"")
    await bus.close()
    server.kill()


async def _is_deaf(bus: Bus) -> bool:
    try:
        await bus.check()
    except nats.errors.TimeoutError:
        return True
    return False


async def _is_well(bus: Bus) -> bool:
    return not await _is_deaf(bus)


async def test_a_watcher_sees_the_value_and_its_changes_through_an_outage(tmp_path: Path) -> None:
    server = start_nats(tmp_path / "nats")
    bus = Bus(server.url)
    await bus.connect()
    bucket = await bus.kv("things")
    await bucket.put("k", b"1")
    seen: list[bytes] = []

    async def watch() -> None:
        async for value in bucket.watch("k"):
            seen.append(value)

    watching = asyncio.create_task(watch())
    await until(lambda: seen == [b"1"])
    await bucket.put("k", b"2")
    await until(lambda: seen == [b"1", b"2"])
    server.kill()
    again = start_nats(tmp_path / "nats", port=int(server.url.rpartition(":")[2]))
    direct = Bus(server.url)
    await direct.connect()
    await (await direct.kv("things")).put("k", b"3")
    await until(lambda: seen == [b"1", b"2", b"3"])
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await direct.close()
    await bus.close()
    again.kill()
