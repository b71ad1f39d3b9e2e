"""gRPC over HTTP/2 (PROTOCOL-HTTP2.md), the client's half: each rule that a client can break."""

from __future__ import annotations

import asyncio
import base64
import gzip
from contextlib import suppress

import grpc
import pytest

from tests.wire import octets as o
from tests.wire.callers import Outcome, begin, calling, ended, outcome
from tests.wire.scripted import HEAD, OK, Accepted, Asked, scripted

ENGINE = "wire"
CANCELLED, UNKNOWN, DEADLINE, DENIED, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = (
    1,
    2,
    4,
    7,
    8,
    12,
    13,
    14,
)
MESSAGE = o.data(1, o.message(b"hello"))
BEGUN, END = o.headers(1, HEAD), o.headers(1, OK, o.WHOLE)


async def answered_by(*octets: bytes, rpc: str = "Unary", **options: object) -> Outcome:
    """The outcome of a call on stream 1 that is answered with these bytes."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call(whole=rpc not in ("ClientStream", "Bidi"))
        await peer.send(*octets)
        await peer.echo()

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        return await outcome(channel, rpc, b"hello", **options)


RESETS = {
    o.NO_ERROR: INTERNAL,
    o.PROTOCOL_ERROR: INTERNAL,
    o.INTERNAL_ERROR: INTERNAL,
    o.FLOW_CONTROL_ERROR: INTERNAL,
    o.SETTINGS_TIMEOUT: INTERNAL,
    o.FRAME_SIZE_ERROR: INTERNAL,
    o.CANCEL: CANCELLED,
    o.COMPRESSION_ERROR: INTERNAL,
    o.CONNECT_ERROR: INTERNAL,
    o.ENHANCE_YOUR_CALM: EXHAUSTED,
    o.INADEQUATE_SECURITY: DENIED,
    0xFFFF: INTERNAL,
}


@pytest.mark.parametrize("begun", [b"", BEGUN, BEGUN + MESSAGE], ids=["at once", "in headers", "in messages"])
@pytest.mark.parametrize("code", RESETS)
async def test_a_reset_is_the_status_that_the_document_says(code: int, begun: bytes) -> None:
    """The table of HTTP2 codes; RFC 9113 §7: an unknown one is as INTERNAL_ERROR."""
    found = await answered_by(begun, o.rst_stream(1, code))
    assert found.code == RESETS[code] or (code == 0xFFFF and found.code == UNKNOWN)


async def test_a_refused_stream_is_made_again_and_at_last_unavailable() -> None:
    """REFUSED_STREAM: no processing occurred, so it can be retried; gRFC A6 does so once on its own."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        first = await peer.call()
        await peer.send(o.rst_stream(first.stream, o.REFUSED_STREAM))
        again = await peer.call()
        await peer.answer(again, b"second")
        while True:
            await peer.send(o.rst_stream((await peer.call()).stream, o.REFUSED_STREAM))

    async with scripted(script) as server:
        async with calling(ENGINE, server.port) as channel:
            assert (await outcome(channel)).messages == [b"second"]
            assert (await outcome(channel)).code == UNAVAILABLE
        server.failures.clear()  # The script never ends by itself.


async def test_what_a_goaway_leaves_out_is_made_again_elsewhere_and_the_rest_goes_on() -> None:
    """GOAWAY: streams after the last are unprocessed; those before it may complete."""
    release = asyncio.Event()

    async def script(peer: Accepted) -> None:
        await peer.greet()
        first, second = await peer.call(), await peer.call()
        await peer.send(o.goaway(first.stream))
        await release.wait()
        await peer.answer(first, b"in time")
        assert second.stream > first.stream

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        calls = [asyncio.create_task(outcome(channel, "Unary", text)) for text in (b"one", b"two")]
        assert (await calls[1]).messages == [b"two"]
        assert (await outcome(channel, "Unary", b"three")).messages == [b"three"]
        release.set()
        assert (await calls[0]).messages == [b"in time"]
        assert len(server.connections) == 2


