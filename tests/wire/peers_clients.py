"""The four kinds of calls by each client that is a peer, and by ours; all answer in the same form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import grpclib.client
import grpclib.exceptions

from services.chassis.wire.client import Channel
from tests.wire.conftest import Stubs


class Calls:
    """unary, server_stream, client_stream and bidi: lists of answers; `Refused` for a status."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def unary(self, ask: Any) -> list[Any]:
        return [await self._stub.Unary(ask)]

    async def server_stream(self, ask: Any) -> list[Any]:
        return [answer async for answer in self._stub.ServerStream(ask)]

    async def client_stream(self, asks: Sequence[Any]) -> list[Any]:
        return [await self._stub.ClientStream(_each(asks))]

    async def bidi(self, asks: Sequence[Any]) -> list[Any]:
        """One answer is awaited before the next is asked for."""
        call, answers = self._stub.Bidi(), []
        for ask in asks:
            await call.write(ask)
            answers.append(await call.read())
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        return answers

    async def refused(self, ask: Any) -> tuple[int, str]:
        try:
            await self._stub.Unary(ask)
        except grpc.RpcError as error:
            return error.code().value[0], error.details()
        raise AssertionError("it was not refused")


class SyncCalls(Calls):
    """Of a synchronous stub, in threads."""

    async def unary(self, ask: Any) -> list[Any]:
        return [await asyncio.to_thread(self._stub.Unary, ask)]

    async def server_stream(self, ask: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(self._stub.ServerStream(ask)))

    async def client_stream(self, asks: Sequence[Any]) -> list[Any]:
        return [await asyncio.to_thread(self._stub.ClientStream, iter(asks))]

    async def bidi(self, asks: Sequence[Any]) -> list[Any]:
        return await asyncio.to_thread(lambda: list(self._stub.Bidi(iter(asks))))

    async def refused(self, ask: Any) -> tuple[int, str]:
        def call() -> tuple[int, str]:
            try:
                self._stub.Unary(ask)
            except grpc.RpcError as error:
                return error.code().value[0], error.details()
            raise AssertionError("it was not refused")

        return await asyncio.to_thread(call)


class GrpclibCalls(Calls):
    async def server_stream(self, ask: Any) -> list[Any]:
        return list(await self._stub.ServerStream(ask))

    async def client_stream(self, asks: Sequence[Any]) -> list[Any]:
        return [await self._stub.ClientStream(list(asks))]

    async def bidi(self, asks: Sequence[Any]) -> list[Any]:
        answers = []
        async with self._stub.Bidi.open() as stream:
            for ask in asks:
                await stream.send_message(ask)
                answers.append(await stream.recv_message())
            await stream.end()
            assert await stream.recv_message() is None
        return answers

    async def refused(self, ask: Any) -> tuple[int, str]:
        try:
            await self._stub.Unary(ask)
        except grpclib.exceptions.GRPCError as error:
            return error.status.value, error.message or ""
        raise AssertionError("it was not refused")


async def _each(asks: Iterable[Any]) -> AsyncIterator[Any]:
    for ask in asks:
        yield ask


@asynccontextmanager
async def wire(stubs: Stubs, port: int) -> AsyncIterator[Calls]:
    async with Channel(f"127.0.0.1:{port}") as channel:
        yield Calls(stubs.grpcio.EchoServiceStub(channel))


@asynccontextmanager
async def grpcio_aio(stubs: Stubs, port: int) -> AsyncIterator[Calls]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Calls(stubs.grpcio.EchoServiceStub(channel))


@asynccontextmanager
async def grpcio_sync(stubs: Stubs, port: int) -> AsyncIterator[Calls]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield SyncCalls(stubs.grpcio.EchoServiceStub(channel))


@asynccontextmanager
async def of_grpclib(stubs: Stubs, port: int) -> AsyncIterator[Calls]:
    async with grpclib.client.Channel("127.0.0.1", port) as channel:
        yield GrpclibCalls(stubs.grpclib.EchoServiceStub(channel))


Client = Callable[[Stubs, int], AbstractAsyncContextManager[Calls]]
CLIENTS: dict[str, Client] = {
    "wire": wire,
    "grpcio aio": grpcio_aio,
    "grpcio sync": grpcio_sync,
    "grpclib": of_grpclib,
}
