"""Header compression (RFC 7541)."""

from collections import deque
from collections.abc import Iterable
from functools import lru_cache

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
TABLE_BYTES = 4096  # RFC 9113 §6.5.2: until a peer says otherwise. We use no more of a larger one.
LIST_BYTES_MAX = 16_384  # Names, values and 32 for each field: metadata is for small things.
INTEGER_OCTETS_MAX = 4  # §5.1: behind the prefix. They count to 2^28, and no length of ours is near it.
NAMES_MAX = 256  # Names that are written; an application has a handful.
KNOWN_BLOCKS_MAX, KNOWN_BYTES_MAX = 64, 512  # A client has a few methods and a few callers at a time.
REPEATED_MAX, REPEATED_BYTES_MAX = 512, 2048  # Paths, timeouts and tokens, of all connections.


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, reason)


def _size(field: Header) -> int:
    """§4.1."""
    return len(field[0]) + len(field[1]) + ENTRY_OVERHEAD_BYTES


class Decoder:
    """What a peer's encoder has said so far. One for each connection.

    Clients repeat themselves: a block that does not change the dynamic table is decoded once, and if it reads
    of the table, once after each change.
    """

    def __init__(self, table_bytes_max: int = TABLE_BYTES, list_bytes_max: int = LIST_BYTES_MAX) -> None:
        self._list_bytes_max = list_bytes_max
        self._ceiling = max(table_bytes_max, TABLE_BYTES)  # A peer has not heard of a smaller one yet.
        self._bytes_max, self._bytes = TABLE_BYTES, 0
        self._table: list[Header] = [(b"", b""), *STATIC_TABLE]  # By index; the newest dynamic entry first.
        self._largest = max(map(_size, STATIC_TABLE))  # Of all entries that ever were.
        self._known: dict[bytes, list[Header]] = {}  # Blocks that read nothing of the dynamic table,
        self._known_until_change: dict[bytes, list[Header]] = {}  # and those that do.
        self._reads = self._changes = False  # What the block at hand does to the dynamic table.
        self.shares = False  # Whether the list that was decoded last may be the answer once more.

    def decode(self, block: bytes) -> list[Header]:
        """The header list of a whole block. Calls may share it: read it only.

        Raises HeaderListTooLong, or ConnectionFault(COMPRESSION_ERROR), after which the decoder is of no use.
        """
        known = self._known_until_change.get(block) or self._known.get(block)
        self.shares = True
        if known:
            return known
        self._reads = self._changes = False
        try:
            fields = self._fields(block)
        except IndexError:
            raise _fault("a header block ends too soon or names an entry that is not there") from None
        # No list is longer than this, and nearly all of these are short enough: they need not be measured.
        if len(fields) * self._largest + 2 * len(block) > self._list_bytes_max:
            if sum(map(_size, fields)) > self._list_bytes_max:
                raise HeaderListTooLong(self._list_bytes_max)
        elif not self._changes and len(block) <= KNOWN_BYTES_MAX:
            blocks = self._known_until_change if self._reads else self._known
            if len(blocks) == KNOWN_BLOCKS_MAX:
                blocks.clear()
            blocks[block] = fields
            return fields
        self.shares = False
        return fields

    def _fields(self, block: bytes) -> list[Header]:
        table, fields, at, end = self._table, list[Header](), 0, len(block)
        while at < end:
            first = block[at]
            at += 1
            if 0x80 < first < 0xFF:  # §6.1, in one octet.
                fields.append(table[first - 0x80])
                if first >= 0x80 + FIRST_DYNAMIC:
                    self._reads = True
            elif first >= 0x80:
                at = self._indexed(block, at, first, fields)
            elif first & 0xE0 == 0x20:
                at = self._resize(block, at, first, fields)
            else:
                at = self._literal(block, at, first, fields)
        return fields

    def _indexed(self, block: bytes, at: int, first: int, fields: list[Header]) -> int:
        """§6.1, in several octets."""
        if first == 0x80:
            raise _fault("index 0 is used")
        index, at = _more(block, at, 0x7F)
        fields.append(self._table[index])
        self._reads = True
        return at

    def _literal(self, block: bytes, at: int, first: int, fields: list[Header]) -> int:
        """§6.2. What the peer does not index is likely to come again."""
        insert = first & 0x40
        mask = 0x3F if insert else 0x0F
        index = first & mask
        if index == mask:
            index, at = _more(block, at, mask)
        if index:
            name = self._table[index][0]
            if index >= FIRST_DYNAMIC:
                self._reads = True
        else:
            name, at = _string(block, at, True)
        value, at = _string(block, at, not insert)
        fields.append((name, value))
        if insert:
            self._insert((name, value), len(name) + len(value) + ENTRY_OVERHEAD_BYTES)
        return at

    def _insert(self, field: Header, size: int) -> None:
        """§4.4: what is larger than the table empties it."""
        self._table.insert(FIRST_DYNAMIC, field)
        if not self._changes:
            self._change()
        self._bytes += size
        if size > self._largest:
            self._largest = size
        if self._bytes > self._bytes_max:
            self._evict()

    def _resize(self, block: bytes, at: int, first: int, fields: list[Header]) -> int:
        """§6.3; §4.2: at the start of a block only."""
        size = first & 0x1F
        if size == 0x1F:
            size, at = _more(block, at, 0x1F)
        if fields:
            raise _fault("a table size update stands behind a field")
        if size > self._ceiling:
            raise _fault(f"a table size update to {size} is above {self._ceiling}")
        self._bytes_max = size
        self._evict()
        self._change()
        return at

    def _change(self) -> None:
        """Indexes say something else from here on."""
        self._changes = True
        if self._known_until_change:
            self._known_until_change.clear()

    def _evict(self) -> None:
        """§4.3."""
        while self._bytes > self._bytes_max:
            name, value = self._table.pop()
            self._bytes -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES


