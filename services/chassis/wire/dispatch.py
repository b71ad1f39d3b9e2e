"""What each frame does to its connection (RFC 9113 §6), in the three states that a connection can be in.

A reader gets the connection, the frame's flags, its stream and its payload. Tables have one for each of the
256 types, since one that is not known is passed over (§4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from services.chassis.wire import flow, frames, settings
from services.chassis.wire.errors import ConnectionFault, ErrorCode, HeaderListTooLong, StreamFault
from services.chassis.wire.frames import Flag, FrameType

if TYPE_CHECKING:
    from services.chassis.wire.connection import Connection

Reader = Callable[["Connection", int, int, bytes], None]

ANSWERED = 3  # What a frame costs that makes us send one, which earns `connection.EARNED`.
_END_STREAM, _END_HEADERS, _PADDED = Flag.END_STREAM, Flag.END_HEADERS, Flag.PADDED  # Read for every frame.
_PADDED_OR_PRIORITY = Flag.PADDED | Flag.PRIORITY
STREAMS_A_FRAME = 100  # So many windows are changed in the time of one more frame.
SMALL_INCREMENT = (
    1_024  # A WINDOW_UPDATE below it is counted: by single bytes, each costs more than it moves.
)


class Block:
    """A header block whose END_HEADERS has not come (§6.10)."""

    __slots__ = ("continuations", "ended", "parts", "size", "stream_id")

    def begin(self, stream_id: int, ended: bool) -> None:
        self.stream_id, self.ended = stream_id, ended
        self.parts: list[bytes] = []
        self.size = self.continuations = 0


def _data(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.1."""
    size = len(payload)
    if flags & _PADDED or not stream_id:
        payload = frames.read_data(stream_id, flags, payload)
    ended = bool(flags & _END_STREAM)
    increment = connection.inflow.take_and_give(size)
    if increment:
        if increment < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        connection.send(frames.window_update(0, increment))
    if not payload and not ended:
        connection.idle_frames.spend(connection.loop.time())
    stream = connection.streams.get(stream_id)
    if stream is not None:
        stream.receive_data(payload, size, ended)
    elif not connection.abandoned(stream_id, ended):
        raise _closed(connection, stream_id, "DATA")


