"""Back-pressure both ways: who does not read is not written to, and what is not consumed is not replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise
from typing import Any

import grpc
import grpc.aio

from services.chassis.wire.connection import Connection
from services.chassis.wire.flow import Inflow
from tests.wire import octets as o
from tests.wire.peer import Peer, asking, request
from tests.wire.served import PATIENT, channel, path, serving

WAIT_S = 5.0
MESSAGE_BYTES = 30_000
WIDE = 2**30


class Writer:
    """A handler that writes for ever, and counts."""

    def __init__(self, size: int = MESSAGE_BYTES) -> None:
        self.size, self.written = size, 0

    async def __call__(self, request: bytes, context: Any) -> None:
        while True:
            await context.write(bytes(self.size))
            self.written += 1


class Reader:
    """A handler of a stream that reads one message for each `release` of `may_read`."""

    def __init__(self) -> None:
        self.may_read = asyncio.Semaphore(0)
        self.read: list[int] = []

    async def __call__(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        while True:
            await self.may_read.acquire()
            message = await context.read()
            if message is grpc.aio.EOF:
                return b"%d" % sum(self.read)
            self.read.append(len(message))


def asked(stream: int, rpc: str = "ServerStream") -> bytes:
    return o.headers(stream, asking(rpc)) + o.data(stream, o.message(), o.END_STREAM)


def credit(peer: Peer, stream: int) -> int:
    """What the server has given back on this stream."""
    updates = [f for f in peer.seen if f.kind == o.WINDOW_UPDATE and f.stream == stream]
    return sum(frame.number for frame in updates)


async def receives(peer: Peer, size: int) -> None:
    """Waits for so many bytes of DATA in all, and sees that no more come."""
    while sum(len(frame.payload) for frame in peer.seen if frame.kind == o.DATA) < size:
        await peer.frame()
    await peer.pong()
    assert sum(len(frame.payload) for frame in peer.seen if frame.kind == o.DATA) == size


async def test_a_writer_waits_for_the_window_and_goes_on_with_it() -> None:
    writer = Writer()
    async with serving(ServerStream=writer) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(asked(1))
        await receives(peer, o.WINDOW_BYTES)
        assert writer.written == o.WINDOW_BYTES // (MESSAGE_BYTES + 5) == 2
        await peer.send(o.window_update(1, WIDE), o.window_update(0, MESSAGE_BYTES))
        await receives(peer, o.WINDOW_BYTES + MESSAGE_BYTES)
        assert writer.written == (o.WINDOW_BYTES + MESSAGE_BYTES) // (MESSAGE_BYTES + 5) == 3


async def test_a_thousand_readers_who_do_not_read_hold_one_message_each() -> None:
    writer = Writer()
    async with serving(ServerStream=writer) as (server, port), AsyncExitStack() as stack:
        for _ in range(10):
            peer = await stack.enter_async_context(await Peer.greeted(port))
            await peer.send(*(asked(2 * number + 1) for number in range(100)))
            await receives(peer, o.WINDOW_BYTES)
        assert writer.written <= 10 * o.WINDOW_BYTES // MESSAGE_BYTES
        for connection in server.connections:
            assert len(connection.streams) == 100
            assert connection.pending <= 100 * (MESSAGE_BYTES + 5)
    assert [connection.pending for connection in server.connections] == []


async def test_a_negative_window_is_waited_out() -> None:
    """RFC 9113 §6.9.2."""
    writer = Writer()
    async with serving(ServerStream=writer) as (server, port), await Peer.greeted(port) as peer:
        await peer.send(o.window_update(0, WIDE), asked(1))
        await receives(peer, o.WINDOW_BYTES)
        await peer.send(o.settings((o.INITIAL_WINDOW_SIZE, 0)))
        await peer.pong()
        (connection,) = server.connections
        assert connection.streams[1].window == -o.WINDOW_BYTES
        await peer.send(o.window_update(1, o.WINDOW_BYTES))
        assert o.DATA not in [frame.kind for frame in await peer.pong()]
        await peer.send(o.window_update(1, 1))
        frame = await peer.until(lambda frame: frame.kind == o.DATA)
        assert len(frame.payload) == 1


async def test_large_answers_take_turns_and_small_ones_do_not_wait_for_them() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return bytes(int(request))

    async with (
        serving(Unary=answer) as (_, port),
        await Peer.greeted(port, (o.INITIAL_WINDOW_SIZE, WIDE)) as peer,
    ):
        large = b"4000000"
        await peer.send(o.window_update(0, WIDE))
        await peer.send(request(1, large), request(3, large), request(5, b"10"))
        for stream in (5, 3, 1):
            assert (await peer.response(stream)).status == 0
    order = [frame.stream for frame in peer.seen if frame.kind == o.DATA]
    assert order.index(5) < 4
    turns = sum(one != other for one, other in pairwise(order))
    assert turns > 50


async def test_what_is_not_consumed_is_not_given_back() -> None:
    reader, window = Reader(), 100_000
    limits = replace(PATIENT, stream_window_bytes=window)
    async with serving(limits, ClientStream=reader) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("ClientStream")))
        sent = 9 * 10_005
        await peer.send(*(o.data(1, o.message(bytes(10_000))) for _ in range(9)))
        await peer.pong()
        assert credit(peer, 1) == 0
        for _ in range(9):
            reader.may_read.release()
        async with asyncio.timeout(WAIT_S):
            while len(reader.read) < 9:  # noqa: ASYNC110 - the handler counts
                await asyncio.sleep(0.001)
        await peer.pong()
        assert window // 2 <= credit(peer, 1) <= sent
        assert sum(frame.kind == o.WINDOW_UPDATE for frame in peer.seen if frame.stream == 1) == 1
        reader.may_read.release()
        await peer.send(o.data(1, b"", o.END_STREAM))
        assert (await peer.response()).messages == [b"90000"]


async def test_more_than_the_window_is_a_fault() -> None:
    reader = Reader()
    limits = replace(PATIENT, stream_window_bytes=65_535)
    async with serving(limits, ClientStream=reader) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("ClientStream")))
        await peer.send(*(o.data(1, o.message(bytes(10_000))) for _ in range(7)))
        assert await peer.reset() == o.FLOW_CONTROL_ERROR


async def test_a_message_larger_than_the_window_arrives() -> None:
    limits = replace(PATIENT, stream_window_bytes=65_535)
    async with serving(limits) as (_, port), channel(port) as client:
        payload = bytes(range(256)) * 8_000
        assert await client.unary_unary(path("Unary"))(payload) == payload
        assert await client.stream_unary(path("ClientStream"))(iter([payload, b"x"])) == payload + b"|x"


async def test_too_much_unread_ends_the_call_that_sent_it_and_no_other() -> None:
    reader = Reader()
    limits = replace(PATIENT, unread_bytes_max=50_000)
    async with serving(limits, ClientStream=reader) as (server, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("ClientStream")), o.headers(3, asking("ClientStream")))
        await peer.send(*(o.data(1, o.message(bytes(10_000))) for _ in range(4)))
        await peer.send(*(o.data(3, o.message(bytes(10_000))) for _ in range(2)))
        assert await peer.reset(3) == o.ENHANCE_YOUR_CALM
        for _ in range(5):
            reader.may_read.release()
        await peer.send(o.data(1, b"", o.END_STREAM))
        assert (await peer.response(1)).messages == [b"40000"]
        (connection,) = server.connections
        assert connection.unread == 0


async def test_large_uploads_at_once_are_no_unread_bytes() -> None:
    limits = replace(PATIENT, unread_bytes_max=200_000)
    async with serving(limits) as (server, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))
        answers = await asyncio.gather(*(call(bytes(1_000_000)) for _ in range(10)))
        assert [len(answer) for answer in answers] == [1_000_000] * 10
        assert [connection.unread for connection in server.connections] == [0]


async def test_answers_beyond_what_may_wait_are_dropped() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return bytes(100_000)

    limits = replace(PATIENT, pending_bytes_max=250_000)
    async with (
        serving(limits, Unary=answer) as (server, port),
        await Peer.greeted(port, (o.INITIAL_WINDOW_SIZE, 0)) as peer,
    ):
        await peer.send(request(1), request(3), request(5))
        assert await peer.reset(5) == o.ENHANCE_YOUR_CALM
        (connection,) = server.connections
        assert connection.pending == 200_010
        await peer.send(o.window_update(0, WIDE), o.settings((o.INITIAL_WINDOW_SIZE, WIDE)))
        assert [len((await peer.response(stream)).body) for stream in (1, 3)] == [100_005] * 2
        assert connection.pending == 0


async def test_a_peer_that_takes_nothing_is_not_heard_until_it_does() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return bytes(16_000)

    limits = replace(PATIENT, unsent_bytes_max=100_000, streams_max=5_000)
    async with serving(limits, Unary=answer) as (server, port):
        peer = await Peer.greeted(port, (o.INITIAL_WINDOW_SIZE, WIDE))
        async with peer:
            await peer.send(o.window_update(0, WIDE))
            (connection,) = server.connections
            writing = asyncio.create_task(peer.send(*(request(2 * n + 1) for n in range(3_000))))
            async with asyncio.timeout(WAIT_S):
                while not connection.deaf:  # noqa: ASYNC110 - sockets' buffers are the system's
                    await asyncio.sleep(0.001)
            heard = connection.last_stream_id
            await asyncio.sleep(0.05)
            assert connection.last_stream_id == heard < 5_999
            assert (await peer.response(5_999, within=20)).status == 0
            await writing
            assert not connection.deaf


async def test_a_peer_that_takes_nothing_for_long_is_cut() -> None:
    writer = Writer(16_000)
    limits = replace(PATIENT, stalled_s=0.1)
    async with (
        serving(limits, ServerStream=writer) as (server, port),
        await Peer.greeted(port, (o.INITIAL_WINDOW_SIZE, WIDE)) as peer,
    ):
        await peer.send(o.window_update(0, WIDE), asked(1))
        async with asyncio.timeout(WAIT_S):
            while server.connections or not server.is_quiet:  # noqa: ASYNC110 - nobody reads to see it
                await asyncio.sleep(0.01)


class Full(asyncio.Transport):
    """A socket that takes as little as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.aborted = 0, asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def abort(self) -> None:
        self.aborted.set()