def _more(block: bytes, at: int, value: int) -> tuple[int, int]:
    """§5.1: an integer whose prefix is full, so that more octets follow at `at`; and where it ends."""
    for shift in range(0, 7 * INTEGER_OCTETS_MAX, 7):
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise _fault("an integer is too long")


def _string(block: bytes, at: int, repeated: bool) -> tuple[bytes, int]:
    """§5.2: the string at `at`, and where it ends. What is `repeated` is remembered."""
    first = block[at]
    at += 1
    size = first & 0x7F
    if size == 0x7F:
        size, at = _more(block, at, 0x7F)
    end = at + size
    text = block[at:end]
    if len(text) != size:
        raise _fault("a header block ends within a string")
    if first < 0x80:
        return text, end
    return (_remembered if repeated and size <= REPEATED_BYTES_MAX else huffman.decode)(text), end


_remembered = lru_cache(REPEATED_MAX)(huffman.decode)


# §7.1.3: an intermediary must not index these either, lest they be guessed by length.
NEVER_INDEXED = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key"))
# These differ from call to call: an entry would only push out others.
NOT_INDEXED = frozenset(
    (
        b"content-length",
        b"grpc-message",
        b"grpc-status-details-bin",
        b"grpc-timeout",
        b"traceparent",
        b"tracestate",
        b"x-request-id",
    )
)
ENTRY_BYTES_MAX = TABLE_BYTES // 8  # What is larger would push out too many others.


class Encoder:
    """Writes header blocks for a peer's decoder. One for each connection, which sends them in this order."""

    def __init__(self, table_bytes_max: int = TABLE_BYTES) -> None:
        self._bytes_max = TABLE_BYTES
        self._bytes = 0
        self._entries: deque[Header] = deque()  # The oldest first.
        self._numbers: dict[
            Header, int
        ] = {}  # The newest entry with this field, counted from the first ever.
        self._newest = 0
        self._resizes: list[int] = []
        self.table_bytes_max = table_bytes_max

    @property
    def table_bytes_max(self) -> int:
        """The size of the table: the peer's SETTINGS_HEADER_TABLE_SIZE, or what of it we use.

        A change is told at the start of the next block (§4.2).
        """
        return self._bytes_max

    @table_bytes_max.setter
    def table_bytes_max(self, size: int) -> None:
        size = min(size, TABLE_BYTES)
        if size != self._bytes_max:
            self._resizes = [*(each for each in self._resizes if each < size), size]
            self._bytes_max = size
            self._evict()

    def encode(self, headers: Iterable[Header]) -> bytes:
        """One header block. Names are in lower case already."""
        parts = []
        if self._resizes:
            parts = [_write_integer(size, 0x1F, 0x20) for size in self._resizes]
            self._resizes.clear()
        for field in headers:
            number = self._numbers.get(field)
            if number is not None:
                parts.append(_INDEXED[FIRST_DYNAMIC + self._newest - number])
            else:
                parts.append(_STATIC_FIELDS.get(field) or self._literal(field))
        return b"".join(parts)

    def _literal(self, field: Header) -> bytes:
        name, value = field
        if name in NEVER_INDEXED:
            return _write_literal(0x10, 0x0F, name, value)
        size = _size(field)
        if name in NOT_INDEXED or size > ENTRY_BYTES_MAX or size > self._bytes_max:
            return _write_literal(0x00, 0x0F, name, value)
        self._newest += 1
        self._numbers[field] = self._newest
        self._entries.append(field)
        self._bytes += size
        self._evict()
        return _write_literal(0x40, 0x3F, name, value)

    def _evict(self) -> None:
        """§4.3. Each field is in the table but once."""
        while self._bytes > self._bytes_max:
            field = self._entries.popleft()
            self._bytes -= _size(field)
            del self._numbers[field]


def literal(name: bytes, value: bytes) -> bytes:
    """A field that touches no table, so it is right in any block of any connection: §6.2.2, §6.2.3.

    It is not Huffman-coded: between machines of one mesh, time is dearer than bytes.
    """
    size = len(value)
    return _bare_start(name) + (_OCTETS[size] if size < 0x7F else _write_integer(size, 0x7F, 0)) + value


@lru_cache(NAMES_MAX)
def _bare_start(name: bytes) -> bytes:
    return _start(0x10 if name in NEVER_INDEXED else 0x00, 0x0F, name)


def _write_literal(first: int, prefix: int, name: bytes, value: bytes) -> bytes:
    size = len(value)
    return (
        _start(first, prefix, name)
        + (_OCTETS[size] if size < 0x7F else _write_integer(size, 0x7F, 0))
        + value
    )


@lru_cache(NAMES_MAX)
def _start(first: int, prefix: int, name: bytes) -> bytes:
    """The name, by its index or as a string."""
    if name in _STATIC_NAMES:
        return _write_integer(_STATIC_NAMES[name], prefix, first)
    return bytes((first,)) + _write_integer(len(name), 0x7F, 0) + name


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


_OCTETS = [bytes((size,)) for size in range(0x7F)]
_ENTRIES_MAX = FIRST_DYNAMIC + TABLE_BYTES // ENTRY_OVERHEAD_BYTES  # §4.1: an entry has 32 bytes at least.
_INDEXED = [_write_integer(index, 0x7F, 0x80) for index in range(_ENTRIES_MAX)]
_STATIC_FIELDS = {field: _INDEXED[index] for index, field in enumerate(STATIC_TABLE, 1)}
_STATIC_NAMES = {field[0]: index for index, field in reversed([*enumerate(STATIC_TABLE, 1)])}