async def test_a_connection_that_is_lost_is_unavailable() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(BEGUN)
        peer.close()

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        assert (await outcome(channel)).code == UNAVAILABLE
        assert (await outcome(channel)).messages == [b"hello"]


HTTP = {400: INTERNAL, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14, 500: 2, 302: 2, 418: 2}


@pytest.mark.parametrize("status", HTTP)
@pytest.mark.parametrize("ends", [True, False], ids=["without a body", "with a page"])
async def test_an_http_status_is_made_a_grpc_status(status: int, ends: bool) -> None:
    """http-grpc-status-mapping.md: for servers and proxies that know no gRPC."""
    fields = [(":status", str(status)), ("content-type", "text/html")]
    page = o.data(1, b"<h1>no</h1>", o.END_STREAM)
    found = await answered_by(o.headers(1, fields, o.WHOLE) if ends else o.headers(1, fields) + page)
    assert found.code == HTTP[status]


async def test_a_grpc_status_wins_over_an_http_status() -> None:
    fields = [
        (":status", "503"),
        ("content-type", "application/grpc"),
        ("grpc-status", "5"),
        ("grpc-message", "x"),
    ]
    found = await answered_by(o.headers(1, fields, o.WHOLE))
    assert (found.code, found.details) in ((5, "x"), (UNAVAILABLE, found.details))


SYNTHESIZED = {
    "no status": (BEGUN + MESSAGE + o.headers(1, [("x", "y")], o.WHOLE), {UNKNOWN, INTERNAL}),
    "DATA that ends": (BEGUN + o.data(1, o.message(b"hello"), o.END_STREAM), {UNKNOWN, INTERNAL}),
    "HEADERS that end": (o.headers(1, HEAD, o.WHOLE), {UNKNOWN, INTERNAL}),
    "a status that is no number": (
        BEGUN + o.headers(1, [("grpc-status", "x")], o.WHOLE),
        {UNKNOWN, INTERNAL},
    ),
    "a status past the known": (BEGUN + o.headers(1, [("grpc-status", "99")], o.WHOLE), {UNKNOWN}),
    "a negative status": (BEGUN + o.headers(1, [("grpc-status", "-1")], o.WHOLE), {UNKNOWN, INTERNAL}),
    "OK without a message": (BEGUN + END, {UNIMPLEMENTED, INTERNAL, UNKNOWN}),
    "two messages": (BEGUN + MESSAGE * 2 + END, {UNIMPLEMENTED, INTERNAL, UNKNOWN}),
    "half a message": (BEGUN + o.data(1, o.message(b"hello")[:7]) + END, {INTERNAL, UNKNOWN, EXHAUSTED}),
    "a flag of two": (BEGUN + o.data(1, o.message(b"hello", 2)) + END, {INTERNAL}),
    "compressed without an encoding": (BEGUN + o.data(1, o.message(b"hello", 1)) + END, {INTERNAL}),
    "an unknown encoding": (
        o.headers(1, [*HEAD, ("grpc-encoding", "snappy")]) + o.data(1, o.message(b"x", 1)) + END,
        {INTERNAL, UNIMPLEMENTED},
    ),
    "no gzip": (
        o.headers(1, [*HEAD, ("grpc-encoding", "gzip")]) + o.data(1, o.message(b"x", 1)) + END,
        {INTERNAL, UNKNOWN},
    ),
    "a message too large": (BEGUN + o.data(1, b"\0\xff\xff\xff\xff"), {EXHAUSTED}),
    "another content-type": (o.headers(1, [HEAD[0], ("content-type", "text/html")]) + END, {UNKNOWN}),
}


@pytest.mark.parametrize("broken", SYNTHESIZED)
async def test_a_broken_answer_gets_a_status_from_the_client(broken: str) -> None:
    """ "Implementations must synthesize a Status and Status-Message"."""
    octets, codes = SYNTHESIZED[broken]
    found = await answered_by(octets)
    assert found.code in codes
    assert found.details or broken.startswith(("a status", "a negative"))  # Theirs is kept, and is empty.


