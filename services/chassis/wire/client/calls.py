"""The four kinds of rpc, as generated stubs and callers of grpc.aio use them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Generator
from typing import Any

import grpc
from grpc import StatusCode

from services.chassis.wire.client.attempt import Attempt, UnaryAttempt
from services.chassis.wire.client.call import Call
from services.chassis.wire.client.method import Decode, Encode, Method, Placing
from services.chassis.wire.client.outcome import Status
from services.chassis.wire.client.requests import StreamRequest, UnaryRequest, UsageError
from services.chassis.wire.stream import StreamGone

EOF = grpc.aio.EOF  # What `read` gives at the end: callers compare with this very object.
_NOTHING: Any = object()


class UnaryResponse(Call):
    """Awaited for its one message; whoever stops waiting cancels the call."""

    attempt_kind = UnaryAttempt
    attempt: UnaryAttempt | None
    _response = _NOTHING

    def __await__(self) -> Generator[Any, None, Any]:
        while self.status is None:
            future = self.loop.create_future()
            self._ends = [future] if self._ends is None else [*self._ends, future]
            try:
                yield from future
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self.status.code is not StatusCode.OK:
            self.raise_for_status()
        if self._response is _NOTHING:
            attempt = self.attempt
            assert attempt is not None
            self._response = self.decoded(attempt, attempt.flag, attempt.payload)
        return self._response


class StreamResponse(Call):
    """Read message by message, or iterated. Dropped unfinished, it is cancelled."""

    def __init__(self, *made: Any) -> None:
        super().__init__(*made)
        self._loose = _Loose(self)

    async def read(self) -> Any:
        """The next message, EOF after the last. Raises RpcError when the call has failed."""
        try:
            while not self.committed and self.status is None:
                await self._change()
            attempt = self.attempt
            if attempt is not None and attempt.headers is not None:
                message = await attempt.read()
                if message is not None:
                    return self.decoded(attempt, *message)
        except StreamGone:
            pass  # Its status says why.
        except asyncio.CancelledError:
            self.cancel()
            raise
        await self._end()
        self.raise_for_status()
        return EOF

    def __aiter__(self) -> StreamResponse:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is EOF:
            raise StopAsyncIteration
        return message

    def __del__(self) -> None:
        if self.status is None and self.attempt is not None and not self.loop.is_closed():
            self.attempt.give_up()


class _Loose:
    """A call as its attempt and its deadline know it, which they do not keep alive by that."""

    __slots__ = ("_call", "response_bytes_max")

    def __init__(self, call: Call) -> None:
        self._call = weakref.ref(call)
        self.response_bytes_max = call.response_bytes_max

    def commit(self, attempt: Attempt) -> None:
        if (call := self._call()) is not None:
            call.commit(attempt)

    def ended(self, attempt: Attempt, status: Status) -> None:
        if (call := self._call()) is not None:
            call.ended(attempt, status)

    def expire(self) -> None:
        if (call := self._call()) is not None:
            call.expire()


class UnaryUnaryCall(UnaryRequest, UnaryResponse):
    pass


class UnaryStreamCall(UnaryRequest, StreamResponse):
    pass


class StreamUnaryCall(StreamRequest, UnaryResponse):
    pass


class StreamStreamCall(StreamRequest, StreamResponse):
    pass


class MultiCallable:
    """What a stub has for each rpc."""

    kind: type[Any]

    def __init__(self, channel: Placing, path: str, encode: Encode, decode: Decode) -> None:
        self._method = Method(channel, path, encode, decode)

    def __call__(
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """`timeout` in seconds. Raises MetadataFault, or what the serializer raises."""
        if credentials is not None:
            raise UsageError("grpc's call credentials are not supported: give a token as metadata")
        call = self.kind(self._method, timeout, metadata, wait_for_ready, compression)
        call.send(request)
        return call


class UnaryUnary(MultiCallable):
    kind = UnaryUnaryCall


class UnaryStream(MultiCallable):
    kind = UnaryStreamCall


class StreamUnary(MultiCallable):
    kind = StreamUnaryCall


class StreamStream(MultiCallable):
    kind = StreamStreamCall
