"""How connections end in peace: draining, age, idleness, and the server's own stop (RFC 9113 §6.8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from services.chassis.wire.server import Server
from tests.wire import octets as o
from tests.wire.peer import Peer, hanging, request
from tests.wire.served import PATIENT, channel, path, serving

MOMENT_S = 0.05
GRACE_S = 5.0


class Gate:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.begun, self.open = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return request


async def test_a_drained_connection_says_goaway_twice_and_finishes_what_is_in_flight() -> None:
    gate = Gate()
    async with serving(Unary=gate) as (server, port), await Peer.greeted(port) as peer:
        await peer.send(request(1, b"in flight"))
        await gate.begun.wait()
        (connection,) = server.connections
        connection.drain()
        first = await peer.until(lambda frame: frame.kind == o.GOAWAY)
        assert (first.number, first.code) == (2**31 - 1, o.NO_ERROR)
        ping = await peer.until(lambda frame: frame.kind == o.PING)
        await peer.send(request(3, b"on its way"))  # Sent before the client had read of it.
        await peer.send(o.ping(ping.payload, o.ACK))
        second = await peer.until(lambda frame: frame.kind == o.GOAWAY)
        assert (second.number, second.code) == (3, o.NO_ERROR)
        await peer.send(request(5, b"too late"))
        await peer.pong()
        gate.open.set()
        assert (await peer.response(1)).messages == [b"in flight"]
        assert (await peer.response(3)).messages == [b"on its way"]
        await peer.rest()
        assert [frame.kind for frame in peer.seen if frame.stream == 5] == [o.RST_STREAM]
        assert sum(frame.kind == o.GOAWAY for frame in peer.seen) == 2


async def test_a_client_that_answers_no_ping_is_drained_nonetheless() -> None:
    limits = replace(PATIENT, drain_ping_s=MOMENT_S)
    async with serving(limits) as (server, port), await Peer.greeted(port) as peer:
        (connection,) = server.connections
        connection.drain()
        frames = await peer.rest()
    assert [frame.number for frame in frames if frame.kind == o.GOAWAY] == [2**31 - 1, 0]


async def test_a_stop_lets_calls_finish_and_takes_no_new_connections() -> None:
    gate = Gate()
    async with serving(Unary=gate) as (server, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))(b"kept")
        await gate.begun.wait()
        stopping = asyncio.create_task(server.stop(GRACE_S))
        await asyncio.sleep(MOMENT_S)
        assert not stopping.done()
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        gate.open.set()
        assert await call == b"kept"
        await asyncio.wait_for(stopping, GRACE_S)
        assert await server.wait_for_termination(0) is False
    assert not gate.cancelled


async def test_a_stop_cancels_what_its_grace_is_too_short_for() -> None:
    gate = Gate()
    async with serving(Unary=gate) as (server, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))(b"")
        await gate.begun.wait()
        assert await server.wait_for_termination(MOMENT_S) is True
        await server.stop(MOMENT_S)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert gate.cancelled


async def test_a_stop_waits_for_handlers_that_end_slowly_and_may_be_called_again() -> None:
    ended: list[str] = []

    class Slow(Gate):
        async def __call__(self, request: bytes, context: Any) -> bytes:
            try:
                return await super().__call__(request, context)
            finally:
                await asyncio.sleep(MOMENT_S)
                ended.append("rolled back")

    slow = Slow()
    async with (
        serving(replace(PATIENT, linger_s=MOMENT_S), Unary=slow) as (server, port),
        await Peer.greeted(port) as peer,
    ):
        await peer.send(request())
        await slow.begun.wait()
        first = asyncio.create_task(server.stop(GRACE_S))
        await asyncio.sleep(0)
        await server.stop(None)
        assert ended == ["rolled back"]
        await first
        await server.stop(None)


async def test_a_connection_that_is_too_old_is_drained_and_cut_after_its_grace() -> None:
    gate = Gate()
    limits = replace(PATIENT, age_s=MOMENT_S, age_grace_s=MOMENT_S)
    async with serving(limits, Unary=gate) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(request())
        goaways = [frame for frame in await peer.rest() if frame.kind == o.GOAWAY]
    assert goaways[0].number == 2**31 - 1
    assert goaways[-1].code == o.NO_ERROR
    assert gate.cancelled


async def test_clients_of_connections_that_age_see_no_failure() -> None:
    async def slow(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.002)
        return request

    async with serving(replace(PATIENT, age_s=MOMENT_S), Unary=slow) as (_, port), channel(port) as client:
        call, peers = client.unary_unary(path("Unary")), 0
        for number in range(150):
            assert await call(b"%d" % number) == b"%d" % number
            peers += 1
    assert peers == 150


async def test_an_idle_connection_is_drained_and_a_busy_one_is_not() -> None:
    gate = Gate()
    limits = replace(PATIENT, idle_s=MOMENT_S, sweep_s=MOMENT_S / 2, drain_ping_s=MOMENT_S)
    async with serving(limits, Unary=gate) as (_, port), await Peer.greeted(port) as busy:
        await busy.send(request())
        await gate.begun.wait()
        async with await Peer.greeted(port) as idle:
            assert [frame.code for frame in await idle.rest() if frame.kind == o.GOAWAY] == [o.NO_ERROR] * 2
        gate.open.set()
        assert (await busy.response()).status == 0


async def test_a_server_may_be_stopped_before_anybody_came() -> None:
    server = Server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(GRACE_S)
    assert await server.wait_for_termination(0) is False


async def test_a_server_may_be_stopped_before_its_start_and_takes_no_port_after_it() -> None:
    server = Server()
    server.add_insecure_port("127.0.0.1:0")
    await server.stop(None)
    async with serving() as (server, _):
        with pytest.raises(RuntimeError, match="before the server starts"):
            server.add_insecure_port("127.0.0.1:0")


async def test_a_stream_that_ends_by_itself_ends_within_a_stops_grace() -> None:
    leave = asyncio.Event()

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        number = 0
        while not leave.is_set():
            yield b"%d" % number
            number += 1
            await asyncio.sleep(0.001)

    async with serving(ServerStream=stream) as (server, port), channel(port) as client:
        call = client.unary_stream(path("ServerStream"))(b"")
        await call.read()
        stopping = asyncio.create_task(server.stop(GRACE_S))
        seen = [await call.read() for _ in range(10)]
        leave.set()
        while (each := await call.read()) is not grpc.aio.EOF:
            seen.append(each)
        await stopping
    assert seen == [b"%d" % number for number in range(1, len(seen) + 1)]


async def test_a_lost_connection_frees_everything() -> None:
    gate = Gate()
    async with serving(Unary=gate) as (server, port):
        for _ in range(20):
            async with await Peer.greeted(port) as peer:
                await peer.send(hanging(1), hanging(3, half_closed=False))
                await peer.pong()
        async with asyncio.timeout(GRACE_S):
            while server.connections or not server.is_quiet:  # noqa: ASYNC110 - any connection of any peer
                await asyncio.sleep(0.01)
