"""The same echo service on each server that is a peer, and on ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import grpclib.const
import grpclib.exceptions
import grpclib.server

from services.chassis.wire.server import Server
from tests.wire.conftest import Stubs

Served = Callable[[Stubs], AbstractAsyncContextManager[int]]


def answer(stubs: Stubs, ask: Any, index: int = 0) -> Any:
    return stubs.pb.Answer(text=ask.text, index=index, padding=bytes(ask.padding))  # type: ignore[attr-defined]


def joined(stubs: Stubs, texts: list[str]) -> Any:
    return stubs.pb.Answer(text=",".join(texts), index=len(texts))  # type: ignore[attr-defined]


def code_of(number: int) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == number)


class Asynchronous:
    """A servicer of coroutines."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs

    async def Unary(self, ask: Any, context: Any) -> Any:
        if ask.code:
            await context.abort(code_of(ask.code), ask.text)
        return answer(self._stubs, ask)

    async def ServerStream(self, ask: Any, context: Any) -> AsyncIterator[Any]:
        for index in range(ask.count):
            yield answer(self._stubs, ask, index)
        if ask.code:
            await context.abort(code_of(ask.code), ask.text)

    async def ClientStream(self, asks: AsyncIterator[Any], _context: Any) -> Any:
        return joined(self._stubs, [ask.text async for ask in asks])

    async def Bidi(self, asks: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        index = 0
        async for ask in asks:
            yield answer(self._stubs, ask, index)
            index += 1


class Synchronous:
    """A servicer of functions, for threads."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs

    def Unary(self, ask: Any, context: Any) -> Any:
        if ask.code:
            context.abort(code_of(ask.code), ask.text)
        return answer(self._stubs, ask)

    def ServerStream(self, ask: Any, context: Any) -> Iterator[Any]:
        for index in range(ask.count):
            yield answer(self._stubs, ask, index)
        if ask.code:
            context.abort(code_of(ask.code), ask.text)

    def ClientStream(self, asks: Iterator[Any], _context: Any) -> Any:
        return joined(self._stubs, [ask.text for ask in asks])

    def Bidi(self, asks: Iterator[Any], _context: Any) -> Iterator[Any]:
        for index, ask in enumerate(asks):
            yield answer(self._stubs, ask, index)


class OfGrpclib:
    """A servicer as grpclib has it; its base class comes with the stubs."""

    stubs: Stubs

    async def Unary(self, stream: Any) -> None:
        ask = await stream.recv_message()
        if ask.code:
            raise grpclib.exceptions.GRPCError(grpclib.const.Status(ask.code), ask.text)
        await stream.send_message(answer(self.stubs, ask))

    async def ServerStream(self, stream: Any) -> None:
        ask = await stream.recv_message()
        for index in range(ask.count):
            await stream.send_message(answer(self.stubs, ask, index))
        if ask.code:
            raise grpclib.exceptions.GRPCError(grpclib.const.Status(ask.code), ask.text)

    async def ClientStream(self, stream: Any) -> None:
        await stream.send_message(joined(self.stubs, [ask.text async for ask in stream]))

    async def Bidi(self, stream: Any) -> None:
        index = 0
        async for ask in stream:
            await stream.send_message(answer(self.stubs, ask, index))
            index += 1


@asynccontextmanager
async def wire(stubs: Stubs) -> AsyncIterator[int]:
    server = Server()
    stubs.grpcio.add_EchoServiceServicer_to_server(Asynchronous(stubs), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def grpcio_aio(stubs: Stubs) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    stubs.grpcio.add_EchoServiceServicer_to_server(Asynchronous(stubs), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def grpcio_sync(stubs: Stubs) -> AsyncIterator[int]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    stubs.grpcio.add_EchoServiceServicer_to_server(Synchronous(stubs), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(1.0)


@asynccontextmanager
async def grpclib_server(stubs: Stubs) -> AsyncIterator[int]:
    kind = type("Echo", (OfGrpclib, stubs.grpclib.EchoServiceBase), {"stubs": stubs})  # type: ignore[attr-defined]
    server = grpclib.server.Server([kind()])
    await server.start("127.0.0.1", 0)
    yield server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    server.close()
    await server.wait_closed()


SERVERS: dict[str, Served] = {
    "wire": wire,
    "grpcio aio": grpcio_aio,
    "grpcio sync": grpcio_sync,
    "grpclib": grpclib_server,
}
