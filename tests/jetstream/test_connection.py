"""A connection proves who it is, keeps its subscriptions through outages, and says when a server is away."""

import asyncio
import signal
from pathlib import Path

import pytest

from services.chassis.jetstream import connection as connection_module, link, servers
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import (
    Disconnected,
    JetStreamError,
    NoResponders,
    ProtocolError,
    Refused,
    TooLarge,
)
from services.chassis.jetstream.feed import Feed
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.publisher import Item, Publisher
from services.chassis.jetstream.servers import Options, Servers
from services.chassis.jetstream.stream import Stream
from tests.chassis.waiting import until
from tests.jetstream.brokers import broker
from tests.jetstream.conftest import Connect, echo, make_stream
from tests.servers import free_port


async def test_requests_are_answered_or_told_why_not(connection: Connection) -> None:
    assert await echo(connection, b"hello") == b"hello"
    with pytest.raises(NoResponders):
        await connection.request("nobody")
    silent = connection.subscribe("silent", lambda messages: None)
    with pytest.raises(TimeoutError):
        await connection.request("silent", timeout_s=0.05)
    silent.end()
    with pytest.raises(TooLarge):
        connection.publish("a", b"x" * 1_048_577)
    with pytest.raises(Refused, match="stream not found"):
        await connection.api("STREAM.INFO.none")
    assert not connection.link.busy


async def test_members_of_a_queue_share_and_others_hear_all(connection: Connection) -> None:
    shares: list[list[Message]] = [[], []]
    everything: list[Message] = []
    for share in shares:
        connection.subscribe("work.*", share.extend, queue="q")
    connection.subscribe("work.>", everything.extend)
    for n in range(100):
        connection.publish("work.a", b"%d" % n, headers={"N": str(n)})
    await connection.flush()
    assert len(everything) == 100
    assert sorted(len(share) > 0 for share in shares) == [True, True]
    assert sum(map(len, shares)) == 100


async def test_a_failing_subscriber_harms_no_other(connection: Connection) -> None:
    heard: list[Message] = []

    def fail(messages: list[Message]) -> None:
        raise RuntimeError("planted")

    connection.subscribe("a", fail)
    connection.subscribe("a", heard.extend)
    connection.publish("a", b"")
    await connection.flush()
    assert len(heard) == 1


async def test_a_slow_reader_misses_messages_and_knows_how_many(connection: Connection) -> None:
    async with Feed(connection, "a", messages_max=10) as feed:
        for n in range(25):
            connection.publish("a", b"%d" % n)
        await connection.flush()
        assert [message.payload for message in await anext(feed)] == [b"%d" % n for n in range(10)]
        assert feed.missed == 15
        connection.publish("a", b"next")
        assert [message.payload for message in await anext(feed)] == [b"next"]
    async with Feed(connection, "b", bytes_max=10) as feed:
        for _ in range(3):
            connection.publish("b", b"123456")
        await connection.flush()
        assert (len(await anext(feed)), feed.missed) == (1, 2)


async def test_subscriptions_outlive_a_killed_server(tmp_path: Path, connect: Connect) -> None:
    server = broker(tmp_path / "nats")
    connection = await connect(server.url)
    heard: list[Message] = []
    back: list[int] = []
    connection.subscribe("a", heard.extend)
    ended = connection.subscribe("b", heard.extend)
    ended.end()
    off = connection.on_connect(lambda: back.append(connection.connects))
    silent = connection.subscribe("silent", lambda messages: None)
    asked = asyncio.create_task(connection.request("silent"))
    await connection.flush()
    server.kill()
    with pytest.raises(Disconnected):
        await asked
    with pytest.raises(Disconnected):
        connection.publish("a", b"")
    with pytest.raises(Disconnected):
        await connection.request("a")
    silent.end()
    server.start()
    await connection.ready()
    assert back == [2]
    off()
    connection.publish("b", b"")
    connection.publish("a", b"after")
    await connection.flush()
    assert [message.payload for message in heard] == [b"after"]