MESSAGES = {
    "50%25 of": "50 % of".replace(" %", "%"),
    "%47r%C3%BC%C3%9Fe": "Grüße",
    "100%": "100%",
    "%zz%4": "%zz%4",
    "a b": "a b",
    "%e4%b8%96": "世",
    "": "",
}


@pytest.mark.parametrize("raw", MESSAGES, ids=lambda raw: raw or "empty")
async def test_a_status_message_is_decoded_and_a_broken_one_kept(raw: str) -> None:
    """ "When decoding invalid values, implementations MUST NOT error or throw away the message"."""
    found = await answered_by(o.headers(1, [*HEAD, ("grpc-status", "9"), ("grpc-message", raw)], o.WHOLE))
    assert (found.code, found.details) == (9, MESSAGES[raw])


@pytest.mark.parametrize("raw", ["%ff%fe", "%80", "ok%E4", "\u00e4"])
async def test_a_status_message_that_is_no_utf_8_is_not_thrown_away(raw: str) -> None:
    found = await answered_by(o.headers(1, [*HEAD, ("grpc-status", "9"), ("grpc-message", raw)], o.WHOLE))
    assert found.code == 9
    assert found.details


async def test_metadata_of_headers_and_trailers_arrives() -> None:
    """Binary with and without padding, joined by commas; duplicates in order."""
    head = [*HEAD, ("x-a", "1"), ("x-a", "2"), ("x-bin", "AQI="), ("x-bin", "AQ"), ("x-j-bin", "AQ==,Ag")]
    trailers = [*OK, ("x-t", "end"), ("x-t-bin", "")]
    found = await answered_by(o.headers(1, head) + MESSAGE + o.headers(1, trailers, o.WHOLE))
    initial = [pair for pair in map(tuple, found.initial) if pair[0].startswith("x-")]
    assert [value for name, value in initial if name == "x-a"] in (["1", "2"], ["1,2"])
    assert [value for name, value in initial if name == "x-bin"] == [b"\1\2", b"\1"]
    assert [value for name, value in initial if name == "x-j-bin"] in ([b"\1", b"\2"], [b"\1\2"])
    assert {("x-t", "end"), ("x-t-bin", b"")} <= set(map(tuple, found.trailing))


async def test_trailers_only_are_trailers_and_not_headers() -> None:
    fields = [*HEAD, ("grpc-status", "5"), ("grpc-message", "gone"), ("x-why", "because")]
    found = await answered_by(o.headers(1, fields, o.WHOLE))
    assert (found.code, found.details, found.messages) == (5, "gone", [])
    assert ("x-why", "because") in map(tuple, found.trailing)
    assert "x-why" not in dict(found.initial)


async def request_of(rpc: str, *requests: bytes, **options: object) -> tuple[Asked, Accepted]:
    """What the client sends for a call."""
    kept: list[Asked] = []

    async def script(peer: Accepted) -> None:
        await peer.greet()
        kept.append(await peer.call())
        await peer.answer(kept[0], b"ok")

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        await outcome(channel, rpc, *requests, **options)
        return kept[0], server.connections[0]


@pytest.mark.parametrize("rpc", ["Unary", "ServerStream", "ClientStream", "Bidi"])
async def test_a_request_is_messages_with_a_prefix_and_an_end(rpc: str) -> None:
    """Request → Request-Headers *Length-Prefixed-Message EOS; EOS is a flag on DATA, empty if need be."""
    asked, peer = await request_of(
        rpc, b"first", *([b"", b"third"] if rpc in ("ClientStream", "Bidi") else [])
    )
    assert asked.messages == ([b"first", b"", b"third"] if rpc in ("ClientStream", "Bidi") else [b"first"])
    assert [frame.kind for frame in peer.seen if frame.ends] == [o.DATA]


@pytest.mark.parametrize("rpc", ["ClientStream", "Bidi"])
async def test_a_request_without_messages_ends_all_the_same(rpc: str) -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        assert asked.body == b""
        await peer.answer(asked, b"ok")

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        call = begin(channel, rpc, [])
        assert (await ended(call, rpc)).code == 0


