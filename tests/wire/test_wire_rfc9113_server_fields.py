"""RFC 9113 §4.3 and §8, RFC 7541, past h2spec: header fields that are malformed, and those that are not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.wire import octets as o
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Peer, asking, request
from tests.wire.specimen import answered, fault, pong, reset

FIELDS = asking()
END = o.data(1, o.message(b"hello"), o.END_STREAM)
MESSAGE = o.message(b"hello")


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire") as host:
        yield host


async def served(peer: Peer, stream: int = 1) -> None:
    response = await peer.response(stream)
    assert (response.status, response.messages) == (0, [b"hello"])


BAD_NAMES = [b"", b"X-Upper", b"x y", b"x\0y", b"x\ny", b"x\x7fy", b"x\x80y", b"x:y", b"x\ty", b"\xff"]
BAD_VALUES = [b"a\0b", b"a\rb", b"a\nb", b"\0", b"\r\nx: y"]
MALFORMED = {
    **{f"name {name!r}": [*FIELDS, (name, b"v")] for name in BAD_NAMES},
    **{f"value {value!r}": [*FIELDS, (b"x-test", value)] for value in BAD_VALUES},
    **{
        f"connection-specific {name}": [*FIELDS, (name, value)]
        for name, value in {
            "connection": "close",
            "proxy-connection": "keep-alive",
            "keep-alive": "timeout=5",
            "transfer-encoding": "chunked",
            "upgrade": "h2c",
            "te": "gzip",
        }.items()
    },
    "authority twice": [(":authority", "other"), *FIELDS],
    "path with a line break": asking(path="/a\r\nb"),
    "empty scheme": asking(scheme=""),
    "pseudo-header in capitals": [(":Path", "/"), *FIELDS],
    "path last": [*asking(path=None), (":path", "/weft.wire.Echo/Unary")],
    "content-length that is no number": [*FIELDS, ("content-length", "ten")],
    "content-length that is negative": [*FIELDS, ("content-length", "-10")],
    "content-length that is too long": [*FIELDS, ("content-length", "11")],
    "content-length twice": [*FIELDS, ("content-length", "10"), ("content-length", "11")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_is_a_stream_error(host: Host, fields: list[tuple[str, str]]) -> None:
    """§8.1.1, §8.2.1, §8.2.2, §8.3.1, §8.5."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, fields), END)
        await reset(o.PROTOCOL_ERROR)(peer)
        await peer.send(request(3))
        await served(peer, 3)


REFUSED = {
    "path not from the root": asking(path="weft.wire.Echo/Unary"),
    "path of an asterisk": asking(path="*"),
    "method with a space": asking(method="PO ST"),
    "empty method": asking(method=""),
    "CONNECT with a path": asking(method="CONNECT"),
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
async def test_what_no_method_and_no_path_can_be_is_not_served(
    host: Host, fields: list[tuple[str, str]]
) -> None:
    """§8.3.1: malformed, or an error as for anything else that is not there."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, fields), END)
        response = await peer.response()
        assert (
            response.reset == o.PROTOCOL_ERROR
            or response.headers[":status"] == "405"
            or response.status == 12
        )
        await peer.send(request(3))
        await served(peer, 3)


@pytest.mark.parametrize("value", [b" a", b"a ", b"\ta", b"a\t"])
async def test_blanks_around_a_value_cost_the_call_at_most(host: Host, value: bytes) -> None:
    """§8.2.1 forbids them; gRPC lets them be stripped, and grpcio's clients send them."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, [*FIELDS, (b"x-test", value)]), END)
        response = await peer.response()
        assert response.reset == o.PROTOCOL_ERROR or response.status == 0
        await pong(peer)


WELL_FORMED = {
    "empty value": [*FIELDS, ("x-empty", "")],
    "bytes past ASCII in a value": [*FIELDS, (b"x-latin", b"\xe4\xff\x80")],
    "space and tab inside a value": [*FIELDS, ("x-inside", "a \t b")],
    "cookie in crumbs": [*FIELDS, ("cookie", "a=1"), ("cookie", "b=2")],
    "no te": FIELDS[:-1],
    "no authority, but host": [*asking(authority=None), ("host", "test")],
    "content-length that is right": [*FIELDS, ("content-length", "10")],
    "https by a proxy": asking(scheme="https"),
    "every character of a token": [*FIELDS, ("!#$%&'*+-.^_`|~09az", "v")],
}


@pytest.mark.parametrize("fields", WELL_FORMED.values(), ids=WELL_FORMED)
async def test_a_well_formed_request_is_served(host: Host, fields: list[tuple[str, str]]) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, fields), END)
        await served(peer)


BAD_TRAILERS = [
    [(":status", "200")],
    [(":path", "/")],
    [("X", "upper")],
    [("connection", "close")],
    [("x", "a\nb")],
]


@pytest.mark.parametrize("trailers", BAD_TRAILERS)
async def test_malformed_trailers_of_a_request_are_a_stream_error(
    host: Host, trailers: list[tuple[str, str]]
) -> None:
    """§8.1: trailers have the rules of headers, and no pseudo-headers."""
    async with await Peer.greeted(host.port) as peer:
        opening = o.headers(1, asking("ClientStream")) + o.data(1, MESSAGE)
        await peer.send(opening, o.headers(1, trailers, o.WHOLE))
        await reset(o.PROTOCOL_ERROR)(peer)