def _headers(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.2."""
    if flags & _PADDED_OR_PRIORITY or not stream_id:
        payload = frames.read_headers(stream_id, flags, payload)
    ended = bool(flags & _END_STREAM)
    if flags & _END_HEADERS:
        _block(connection, stream_id, payload, ended)
        return
    connection.block.begin(stream_id, ended)
    connection.readers = IN_BLOCK
    connection.after("block", connection.limits.header_block_s, lambda: _no_end_of_block(connection))
    _fragment(connection, payload)


def _continuation(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.10."""
    block = connection.block
    if stream_id != block.stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of another stream")
    block.continuations += 1
    if block.continuations > connection.limits.continuations_max:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATIONs")
    _fragment(connection, payload)
    if flags & Flag.END_HEADERS:
        connection.readers = OPEN
        connection.stop("block")
        _block(connection, stream_id, b"".join(block.parts), block.ended)


def _fragment(connection: Connection, payload: bytes) -> None:
    block = connection.block
    block.parts.append(payload)
    block.size += len(payload)
    if block.size > connection.limits.header_block_bytes_max:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header block is too long")


def _no_end_of_block(connection: Connection) -> None:
    connection.fail(ErrorCode.ENHANCE_YOUR_CALM, "a header block did not end in time")


def _block(connection: Connection, stream_id: int, block: bytes, ended: bool) -> None:
    """A whole header block. It is decoded whatever its stream is: the table must follow (§4.3)."""
    try:
        fields = connection.decoder.decode(block)
    except HeaderListTooLong:
        if not connection.abandoned(stream_id, ended):
            connection.on_too_long(stream_id, ended)
        return
    stream = connection.streams.get(stream_id)
    if stream is None:
        if not connection.abandoned(stream_id, ended):
            connection.on_open(stream_id, fields, ended)
        return
    if stream.remote_ended:
        raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
    stream.on_headers(fields, ended)
    if ended and not stream.gone:
        stream.receive_end()


def _priority(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.3, on a stream in whatever state."""
    connection.idle_frames.spend(connection.loop.time())
    frames.read_priority(stream_id, payload)


def _rst_stream(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.4."""
    code = frames.read_rst_stream(stream_id, payload)
    stream = connection.streams.get(stream_id)
    if stream is not None:
        connection.resets.spend(connection.loop.time())
        stream.receive_reset(code)
        return
    connection.idle_frames.spend(connection.loop.time())
    connection.abandoned(stream_id, ended=True)
    if connection.is_idle(stream_id):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")


def _settings(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.5."""
    values = settings.parse(stream_id, flags, payload, connection.from_server)
    cost = ANSWERED + len(connection.streams) // STREAMS_A_FRAME
    connection.idle_frames.spend(connection.loop.time(), cost)
    if flags & Flag.ACK:
        return
    peer, before = connection.peer, connection.peer.window_bytes
    peer.apply(values)
    if peer.window_bytes != before:  # Once for all that the frame says of it: streams are many.
        _rewindow(connection, peer.window_bytes - before)
    connection.encoder.table_bytes_max = peer.header_table_bytes
    connection.table_changed = True
    connection.send(frames.SETTINGS_ACK)
    connection.on_settings()


def _rewindow(connection: Connection, change: int) -> None:
    """§6.9.2: the streams' windows change, the connection's does not."""
    for stream in connection.streams.values():
        try:
            stream.window = flow.widened(stream.window, change, stream.id)
        except StreamFault as fault:
            raise ConnectionFault(fault.code, fault.reason) from None
        connection.wait_turn(stream)


def _first_settings(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§3.4: the peer's preface ends with SETTINGS that are no ACK."""
    if flags & Flag.ACK:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS are an ACK")
    connection.readers = OPEN
    connection.stop("handshake")
    _settings(connection, flags, stream_id, payload)


def _push_promise(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.6, §8.4: a client never pushes, and ours allows no server to."""
    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE")


def _ping(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.7."""
    opaque = frames.read_ping(stream_id, payload)
    connection.idle_frames.spend(connection.loop.time(), ANSWERED)
    if flags & Flag.ACK:
        connection.pinged(opaque)
        return
    connection.on_ping()
    connection.send(frames.ping(opaque, ack=True))


def _goaway(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.8."""
    connection.idle_frames.spend(connection.loop.time())
    connection.on_goaway(frames.read_goaway(stream_id, payload))


def _window_update(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§6.9."""
    increment = frames.read_window_update(stream_id, payload)
    if increment < SMALL_INCREMENT:
        connection.idle_frames.spend(connection.loop.time())
    if not stream_id:
        try:
            connection.window = flow.widened(connection.window, increment, 0)
        except StreamFault as fault:
            raise ConnectionFault(fault.code, fault.reason) from None
        connection.wake()
        return
    stream = connection.streams.get(stream_id)
    if stream is not None:
        stream.window = flow.widened(stream.window, increment, stream_id)
        connection.wait_turn(stream)
    elif connection.is_idle(stream_id):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")


def _unknown(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    """§5.5."""
    connection.idle_frames.spend(connection.loop.time())


def _before_settings(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")


def _within_block(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "another frame within a header block")


def _outside_block(connection: Connection, flags: int, stream_id: int, payload: bytes) -> None:
    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION outside a header block")


def _closed(connection: Connection, stream_id: int, kind: str) -> ConnectionFault:
    """§5.1: what a frame on a stream that there is not means."""
    if connection.is_idle(stream_id):
        return ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{kind} on an idle stream")
    return ConnectionFault(ErrorCode.STREAM_CLOSED, f"{kind} on a closed stream")


def _table(known: dict[FrameType, Reader], other: Reader) -> tuple[Reader, ...]:
    by_number = {int(kind): reader for kind, reader in known.items()}
    return tuple(by_number.get(kind, other) for kind in range(256))


OPEN = _table(
    {
        FrameType.DATA: _data,
        FrameType.HEADERS: _headers,
        FrameType.PRIORITY: _priority,
        FrameType.RST_STREAM: _rst_stream,
        FrameType.SETTINGS: _settings,
        FrameType.PUSH_PROMISE: _push_promise,
        FrameType.PING: _ping,
        FrameType.GOAWAY: _goaway,
        FrameType.WINDOW_UPDATE: _window_update,
        FrameType.CONTINUATION: _outside_block,
    },
    _unknown,
)
OPENING = _table({FrameType.SETTINGS: _first_settings}, _before_settings)
IN_BLOCK = _table({FrameType.CONTINUATION: _continuation}, _within_block)
