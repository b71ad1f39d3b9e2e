"""Calls within the process: the same as over a socket, and nothing is opened for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from services.chassis.wire import in_process
from services.chassis.wire.client import Options, Pace, RpcError
from services.chassis.wire.server import Server
from tests.wire.answering import path
from tests.wire.served import handler, serving

QUICK = Pace(initial_s=0.02, multiplier=1.0, jitter=0.0)
WAIT_S = 5.0


async def test_calls_within_the_process_need_no_socket() -> None:
    ended: list[str] = []

    async def unary(request: bytes, context: Any) -> bytes:
        try:
            if request == b"slow":
                await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return request

    async with serving(Unary=unary) as (server, _), in_process.channel(server) as channel:
        call = channel.unary_unary(path("Unary"))
        assert await call(b"x", metadata=(("a", "b"),)) == b"x"
        assert await call(bytes(3_000_000)) == bytes(3_000_000)
        numbers = [number async for number in channel.unary_stream(path("ServerStream"))(b"2000")]
        assert numbers == [b"%d" % number for number in range(2000)]
        bidi = channel.stream_stream(path("Bidi"))(iter([bytes(100_000)] * 50))
        assert [len(message) async for message in bidi] == [100_000] * 50
        with pytest.raises(RpcError) as error:
            await call(b"slow", timeout=0.05)
        assert error.value.code() is StatusCode.DEADLINE_EXCEEDED
        late = call(b"slow")
        await asyncio.sleep(0)
        late.cancel()
        async with asyncio.timeout(WAIT_S):
            while len(ended) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_a_pipe_stops_its_writer_while_its_reader_has_paused() -> None:
    writer, reader = Heard(), Heard()
    loop = asyncio.get_running_loop()
    ours, theirs = in_process.Pipe(loop, writer), in_process.Pipe(loop, reader)
    ours.other, theirs.other = theirs, ours
    theirs.pause_reading()
    ours.write(bytes(in_process.UNREAD_BYTES_MAX + 1))
    await asyncio.sleep(0)
    assert (writer.paused, reader.received) == (True, 0)
    theirs.resume_reading()
    await asyncio.sleep(0)
    assert (writer.paused, reader.received) == (False, in_process.UNREAD_BYTES_MAX + 1)
    ours.close()
    ours.write(b"late")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (reader.received, reader.lost, writer.lost) == (in_process.UNREAD_BYTES_MAX + 1, True, True)


class Heard(asyncio.Protocol):
    paused = lost = False
    received = 0

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = True


async def test_a_server_that_stops_ends_the_pipe_too() -> None:
    server = Server()
    server.add_generic_rpc_handlers((handler(),))
    await server.start()
    async with in_process.channel(server, Options(pace=QUICK)) as channel:
        call = channel.unary_unary(path("Unary"))
        assert await call(b"x") == b"x"
        await server.stop(0)
        with pytest.raises(RpcError) as error:
            await call(b"y")
        assert error.value.code() is StatusCode.UNAVAILABLE
