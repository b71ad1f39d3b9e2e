"""Length-prefixed messages of gRPC, and their compression.

gRPC over HTTP2: Length-Prefixed-Message = Compressed-Flag Message-Length Message.
"""

import zlib
from struct import Struct

from grpc import StatusCode

PREFIX_BYTES = 5
CHUNK_BYTES_MIN = 1024  # Of a message that is kept as it came: smaller ones would be mostly overhead.
GZIP_WBITS = 31  # zlib: a gzip header and trailer around 32 KB of history.

_PREFIX = Struct(">BI").unpack_from


class MessageFault(Exception):
    """A message that ends its call with `code`; the stream's other side is reset."""

    def __init__(self, code: StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def pack(payload: bytes, compressed: bool = False) -> bytes:
    """One message as it stands in DATA; `compressed` says that `payload` is."""
    return (b"\x01" if compressed else b"\x00") + len(payload).to_bytes(4, "big") + payload


class Splitter:
    """Finds messages in the bytes of a stream, however these were split into frames. Holds one at most."""

    __slots__ = ("_bytes_max", "_chunks", "_flag", "_size", "_tail", "_wanted")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._chunks: list[bytes] = []  # What has come of a message: joined once, when it is whole;
        self._tail = bytearray()  # and behind them what came in pieces too small to be kept as such.
        self._size = 0  # Of both.
        self._wanted = PREFIX_BYTES  # Fewer tell nothing new.
        self._flag = 0  # Of the message that is wanted.

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended: at the end of a stream, a fault."""
        return bool(self._size)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Compressed-Flag and payload of each message that ends in `data`.

        Raises MessageFault for a message longer than the bound as soon as it says so; the splitter is then of
        no use.
        """
        if self._size:
            self._keep(data)
            if self._size < self._wanted:
                return []
            if self._size == self._wanted > PREFIX_BYTES:
                return [(self._flag, self._taken(PREFIX_BYTES))]  # Nearly always: not copied once more.
            data = self._taken(0)
        found, at = self._split(data)
        if at < len(data):
            self._keep(data[at:] if at else data)
        return found

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if len(data) < CHUNK_BYTES_MIN:
            self._tail += data
            return
        if self._tail:
            self._chunks.append(bytes(self._tail))
            self._tail.clear()
        self._chunks.append(data)

    def _taken(self, at: int) -> bytes:
        """What was kept from `at` on, which is within the first chunk. Nothing is kept any longer."""
        first, *others = (*self._chunks, self._tail)
        whole = b"".join((first[at:], *others))
        self._chunks, self._size, self._wanted = [], 0, PREFIX_BYTES
        self._tail.clear()
        return whole

    def _split(self, data: bytes) -> tuple[list[tuple[int, bytes]], int]:
        """The messages of `data`, and where the last of them ends."""
        found: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while end - at >= PREFIX_BYTES:
            flag, size = _PREFIX(data, at)
            self._check(flag, size)
            start = at + PREFIX_BYTES
            if start + size > end:
                self._flag, self._wanted = flag, PREFIX_BYTES + size
                return found, at
            at = start + size
            found.append((flag, data[start:at]))
        self._wanted = PREFIX_BYTES
        return found, at

    def _check(self, flag: int, size: int) -> None:
        if flag > 1:
            raise MessageFault(StatusCode.INTERNAL, f"a message has the Compressed-Flag {flag}")
        if size > self._bytes_max:
            reason = f"a message of {size} bytes is longer than {self._bytes_max}"
            raise MessageFault(StatusCode.RESOURCE_EXHAUSTED, reason)


def unpack(flag: int, payload: bytes, encoding: bytes | None, bytes_max: int) -> bytes:
    """The message, decompressed if its flag says so. `encoding` is the stream's grpc-encoding.

    To be called when the message is consumed, not when it arrives: what waits stays small.
    """
    if not flag:
        return payload
    if encoding is None or encoding == b"identity":
        raise MessageFault(StatusCode.INTERNAL, "a message is compressed, and no grpc-encoding was announced")
    if encoding != b"gzip":
        name = encoding.decode("latin-1")
        raise MessageFault(StatusCode.UNIMPLEMENTED, f"grpc-encoding {name} is not supported")
    return decompress(payload, bytes_max)


def compress(payload: bytes) -> bytes:
    """gzip (RFC 1952), at its fastest: it is the event loop that waits."""
    return zlib.compress(payload, zlib.Z_BEST_SPEED, wbits=GZIP_WBITS)


def decompress(payload: bytes, bytes_max: int) -> bytes:
    """The inverse; a result longer than `bytes_max` is never made."""
    engine = zlib.decompressobj(wbits=GZIP_WBITS)
    try:
        plain = engine.decompress(payload, bytes_max + 1)
    except zlib.error as error:
        raise MessageFault(StatusCode.INTERNAL, "a message is no valid gzip") from error
    if len(plain) > bytes_max:
        reason = f"a decompressed message is longer than {bytes_max} bytes"
        raise MessageFault(StatusCode.RESOURCE_EXHAUSTED, reason)
    if not engine.eof or engine.unused_data:
        raise MessageFault(StatusCode.INTERNAL, "a message is no valid gzip")
    return plain
