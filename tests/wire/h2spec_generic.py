"""h2spec's generic group: what any server must accept."""

from __future__ import annotations

from tests.wire import octets as o
from tests.wire.peer import asking, hanging, request
from tests.wire.specimen import Case, answered, ended, first_data, let_be, pong, served

FIELDS = asking()
HALF = o.headers(1, FIELDS)  # A request without its message.
EMPTY = o.headers(1, FIELDS, o.WHOLE)  # A request that has none.
HALVES = o.message(b"hello")[:7], o.message(b"hello")[7:]
CALL = request()
AGENT_HUFFMAN, AGENT = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93", o.text("user-agent")
TEST_HUFFMAN, TEST = b"\x85\xf2\xb2\x4a\x84\xff", o.text("x-test")
VALUE_HUFFMAN, VALUE = b"\x84\x9c\x48\xac\xa4", o.text("h2spec")
REPRESENTATIONS = {  # RFC 7541 §6: what stands at the end of a block.
    "indexed header field representation": b"\xba",
    "literal header field with incremental indexing - indexed name": b"\x7a" + VALUE_HUFFMAN,
    "literal header field with incremental indexing - indexed name (with Huffman coding)": b"\x7a" + VALUE,
    "literal header field with incremental indexing - new name": b"\x40" + TEST + VALUE,
    "literal header field with incremental indexing - new name (with Huffman coding)": b"\x40"
    + TEST_HUFFMAN
    + VALUE_HUFFMAN,
    "literal header field without indexing - indexed name": b"\x0f\x2b" + VALUE,
    "literal header field without indexing - indexed name (with Huffman coding)": b"\x0f\x2b" + VALUE_HUFFMAN,
    "literal header field without indexing - new name": b"\x00" + TEST + VALUE,
    "literal header field without indexing - new name (huffman encoded)": b"\x00"
    + TEST_HUFFMAN
    + VALUE_HUFFMAN,
    "literal header field never indexed - indexed name": b"\x1f\x2b" + VALUE,
    "literal header field never indexed - indexed name (huffman encoded)": b"\x1f\x2b" + VALUE_HUFFMAN,
    "literal header field never indexed - new name": b"\x10" + TEST + VALUE,
    "literal header field never indexed - new name (huffman encoded)": b"\x10" + TEST_HUFFMAN + VALUE_HUFFMAN,
}


def ending(block: bytes) -> bytes:
    """A call whose header block is this one."""
    return o.frame(o.HEADERS, o.END_HEADERS, 1, block) + o.data(1, o.message(b"hello"), o.END_STREAM)


def prioritised(exclusive: bool = False, weight: int = 255) -> bytes:
    payload = o.priority_of(0, weight, exclusive) + o.block(FIELDS)
    return o.frame(o.HEADERS, o.END_HEADERS | o.PRIORITISED, 1, payload) + o.data(
        1, o.message(), o.END_STREAM
    )


# An entry for the dynamic table, so that index 62 (0xba, 0x7a) names one: user-agent, empty.
ENTRY = b"\x40" + AGENT + o.text("")