async def test_a_plain_connect_is_answered_and_harms_nothing(host: Host) -> None:
    """§8.5: a server that is no proxy may refuse it in its own way."""
    async with await Peer.greeted(host.port) as peer:
        fields = [(":method", "CONNECT"), (":authority", "elsewhere:443")]
        await peer.send(o.headers(1, fields, o.WHOLE))
        response = await peer.response()
        assert response.reset is not None or response.headers[":status"] != "200" or response.status != 0
        await pong(peer)


BROKEN_BLOCKS = {
    "an integer without end": b"\x7f" + b"\xff" * 12 + b"\x01",
    "an integer beyond 2^32": b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    "an integer cut short": b"\xff\x80",
    "a string longer than the block": b"\x00\x7f\x80\x01abc",
    "a string cut short": b"\x00\x05abc",
    "a name without a value": b"\x00\x01a",
    "an entry past the table": b"\xbe",
    "an entry far past the table": b"\xff\xff\x7f",
    "a name past the table": b"\x7e\x01a",
    "a size update in the middle": o.block(FIELDS) + b"\x20" + o.block([("x", "y")]),
    "a size update above the limit": b"\x3f\xe1\xff\x7f" + o.block(FIELDS),
    "Huffman code that is only padding": b"\x00\x81\xff\x01a",
    "Huffman code of 31 ones": b"\x00\x84\xff\xff\xff\xff\x01a",
}


@pytest.mark.parametrize("block", BROKEN_BLOCKS.values(), ids=BROKEN_BLOCKS)
async def test_a_block_that_cannot_be_read_is_a_compression_error(host: Host, block: bytes) -> None:
    """§4.3; RFC 7541 §2.3.3, §4.2, §5.1, §5.2, §6.3."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.frame(o.HEADERS, o.WHOLE, 1, block))
        assert await peer.fault() == o.COMPRESSION_ERROR


KEEPS = {  # What happens to the stream whose block puts an entry into the table.
    "served": ([], END),
    "reset": ([], o.rst_stream(1)),
    "malformed": ([("Upper", "x")], b""),
    "of an unknown method": ([], END),
    "after its trailers": ([], END),
}


@pytest.mark.parametrize("fate", KEEPS)
async def test_the_header_table_outlives_the_stream_that_filled_it(host: Host, fate: str) -> None:
    """§4.3: blocks are decoded whatever becomes of their stream, or the table falls out of step."""
    extra, after = KEEPS[fate]
    fields = asking(path="/no.Such/Method") if "unknown" in fate else FIELDS
    block = o.block([*fields, *extra]) + o.literal("x-echo", "kept", 0x40)
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 1, block), after)
        await peer.pong()
        second = o.block(FIELDS) + b"\xbe"
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 3, second), o.data(3, MESSAGE, o.END_STREAM))
        assert (await peer.response(3)).headers["x-echo"] == "kept"


async def test_entries_leave_the_table_when_it_is_full_or_made_smaller(host: Host) -> None:
    """RFC 7541 §4.3, §4.4."""
    entry = o.literal("x-echo", "v" * 1000, 0x40)
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 1, o.block(FIELDS) + entry * 5), END)
        await answered(peer)
        last = o.integer(61 + 3, 7, 0x80)  # 3 of 5 fit into 4,096 bytes.
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 3, o.block(FIELDS) + last))
        await peer.send(o.data(3, MESSAGE, o.END_STREAM))
        assert (await peer.response(3)).headers["x-echo"] == "v" * 1000
        await peer.send(o.frame(o.HEADERS, o.WHOLE, 5, b"\x3f\xe1\x07" + o.block(FIELDS) + b"\xbf"))
        await fault(o.COMPRESSION_ERROR)(peer)


async def test_an_entry_larger_than_the_table_empties_it(host: Host) -> None:
    """RFC 7541 §4.4."""
    async with await Peer.greeted(host.port) as peer:
        small, large = o.literal("x-echo", "v", 0x40), o.literal("x-large", "v" * 5000, 0x40)
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 1, o.block(FIELDS) + small + large), END)
        await served(peer)
        await peer.send(o.frame(o.HEADERS, o.WHOLE, 3, o.block(FIELDS) + b"\xbe"))
        await fault(o.COMPRESSION_ERROR)(peer)


async def test_the_servers_own_blocks_follow_the_clients_table_size(host: Host) -> None:
    """RFC 7541 §4.2: a smaller table is announced by a size update; hpack's decoder insists on it."""
    for size in (0, 1, 100, 4096, 1 << 20):
        async with await Peer.greeted(host.port, (o.HEADER_TABLE_SIZE, size)) as peer:
            peer.decoder.max_allowed_table_size = size
            for stream in range(1, 9, 2):
                await peer.send(request(stream, b"hello", "Unary", ("x-echo", "again")))
                await served(peer, stream)
            await peer.send(o.settings((o.HEADER_TABLE_SIZE, 0)))
            await peer.until(lambda f: f.kind == o.SETTINGS and f.flags == o.ACK)
            peer.decoder.max_allowed_table_size = 0
            await peer.send(request(11, b"hello", "Unary", ("x-echo", "again")))
            await served(peer, 11)
