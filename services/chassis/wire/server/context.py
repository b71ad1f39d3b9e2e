"""What a handler of grpcio's kind is given besides its request: the methods of `grpc.aio.ServicerContext`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc import StatusCode

from services.chassis.wire import metadata
from services.chassis.wire.metadata import Metadatum
from services.chassis.wire.server import peer
from services.chassis.wire.server.call import Call, Refused

if TYPE_CHECKING:
    from services.chassis.wire.server.coding import Coding

EOF = grpc.aio.EOF  # What `read` returns after the last message; servicers compare with it.


def number(code: StatusCode | int) -> int:
    return code if isinstance(code, int) else int(code.value[0])


class Shared:
    """What contexts of coroutines and of threads have in common: reading and noting, no I/O."""

    __slots__ = ("_call", "_coding")

    def __init__(self, call: Call, coding: Coding) -> None:
        self._call, self._coding = call, coding

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        return self._call.metadata()

    def time_remaining(self) -> float | None:
        """Seconds; None without a deadline."""
        return self._call.time_remaining()

    def peer(self) -> str:
        return self._call.peer()

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return self._call.connection.auth

    def peer_identity_key(self) -> str | None:
        return peer.identity_key(self._call.connection.auth)

    def peer_identities(self) -> Iterable[bytes] | None:
        key = self.peer_identity_key()
        return self._call.connection.auth[key] if key else None

    def set_code(self, code: StatusCode | int) -> None:
        self._call.code = number(code)

    def set_details(self, details: str) -> None:
        self._call.details = details

    def set_trailing_metadata(self, trailing_metadata: Iterable[Metadatum]) -> None:
        self._call.set_trailing_metadata(trailing_metadata)

    def code(self) -> StatusCode | None:
        return metadata.CODES.get(self._call.code)

    def details(self) -> str:
        return self._call.details

    def trailing_metadata(self) -> tuple[Metadatum, ...]:
        return self._call.trailing_metadata

    def set_compression(self, compression: grpc.Compression) -> None:
        """Gzip, if the caller takes it; before the first response."""
        if compression != grpc.Compression.NoCompression:
            self._call.compress()

    def disable_next_message_compression(self) -> None:
        self._call.plain_next()


def aborted(code: StatusCode | int, details: str, trailers: Iterable[Metadatum]) -> Refused:
    """What ends a call at once. An abort with OK would tell the caller that all is well."""
    known = metadata.CODES.get(number(code), StatusCode.UNKNOWN)
    if known is StatusCode.OK:
        return Refused(StatusCode.UNKNOWN, "abort() called with StatusCode.OK! A bug of the handler.")
    return Refused(known, details, trailers)


class Context(Shared):
    """Of a handler that is a coroutine or an async generator."""

    __slots__ = ()

    async def read(self) -> Any:
        """The next request of the stream, or `grpc.aio.EOF`."""
        request = await self._call.receive()
        return EOF if request is None else self._coding.decode(request)

    async def write(self, message: Any) -> None:
        """Sends one response; returns when there is room for the next."""
        await self._call.write(self._coding.encode(message))

    async def send_initial_metadata(self, initial_metadata: Iterable[Metadatum]) -> None:
        await self._call.send_initial_metadata(initial_metadata)

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Iterable[Metadatum] = ()
    ) -> NoReturn:
        """Ends the call, even if the handler does not let the exception pass.

        Trailing metadata that is given replaces what was set.
        """
        refused = aborted(code, details, trailing_metadata)
        self._call.abort(refused)
        raise refused

    async def abort_with_status(self, status: Any) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def add_done_callback(self, callback: Callable[[Context], Any]) -> None:
        self._call.add_done_callback(lambda: callback(self))

    def cancelled(self) -> bool:
        return self._call.cancelled

    def done(self) -> bool:
        return self._call.finished or bool(self._call.gone)
