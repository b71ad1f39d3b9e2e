"""A cluster of three: one member says goodbye, another is killed, and whoever publishes and pulls goes on."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.publisher import Publisher
from services.chassis.jetstream.pulling import Delivery, Pull
from tests.chassis.waiting import until
from tests.jetstream.brokers import Broker, cluster
from tests.jetstream.conftest import Connect, make_stream

PATIENCE_S = 0.3  # A cluster without a leader answers nothing.


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Broker]]:
    members = cluster(tmp_path)
    yield members
    for member in members:
        member.kill()


async def _streaming(connection: Connection) -> bool:
    """Whether the cluster has chosen its leader, and made our stream."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await make_stream(connection, replicas=3)
    except (JetStreamError, TimeoutError):
        return False
    return True


class Work:
    """Jobs published by twenty callers and pulled beside them, each of which must be seen."""

    def __init__(self, publishing: Connection, pulling: Connection) -> None:
        self.stored: list[int] = []
        self.seen: set[bytes] = set()
        self._publisher, self._pulling = Publisher(publishing), pulling
        self._pull = Pull(pulling, "T", "c", self._take, room=50)
        self._confirming: set[asyncio.Task[None]] = set()
        self._pull.start()

    def _take(self, came: list[Delivery]) -> None:
        task = asyncio.create_task(self._finish(came))
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    async def _finish(self, came: list[Delivery]) -> None:
        await acks.confirm(self._pulling, [each.reply for each in came])
        self.seen |= {each.payload for each in came}
        self._pull.done(len(came))

    async def publish(self, name: str, count: int) -> None:
        async def caller(number: int) -> None:
            for n in range(count // 20):
                payload = f"{name}-{number}-{n}"
                told = await self._publisher.publish("t.a", payload.encode(), payload)
                assert not told.duplicate or told.sequence
                self.stored.append(told.sequence)

        await asyncio.gather(*map(caller, range(20)))

    async def stop(self) -> None:
        await asyncio.gather(*self._confirming)
        await self._pull.stop()


async def test_a_closing_member_is_left_in_time_and_a_killed_one_costs_nothing(
    three: list[Broker], connect: Connect
) -> None:
    publishing, pulling = await connect(three[0].url), await connect(three[0].url)
    await until(lambda: _streaming(publishing))
    work = Work(publishing, pulling)
    publish = asyncio.create_task(work.publish("goodbye", 1_000))
    await until(lambda: len(work.stored) > 100)
    await _say_goodbye(three[0], publishing, pulling)
    await publish
    await until(lambda: len(work.seen) == 1_000)

    three[0].kill()
    three[0].start()
    await until(lambda: _current(publishing))
    publish = asyncio.create_task(work.publish("killed", 1_000))
    await until(lambda: len(work.stored) > 1_300)
    next(each for each in three if each.port == publishing.link.server.port).kill()
    await publish
    await until(lambda: len(work.seen) == 2_000)
    assert len(set(work.stored)) == 2_000
    assert (await publishing.api("STREAM.INFO.T"))["state"]["messages"] == 2_000
    await work.stop()


async def _say_goodbye(member: Broker, *connections: Connection) -> None:
    """The member goes into lame duck mode; those connected move, hear on, and lose no link by it."""
    heard: list[Message] = []
    connections[0].subscribe("told", heard.extend)
    left = [each.link for each in connections]
    member.signal(signal.SIGUSR2)
    await until(lambda: all(each.connects == 2 for each in connections))
    assert [each.lame for each in left] == [True, True]
    assert member.port not in [each.link.server.port for each in connections]
    await until(lambda: all(each.lost for each in left))
    assert [each._error for each in left] == ["", ""], "they were left, not lost"
    connections[1].publish("told", b"")
    await until(lambda: heard)


async def _current(connection: Connection) -> bool:
    """Whether all members have all of the stream."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            cluster = (await connection.api("STREAM.INFO.T"))["cluster"]
    except (JetStreamError, TimeoutError):
        return False
    return bool(cluster.get("leader")) and all(each["current"] for each in cluster["replicas"])
