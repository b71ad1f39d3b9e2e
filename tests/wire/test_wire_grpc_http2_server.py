"""gRPC over HTTP/2 (PROTOCOL-HTTP2.md), the server's half: each rule that a server can break."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from urllib.parse import unquote_to_bytes

import pytest

from tests import data
from tests.wire import octets as o
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Peer, Response, asking, hanging, request
from tests.wire.rig import MESSAGE_BYTES_MAX
from tests.wire.specimen import pong

OK, CANCELLED, UNKNOWN, INVALID, DEADLINE = 0, 1, 2, 3, 4
UNIMPLEMENTED, INTERNAL, EXHAUSTED = 12, 13, 8
MESSAGE = o.message(b"hello")


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire") as host:
        yield host


async def ask(host: Host, fields: o.Fields, body: bytes = MESSAGE, end: int = o.END_STREAM) -> Response:
    """The answer to a call of these headers and this body; the connection must live on."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, fields), o.data(1, body, end))
        response = await peer.response()
        await pong(peer)
        return response


async def test_an_answer_has_headers_messages_and_trailers(host: Host) -> None:
    """Response → Response-Headers *Length-Prefixed-Message Trailers."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"hello", "ServerStream", ("x-count", "3")))
        response = await peer.response()
        kinds = [frame.kind for frame in peer.seen if frame.stream == 1 and frame.kind != o.WINDOW_UPDATE]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == (o.HEADERS, o.HEADERS, {o.DATA})
    assert response.headers[":status"] == "200"
    assert response.headers["content-type"].startswith("application/grpc")
    assert response.trailers["grpc-status"] == "0"
    assert response.messages == [b"hello"] * 3


async def test_an_immediate_error_is_one_block_of_trailers(host: Host) -> None:
    """Trailers-Only → HTTP-Status Content-Type Trailers, in a single block that ends the stream."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"hello", "Unary", ("x-status", "5"), ("x-message-bin", "Z29uZQ")))
        response = await peer.response()
        frames = [f for f in peer.seen if f.stream == 1 and f.kind in (o.HEADERS, o.DATA)]
    assert [(frame.kind, frame.flags & o.WHOLE) for frame in frames] == [(o.HEADERS, o.WHOLE)]
    assert (response.headers[":status"], response.status) == ("200", 5)
    assert response.headers["content-type"].startswith("application/grpc")
    assert response.headers["grpc-message"] == "gone"


@pytest.mark.parametrize("code", range(1, 17))
async def test_every_status_is_a_number_without_zeros_before_it(host: Host, code: int) -> None:
    response = await ask(host, asking("Unary", ("x-status", str(code))))
    assert response.headers["grpc-status"] == str(code)


def encoded(text: str) -> tuple[str, str]:
    return ("x-message-bin", base64.b64encode(text.encode()).decode().rstrip("="))


@pytest.mark.parametrize(
    "text", ["50 % of", "a\nb\0c\x7f", "Grüße, 世界 🙂", " spaces ", "%41%zz%", "a" * 3000]
)
async def test_a_message_is_percent_encoded_utf_8(host: Host, text: str) -> None:
    """Percent-Byte-Unencoded → %x20-%x24 / %x26-%x7E; all other bytes as % and two hex digits."""
    response = await ask(host, asking("Unary", ("x-status", "9"), encoded(text)))
    raw = response.headers["grpc-message"]
    assert all(0x20 <= ord(character) <= 0x7E for character in raw)
    assert unquote_to_bytes(raw).decode() == text
    assert raw.count("%") == sum(not 0x20 <= byte <= 0x7E or byte == 0x25 for byte in text.encode())


async def test_naughty_strings_are_carried_in_messages_and_in_metadata(host: Host) -> None:
    strings = json.loads(data.shared("15_rpc_http/blns.json").read_text())
    async with await Peer.greeted(host.port) as peer:
        for number, text in enumerate(strings):
            stream = 2 * number + 1
            binary = encoded(text)
            fields = asking("Unary", ("x-status", "9"), binary, ("x-echo-bin", binary[1]))
            await peer.send(o.headers(stream, fields), o.data(stream, MESSAGE, o.END_STREAM))
            response = await peer.response(stream)
            assert unquote_to_bytes(response.trailers.get("grpc-message", "")).decode() == text
            assert response.trailers["x-trailing-echo-bin"].rstrip("=") == binary[1]


