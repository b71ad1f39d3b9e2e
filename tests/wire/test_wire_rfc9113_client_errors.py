"""RFC 9113 as a client must hold it: its answers to a server that breaks the rules, as h2spec has them."""

from __future__ import annotations

import pytest

from tests.wire import octets as o
from tests.wire.callers import begin, calling, ended, outcome
from tests.wire.peer import Closed
from tests.wire.scripted import HEAD, OK, Accepted, scripted

CANCELLED, UNKNOWN, INTERNAL, UNAVAILABLE = 1, 2, 13, 14
FAILED = {UNKNOWN, INTERNAL, UNAVAILABLE}
ENGINE = "wire"
BEGUN, END = o.headers(1, HEAD), o.headers(1, OK, o.WHOLE)
MESSAGE = o.data(1, o.message(b"hello"))
WINDOW_MAX = 2**31 - 1  # RFC 9113 §6.9.1
OPEN_BLOCK = o.headers(1, HEAD, 0)
P, F, S, C = o.PROTOCOL_ERROR, o.FLOW_CONTROL_ERROR, o.FRAME_SIZE_ERROR, o.COMPRESSION_ERROR

# §5.4.1: GOAWAY with this code, and the connection is closed.
CONNECTION_ERRORS = {
    "4.2 DATA beyond the largest size": (BEGUN + o.frame(o.DATA, 0, 1, length=2**20), S),
    "4.2 HEADERS beyond the largest size": (o.frame(o.HEADERS, 4, 1, length=2**20), S),
    "4.2 SETTINGS beyond the largest size": (o.frame(o.SETTINGS, 0, 0, length=2**24 - 6), S),
    "4.3 a block that cannot be read": (o.frame(o.HEADERS, 4, 1, b"\x40"), C),
    "4.3 an index past the tables": (o.frame(o.HEADERS, 4, 1, b"\x88\xff\xff\x7f"), C),
    "4.3 a size update above the limit": (o.frame(o.HEADERS, 4, 1, b"\x3f\xff\xff\x7f\x88"), C),
    "4.3 another frame in a block": (OPEN_BLOCK + o.ping(), P),
    "4.3 another stream in a block": (OPEN_BLOCK + o.continuation(3, OK), P),
    "5.1 DATA on an idle stream": (o.data(3, b"x"), P),
    "5.1 HEADERS on an idle stream": (o.headers(3, HEAD), P),
    "5.1 RST_STREAM on an idle stream": (o.rst_stream(3), P),
    "5.1 WINDOW_UPDATE on an idle stream": (o.window_update(3, 1), P),
    "5.1.1 HEADERS on a stream of the server's": (o.headers(2, HEAD), P),
    "5.1.1 DATA on a stream of the server's": (o.data(2, b"x"), P),
    "5.5 an extension frame in a block": (OPEN_BLOCK + o.frame(0x16, 0, 0, bytes(8)), P),
    "6.1 DATA on stream 0": (o.data(0, b"x"), P),
    "6.1 padding longer than DATA": (BEGUN + o.data(1, b"\x06Test", o.PADDED), P),
    "6.2 HEADERS on stream 0": (o.headers(0, HEAD), P),
    "6.2 padding longer than HEADERS": (o.frame(o.HEADERS, 0x0C, 1, b"\xff\x88"), P),
    "6.3 PRIORITY on stream 0": (o.priority(0), P),
    "6.4 RST_STREAM on stream 0": (o.rst_stream(0), P),
    "6.4 RST_STREAM of 3 octets": (o.frame(o.RST_STREAM, 0, 1, bytes(3)), S),
    "6.5 SETTINGS on a stream": (o.frame(o.SETTINGS, 0, 1), P),
    "6.5 SETTINGS of 5 octets": (o.frame(o.SETTINGS, 0, 0, bytes(5)), S),
    "6.5 an acknowledgement with a payload": (o.frame(o.SETTINGS, o.ACK, 0, bytes(6)), S),
    "6.5.2 ENABLE_PUSH of a server": (o.settings((o.ENABLE_PUSH, 1)), P),
    "6.5.2 ENABLE_PUSH of 2": (o.settings((o.ENABLE_PUSH, 2)), P),
    "6.5.2 INITIAL_WINDOW_SIZE too large": (o.settings((o.INITIAL_WINDOW_SIZE, 2**31)), F),
    "6.5.2 MAX_FRAME_SIZE too small": (o.settings((o.MAX_FRAME_SIZE, 16_383)), P),
    "6.5.2 MAX_FRAME_SIZE too large": (o.settings((o.MAX_FRAME_SIZE, 2**24)), P),
    "6.6, 8.4 PUSH_PROMISE": (BEGUN + o.push_promise(1, 2, HEAD), P),
    "6.7 PING on a stream": (o.frame(o.PING, 0, 1, bytes(8)), P),
    "6.7 PING of 7 octets": (o.frame(o.PING, 0, 0, bytes(7)), S),
    "6.8 GOAWAY on a stream": (o.frame(o.GOAWAY, 0, 1, bytes(8)), P),
    "6.8 GOAWAY of 4 octets": (o.frame(o.GOAWAY, 0, 0, bytes(4)), S),
    "6.9 an update of nothing": (o.window_update(0, 0), P),
    "6.9 an update of 3 octets": (o.frame(o.WINDOW_UPDATE, 0, 0, bytes(3)), S),
    "6.9.1 too large a window": (o.window_update(0, WINDOW_MAX) * 2, F),
    "6.10 CONTINUATION without HEADERS": (o.continuation(1, HEAD), P),
    "6.10 CONTINUATION after a block's end": (BEGUN + o.continuation(1, OK), P),
    "6.10 CONTINUATION on stream 0": (OPEN_BLOCK + o.continuation(0, OK), P),
    "6.10 DATA in a block": (OPEN_BLOCK + o.data(1), P),
}