async def test_a_peer_that_takes_little_but_something_is_not_cut() -> None:
    limits = replace(PATIENT, stalled_s=0.02)
    connection, transport = Connection(limits, asyncio.get_running_loop()), Full()
    connection.connection_made(transport)
    connection.send(bytes(1_000))
    await asyncio.sleep(0)
    connection.pause_writing()
    for _ in range(40):
        await asyncio.sleep(0.005)
        transport.waiting -= 1
    assert not transport.aborted.is_set()
    async with asyncio.timeout(WAIT_S):
        await transport.aborted.wait()
    connection.connection_lost(None)


async def test_a_writer_that_is_never_full_lets_others_run() -> None:
    writer = Writer(10)
    async with (
        serving(ServerStream=writer) as (_, port),
        await Peer.greeted(port, (o.INITIAL_WINDOW_SIZE, WIDE)) as peer,
    ):
        await peer.send(o.window_update(0, WIDE), asked(1), request(3))
        assert (await peer.response(3)).status == 0


def test_a_connections_window_is_given_back_by_halves_and_no_wider() -> None:
    """RFC 9113 §6.9.1."""
    inflow = Inflow(100)
    assert [inflow.take_and_give(30) for _ in range(4)] == [0, 60, 0, 60]
    assert inflow.take_and_give(101) < 0
