"""h2spec's http2 group, §8, and its hpack group: header fields, right and wrong."""

from __future__ import annotations

from tests.wire import octets as o
from tests.wire.peer import Peer, asking
from tests.wire.specimen import Case, Expectation, fault, reset

FIELDS = asking()
OPEN = o.headers(1, FIELDS)
MALFORMED = reset(o.PROTOCOL_ERROR)  # RFC 9113 §8.1.1
UNREADABLE = fault(o.COMPRESSION_ERROR)  # RFC 9113 §4.3
LONGER, ZEROS, EOS = b"\x84\x49\x50\x9f\xff", b"\x83\x49\x50\x90", b"\x87\xff\xff\xff\xfd\x25\x42\x7f"
NAME = b"\x00\x85\xf2\xb2\x4a\x84\xff"  # x-test, in Huffman code


def malformed(fields: o.Fields) -> tuple[list[bytes], Expectation]:
    return [o.headers(1, fields, o.WHOLE)], MALFORMED


def unreadable(before: bytes = b"", after: bytes = b"") -> tuple[list[bytes], Expectation]:
    return [o.frame(o.HEADERS, o.WHOLE, 1, before + o.block(FIELDS) + after)], UNREADABLE


def lengthy(length: int, *parts: bytes) -> list[bytes]:
    """A call with a content-length, and DATA of these parts."""
    last = len(parts) - 1
    frames = [o.data(1, part, o.END_STREAM if index == last else 0) for index, part in enumerate(parts)]
    return [o.headers(1, asking("ClientStream", ("content-length", str(length)))), *frames]


async def table_too_large(peer: Peer) -> None:
    """A size update beyond what the server's settings allow (RFC 7541 §6.3)."""
    most = dict(peer.seen[0].settings).get(o.HEADER_TABLE_SIZE, 4096)
    block = o.integer(most + 1, 5, 0x20) + o.block(FIELDS)
    await peer.send(o.frame(o.HEADERS, o.WHOLE, 1, block))
    await UNREADABLE(peer)


EXCHANGE = [
    Case(
        "http2/8.1/1",
        "Sends a second HEADERS frame without the END_STREAM flag",
        [OPEN, o.data(1, o.message()), o.headers(1, [("x-test", "ok")])],
        MALFORMED,
    ),
    Case(
        "http2/8.1.2/1",
        "Sends a HEADERS frame that contains the header field name in uppercase letters",
        *malformed([*FIELDS, ("X-TEST", "ok")]),
    ),
    Case(
        "http2/8.1.2.1/1",
        "Sends a HEADERS frame that contains a unknown pseudo-header field",
        *malformed([(":test", "ok"), *FIELDS]),
    ),
    Case(
        "http2/8.1.2.1/2",
        "Sends a HEADERS frame that contains the pseudo-header field defined for response",
        *malformed([(":status", "200"), *FIELDS]),
    ),
    Case(
        "http2/8.1.2.1/3",
        "Sends a HEADERS frame that contains a pseudo-header field as trailers",
        [OPEN, o.data(1, o.message()), o.headers(1, [(":method", "POST")], o.WHOLE)],
        MALFORMED,
    ),
    Case(
        "http2/8.1.2.1/4",
        "Sends a HEADERS frame that contains a pseudo-header field that appears in a header block after a "
        "regular header field",
        *malformed([("x-test", "ok"), *FIELDS]),
    ),
    Case(
        "http2/8.1.2.2/1",
        "Sends a HEADERS frame that contains the connection-specific header field",
        *malformed([*FIELDS, ("connection", "keep-alive")]),
    ),
    Case(
        "http2/8.1.2.2/2",
        'Sends a HEADERS frame that contains the TE header field with any value other than "trailers"',
        *malformed([*FIELDS[:5], ("te", "trailers, deflate")]),
    ),
    Case(
        "http2/8.1.2.3/1",
        'Sends a HEADERS frame with empty ":path" pseudo-header field',
        *malformed(asking(path="")),
    ),
    Case(
        "http2/8.1.2.3/2",
        'Sends a HEADERS frame that omits ":method" pseudo-header field',
        *malformed(asking(method=None)),
    ),
    Case(
        "http2/8.1.2.3/3",
        'Sends a HEADERS frame that omits ":scheme" pseudo-header field',
        *malformed(asking(scheme=None)),
    ),
    Case(
        "http2/8.1.2.3/4",
        'Sends a HEADERS frame that omits ":path" pseudo-header field',
        *malformed(asking(path=None)),
    ),
    Case(
        "http2/8.1.2.3/5",
        'Sends a HEADERS frame with duplicated ":method" pseudo-header field',
        *malformed([(":method", "POST"), *FIELDS]),
    ),
    Case(
        "http2/8.1.2.3/6",
        'Sends a HEADERS frame with duplicated ":scheme" pseudo-header field',
        *malformed([(":scheme", "http"), *FIELDS]),
    ),
    Case(
        "http2/8.1.2.3/7",
        'Sends a HEADERS frame with duplicated ":path" pseudo-header field',
        *malformed([FIELDS[2], *FIELDS]),
    ),
    Case(
        "http2/8.1.2.6/1",
        'Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame '
        "payload length",
        lengthy(1, o.message(b"test")),
        MALFORMED,
    ),
    Case(
        "http2/8.1.2.6/2",
        'Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the '
        "multiple DATA frames payload length",
        lengthy(1, o.message(b"test"), o.message(b"test")),
        MALFORMED,
    ),
    Case(
        "http2/8.2/1",
        "Sends a PUSH_PROMISE frame",
        [OPEN, o.push_promise(1, 3, FIELDS)],
        fault(o.PROTOCOL_ERROR),
    ),
]
HPACK = [
    Case(
        "hpack/2.3.3/1",
        "Sends a indexed header field representation with invalid index",
        *unreadable(after=b"\xfe"),
    ),
    Case(
        "hpack/2.3.3/2",
        "Sends a literal header field representation with invalid index",
        *unreadable(after=b"\x7e" + o.text("test")),
    ),
    Case(
        "hpack/4.2/1",
        "Sends a dynamic table size update at the end of header block",
        *unreadable(after=b"\x21"),
    ),
    Case(
        "hpack/5.2/1",
        "Sends a Huffman-encoded string literal representation with padding longer than 7 bits",
        *unreadable(after=NAME + LONGER),
    ),
    Case(
        "hpack/5.2/2",
        "Sends a Huffman-encoded string literal representation padded by zero",
        *unreadable(after=NAME + ZEROS),
    ),
    Case(
        "hpack/5.2/3",
        "Sends a Huffman-encoded string literal representation containing the EOS symbol",
        *unreadable(after=NAME + EOS),
    ),
    Case(
        "hpack/6.1/1",
        "Sends a indexed header field representation with index 0",
        *unreadable(after=b"\x80"),
    ),
    Case(
        "hpack/6.3/1",
        "Sends a dynamic table size update larger than the value of SETTINGS_HEADER_TABLE_SIZE",
        [],
        table_too_large,
    ),
]
CASES = [*EXCHANGE, *HPACK]