@pytest.mark.parametrize(("octets", "code"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
async def test_the_client_ends_a_connection_that_breaks_the_rules(octets: bytes, code: int) -> None:
    """The call in flight fails, and the next is made on a new connection."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(octets)
        assert await peer.fault() == code

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        assert (await outcome(channel)).code in FAILED
        assert (await outcome(channel)).messages == [b"hello"]


PREFACES = {
    "a PING": o.ping(),
    "HEADERS": BEGUN,
    "SETTINGS of 5 octets": o.frame(o.SETTINGS, 0, 0, bytes(5)),
    "an acknowledgement": o.settings(flags=o.ACK),
    "HTTP/1.1": b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46" + bytes(20),
}


@pytest.mark.parametrize("preface", PREFACES.values(), ids=PREFACES)
async def test_a_server_that_does_not_begin_with_settings_is_left(preface: bytes) -> None:
    """§3.4. The call finds nobody."""

    async def script(peer: Accepted) -> None:
        await peer.greet(preface=preface)
        try:
            while (await peer.frame()).kind != o.GOAWAY:
                pass
        except Closed:
            return

    async with scripted(script, script, script) as server, calling(ENGINE, server.port) as channel:
        assert (await outcome(channel, timeout=2)).code in {UNAVAILABLE, 4}


# §5.4.2: RST_STREAM with this code, and the connection lives on.
STREAM_ERRORS = {
    "6.3 PRIORITY of 4 octets": (o.frame(o.PRIORITY, 0, 1, bytes(4)), S),
    "6.9 an update of nothing on a stream": (o.window_update(1, 0), P),
    "6.9.1 too large a window of a stream": (o.window_update(1, WINDOW_MAX) * 2, F),
    "8.1 DATA before HEADERS": (MESSAGE, P),
    "8.1 trailers that do not end": (BEGUN + MESSAGE + o.headers(1, OK), P),
    "8.1 DATA between trailers": (BEGUN + o.headers(1, [("x", "y")]) + MESSAGE, P),
    "8.1 an informational answer that ends": (o.headers(1, [(":status", "103")], o.WHOLE), P),
    "8.1.1 content-length that is exceeded": (
        o.headers(1, [*HEAD, ("content-length", "3")]) + MESSAGE + END,
        P,
    ),
    "8.2.1 a name in capitals": (o.headers(1, [*HEAD, ("Upper", "x")]), P),
    "8.2.1 a name with a space": (o.headers(1, [*HEAD, ("a b", "x")]), P),
    "8.2.1 an empty name": (o.headers(1, [*HEAD, ("", "x")]), P),
    "8.2.1 a value with a line break": (o.headers(1, [*HEAD, ("x", "a\r\nb: c")]), P),
    "8.2.1 a value with NUL": (o.headers(1, [*HEAD, ("x", "a\0b")]), P),
    "8.2.2 connection": (o.headers(1, [*HEAD, ("connection", "close")]), P),
    "8.2.2 transfer-encoding": (o.headers(1, [*HEAD, ("transfer-encoding", "chunked")]), P),
    "8.2.2 connection in trailers": (BEGUN + o.headers(1, [*OK, ("connection", "close")], o.WHOLE), P),
    "8.3 a pseudo-header of requests": (o.headers(1, [*HEAD[:1], (":path", "/"), *HEAD[1:]]), P),
    "8.3 an unknown pseudo-header": (o.headers(1, [(":odd", "x"), *HEAD]), P),
    "8.3 a pseudo-header after a field": (o.headers(1, [*HEAD[::-1]]), P),
    "8.3 a pseudo-header in trailers": (BEGUN + o.headers(1, [(":status", "200"), *OK], o.WHOLE), P),
    "8.3.2 no status": (o.headers(1, HEAD[1:]), P),
    "8.3.2 two statuses": (o.headers(1, [HEAD[0], *HEAD]), P),
    "8.3.2 a status that is no number": (o.headers(1, [(":status", "ok"), *HEAD[1:]]), P),
    "8.3.2 a status of two digits": (o.headers(1, [(":status", "20"), *HEAD[1:]]), P),
}


@pytest.mark.parametrize(("octets", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
async def test_the_client_resets_a_stream_that_breaks_the_rules(octets: bytes, code: int) -> None:
    """The call fails, and the next is made on the same connection."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(octets)
        assert await peer.reset(1) == code
        await peer.echo()

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        assert (await outcome(channel)).code in FAILED
        assert (await outcome(channel)).messages == [b"hello"]
        assert len(server.connections) == 1


async def test_the_client_holds_the_server_to_its_windows() -> None:
    """§6.9.1: more than was allowed is a FLOW_CONTROL_ERROR, of the stream or of the connection."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(BEGUN)
        initial = dict(peer.seen[0].settings).get(o.INITIAL_WINDOW_SIZE, o.WINDOW_BYTES)
        sent, given = 0, 0
        while sent < initial + given:
            await peer.send(o.data(1, o.message(bytes(1019)) * 16))
            sent += o.FRAME_BYTES
            if sent + o.FRAME_BYTES > initial + given:
                await peer.pong()
                given = sum(f.number for f in peer.seen if f.kind == o.WINDOW_UPDATE and f.stream == 1)
            assert sent < 64 << 20, "the client takes all that comes, though nobody reads it"
        await peer.send(o.data(1, b"x"))
        found = await peer.until(lambda f: f.kind in (o.GOAWAY, o.RST_STREAM))
        assert found.code == o.FLOW_CONTROL_ERROR

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        call = begin(channel, "ServerStream", [b"hello"])
        await server.done.wait()
        call.cancel()
        await ended(call, "ServerStream")
