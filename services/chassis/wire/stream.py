"""One stream (RFC 9113 §5.1): a call as either side sees it, as messages in and messages out.

A stream that is idle or closed has no object: it is made with its HEADERS and leaves `connection.streams`
when both sides have ended it, or either has reset it. A side of gRPC derives from it and hears by `on_...`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING

from grpc import StatusCode

from services.chassis.wire import frames
from services.chassis.wire.errors import ErrorCode, StreamFault
from services.chassis.wire.flow import Inflow
from services.chassis.wire.hpack import Header
from services.chassis.wire.messages import PREFIX_BYTES, MessageFault, Splitter

if TYPE_CHECKING:
    from services.chassis.wire.connection import Connection


_PREFIX = Struct(">BI")
MESSAGE_HEAD = Struct(">HBBBIBI").pack  # RFC 9113 §4.1, and gRPC's Compressed-Flag and Message-Length.


class StreamGone(ConnectionError):
    """The stream was reset, or its connection lost: nothing more is read from it or written to it."""


class Stream:
    """Messages both ways. Sent messages never overtake each other, nor do trailers overtake them."""

    __slots__ = (
        "_at",
        "_drained",
        "_inbox",
        "_inflow",
        "_pending",
        "_reader",
        "_splitter",
        "_stuck",
        "_trailers",
        "connection",
        "gone",
        "held",
        "id",
        "local_ended",
        "remote_ended",
        "window",
    )

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.connection, self.id = connection, stream_id
        self.window = connection.peer.window_bytes  # What we may send; negative after some SETTINGS (§6.9.2).
        self.local_ended = self.remote_ended = False  # Half-closed; with both, closed.
        self.gone = ""  # Why the stream was cut off, if it was.
        self._inflow: Inflow | None = None  # None until a frame is not the only one.
        self._splitter: Splitter | None = None  # None until a frame is not exactly one message.
        self.held = 0  # Bytes that came, and that the peer was not given back.
        self._inbox: deque[tuple[int, bytes]] | None = None  # Messages that nobody has read.
        self._reader: asyncio.Future[None] | None = None
        self._pending: deque[bytes] | None = None  # Messages that no window was wide enough for,
        self._at = 0  # of the first of which so many bytes are sent,
        self._trailers: list[Header] | bool = False  # and what ends the stream behind them; True: nothing.
        self._drained: asyncio.Future[None] | None = None
        self._stuck = (0, 0, 0)  # Messages pending and sent of the first, and since which sweep.

    # What a side of gRPC hears.

    def on_headers(self, fields: list[Header], ended: bool) -> None:
        """A header list after the one that made the stream. It stands before the end, if it `ended`."""
        raise NotImplementedError

    def on_message(self, flag: int, payload: bytes) -> None:
        """A whole message, as it came. By default it waits to be read."""
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append((flag, payload))
        self._wake_reader()

    def on_end(self) -> None:
        """The peer sends nothing more."""
        self._wake_reader()

    def on_message_fault(self, fault: MessageFault) -> None:
        """What came is not a message that we take; the side ends or resets the stream."""
        raise NotImplementedError

    def on_gone(self, code: int, reason: str, remote: bool) -> None:
        """Cut off: by the peer, if `remote`, or by a fault of the peer, or with its connection.

        `code` is RFC 9113's, CANCEL for a lost connection.
        """

    # From the connection.

    def receive_data(self, payload: bytes, size: int, ended: bool) -> None:
        """DATA; `size` is that of the frame with its padding, which the window pays for (§6.9.1)."""
        if self.remote_ended:
            raise StreamFault(self.id, ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")
        if not ended or self._inflow is not None:
            self._take(size)
        if payload and not self._messages(payload):
            return
        if self.held and not self._inbox:
            self._give(self.held)
        if ended:
            self.receive_end()

    def receive_end(self) -> None:
        """END_STREAM."""
        self.remote_ended = True
        if self._splitter is not None and self._splitter.partial:
            self.on_message_fault(MessageFault(StatusCode.INTERNAL, "the stream ended within a message"))
        else:
            self.on_end()
        if self.local_ended and not self.gone:
            self.connection.forget(self)

    def receive_reset(self, code: int) -> None:
        self.cut_off(code, f"the peer reset the stream: {_name(code)}", remote=True)

    def cut_off(self, code: int, reason: str, remote: bool) -> None:
        """The stream is closed; whoever reads or writes learns it."""
        self._end(reason)
        self.on_gone(code, reason, remote)

    # Receiving.

    async def read(self) -> tuple[int, bytes] | None:
        """Compressed-Flag and payload of the next message, None after the last. Raises StreamGone."""
        while not self._inbox:
            if self.gone:
                raise StreamGone(self.gone)
            if self.remote_ended:
                return None
            if self._reader is not None:
                raise RuntimeError("two read one stream at once")
            self._reader = self.connection.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._inbox.popleft()
        self._give(min(self.held, len(message[1]) + PREFIX_BYTES) if self._inbox else self.held)
        return message

    @property
    def unread(self) -> int:
        """Messages that wait to be read."""
        return len(self._inbox) if self._inbox else 0

    def _messages(self, payload: bytes) -> bool:
        """False when what came is no message; the side has dealt with that."""
        bytes_max = self.connection.limits.message_bytes_max
        if self._splitter is None:
            size = len(payload) - PREFIX_BYTES
            if 0 <= size <= bytes_max and _PREFIX.unpack_from(payload) == (0, size):
                self.on_message(0, payload[PREFIX_BYTES:])  # A frame is one message, nearly always.
                return True
            self._splitter = Splitter(bytes_max)
        try:
            messages = self._splitter.feed(payload)
        except MessageFault as fault:
            self.on_message_fault(fault)
            return False
        for flag, message in messages:
            self.on_message(flag, message)
        return True

    def _take(self, size: int) -> None:
        if self._inflow is None:
            self._inflow = Inflow(self.connection.limits.stream_window_bytes)
        self.held += size
        self.connection.hold(self, size)
        if not self._inflow.take(size):
            raise StreamFault(self.id, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the stream's window")

    def _give(self, size: int) -> None:
        """Gives the peer back what was consumed.

        While the application waits for a message, what came of it so far counts as consumed: else one larger
        than the window would never arrive. So a stream holds its window and one message, no more.
        """
        self.held -= size
        self.connection.release(size)
        if self._inflow is not None and not self.remote_ended and not self.gone:
            increment = self._inflow.give(size)
            if increment:
                self.connection.send(frames.window_update(self.id, increment))

    def _wake_reader(self) -> None:
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    # Sending.

    def send_headers(self, fields: list[Header], ended: bool = False) -> None:
        """HEADERS now; with `ended`, the last that is sent."""
        self.connection.send_headers(self.id, fields, ended)
        if ended:
            self.end_local()

    def send_message(self, payload: bytes, flag: int = 0, ended: bool = False) -> bool:
        """Sends a message at once, or when the windows allow; with `ended`, the last.

        False asks the sender to await `drained` before it sends another; that tells if the stream is gone.
        """
        connection, size = self.connection, len(payload) + PREFIX_BYTES
        if size > self.window or size > connection.window or size > connection.direct_max or self._pending:
            self._wait(_PREFIX.pack(flag, len(payload)) + payload, ended)
            return False
        self.window -= size
        connection.window -= size
        head = MESSAGE_HEAD(size >> 8, size & 0xFF, 0, ended, self.id, flag, size - PREFIX_BYTES)
        room = connection.send(head + payload)
        if ended:
            self.end_local()
        return room

    def send_end(self, trailers: list[Header] | None = None) -> None:
        """Trailers, or only END_STREAM, after all messages."""
        if self.gone or self.local_ended:
            return
        if self._pending:
            self._trailers = trailers or True
        elif trailers:
            self.send_headers(trailers, ended=True)
        else:
            self.connection.send(frames.data(self.id, b"", True))
            self.end_local()

    async def drained(self) -> None:
        """Returns when another message may be sent: no polling, no queue that grows. Raises StreamGone."""
        while self._pending and not self.gone:
            if self._drained is None:
                self._drained = self.connection.loop.create_future()
            await asyncio.shield(self._drained)
        if self.gone:
            raise StreamGone(self.gone)
        await self.connection.next_turn()

    def reset(self, code: ErrorCode) -> None:
        """RST_STREAM (§5.4.2), unless the stream is closed already. Whoever reads or writes learns it."""
        if self.gone:
            return
        if not (self.local_ended and self.remote_ended):
            self.connection.reset(self.id, code, late_frames=not self.remote_ended)
        self._end(f"reset: {_name(code)}")

    def is_stuck(self, tick: int, ticks_max: float) -> bool:
        """Whether an answer that is whole has not moved for so many sweeps (slow reads, CVE-2019-9517)."""
        if not (self._pending and self._trailers):
            return False
        place = (len(self._pending), self._at)
        if self._stuck[:2] != place:
            self._stuck = (*place, tick)
        return tick - self._stuck[2] > ticks_max

    @property
    def may_send(self) -> bool:
        """Whether there is something to send, and a window of the stream's own for it."""
        return bool(self._pending) and self.window > 0

    def send_some(self, size_max: int) -> int:
        """One DATA frame of what is pending, and what ends the stream behind it. Bytes of window used."""
        pending = self._pending
        if not pending or self.window <= 0:
            return 0
        first = pending[0]
        piece = first[self._at : self._at + min(size_max, self.window)]
        self._at += len(piece)
        if self._at == len(first):
            pending.popleft()
            self._at = 0
        self.window -= len(piece)
        self.connection.pending -= len(piece)
        bare_end = not pending and self._trailers is True
        self.connection.send(frames.data(self.id, piece, bare_end))
        if not pending:
            self._finish_pending()
        return len(piece)

    def _wait(self, message: bytes, ended: bool) -> None:
        if self.gone or self.local_ended:
            return
        connection = self.connection
        if self._pending is None:
            self._pending = deque()
        self._pending.append(message)
        self._trailers = ended
        connection.pending += len(message)
        if connection.pending > connection.limits.pending_bytes_max:
            code = ErrorCode.ENHANCE_YOUR_CALM
            self.reset(code)
            # Not at once: the side is still about to send.
            connection.loop.call_soon(self.on_gone, code, "too much waits to be sent", False)
        else:
            connection.wait_turn(self)

    def _finish_pending(self) -> None:
        trailers, self._trailers = self._trailers, False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
        if isinstance(trailers, list):
            self.send_headers(trailers, ended=True)
        elif trailers:
            self.end_local()

    def end_local(self) -> None:
        """Our last frame is queued."""
        self.local_ended = True
        if self.remote_ended:
            self.connection.forget(self)

    def _end(self, reason: str) -> None:
        """Frees what is held, and whoever waits."""
        self.gone = reason
        self._inbox = None
        self.connection.forget(self)
        self._wake_reader()
        self._send_no_more()

    def _send_no_more(self) -> None:
        """What waits to be sent never is, nor what comes later; whoever waits to send learns it."""
        self.window = 0  # So that a message is asked whether it may be sent at all.
        if self._pending:
            self.connection.pending -= sum(map(len, self._pending)) - self._at
        self._pending = None
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None


def _name(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode.__members__.values() else str(code)
