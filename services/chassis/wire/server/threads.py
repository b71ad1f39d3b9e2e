"""Handlers that are plain functions or generators: each runs in a thread, as under grpc.aio.

The thread speaks to its call through the event loop. A thread cannot be interrupted: when the caller goes
away, the handler learns it by its next read or write, by `is_active`, or by a callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from grpc import StatusCode

from services.chassis.wire.metadata import Metadatum
from services.chassis.wire.server.call import Call
from services.chassis.wire.server.coding import Coding
from services.chassis.wire.server.context import Shared, aborted

T = TypeVar("T")


class ThreadContext(Shared):
    """The methods of `grpc.ServicerContext`, for use in the handler's thread."""

    __slots__ = ()

    def send_initial_metadata(self, initial_metadata: Iterable[Metadatum]) -> None:
        self.wait(self._call.send_initial_metadata(initial_metadata))

    def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Iterable[Metadatum] = ()
    ) -> NoReturn:
        """As `Context.abort`."""
        refused = aborted(code, details, trailing_metadata)
        self._loop.call_soon_threadsafe(self._call.abort, refused)
        raise refused

    def abort_with_status(self, status: Any) -> NoReturn:
        self.abort(status.code, status.details, status.trailing_metadata or ())

    def is_active(self) -> bool:
        return not (self._call.finished or self._call.gone)

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(
            self._call.finish, StatusCode.CANCELLED, "the server cancelled the call"
        )

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Called when the call ends, in the loop's thread; False if it has ended."""
        if not self.is_active():
            return False
        self._loop.call_soon_threadsafe(self._call.add_done_callback, callback)
        return True

    def add_done_callback(self, callback: Callable[[ThreadContext], Any]) -> None:
        self.add_callback(lambda: callback(self))

    def requests(self) -> Iterator[Any]:
        """Requests of the stream, each awaited in this thread."""
        while (request := self.wait(self._call.receive())) is not None:
            yield self._coding.decode(request)

    def write(self, message: Any) -> None:
        """Returns when there is room for the next."""
        self.wait(self._call.write(self._coding.encode(message)))

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._call.connection.loop


def threaded(
    behaviour: Callable[[Any, Any], Any], coding: Coding, streams: tuple[bool, bool], pool: Executor | None
) -> Callable[[Call, bytes], Coroutine[Any, Any, bytes | None]]:
    """`answer` of a Route. `streams`: whether requests are a stream, and whether responses are."""
    requests_are, responses_are = streams

    def run(call: Call, request: bytes) -> bytes | None:
        context = ThreadContext(call, coding)
        response = behaviour(context.requests() if requests_are else coding.decode(request), context)
        if not responses_are:
            return None if call.code else coding.encode(response)
        with suppress(ConnectionError):  # The caller went away: nobody is left to be told.
            for each in response:
                context.write(each)
        return None

    async def answer(call: Call, request: bytes) -> bytes | None:
        return await call.connection.loop.run_in_executor(pool, run, call, request)

    return answer