CONTENT_TYPES = ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"]
OTHER_TYPES = ["application/json", "application/grpcweb", "image/jpeg", "", "text/html", "application/grp"]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
async def test_content_types_of_grpc_are_served(host: Host, content_type: str) -> None:
    fields = [pair for pair in asking() if pair[0] != "content-type"]
    assert (await ask(host, [*fields, ("content-type", content_type)])).status == OK


@pytest.mark.parametrize("content_type", [*OTHER_TYPES, None])
async def test_another_content_type_is_unsupported_media(host: Host, content_type: str | None) -> None:
    """HTTP status 415: so that no other HTTP/2 client takes an error for a success."""
    fields = [pair for pair in asking() if pair[0] != "content-type"]
    more = [] if content_type is None else [("content-type", content_type)]
    response = await ask(host, [*fields, *more])
    assert response.headers[":status"] == "415"


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "post"])
async def test_another_method_than_post_is_not_a_call(host: Host, method: str) -> None:
    """Method → ":method POST"."""
    before = await host.measure()
    response = await ask(host, asking(method=method))
    assert response.headers[":status"] == "405" or response.status not in (None, OK)
    assert (await host.measure()).get("done") == before.get("done")


PATHS = ["/weft.wire.Echo/None", "/none.Such/Unary", "/weft.wire.Echo", "/", "/weft.wire.echo/unary"]


@pytest.mark.parametrize("path", [*PATHS, "/weft.wire.Echo/Unary/", "//weft.wire.Echo/Unary", "/a?b=c"])
async def test_an_unknown_path_is_unimplemented(host: Host, path: str) -> None:
    """Path is case-sensitive."""
    response = await ask(host, asking(path=path))
    assert (response.headers[":status"], response.status) == ("200", UNIMPLEMENTED)


UNITS = {"1n": 0, "1u": 0, "50m": 0.05, "50000u": 0.05, "00000050m": 0.05, "50000000n": 0.05}


@pytest.mark.parametrize("limit", UNITS)
async def test_a_deadline_ends_the_call_on_both_sides(host: Host, limit: str) -> None:
    """Timeout → at most 8 digits and a unit. The handler is cancelled, the caller told."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"", "Unary", ("x-hang", "1"), ("grpc-timeout", limit)))
        response = await peer.response()
        assert response.status == DEADLINE or response.reset == o.CANCEL
        assert (await host.measure())["open"] == 0


@pytest.mark.parametrize("limit", ["1H", "1M", "5S", "5000m", "99999999H", "99999999u"])
async def test_a_deadline_that_does_not_pass_changes_nothing(host: Host, limit: str) -> None:
    assert (await ask(host, asking("Unary", ("grpc-timeout", limit)))).status == OK


@pytest.mark.parametrize("limit", ["", "m", "5", "-1S", "1.5S", "1s", "5 S", "S5", "123456789S", "1é"])
async def test_a_timeout_that_is_none_harms_nothing(host: Host, limit: str) -> None:
    """The document leaves open what then: no deadline, or a refusal. Never a hang or the connection's end."""
    response = await ask(host, asking("Unary", ("grpc-timeout", limit)))
    assert response.status in (OK, INTERNAL, INVALID, DEADLINE) or response.reset == o.PROTOCOL_ERROR


BINARY = {
    "AQID": b"\1\2\3",
    "AQI=": b"\1\2",
    "AQI": b"\1\2",
    "AQ==": b"\1",
    "AQ": b"\1",
    "": b"",
    "//79": b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("text", BINARY, ids=lambda text: text or "empty")
async def test_binary_metadata_is_taken_padded_or_not_and_sent_without(host: Host, text: str) -> None:
    response = await ask(host, asking("Unary", ("x-echo-bin", text)))
    assert response.status == OK
    assert response.headers["x-echo-bin"] == base64.b64encode(BINARY[text]).decode().rstrip("=")
    assert response.trailers["x-trailing-echo-bin"] == response.headers["x-echo-bin"]


async def test_binary_metadata_joined_by_commas_is_split_before_it_is_decoded(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"", "Unary", ("x-echo-bin", "AQ==,AgM,BA")))
        assert (await peer.response()).status == OK
        fields = next(frame.fields for frame in peer.seen if frame.kind == o.HEADERS)
    echoed = ",".join(value for name, value in fields if name == "x-echo-bin")
    assert [base64.b64decode(part + "==") for part in echoed.split(",")] == [b"\1", b"\2\3", b"\4"]