async def test_a_server_that_does_not_answer_is_left_and_found_again(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = broker(tmp_path / "nats")
    monkeypatch.setattr(link, "PING_EVERY_S", 0.05)
    connection = await connect(server.url)
    monkeypatch.setattr(link, "CONNECT_S_MAX", 0.2)
    server.signal(signal.SIGSTOP)
    await until(lambda: not connection.connected)
    with pytest.raises(Disconnected):
        connection.publish("a", b"")
    server.signal(signal.SIGCONT)
    await connection.ready()
    await connection.flush()


async def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(OSError, match=r"refused|failed|[Cc]onnect"):
        await Connection(Options.of(f"nats://127.0.0.1:{free_port()}")).open()


@pytest.mark.parametrize(
    "greeting",
    [
        b"HELLO\r\n",
        b'INFO {"no": 1}\r\n',
        b"INFO {\r\n",
        b'INFO {"max_payload": 1}\r\n',
        b"-ERR 'no'\r\n",
        b"",
    ],
)
async def test_a_garbling_server_is_left_and_not_believed(greeting: bytes) -> None:
    served = asyncio.Event()

    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if greeting.startswith(b"INFO"):
            await reader.read()
        writer.close()
        await writer.wait_closed()
        served.set()

    async with await asyncio.start_server(garble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((Disconnected, ProtocolError)):
            await Connection(Options.of(f"nats://127.0.0.1:{port}")).open()
        await served.wait()


async def test_permissions_are_told_in_the_log_and_nothing_breaks(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    user = {"user": "ann", "password": "p", "permissions": {"publish": "allowed", "subscribe": "_INBOX.>"}}
    server = broker(tmp_path / "nats", authorization={"users": [user]})
    connection = await connect(f"nats://ann:p@127.0.0.1:{server.port}")
    connection.publish("forbidden", b"")
    await connection.flush()
    assert "Permissions Violation" in caplog.text
    assert connection.connects == 1


async def test_subscriptions_are_bounded(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SUBSCRIPTIONS_MAX", 2)
    made = [connection.subscribe("a", lambda messages: None) for _ in range(2)]
    with pytest.raises(JetStreamError, match="more than 2"):
        connection.subscribe("a", lambda messages: None)
    made[0].end()
    connection.subscribe("a", lambda messages: None).end()


async def test_unsent_bytes_are_bounded(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = broker(tmp_path / "nats")
    connection = await connect(server.url)
    monkeypatch.setattr(link, "UNSENT_BYTES_MAX", 4_000_000)
    server.signal(signal.SIGSTOP)
    with pytest.raises(link.Overrun):
        for _ in range(100):
            connection.publish("a", b"x" * 1_000_000)
    server.signal(signal.SIGCONT)
    await connection.flush()
    assert connection.connects == 1


async def test_a_stream_is_read_purged_and_deleted_from(connection: Connection) -> None:
    await make_stream(connection)
    stream = Stream(connection, "T")
    for n in range(6):
        await connection.request(f"t.{n % 2}", b"%d" % n, headers={"N": f"{n}"})
    record = await stream.get(3)
    assert record
    assert (record.subject, record.payload, record.headers) == ("t.0", b"2", {"N": "2"})
    last = await stream.last("t.1")
    assert last
    assert last.sequence == 6
    assert await stream.purge("t.0", before=4) == 2
    assert await stream.get(3) is None
    assert await stream.delete(2)
    assert not await stream.delete(2)
    assert await stream.purge("t.>") == 3
    assert await stream.last("t.1") is None


def test_servers_that_are_told_of_come_and_go_and_those_configured_stay() -> None:
    pool = Servers(["tls://nats.example:4222", "b"])
    pool.heard(["10.0.0.1:4222", "other.example:4333", "[::1]:5"])
    first, second, told, named, six = pool.round()
    assert (first.tls, first.name) == (True, "")
    assert (second.host, second.port) == ("b", servers.PORT)
    assert (told.tls, told.name) == (True, "nats.example")
    assert (named.port, named.name) == (4333, "")
    assert six.host == "::1"
    pool.last(first)
    pool.heard(["10.0.0.1:4222"])
    assert [each.host for each in pool.round()] == ["b", "10.0.0.1", "nats.example"]
    pool.heard([f"10.0.0.{n}:1" for n in range(200)])
    assert len(pool) <= servers.SERVERS_MAX + 2


@pytest.mark.parametrize("url", ["http://a", "nats://", "tls://:4"])
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="given as"):
        Servers([url])


async def test_the_latest_of_many_subjects_come_together(connection: Connection) -> None:
    await make_stream(connection)
    stream = Stream(connection, "T")
    assert await stream.lasts("t.none.>") == []
    for n in range(6):
        await connection.request(f"t.of.{n % 3}", b"%d" % n)
    await connection.request("t.other", b"")
    assert {each.subject: each.payload for each in await stream.lasts("t.of.*")} == {
        "t.of.0": b"3",
        "t.of.1": b"4",
        "t.of.2": b"5",
    }
    await Publisher(connection).publish_all([Item(f"t.many.{n}", b"") for n in range(1_100)])
    with pytest.raises(Refused):
        await stream.lasts("t.many.*")
