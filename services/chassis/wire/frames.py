"""Frames: RFC 9113 §4.1 and §6. Builders of whole frames, readers of payloads.

The frame header is read where frames are dispatched; a reader gets the payload that it announced.
"""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from services.chassis.wire.errors import ConnectionFault, ErrorCode, StreamFault

HEAD_BYTES = 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # §3.4: what a client sends first.
STREAM_ID_MAX = 2**31 - 1  # §4.1: 31 bits.
WINDOW_MAX = 2**31 - 1  # §6.9.1: a window above it is a FLOW_CONTROL_ERROR.
FRAME_BYTES_MIN = 16_384  # §4.2: what every peer accepts, and what we accept.
FRAME_BYTES_MAX = 2**24 - 1  # §4.2: what a length of 24 bits can say.


class FrameType(IntEnum):
    """§6."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class Flag:
    """Bits of a frame's flags; plain integers, for they are tested for every frame."""

    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Goaway(NamedTuple):
    """§6.8. `code` may be one that RFC 9113 does not know."""

    last_stream_id: int
    code: int
    debug: bytes


HEAD = Struct(">HBBBI").pack
_LONG = Struct(">I")
_SETTING = Struct(">HI").pack


def head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """§4.1: the nine bytes before a payload of `length`."""
    return HEAD(length >> 8, length & 0xFF, kind, flags, stream_id)


def data(stream_id: int, payload: bytes, end_stream: bool = False) -> bytes:
    """§6.1. The caller keeps to the peer's frame size and windows."""
    size = len(payload)
    return HEAD(size >> 8, size & 0xFF, 0, end_stream, stream_id) + payload


def headers(
    stream_id: int, block: bytes, end_stream: bool = False, frame_bytes_max: int = FRAME_BYTES_MIN
) -> bytes:
    """§6.2, and §6.10 for what is longer than a frame: nothing may stand between them."""
    size = len(block)
    if size <= frame_bytes_max:
        return HEAD(size >> 8, size & 0xFF, 1, Flag.END_HEADERS | end_stream, stream_id) + block
    parts = [block[at : at + frame_bytes_max] for at in range(0, size, frame_bytes_max)]
    first = head(len(parts[0]), FrameType.HEADERS, end_stream, stream_id) + parts[0]
    middle = [head(len(part), FrameType.CONTINUATION, 0, stream_id) + part for part in parts[1:-1]]
    last = head(len(parts[-1]), FrameType.CONTINUATION, Flag.END_HEADERS, stream_id) + parts[-1]
    return b"".join((first, *middle, last))


def rst_stream(stream_id: int, code: int) -> bytes:
    """§6.4."""
    return HEAD(0, 4, FrameType.RST_STREAM, 0, stream_id) + _LONG.pack(code)


def settings(values: dict[int, int]) -> bytes:
    """§6.5."""
    return head(6 * len(values), FrameType.SETTINGS, 0, 0) + b"".join(
        _SETTING(key, value) for key, value in values.items()
    )


SETTINGS_ACK = head(0, FrameType.SETTINGS, Flag.ACK, 0)


def ping(opaque: bytes, ack: bool = False) -> bytes:
    """§6.7. `opaque` has eight bytes."""
    return HEAD(0, 8, FrameType.PING, ack, 0) + opaque


def goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """§6.8."""
    payload = _LONG.pack(last_stream_id) + _LONG.pack(code) + debug
    return head(len(payload), FrameType.GOAWAY, 0, 0) + payload


def window_update(stream_id: int, increment: int) -> bytes:
    """§6.9. Stream 0 is the connection."""
    return HEAD(0, 4, FrameType.WINDOW_UPDATE, 0, stream_id) + _LONG.pack(increment)


def read_data(stream_id: int, flags: int, payload: bytes) -> bytes:
    """The payload without padding; all of it counts against the windows."""
    if not stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
    return _unpadded(payload, "DATA") if flags & Flag.PADDED else payload


def read_headers(stream_id: int, flags: int, payload: bytes) -> bytes:
    """The fragment of the header block. Priority is deprecated and passed over (§5.3.2)."""
    if not stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
    if flags & Flag.PADDED:
        payload = _unpadded(payload, "HEADERS")
    if flags & Flag.PRIORITY:
        if len(payload) < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
        return payload[5:]
    return payload


def read_priority(stream_id: int, payload: bytes) -> None:
    """§6.3: checked and passed over."""
    if not stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
    if len(payload) != 5:
        raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not of 5 bytes")


def read_rst_stream(stream_id: int, payload: bytes) -> int:
    """The error code, which may be one that RFC 9113 does not know."""
    if not stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on stream 0")
    if len(payload) != 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is not of 4 bytes")
    return int.from_bytes(payload, "big")


def read_ping(stream_id: int, payload: bytes) -> bytes:
    """The eight opaque bytes."""
    if stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
    if len(payload) != 8:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is not of 8 bytes")
    return payload


def read_goaway(stream_id: int, payload: bytes) -> Goaway:
    if stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
    if len(payload) < 8:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is shorter than 8 bytes")
    last, code = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
    return Goaway(last & STREAM_ID_MAX, code, payload[8:])


def read_window_update(stream_id: int, payload: bytes) -> int:
    """The increment, from 1 to 2^31-1 bytes."""
    if len(payload) != 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not of 4 bytes")
    increment = int.from_bytes(payload, "big") & WINDOW_MAX
    if increment:
        return increment
    if stream_id:
        raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")


def read_continuation(stream_id: int, payload: bytes) -> bytes:
    """The next fragment of a header block."""
    if not stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION on stream 0")
    return payload


def _unpadded(payload: bytes, kind: str) -> bytes:
    """§6.1: the first byte says how many at the end are padding."""
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{kind} is too short for its padding")
    end = len(payload) - payload[0]
    if end < 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{kind} has more padding than payload")
    return payload[1:end]
