"""Header compression (RFC 7541).

Header lists of one connection look alike: blocks that read and write no dynamic entry are decoded once.
"""

from collections import deque
from collections.abc import Iterable

from services.chassis.wire import huffman
from services.chassis.wire.errors import ConnectionFault, ErrorCode, HeaderListTooLong

Header = tuple[bytes, bytes]

# Appendix A.
STATIC_TABLE: tuple[Header, ...] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
ENTRY_OVERHEAD_BYTES = 32  # §4.1.
FIRST_DYNAMIC = len(STATIC_TABLE) + 1  # §2.3.3.
TABLE_BYTES_MAX = 4096  # RFC 9113 §6.5.2: the default, and as much as we use of a larger one.
LIST_BYTES_MAX = 16_384  # Names, values and 32 for each field: gRPC's servers take 8 to 16 KB.
INTEGER_SHIFT_MAX = 21  # §5.1: four octets of continuation say 2^28; no length or index of ours is near it.


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, reason)


class Decoder:
    """What the peer's encoder has said so far. One for each connection."""

    def __init__(self, table_bytes_max: int = TABLE_BYTES_MAX, list_bytes_max: int = LIST_BYTES_MAX) -> None:
        self._bytes_max = list_bytes_max
        self._ceiling = self._size_max = table_bytes_max
        self._size = 0
        self._table: list[Header] = [(b"", b""), *STATIC_TABLE]  # By index; the newest dynamic one first.

    def decode(self, block: bytes) -> list[Header]:
        """The header list of a whole block. It is shared with later calls: read it only.

        Raises ConnectionFault, after which the decoder is of no use, or HeaderListTooLong, after which it is.
        """
        try:
            return self._decode(block)
        except IndexError:
            raise _fault("a header block ends too soon, or names an entry that is not there") from None

    def _decode(self, block: bytes) -> list[Header]:
        fields: list[Header] = []
        at, end, size = 0, len(block), 0
        while at < end:
            first = block[at]
            if first & 0xE0 == 0x20:
                if fields or size:
                    raise _fault("a table size update stands behind a field")
                at = self._update(block, at)
                continue
            field, at = self._field(block, at, first)
            size += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD_BYTES
            if size <= self._bytes_max:
                fields.append(field)
        if size > self._bytes_max:
            raise HeaderListTooLong(self._bytes_max)
        return fields

    def _update(self, block: bytes, at: int) -> int:
        """§6.3."""
        size, at = _integer(block, at, 0x1F)
        if size > self._ceiling:
            raise _fault(f"a table size update to {size} is above {self._ceiling}")
        self._size_max = size
        self._evict()
        return at

    def _field(self, block: bytes, at: int, first: int) -> tuple[Header, int]:
        """§6.1, §6.2."""
        if first & 0x80:
            index, at = _integer(block, at, 0x7F)
            return self._entry(index), at
        index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        if first & 0x40:
            self._insert((name, value))
        return (name, value), at

    def _entry(self, index: int) -> Header:
        if not index:
            raise _fault("index 0 is used")
        return self._table[index]

    def _insert(self, field: Header) -> None:
        """§4.4: what is larger than the table empties it."""
        self._table.insert(FIRST_DYNAMIC, field)
        self._size += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD_BYTES
        self._evict()

    def _evict(self) -> None:
        while self._size > self._size_max:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """§5.1: the integer at `at`, whose prefix has the bits `prefix`, and where it ends."""
    value = block[at] & prefix
    at += 1
    if value < prefix:
        return value, at
    for shift in range(0, INTEGER_SHIFT_MAX + 1, 7):
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise _fault("an integer is too long")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """§5.2."""
    coded = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    text = block[at : at + size]
    if len(text) != size:
        raise _fault("a header block ends within a string")
    return huffman.decode(text) if coded else text, at + size


# §7.1.3: fields whose value an intermediary must not compress either, lest it be guessed by length.
NEVER_INDEXED = frozenset((b"authorization", b"cookie", b"set-cookie", b"proxy-authorization", b"x-api-key"))
# Fields that differ from call to call: an entry would push out a useful one.
NOT_INDEXED = frozenset((b":path", b"grpc-timeout", b"content-length", b"grpc-message"))


class Encoder:
    """Writes header blocks for a peer's decoder. One for each connection."""

    def __init__(self, table_bytes_max: int = TABLE_BYTES_MAX) -> None:
        self._size_max = TABLE_BYTES_MAX  # What the peer's decoder starts with.
        self._size = 0
        self._entries: deque[Header] = deque()
        self._updates: list[int] = []
        self.table_bytes_max = table_bytes_max

    @property
    def table_bytes_max(self) -> int:
        """The peer's SETTINGS_HEADER_TABLE_SIZE. Setting it announces itself in the next block (§4.2)."""
        return self._size_max

    @table_bytes_max.setter
    def table_bytes_max(self, size: int) -> None:
        size = min(size, TABLE_BYTES_MAX)
        if size != self._size_max:
            self._updates = [*(each for each in self._updates if each < size), size]
            self._size_max = size
            self._evict()

    def encode(self, headers: Iterable[Header]) -> bytes:
        """One header block. Names are in lower case already."""
        parts = [_write_integer(size, 0x1F, 0x20) for size in self._updates]
        self._updates.clear()
        parts += [self._field(field) for field in headers]
        return b"".join(parts)

    def _field(self, field: Header) -> bytes:
        index = _STATIC_INDEX.get(field) or self._index(field)
        if index:
            return _write_integer(index, 0x7F, 0x80)
        name, value = field
        if name in NEVER_INDEXED:
            return _literal(0x10, 0x0F, name, value)
        if name in NOT_INDEXED or len(name) + len(value) + ENTRY_OVERHEAD_BYTES > self._size_max:
            return _literal(0x00, 0x0F, name, value)
        self._entries.appendleft(field)
        self._size += len(name) + len(value) + ENTRY_OVERHEAD_BYTES
        self._evict()
        return _literal(0x40, 0x3F, name, value)

    def _index(self, field: Header) -> int:
        try:
            return FIRST_DYNAMIC + self._entries.index(field)
        except ValueError:
            return 0

    def _evict(self) -> None:
        while self._size > self._size_max:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES


_STATIC_INDEX = {field: index for index, field in reversed([*enumerate(STATIC_TABLE, 1)])}
_STATIC_NAME = {field[0]: index for index, field in reversed([*enumerate(STATIC_TABLE, 1)])}


def literal(name: bytes, value: bytes) -> bytes:
    """§6.2.2: a field that touches no table; right in any block of any connection."""
    return _literal(0x00, 0x0F, name, value)


def _literal(first: int, prefix: int, name: bytes, value: bytes) -> bytes:
    index = _STATIC_NAME.get(name, 0)
    start = _write_integer(index, prefix, first)
    return start + (b"" if index else _write_string(name)) + _write_string(value)


def _write_string(text: bytes) -> bytes:
    """Without Huffman: within a machine room, bytes are cheaper than the time that they take."""
    return _write_integer(len(text), 0x7F, 0x00) + text


def _write_integer(value: int, prefix: int, first: int) -> bytes:
    """§5.1."""
    if value < prefix:
        return bytes((first | value,))
    octets = bytearray((first | prefix,))
    value -= prefix
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
