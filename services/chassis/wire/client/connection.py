"""A connection to a server: opens streams (RFC 9113 §5.1.1) until it is told, or has, to stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from services.chassis.wire import frames
from services.chassis.wire.connection import Connection
from services.chassis.wire.errors import ConnectionFault, ErrorCode
from services.chassis.wire.frames import HEAD, Flag
from services.chassis.wire.hpack import Header
from services.chassis.wire.keepalive import Keepalive
from services.chassis.wire.limits import Limits
from services.chassis.wire.messages import PREFIX_BYTES
from services.chassis.wire.settings import Setting
from services.chassis.wire.stream import MESSAGE_HEAD, Stream

if TYPE_CHECKING:
    from services.chassis.wire.client.attempt import Attempt
    from services.chassis.wire.client.method import Message

PINGED_TOO_OFTEN = b"too_many_pings"  # gRFC A8: the server's word in a GOAWAY.
SHORT = frames.FRAME_BYTES_MIN  # A header block within it is one frame for every peer.
STREAMS_MAX = 10_000  # Of one connection, whatever the server would take; each costs about 3 kB.


class Owner(Protocol):
    """Who keeps connections."""

    queue: dict[Any, None]  # Of those that wait for a stream.

    def opened(self, connection: ClientConnection) -> None:
        """The server's SETTINGS have come: streams may be opened."""

    def has_room(self, connection: ClientConnection) -> None:
        """A stream ended, or the server takes more of them."""

    def drains(self, connection: ClientConnection, pinged_too_often: bool) -> None:
        """No stream can be opened any more; those in flight go on."""

    def lost(self, connection: ClientConnection, reason: str) -> None:
        """Told last, and once."""


class ClientConnection(Connection):
    """A server's other half. Streams here are attempts of calls."""

    preface_out = frames.PREFACE
    from_server = True

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        super().__init__(limits, loop)
        self.owner, self.queue = owner, owner.queue
        self.next_id = 1
        self.draining = ""  # Why no stream is opened any more.
        self.born = loop.time()
        self.known_headers: list[Header] | None = None  # Of a right answer: later ones are the same object,
        self.known_trailers: list[Header] | None = None  # as are those of its OK, if they use no table.
        self._is_open = False
        self._opening: asyncio.Future[None] | None = None
        self.streams_max = 0  # That may be open at once.

    async def opening(self) -> None:
        """Returns when the server's SETTINGS have come. Raises ConnectionError when they never will."""
        if self.closing:
            raise ConnectionError(self.closing)
        if not self._is_open:
            self._opening = self.loop.create_future()
            await self._opening

    @property
    def room(self) -> bool:
        """Whether another stream may be opened now."""
        return len(self.streams) < self.streams_max

    def open(self, attempt: Attempt, block: bytes, message: Message | None) -> None:
        """Opens `attempt`'s stream; the header block uses no table, a message is the call's only one."""
        stream_id = attempt.id
        self.next_id = stream_id + 2
        self.streams[stream_id] = attempt
        if stream_id == frames.STREAM_ID_MAX:
            self._drain("all stream ids are used")
        if self.table_changed:
            block = self.table_update() + block
        if message is not None:
            payload, flag = message
            size, length = len(payload) + PREFIX_BYTES, len(block)
            if size <= self.direct_max and size <= self.window and size <= attempt.window and length <= SHORT:
                self.window -= size
                attempt.local_ended = True
                opening = HEAD(length >> 8, length & 0xFF, 1, Flag.END_HEADERS, stream_id)
                head = MESSAGE_HEAD(size >> 8, size & 0xFF, 0, Flag.END_STREAM, stream_id, flag, len(payload))
                self.send(opening + block + head + payload)
                return
        self.send(frames.headers(stream_id, block, False, self.peer.frame_bytes_max))
        if message is not None:
            attempt.send_message(*message, ended=True)

    def drain(self) -> None:
        """Finishes the streams in flight, then closes."""
        self._drain("the client is done with it")

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """At once: also when the server has broken the rules."""
        self._drain(reason or "the client closes it")
        super().close(code, reason)

    def settings(self) -> dict[int, int]:
        return {**super().settings(), int(Setting.ENABLE_PUSH): 0}

    def is_idle(self, stream_id: int) -> bool:
        """§5.1.1: a server opens none, so all of even number are."""
        return stream_id >= self.next_id or stream_id % 2 == 0

    def on_open(self, stream_id: int, fields: list[Header], ended: bool) -> None:
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on an idle stream")
        raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")

    def on_settings(self) -> None:
        if not self.draining:
            self.streams_max = min(self.peer.streams_max, STREAMS_MAX)
        if self._is_open:
            self.owner.has_room(self)
            return
        self._is_open = True
        Keepalive(self).start()
        self.owner.opened(self)
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)

    def on_goaway(self, goaway: frames.Goaway) -> None:
        """§6.8: what the server will not process is free to go elsewhere."""
        reason = f"the server sent GOAWAY {goaway.code} {goaway.debug[:100].decode('latin-1')}".rstrip()
        too_often = goaway.code == ErrorCode.ENHANCE_YOUR_CALM and goaway.debug == PINGED_TOO_OFTEN
        self._drain(reason, too_often)
        for stream in [*self.streams.values()]:
            if stream.id > goaway.last_stream_id:
                stream.cut_off(ErrorCode.REFUSED_STREAM, reason, remote=True)

    def on_forgotten(self, stream: Stream) -> None:
        if not self.draining:
            if self.queue:
                self.owner.has_room(self)
        elif not self.streams:
            self.loop.call_soon(self.close)  # Behind the frame that is being read.

    def on_lost(self, reason: str) -> None:
        self.streams_max = 0
        self.draining = self.draining or reason
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(ConnectionError(reason))
        self.owner.lost(self, reason)

    def _drain(self, reason: str, pinged_too_often: bool = False) -> None:
        if self.draining:
            return
        self.draining, self.streams_max = reason, 0
        self.owner.drains(self, pinged_too_often)
        if not self.streams:
            self.loop.call_soon(self.close)
