"""From grpcio's method handlers to routes: how each of the four kinds is answered by its behaviour."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import grpc

from services.chassis.wire.server import threads
from services.chassis.wire.server.call import Call, Route
from services.chassis.wire.server.coding import Coding
from services.chassis.wire.server.context import Context

THREADS_MAX = 10  # As grpcio's examples have it; who blocks for long brings a pool of their own.

Answer = Callable[[Call, bytes], Awaitable[bytes | None]]
Behaviour = Callable[[Any, Any], Any]


class Handlers:
    """Makes routes; knows where handlers run that are no coroutines, and how responses are compressed."""

    def __init__(self, thread_pool: Executor | None, compression: grpc.Compression | None) -> None:
        self._pool, self._own_pool = thread_pool, thread_pool is None
        self._compressed = compression not in (None, grpc.Compression.NoCompression)

    def route(self, path: str, handler: Any) -> Route:
        """`handler` is a grpc.RpcMethodHandler."""
        coding = Coding(handler.request_deserializer, handler.response_serializer)
        behaviour = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        streams = (bool(handler.request_streaming), bool(handler.response_streaming))
        answer = self._answer(behaviour, coding, streams)
        return Route(path, streams[0], _compressed(answer) if self._compressed else answer)

    def _answer(self, behaviour: Behaviour, coding: Coding, streams: tuple[bool, bool]) -> Answer:
        if not _is_async(behaviour):
            return threads.threaded(behaviour, coding, streams, self._threads())
        if not streams[1]:
            return _one_response(behaviour, coding, streams[0])
        if inspect.isasyncgenfunction(_function(behaviour)):
            return _generated(behaviour, coding, streams[0])
        return _written(behaviour, coding, streams[0])

    def _threads(self) -> Executor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS_MAX, "wire-handler")
        return self._pool

    def close(self) -> None:
        """Lets go of a pool of our own; threads in it end with their handlers."""
        if self._own_pool and self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _function(behaviour: Behaviour) -> Any:
    """An instance with `__call__` is what that is."""
    return behaviour if inspect.isroutine(behaviour) else getattr(behaviour, "__call__", behaviour)  # noqa: B004


def _is_async(behaviour: Behaviour) -> bool:
    function = inspect.unwrap(_function(behaviour))
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _one_response(behaviour: Behaviour, coding: Coding, request_streaming: bool) -> Answer:
    """unary_unary and stream_unary."""

    async def answer(call: Call, request: bytes) -> bytes | None:
        asked = _decoded(call, coding) if request_streaming else coding.decode(request)
        response = await behaviour(asked, Context(call, coding))
        return None if call.code else coding.encode(response)

    return answer


def _generated(behaviour: Behaviour, coding: Coding, request_streaming: bool) -> Answer:
    """unary_stream and stream_stream, by an async generator: it is closed however the call ends."""

    async def answer(call: Call, request: bytes) -> None:
        asked = _decoded(call, coding) if request_streaming else coding.decode(request)
        async with aclosing(behaviour(asked, Context(call, coding))) as responses:
            async for response in responses:
                await call.write(coding.encode(response))

    return answer


def _written(behaviour: Behaviour, coding: Coding, request_streaming: bool) -> Answer:
    """The same by a coroutine that writes to its context."""

    async def answer(call: Call, request: bytes) -> None:
        asked = _decoded(call, coding) if request_streaming else coding.decode(request)
        await behaviour(asked, Context(call, coding))

    return answer


async def _decoded(call: Call, coding: Coding) -> AsyncIterator[Any]:
    while (request := await call.receive()) is not None:
        yield coding.decode(request)


def _compressed(answer: Answer) -> Answer:
    async def compressing(call: Call, request: bytes) -> bytes | None:
        call.compress()
        return await answer(call, request)

    return compressing