async def test_metadata_of_a_request_is_encoded_as_the_document_says() -> None:
    given = (("x-text", "a, b"), ("x-bin", b"\0\xff\x10"), ("x-bin", b""), ("x-text", "c"))
    asked, _ = await request_of("Unary", b"", metadata=given)
    found = [(name, value) for name, value in asked.fields if name.startswith("x-")]
    joined = {name: ",".join(value for key, value in found if key == name) for name, _ in found}
    assert joined["x-text"] == "a, b,c"
    assert [base64.b64decode(part + "==") for part in joined["x-bin"].split(",")] == [b"\0\xff\x10", b""]
    assert "=" not in joined["x-bin"]


@pytest.mark.parametrize("given", [("X-Upper", "x"), ("x y", "x"), ("x", "a\nb"), ("x", "\u00e4"), ("", "x")])
async def test_metadata_that_may_not_be_sent_is_refused_before_it_is(given: tuple[str, str]) -> None:
    """What no server would take must not cost the connection. grpc.aio raises, or lower-cases."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        assert [name for name, _ in asked.fields if name != name.lower() or " " in name] == []
        await peer.answer(asked, b"ok")

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        with suppress(ValueError, TypeError, grpc.RpcError, UnicodeError):
            await outcome(channel, metadata=(given,))
        if not server.done.is_set():
            assert (await outcome(channel)).code == 0


async def test_no_deadline_is_no_timeout_and_a_long_one_has_eight_digits() -> None:
    asked, _ = await request_of("Unary", b"", timeout=None)
    assert "grpc-timeout" not in dict(asked.fields)
    asked, _ = await request_of("Unary", b"", timeout=10.0**9)
    limit = dict(asked.fields)["grpc-timeout"]
    assert len(limit) <= 9
    assert limit[-1] in "HMS"


async def test_a_cancel_and_a_deadline_reset_the_stream() -> None:
    """Client Cancellation: RST_STREAM with CANCEL; an expired deadline is one."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        for _ in range(2):
            asked = await peer.call()
            await peer.send(o.headers(asked.stream, HEAD))
            assert await peer.reset(asked.stream) == o.CANCEL

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        assert (await outcome(channel, timeout=0.1)).code == DEADLINE
        call = begin(channel, "Unary", [b"hello"])
        await call.initial_metadata()
        call.cancel()
        assert (await ended(call)).code == CANCELLED
        await server.done.wait()


async def test_an_answer_before_the_end_of_the_request_ends_the_call() -> None:
    """Early Server Closure: the client sends RST_STREAM so that the stream can be let go."""
    refused = o.headers(1, [*HEAD, ("grpc-status", "9")], o.WHOLE)

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call(whole=False)
        await peer.send(refused)
        found = await peer.until(lambda f: f.stream == 1 and (f.kind == o.RST_STREAM or f.ends))
        assert found.ends or found.code in (o.NO_ERROR, o.CANCEL)

    async def endless():  # type: ignore[no-untyped-def]
        yield b"first"
        await asyncio.sleep(60)

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        call = channel.stream_unary("/weft.wire.Echo/ClientStream")(endless(), timeout=5)
        assert (await ended(call)).code == 9
        await server.done.wait()


async def test_gzipped_answers_are_read_each_on_its_own() -> None:
    head = o.headers(1, [*HEAD, ("grpc-encoding", "gzip")])
    packed = o.data(1, o.message(gzip.compress(b"hello"), 1))
    found = await answered_by(head + packed + MESSAGE + packed + END, rpc="ServerStream")
    assert found.messages == [b"hello"] * 3


async def test_messages_may_be_split_anywhere() -> None:
    body = o.message(b"first") + o.message(b"") + o.message(b"third")
    for at in range(len(body) + 1):
        found = await answered_by(BEGUN, o.data(1, body[:at]), o.data(1, body[at:]), END, rpc="ServerStream")
        assert found.messages == [b"first", b"", b"third"]
