"""One attempt of a call: a stream on one connection, read as gRPC's protocol document says ("Responses").

An attempt tells its call when the answer begins and how it ended. It never raises into the connection what
only the answer is to blame for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from grpc import StatusCode

from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.outcome import (
    Status,
    has_status,
    status_of_headers,
    status_of_trailers,
)
from services.chassis.wire.errors import ErrorCode, StreamFault
from services.chassis.wire.hpack import Header
from services.chassis.wire.messages import PREFIX_BYTES, MessageFault, Splitter
from services.chassis.wire.metadata import code_of_reset
from services.chassis.wire.stream import Stream

if TYPE_CHECKING:
    from services.chassis.wire.client.balancing import Target


class Course(Protocol):
    """Who made an attempt."""

    response_bytes_max: int

    def began(self, attempt: Attempt) -> None:
        """The server's headers are in `attempt.headers`: it has taken the call."""

    def ended(self, attempt: Attempt, status: Status) -> None:
        """Nothing more comes of this attempt. Told once."""


class Attempt(Stream):
    """Keeps messages until they are read."""

    __slots__ = ("course", "headers", "target", "trailers", "unprocessed")

    def __init__(self, connection: ClientConnection, course: Course, target: Target | None = None) -> None:
        super().__init__(connection, connection.next_id)
        self.course: Course | None = course  # None once it was told of the end.
        self.target = target
        self.headers: list[Header] | None = None
        self.trailers: list[Header] | None = None
        self.unprocessed = False  # The server has said that no application of it saw the call.
        if course.response_bytes_max < connection.limits.message_bytes_max:
            self._splitter = Splitter(course.response_bytes_max)

    def give_up(self) -> None:
        """The call wants nothing more of this attempt, and is not told of it any more."""
        self.course = None
        self.reset(ErrorCode.CANCEL)

    def on_headers(self, fields: list[Header], ended: bool) -> None:
        if self.headers is not None or ended:
            self._take_trailers(fields, ended)
            return
        if fields[:1] and fields[0][0] == b":status" and fields[0][1][:1] == b"1":
            return  # RFC 9113 §8.1: interim answers may come before.
        status = status_of_headers(fields)
        if status is not None:
            self._close(status_of_trailers(fields) if has_status(fields) else status)
            return
        self.headers = fields
        if self.course is not None:
            self.course.began(self)

    def _take_trailers(self, fields: list[Header], ended: bool) -> None:
        if not ended:
            raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
        if self.headers is not None and any(name[:1] == b":" for name, _ in fields):
            raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, "pseudo-header in trailers")
        self.trailers = fields

    def receive_data(self, payload: bytes, size: int, ended: bool) -> None:
        if self.headers is None:
            raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, "DATA before HEADERS")
        super().receive_data(payload, size, ended)

    def on_end(self) -> None:
        trailers = self.trailers
        if trailers is None:
            status = Status(StatusCode.UNKNOWN, "the answer ended without trailers")
        else:
            status = status_of_trailers(trailers)
            if self.headers is None and not has_status(trailers):
                status = status_of_headers(trailers) or status
        self._wake_reader()
        if not self.local_ended:
            self._stop_sending()
        self._tell(status)

    def on_message_fault(self, fault: MessageFault) -> None:
        self._close(Status(fault.code, str(fault)))

    def on_gone(self, code: int, reason: str, remote: bool) -> None:
        self.unprocessed = remote and code == ErrorCode.REFUSED_STREAM
        lost = bool(self.connection.closing) and not remote
        self._tell(Status(StatusCode.UNAVAILABLE if lost else code_of_reset(code), reason))

    def _close(self, status: Status) -> None:
        """The answer is of no use from here on."""
        self.reset(ErrorCode.CANCEL)
        self._tell(status)

    def _stop_sending(self) -> None:
        """The server has answered before it took all: what came stays to be read (RFC 9113 §8.1)."""
        self.connection.reset(self.id, ErrorCode.NO_ERROR, late_frames=False)
        self._pending = None
        self.local_ended = True
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _tell(self, status: Status) -> None:
        course, self.course = self.course, None
        if course is not None:
            course.ended(self, status)


class UnaryAttempt(Attempt):
    """An attempt whose answer is one message."""

    __slots__ = ("flag", "messages", "payload")

    def __init__(self, connection: ClientConnection, course: Course, target: Target | None = None) -> None:
        super().__init__(connection, course, target)
        self.messages = 0
        self.flag, self.payload = 0, b""

    def receive_data(self, payload: bytes, size: int, ended: bool) -> None:
        """A first frame that is a whole message needs no account: it is smaller than the stream's window."""
        if (
            self._splitter is None
            and not self.messages
            and self.headers is not None
            and not ended
            and len(payload) >= PREFIX_BYTES
            and payload[0] == 0
            and int.from_bytes(payload[1:PREFIX_BYTES], "big") == len(payload) - PREFIX_BYTES
        ):
            self.messages = 1
            self.payload = payload[PREFIX_BYTES:]
            return
        super().receive_data(payload, size, ended)

    def on_message(self, flag: int, payload: bytes) -> None:
        self.messages += 1
        if self.messages > 1:
            self._close(Status(StatusCode.UNIMPLEMENTED, "more than one message in a unary answer"))
            return
        self.flag, self.payload = flag, payload
