"""A call being answered: its request as bytes, its response as bytes, its status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpc import StatusCode

from services.chassis.wire import frames, messages, metadata
from services.chassis.wire.errors import ErrorCode, StreamFault
from services.chassis.wire.fields import Malformed, check
from services.chassis.wire.hpack import Header, literal
from services.chassis.wire.messages import PREFIX_BYTES, MessageFault
from services.chassis.wire.metadata import Metadatum
from services.chassis.wire.server.head import Head
from services.chassis.wire.stream import MESSAGE_HEAD, Stream, StreamGone

if TYPE_CHECKING:
    from services.chassis.wire.server.connection import ServerConnection

OK = 0
LATE_S = 1.0  # After its deadline, a route that keeps deadlines has had its time.
_HEADERS: list[Header] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK_TRAILERS: list[Header] = [(b"grpc-status", b"0")]
# Blocks that touch no table are right on every connection: they are made once.
_HEADERS_BLOCK = b"".join(literal(name, value) for name, value in _HEADERS)
_TRAILERS_BLOCK = b"".join(literal(name, value) for name, value in _OK_TRAILERS)
_HEADERS_FRAME = frames.headers(0, _HEADERS_BLOCK)[:5]  # But for the stream's id.
_TRAILERS_FRAME = frames.headers(0, _TRAILERS_BLOCK, end_stream=True)[:5]
_WHOLE = b"%b%b%b%b%b%b%b%b"

log = logging.getLogger(__name__)


class Refused(Exception):
    """Ends a call with a status, and trailers besides those that were set."""

    def __init__(self, code: StatusCode, details: str = "", trailers: Iterable[Metadatum] = ()) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code, self.details, self.trailers = code, details, tuple(trailers)


@dataclass(frozen=True, slots=True)
class Route:
    """How the calls of one method are answered.

    `answer(call, request)` gets the request's bytes, or b"" when requests are streamed (`call.requests`).
    It returns the response's bytes, or None after `call.write` of any number of them.
    """

    path: str
    request_streaming: bool
    answer: Callable[[Call, bytes], Awaitable[bytes | None]]
    keeps_deadline: bool = False  # `answer` ends in time by itself.


class Call(Stream):
    """One call. Its handler runs in a task that is cancelled when the caller no longer waits."""

    __slots__ = (
        "_callbacks",
        "_compressed",
        "_initial",
        "_left",
        "_plain_next",
        "_request",
        "_running",
        "_task",
        "_timer",
        "_trailing",
        "born",
        "cancelled",
        "code",
        "deadline",
        "details",
        "finished",
        "head",
        "headers_sent",
        "route",
    )
    connection: ServerConnection

    def __init__(self, connection: ServerConnection, stream_id: int, head: Head, route: Route) -> None:
        Stream.__init__(self, connection, stream_id)
        self.head, self.route = head, route
        self.born = connection.server.ticks
        self.code, self.details = OK, ""
        self.headers_sent = self.finished = self.cancelled = False
        self.deadline: float | None = None
        self._left = head.length  # Bytes of DATA that content-length still promises (§8.1.1).
        self._request: bytes | None = None
        self._initial: list[Header] | None = None
        self._trailing: tuple[Metadatum, ...] = ()
        self._callbacks: list[Callable[[], Any]] | None = None
        self._compressed = self._plain_next = self._running = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if head.timeout_s is not None:
            self.deadline = connection.loop.time() + head.timeout_s
            if not route.keeps_deadline:
                self._timer = connection.loop.call_at(self.deadline, self.expire)

    # The request comes in.

    def receive_data(self, payload: bytes, size: int, ended: bool) -> None:
        if self._left is not None:
            self._left -= len(payload)
            if self._left < 0 or (ended and self._left):
                raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, "content-length is not kept")
        Stream.receive_data(self, payload, size, ended)

    def on_headers(self, fields: list[Header], ended: bool) -> None:
        """Trailers of a request: gRPC has none; they are checked and passed over."""
        if not ended:
            raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, "a second header list within a request")
        try:
            check(fields, trailers=True)
        except Malformed as error:
            raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        if self._left:
            raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, "content-length is not kept")

    def on_message(self, flag: int, payload: bytes) -> None:
        if self.route.request_streaming:
            Stream.on_message(self, flag, payload)
        elif self._request is not None:
            self.finish(StatusCode.UNIMPLEMENTED, "more than one message in a unary request")
        elif not flag:
            self._request = payload
        else:
            try:
                self._request = self._unpacked(flag, payload)
            except MessageFault as fault:
                self.on_message_fault(fault)

    def on_end(self) -> None:
        if self.finished:
            return
        if self.route.request_streaming:
            Stream.on_end(self)
        elif self._request is None:
            self.finish(StatusCode.UNIMPLEMENTED, "no message in a unary request")
        else:
            self.start()

    def on_message_fault(self, fault: MessageFault) -> None:
        self.finish(fault.code, str(fault))
        self._cancel()

    def on_gone(self, code: int, reason: str, remote: bool) -> None:
        self.cancelled = True
        self._cancel()

    @property
    def waits_for_request(self) -> bool:
        """Whether nobody answers yet, since the request is not whole."""
        return self._task is None and not self.finished

    def start(self) -> None:
        """Has the call answered."""
        request, self._request = self._request, None
        self.connection.handler_began()
        self._task = self.connection.loop.create_task(self._answer(request or b""))

    async def _answer(self, request: bytes) -> None:
        self._running = True
        try:
            response = await self.route.answer(self, request)
            if response is not None and not self.code:
                self.respond(response)
            else:
                self.finish(self.code, self.details)
        except (asyncio.CancelledError, StreamGone):
            self.finish(StatusCode.CANCELLED, "the call was cancelled")
        except Refused as refused:
            self._trailing = (*self._trailing, *refused.trailers)
            self.finish(refused.code, refused.details)
        except (MessageFault, metadata.MetadataFault) as fault:
            self.finish(getattr(fault, "code", StatusCode.INTERNAL), str(fault))
        except Exception as error:
            log.exception("the handler of %s failed", self.route.path)
            self.finish(self.code or StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")
        finally:
            self._over()

    def _over(self) -> None:
        """The handler has ended, whatever became of its stream."""
        self._task = None
        self.connection.handler_ended()
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception:
                log.exception("a callback of %s failed", self.route.path)

    def _cancel(self) -> None:
        """Ends the handler; one that was never begun has no end that would be heard of."""
        self._stop_timer()
        task = self._task
        if task is None:
            return
        task.cancel()
        if not self._running:
            self._over()

    def expire(self, details: str = "Deadline Exceeded") -> None:
        """The deadline has passed: the caller is told, and the handler cancelled."""
        self._timer = None
        self.cancelled = True
        self.finish(StatusCode.DEADLINE_EXCEEDED, details)
        if not self.local_ended:  # Responses wait for windows that the caller may never open.
            self.reset(ErrorCode.CANCEL)
        self._cancel()

    def is_late(self, now: float) -> bool:
        """Whether nothing has ended the call though its deadline is long past."""
        return self.deadline is not None and now > self.deadline + LATE_S

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What a handler asks and says.

    def metadata(self) -> tuple[Metadatum, ...]:
        """Raises MetadataFault for binary values that are not base64."""
        return self.head.metadata()

    def time_remaining(self) -> float | None:
        """Seconds until the caller stops waiting; None when it waits for ever."""
        return None if self.deadline is None else max(0.0, self.deadline - self.connection.loop.time())

    def peer(self) -> str:
        return self.connection.peer_name

    def add_done_callback(self, callback: Callable[[], Any]) -> None:
        """Called when the handler has ended, or the caller went away before it began."""
        if self._task is None:
            callback()
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    @property
    def trailing_metadata(self) -> tuple[Metadatum, ...]:
        return self._trailing

    def set_trailing_metadata(self, trailing: Iterable[Metadatum]) -> None:
        self._trailing = tuple(trailing)

    def compress(self) -> None:
        """Responses are sent with gzip from here on, if the caller takes it; before the first of them."""
        if self.headers_sent:
            raise RuntimeError("compression is chosen before the first response")
        self._compressed = self.head.accepts_gzip

    def plain_next(self) -> None:
        """The next response is not compressed."""
        self._plain_next = True

    async def requests(self) -> AsyncIterator[bytes]:
        """Messages of a streamed request, in order, as the caller sends them."""
        while (request := await self.receive()) is not None:
            yield request

    async def receive(self) -> bytes | None:
        """The next message of a streamed request; None after the last."""
        message = await self.read()
        if message is None:
            return None
        return self._unpacked(*message) if message[0] else message[1]

    def _unpacked(self, flag: int, payload: bytes) -> bytes:
        bytes_max = self.connection.limits.message_bytes_max
        return messages.unpack(flag, payload, self.head.encoding, bytes_max)

    # The response goes out.

    async def send_initial_metadata(self, initial: Iterable[Metadatum]) -> None:
        """Once, before the first response. Raises StreamGone."""
        if self.gone or self.finished:
            raise StreamGone(self.gone or "the call has ended")
        if self.headers_sent:
            raise RuntimeError("the initial metadata has been sent")
        self._initial = metadata.to_fields(initial)
        self._send_head()

    async def write(self, response: bytes) -> None:
        """Sends one response; returns when there is room for another. Raises StreamGone."""
        if self.gone or self.finished:
            raise StreamGone(self.gone or "the call has ended")
        if not self.headers_sent:
            self._send_head()
        flag, payload = self._packed(response)
        if not self.send_message(payload, flag):
            await self.drained()

    def respond(self, response: bytes) -> None:
        """The only response, and OK: head, message and trailers, in one piece if nothing is special."""
        connection, size = self.connection, len(response) + PREFIX_BYTES
        if (
            size > self.window
            or size > connection.window
            or size > connection.direct_max
            or self.headers_sent
            or self._trailing
            or self._compressed
            or connection.table_changed
            or self.gone
        ):
            self._respond_slowly(response)
            return
        self.window -= size
        connection.window -= size
        stream_id = self.id.to_bytes(4, "big")
        connection.send(
            _WHOLE
            % (
                _HEADERS_FRAME,
                stream_id,
                _HEADERS_BLOCK,
                MESSAGE_HEAD(size >> 8, size & 0xFF, 0, 0, self.id, 0, size - PREFIX_BYTES),
                response,
                _TRAILERS_FRAME,
                stream_id,
                _TRAILERS_BLOCK,
            )
        )
        self.headers_sent = self.finished = True
        self.end_local()

    def _respond_slowly(self, response: bytes) -> None:
        if self.gone or self.finished:
            return
        if not self.headers_sent:
            self._send_head()
        flag, payload = self._packed(response)
        self.send_message(payload, flag)
        self.finish(OK)

    def abort(self, refused: Refused) -> None:
        """Ends the call now; trailers that are given replace those that were set."""
        if refused.trailers:
            self._trailing = refused.trailers
        self.finish(refused.code, refused.details)

    def finish(self, code: StatusCode | int, details: str = "") -> None:
        """The status, behind all responses. What comes after the first is passed over."""
        if self.gone or self.finished:
            return
        self.finished = True
        self.code = code if isinstance(code, int) else int(code.value[0])
        self.details = details
        trailers = metadata.status_fields(self.code, details) if self.code or details else _OK_TRAILERS
        try:
            trailers = [*trailers, *metadata.to_fields(self._trailing)] if self._trailing else trailers
        except metadata.MetadataFault as fault:
            trailers = metadata.status_fields(StatusCode.INTERNAL.value[0], str(fault))
        if self.headers_sent:
            self.send_end(trailers)
        else:
            self.headers_sent = True
            self.send_headers([*self._head(), *trailers], ended=True)

    def end_local(self) -> None:
        """The answer is sent. Whoever still sends to us is told that nobody listens (RFC 9113 §8.1)."""
        self._stop_timer()
        Stream.end_local(self)
        if not self.remote_ended:
            self.reset(ErrorCode.NO_ERROR)

    def _send_head(self) -> None:
        self.headers_sent = True
        self.send_headers(self._head())

    def _head(self) -> list[Header]:
        encoding = [(b"grpc-encoding", b"gzip")] if self._compressed else []
        return [*_HEADERS, *encoding, *(self._initial or ())]

    def _packed(self, response: bytes) -> tuple[int, bytes]:
        """Compressed-Flag and payload."""
        plain, self._plain_next = self._plain_next or not self._compressed, False
        return (0, response) if plain else (1, messages.compress(response))