@pytest.mark.parametrize("text", ["!", "A", "AQ=A", "\u00e4"])
async def test_binary_metadata_that_is_no_base64_costs_this_call_at_most(host: Host, text: str) -> None:
    response = await ask(host, asking("Unary", ("x-echo-bin", text)))
    assert response.status is not None or response.reset is not None


async def test_metadata_of_one_name_keeps_its_order(host: Host) -> None:
    """Duplicates may be joined by commas; their order is kept."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"", "Unary", *(("x-echo", f"v{n}") for n in range(5))))
        assert (await peer.response()).status == OK
        blocks = [frame.fields for frame in peer.seen if frame.kind == o.HEADERS]
    for block, name in zip(blocks, ("x-echo", "x-trailing-echo"), strict=True):
        assert ",".join(value for key, value in block if key == name) == "v0,v1,v2,v3,v4"


@pytest.mark.parametrize("value", [b"\xe4\xff", b"a\tb", b"\x80", b"caf\xc3\xa9"])
async def test_a_value_past_ascii_is_no_error(host: Host, value: bytes) -> None:
    """Implementations must not error due to a value that HTTP allows."""
    assert (await ask(host, [*asking(), (b"x-test", value)])).status == OK


async def test_a_call_may_be_split_anywhere(host: Host) -> None:
    """DATA frame boundaries have no relation to message boundaries."""
    body = o.message(b"first") + o.message(b"") + o.message(b"third")
    async with await Peer.greeted(host.port) as peer:
        for at in range(len(body) + 1):
            stream = 2 * at + 1
            parts = o.data(stream, body[:at]), o.data(stream, body[at:], o.END_STREAM)
            await peer.send(o.headers(stream, asking("Bidi")), *parts)
            assert (await peer.response(stream)).messages == [b"first", b"", b"third"]


async def test_a_message_split_into_single_bytes_arrives(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, asking("ClientStream")))
        for octet in o.message(b"first") + o.message(b"second"):
            await peer.send(o.data(1, bytes([octet])))
        await peer.send(o.data(1, b"", o.END_STREAM))
        assert (await peer.response()).messages == [b"first|second"]


WRONG_BODIES = {
    "no message": b"",
    "two messages": MESSAGE * 2,
    "half a prefix": MESSAGE[:3],
    "half a message": MESSAGE[:7],
    "a message and half of one": MESSAGE + MESSAGE[:7],
}


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
async def test_a_unary_call_without_exactly_one_message_fails(host: Host, body: bytes) -> None:
    response = await ask(host, asking(), body)
    assert response.status in (INTERNAL, UNIMPLEMENTED, INVALID)


@pytest.mark.parametrize("rpc", ["ClientStream", "Bidi"])
async def test_a_stream_that_ends_inside_a_message_fails(host: Host, rpc: str) -> None:
    response = await ask(host, asking(rpc), MESSAGE + MESSAGE[:7])
    assert response.status in (INTERNAL, UNKNOWN, INVALID)


GZIPPED = o.message(gzip.compress(b"hello"), 1)
GZIP = ("grpc-encoding", "gzip")


async def test_compressed_messages_are_read_each_on_its_own(host: Host) -> None:
    """Compression contexts are not kept over message boundaries; a message may also be plain."""
    body = GZIPPED + MESSAGE + GZIPPED
    response = await ask(host, asking("ClientStream", GZIP), body)
    assert response.status == OK
    assert [_plain(response, message) for message in response.messages] == [b"hello|hello|hello"]


def _plain(response: Response, message: bytes) -> bytes:
    return gzip.decompress(message) if response.body[0] else message


WRONG_COMPRESSION = {
    "compressed without an encoding": ([], o.message(b"hello", 1), {INTERNAL}),
    "compressed as identity": ([("grpc-encoding", "identity")], GZIPPED, {INTERNAL}),
    "no gzip at all": ([GZIP], o.message(b"hello", 1), {INTERNAL, INVALID, UNKNOWN}),
    "gzip cut short": ([GZIP], o.message(gzip.compress(b"hello")[:-4], 1), {INTERNAL, INVALID, UNKNOWN}),
    "gzip with a wrong checksum": (
        [GZIP],
        o.message(gzip.compress(b"hello")[:-8] + bytes(8), 1),
        {INTERNAL, INVALID, UNKNOWN},
    ),
    "a flag of two": ([], o.message(b"hello", 2), {INTERNAL}),
    "a flag of 255": ([GZIP], o.message(gzip.compress(b"hello"), 255), {INTERNAL}),
}


@pytest.mark.parametrize(("more", "body", "codes"), WRONG_COMPRESSION.values(), ids=WRONG_COMPRESSION)
async def test_compression_that_was_not_agreed_on_or_is_broken_fails(
    host: Host, more: list[tuple[str, str]], body: bytes, codes: set[int]
) -> None:
    assert (await ask(host, asking("Unary", *more), body)).status in codes


async def test_an_unknown_encoding_is_unimplemented_and_the_known_are_named(host: Host) -> None:
    """compression.md: the server says in grpc-accept-encoding what it would take."""
    response = await ask(host, asking("Unary", ("grpc-encoding", "snappy")), o.message(b"hello", 1))
    assert response.status == UNIMPLEMENTED
    assert "gzip" in response.headers["grpc-accept-encoding"]


async def test_trailers_before_the_end_of_the_request_are_followed_by_a_reset(host: Host) -> None:
    """Early Server Closure: RST_STREAM with NO_ERROR right after the trailers."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, asking("ClientStream", ("x-status", "9"))))
        assert (await peer.response()).status == 9
        reset = await peer.until(lambda frame: frame.stream == 1)
        assert (reset.kind, reset.code) == (o.RST_STREAM, o.NO_ERROR)
        await pong(peer)


