"""One attempt of a call: a stream on one connection, read as gRPC's protocol document says ("Responses").

An attempt tells its call when the answer begins and how it ended. It never raises into the connection what
only the answer is to blame for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from grpc import StatusCode

from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.outcome import (
    OK,
    Status,
    status_of_headers,
    status_of_trailers,
)
from services.chassis.wire.errors import ErrorCode, StreamFault
from services.chassis.wire.fields import Malformed, check, divided, length
from services.chassis.wire.hpack import Header
from services.chassis.wire.messages import PREFIX_BYTES, MessageFault, Splitter
from services.chassis.wire.metadata import code_of_reset
from services.chassis.wire.stream import Stream

if TYPE_CHECKING:
    from services.chassis.wire.client.balancing import Target

# "Response cardinality violation" (gRPC's status codes).
NO_MESSAGE = Status(StatusCode.UNIMPLEMENTED, "no message in a unary answer")
SECOND_MESSAGE = Status(StatusCode.UNIMPLEMENTED, "more than one message in a unary answer")
_STATUS = {b":status"}  # §8.3.2
_OK_TRAILERS = [(b"grpc-status", b"0")]


class Course(Protocol):
    """Who made an attempt."""

    response_bytes_max: int

    def commit(self, attempt: Attempt) -> None:
        """The server's headers are in `attempt.headers`: it has taken the call."""

    def ended(self, attempt: Attempt, status: Status) -> None:
        """Nothing more comes of this attempt. Told once."""


class Attempt(Stream):
    """Keeps messages until they are read."""

    __slots__ = ("_left", "_status", "course", "headers", "lacking", "target", "trailers", "unprocessed")
    connection: ClientConnection
    unary = False

    def __init__(self, connection: ClientConnection, course: Course, target: Target | None = None) -> None:
        Stream.__init__(self, connection, connection.next_id)
        self.course: Course | None = course  # None once it was told of the end.
        self.target = target
        self.headers: list[Header] | None = None
        self.trailers: list[Header] | None = None
        self._left: int | None = None  # Bytes of DATA that content-length still promises.
        self._status: Status | None = None  # Of headers that are no answer of gRPC's.
        self.lacking = self.unary  # A message is needed, and has not come.
        self.unprocessed = False  # The server has said that no application of it saw the call.
        bytes_max, limits = course.response_bytes_max, connection.limits
        if bytes_max < limits.message_bytes_max or bytes_max < limits.frame_bytes_max:
            self._splitter = Splitter(bytes_max)

    def give_up(self) -> None:
        """The call wants nothing more of this attempt, and is not told of it any more."""
        self.course = None
        self.reset(ErrorCode.CANCEL)

    def on_headers(self, fields: list[Header], ended: bool) -> None:
        if ended and fields is self.connection.known_trailers and self.headers is not None and not self._left:
            self.trailers = fields
        elif self.headers is not None or ended:
            self._take_trailers(fields, ended)
        elif fields is self.connection.known_headers or self._take_headers(fields):
            self.headers = fields
            if self.course is not None:
                self.course.commit(self)

    def _take_headers(self, fields: list[Header]) -> bool:
        """Whether they begin an answer of gRPC's."""
        pseudo, named = self._checked(fields)
        if pseudo[b":status"][:1] == b"1":  # RFC 9113 §8.1: interim answers may come before, if not for ever.
            self.connection.idle_frames.spend(self.connection.loop.time())
            return False
        status = status_of_headers(pseudo, named)
        if status is not None:
            self._close(status_of_trailers(fields) if b"grpc-status" in named else status)
            return False
        self._left = self._length(named)
        if self._left is None:
            self.connection.known_headers = fields
        return True

    def _take_trailers(self, fields: list[Header], ended: bool) -> None:
        """Trailers, or an answer that is nothing else (Trailers-Only)."""
        if not ended:
            raise self._fault("trailers that do not end the stream")
        if self._left:
            raise self._fault("content-length is not kept")
        if self.headers is None:
            self._take_trailers_only(fields)
        else:
            try:
                check(fields, trailers=True)
            except Malformed as error:
                raise self._fault(str(error)) from None
            if fields == _OK_TRAILERS:
                self.connection.known_trailers = fields
        self.trailers = fields

    def _take_trailers_only(self, fields: list[Header]) -> None:
        pseudo, named = self._checked(fields)
        if pseudo[b":status"][:1] == b"1":
            raise self._fault("an interim answer ends the stream")
        if b"grpc-status" not in named:
            self._status = status_of_headers(pseudo, named)

    def _checked(self, fields: list[Header]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        try:
            check(fields)
            pseudo, named = divided(fields, _STATUS, _STATUS)
        except Malformed as error:
            raise self._fault(str(error)) from None
        if not (len(pseudo[b":status"]) == 3 and pseudo[b":status"].isdigit()):
            raise self._fault(":status is no number of three digits")
        return pseudo, named

    def _length(self, named: dict[bytes, bytes]) -> int | None:
        try:
            return length(named.get(b"content-length"))
        except Malformed as error:
            raise self._fault(str(error)) from None

    def _fault(self, reason: str) -> StreamFault:
        """RFC 9113 §8.1.1."""
        return StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, reason)

    def receive_data(self, payload: bytes, size: int, ended: bool) -> None:
        if self.headers is None:
            raise self._fault("DATA before HEADERS")
        if self._left is not None:
            self._left -= len(payload)
            if self._left < 0 or (ended and self._left):
                raise self._fault("content-length is not kept")
        super().receive_data(payload, size, ended)

    def on_end(self) -> None:
        trailers = self.trailers
        if trailers is not None and trailers is self.connection.known_trailers:
            status = OK
        elif trailers is None:
            status = Status(StatusCode.UNKNOWN, "the answer ended without trailers")
        else:
            status = self._status or status_of_trailers(trailers)
        if self.lacking and status.code is StatusCode.OK:
            status = NO_MESSAGE
        if self._reader is not None:
            self._wake_reader()
        if not self.local_ended:
            self._stop_sending()
        course, self.course = self.course, None
        if course is not None:
            course.ended(self, status)

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
        self.local_ended = True
        self._send_no_more()

    def _tell(self, status: Status) -> None:
        course, self.course = self.course, None
        if course is not None:
            course.ended(self, status)


class UnaryAttempt(Attempt):
    """An attempt whose answer is one message."""

    __slots__ = ("flag", "payload")  # Set once the message has come, without which no such answer is OK.
    unary = True

    def receive_data(self, payload: bytes, size: int, ended: bool) -> None:
        """A first frame that is a whole message needs no account: it is smaller than the stream's window."""
        if (
            self.lacking
            and self._splitter is None
            and self.headers is not None
            and self._left is None
            and not ended
            and len(payload) >= PREFIX_BYTES
            and payload[0] == 0
            and int.from_bytes(payload[1:PREFIX_BYTES], "big") == len(payload) - PREFIX_BYTES
        ):
            self.lacking = False
            self.flag, self.payload = 0, payload[PREFIX_BYTES:]
        else:
            Attempt.receive_data(self, payload, size, ended)

    def on_message(self, flag: int, payload: bytes) -> None:
        if not self.lacking:
            self._close(SECOND_MESSAGE)
            return
        self.lacking = False
        self.flag, self.payload = flag, payload