STARTING = [
    Case("generic/1/1", "Sends a client connection preface", [], pong),
    Case("generic/2/1", "Sends a PRIORITY frame on idle stream", [o.priority(1)], pong),
    Case(
        "generic/2/2",
        "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
        [o.settings((o.INITIAL_WINDOW_SIZE, 0)), CALL, o.window_update(1, 1)],
        first_data,
    ),
    Case(
        "generic/2/3",
        "Sends a PRIORITY frame on half-closed (remote) stream",
        [o.settings((o.INITIAL_WINDOW_SIZE, 0)), CALL, o.priority(1), o.window_update(1, 1)],
        first_data,
    ),
    Case(
        "generic/2/4",
        "Sends a RST_STREAM frame on half-closed (remote) stream",
        [hanging(), o.rst_stream(1)],
        pong,
    ),
    Case("generic/2/5", "Sends a PRIORITY frame on closed stream", [CALL, ended, o.priority(1)], pong),
]
FRAMES = [
    Case("generic/3.1/1", "Sends a DATA frame", [CALL], served),
    Case(
        "generic/3.1/2",
        "Sends multiple DATA frames",
        [HALF, o.data(1, HALVES[0]), o.data(1, HALVES[1], o.END_STREAM)],
        served,
    ),
    Case(
        "generic/3.1/3",
        "Sends a DATA frame with padding",
        [HALF, o.data(1, o.padded(o.message(b"hello"), 6), o.PADDED | o.END_STREAM)],
        served,
    ),
    Case("generic/3.2/1", "Sends a HEADERS frame", [EMPTY], answered),
    Case(
        "generic/3.2/2",
        "Sends a HEADERS frame with padding",
        [
            o.frame(o.HEADERS, o.END_HEADERS | o.PADDED, 1, o.padded(o.block(FIELDS), 8)),
            o.data(1, o.message(), o.END_STREAM),
        ],
        served,
    ),
    Case("generic/3.2/3", "Sends a HEADERS frame with priority", [prioritised()], served),
    Case("generic/3.3/1", "Sends a PRIORITY frame with priority 1", [o.priority(1, weight=0), CALL], served),
    Case("generic/3.3/2", "Sends a PRIORITY frame with priority 256", [o.priority(1), CALL], served),
    Case("generic/3.3/3", "Sends a PRIORITY frame with stream dependency", [o.priority(3, 1), CALL], served),
    Case(
        "generic/3.3/4",
        "Sends a PRIORITY frame with exclusive",
        [o.priority(1, exclusive=True), CALL],
        served,
    ),
    Case(
        "generic/3.3/5",
        "Sends a PRIORITY frame for an idle stream, then send a HEADER frame for a lower stream ID",
        [o.priority(3), CALL],
        served,
    ),
    Case("generic/3.4/1", "Sends a RST_STREAM frame", [HALF, o.rst_stream(1)], pong),
    Case(
        "generic/3.5/1",
        "Sends a SETTINGS frame",
        [
            o.settings((o.HEADER_TABLE_SIZE, 4096), (o.MAX_CONCURRENT_STREAMS, 100)),
            o.settings((o.INITIAL_WINDOW_SIZE, o.WINDOW_BYTES), (o.MAX_FRAME_SIZE, o.FRAME_BYTES)),
        ],
        pong,
    ),
    Case("generic/3.7/1", "Sends a PING frame", [o.ping()], pong),
    Case("generic/3.8/1", "Sends a GOAWAY frame", [o.goaway()], let_be),
    Case("generic/3.9/1", "Sends a WINDOW_UPDATE frame with stream ID 0", [o.window_update(0, 1)], pong),
    Case(
        "generic/3.9/2", "Sends a WINDOW_UPDATE frame with stream ID 1", [HALF, o.window_update(1, 1)], pong
    ),
    Case(
        "generic/3.10/1",
        "Sends a CONTINUATION frame",
        [
            o.headers(1, FIELDS, 0),
            o.continuation(1, [("x-test", "ok")]),
            o.data(1, o.message(), o.END_STREAM),
        ],
        served,
    ),
    Case(
        "generic/3.10/2",
        "Sends multiple CONTINUATION frames",
        [
            o.headers(1, FIELDS[:3], 0),
            o.continuation(1, FIELDS[3:], 0),
            o.continuation(1, [("x-test", "ok")]),
            o.data(1, o.message(), o.END_STREAM),
        ],
        served,
    ),
]
MESSAGES = [
    Case("generic/4/1", "Sends a GET request", [o.headers(1, asking(method="GET"), o.WHOLE)], answered),
    Case("generic/4/2", "Sends a HEAD request", [o.headers(1, asking(method="HEAD"), o.WHOLE)], answered),
    Case("generic/4/3", "Sends a POST request", [CALL], served),
    Case(
        "generic/4/4",
        "Sends a POST request with trailers",
        [HALF, o.data(1, o.message()), o.headers(1, [("x-test", "ok")], o.WHOLE)],
        served,
    ),
]
HPACK = [
    Case(f"generic/5/{number}", f"Sends a {name}", [ending(o.block(FIELDS) + ENTRY + octets)], served)
    for number, (name, octets) in enumerate(REPRESENTATIONS.items(), 1)
] + [
    Case("generic/5/14", "Sends a dynamic table size update", [ending(b"\x20" + o.block(FIELDS))], served),
    Case(
        "generic/5/15",
        "Sends multiple dynamic table size update",
        [ending(b"\x20\x3f\xe1\x1f" + o.block(FIELDS))],
        served,
    ),
]
CASES = [*STARTING, *FRAMES, *MESSAGES, *HPACK]