async def test_a_message_too_large_is_refused_by_its_prefix(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        prefix = o.message(bytes(MESSAGE_BYTES_MAX + 1))[:5]
        await peer.send(o.headers(1, asking()), o.data(1, prefix + b"begin"))
        assert (await peer.response()).status == EXHAUSTED
        await pong(peer)


async def test_headers_too_large_cost_the_call_and_not_the_connection(host: Host) -> None:
    """§"Servers may limit the size of Request-Headers"; RFC 9113 §10.5.1 suggests 431."""
    async with await Peer.greeted(host.port) as peer:
        most = dict(peer.seen[0].settings)[o.MAX_HEADER_LIST_SIZE]
        many = [(f"x-{n}", "v" * 60) for n in range(most // 90)]
        await peer.send(o.headers(1, asking("Unary", *many)), o.data(1, MESSAGE, o.END_STREAM))
        response = await peer.response()
        assert response.headers.get(":status") == "431" or response.status == EXHAUSTED
        await peer.send(request(3))
        assert (await peer.response(3)).status == OK


async def test_a_servicer_that_crashes_is_unknown_and_tells_nothing(host: Host) -> None:
    response = await ask(host, asking("Unary", ("x-crash", "1")))
    assert response.status == UNKNOWN


async def test_a_server_that_stops_finishes_what_it_has_begun_and_begins_nothing() -> None:
    """GOAWAY: the last stream that was accepted; calls in flight go on, later ones are not processed."""
    async with hosted("wire", grace_s=5) as host, await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"hello", "Unary", ("x-delay-ms", "300")))
        await peer.pong()
        assert host.process.stdin
        host.process.stdin.close()
        last = await peer.until(lambda frame: frame.kind == o.GOAWAY)
        await peer.send(request(3))
        assert (last.code, (await peer.response(1)).status) == (o.NO_ERROR, OK)
        await peer.rest()
        accepted = min(f.number for f in peer.seen if f.kind == o.GOAWAY)
        assert accepted in (1, 3)
        assert bool([f for f in peer.seen if f.stream == 3 and f.kind == o.HEADERS]) == (accepted == 3)


async def test_a_grace_that_ends_cancels_what_is_left() -> None:
    async with hosted("wire", grace_s=0.1) as host, await Peer.greeted(host.port) as peer:
        await peer.send(hanging())
        await peer.pong()
        assert host.process.stdin
        host.process.stdin.close()
        await peer.rest()
        assert [f for f in peer.seen if f.stream == 1 and f.kind == o.DATA] == []


@pytest.mark.parametrize("rpc", ["Unary", "ServerStream", "ClientStream", "Bidi"])
async def test_every_kind_refuses_alike(host: Host, rpc: str) -> None:
    response = await ask(host, asking(rpc, ("x-status", "7"), encoded("no")))
    assert (response.status, response.headers["grpc-message"], response.blocks) == (7, "no", 1)
