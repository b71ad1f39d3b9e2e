"""HTTP/2 frames written and read by hand, right or wrong: what an outside peer puts on the wire.

Nothing here is shared with the implementation, and nothing is checked: a test may build any nonsense. Header
blocks are built without an encoder's state (RFC 7541 §6.2.2), so that their bytes mean the same anywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
HEAD_BYTES = 9
WINDOW_BYTES = 65_535  # RFC 9113 §6.9.2
FRAME_BYTES = 16_384  # RFC 9113 §6.5.2, SETTINGS_MAX_FRAME_SIZE

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
NAMES = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
]
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20
WHOLE = END_HEADERS | END_STREAM

(
    NO_ERROR,
    PROTOCOL_ERROR,
    INTERNAL_ERROR,
    FLOW_CONTROL_ERROR,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    REFUSED_STREAM,
    CANCEL,
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    ENHANCE_YOUR_CALM,
    INADEQUATE_SECURITY,
    HTTP_1_1_REQUIRED,
) = range(14)  # RFC 9113 §7

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6

Fields = Iterable[tuple[str | bytes, str | bytes]]


@dataclass
class Frame:
    """One frame as it arrived; `fields` are those of a header block that this frame completes."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        name = NAMES[self.kind] if self.kind < len(NAMES) else f"type {self.kind}"
        detail = f" {self.fields}" if self.fields else f" {self.payload[:32].hex()}"
        return f"{name}(flags {self.flags:#x}, stream {self.stream}, {len(self.payload)} bytes{detail})"

    @property
    def ends(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8], "big")

    @property
    def number(self) -> int:
        """A WINDOW_UPDATE's increment, a GOAWAY's last stream."""
        return int.from_bytes(self.payload[:4], "big") & 0x7FFF_FFFF

    @property
    def settings(self) -> list[tuple[int, int]]:
        return list(struct.iter_unpack(">HI", self.payload))


def frame(
    kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None
) -> bytes:
    """RFC 9113 §4.1. `length` may lie; bit 31 of `stream` is the reserved one."""
    said = len(payload) if length is None else length
    return said.to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def data(stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, payload)


def headers(stream: int, fields: Fields, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block(fields))


def continuation(stream: int, fields: Fields, flags: int = END_HEADERS) -> bytes:
    return frame(CONTINUATION, flags, stream, block(fields))


def priority(stream: int, depends_on: int = 0, weight: int = 255, exclusive: bool = False) -> bytes:
    return frame(PRIORITY, 0, stream, priority_of(depends_on, weight, exclusive))


def priority_of(depends_on: int = 0, weight: int = 255, exclusive: bool = False) -> bytes:
    return struct.pack(">IB", depends_on | (exclusive << 31), weight)


def rst_stream(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def settings(*values: tuple[int, int], flags: int = 0) -> bytes:
    return frame(SETTINGS, flags, 0, b"".join(struct.pack(">HI", *value) for value in values))


def push_promise(stream: int, promised: int, fields: Fields) -> bytes:
    return frame(PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", promised) + block(fields))


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    return frame(PING, flags, 0, payload)


def goaway(last: int = 0, code: int = NO_ERROR, reason: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + reason)


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def padded(payload: bytes, padding: int) -> bytes:
    """RFC 9113 §6.1: what a frame with the PADDED flag carries."""
    return bytes([padding]) + payload + bytes(padding)


def block(fields: Fields) -> bytes:
    """Literals without indexing, new names, no Huffman code (RFC 7541 §6.2.2)."""
    return b"".join(literal(name, value) for name, value in fields)


def literal(name: str | bytes, value: str | bytes, first: int = 0x00) -> bytes:
    return bytes([first]) + text(name) + text(value)


def text(value: str | bytes) -> bytes:
    """RFC 7541 §5.2, without Huffman code."""
    raw = value.encode() if isinstance(value, str) else value
    return integer(len(raw), 7) + raw


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """RFC 7541 §5.1; `first` are the bits before the prefix."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytearray([first | most]), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def message(payload: bytes = b"", compressed: int = 0) -> bytes:
    """A gRPC Length-Prefixed-Message."""
    return struct.pack(">BI", compressed, len(payload)) + payload


def messages(body: bytes) -> list[bytes]:
    """The payloads of a body that is whole."""
    found, at = [], 0
    while at < len(body):
        (length,) = struct.unpack_from(">xI", body, at)
        assert at + 5 + length <= len(body), "a message is cut short"
        found.append(body[at + 5 : at + 5 + length])
        at += 5 + length
    return found
