"""RFC 9113 §3.4, §4, §5.4 to §6.10 past h2spec: prefaces, sizes, flags, reserved bits, errors of framing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.wire import octets as o
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Closed, Peer, asking, hanging, request
from tests.wire.specimen import fault, pong, reset

FIELDS = asking()
OPEN = o.headers(1, FIELDS)
RESERVED = 1 << 31
ONE_MORE = o.FRAME_BYTES + 1
END = o.data(1, o.message(b"hello"), o.END_STREAM)
UNDEFINED = {  # Flags that RFC 9113 §6 does not define for the type.
    o.DATA: 0xF6,
    o.HEADERS: 0xD2,
    o.PRIORITY: 0xFF,
    o.SETTINGS: 0xFE,
    o.PING: 0xFE,
    o.WINDOW_UPDATE: 0xFF,
    o.CONTINUATION: 0xFB,
}


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire") as host:
        yield host


async def served(peer: Peer, stream: int = 1) -> None:
    response = await peer.response(stream)
    assert (response.status, response.messages) == (0, [b"hello"])


@pytest.mark.parametrize(
    "first", [o.ping(), OPEN + END, o.window_update(0, 1)], ids=["ping", "call", "window"]
)
async def test_another_first_frame_than_settings_is_a_connection_error(host: Host, first: bytes) -> None:
    """§3.4: the client's preface ends with a SETTINGS frame; an invalid one is a PROTOCOL_ERROR."""
    async with await Peer.open(host.port) as peer:
        await peer.send(o.PREFACE, first)
        assert await peer.fault() == o.PROTOCOL_ERROR


@pytest.mark.parametrize("at", range(len(o.PREFACE)))
async def test_a_preface_wrong_in_any_byte_ends_the_connection(host: Host, at: int) -> None:
    async with await Peer.open(host.port) as peer:
        wrong = bytes([*o.PREFACE[:at], o.PREFACE[at] ^ 0x20, *o.PREFACE[at + 1 :]])
        await peer.send(wrong, o.settings(), request())
        await peer.rest()
        assert {frame.kind for frame in peer.seen} <= {o.SETTINGS, o.WINDOW_UPDATE, o.GOAWAY}


async def test_a_call_may_follow_the_preface_at_once_in_single_bytes(host: Host) -> None:
    """§3.4: clients may send before they have the server's SETTINGS; §4.1: frames have no packets."""
    async with await Peer.open(host.port) as peer:
        for octet in o.PREFACE + o.settings() + request():
            await peer.send(bytes([octet]))
        await served(peer)


async def test_many_calls_in_one_write_are_all_served(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(*(request(stream) for stream in range(1, 101, 2)))
        for stream in range(1, 101, 2):
            await served(peer, stream)


@pytest.mark.parametrize("kind", UNDEFINED, ids=lambda kind: o.NAMES[kind])
async def test_flags_without_a_meaning_are_ignored(host: Host, kind: int) -> None:
    """§4.1. The flags stand on a frame that is right without them."""
    flags = UNDEFINED[kind]
    blocks = o.block(FIELDS[:3]), o.block(FIELDS[3:])
    before = {
        o.DATA: OPEN + o.data(1, b"", flags),
        o.HEADERS: o.frame(o.HEADERS, flags | o.END_HEADERS, 1, b"".join(blocks)),
        o.PRIORITY: o.frame(o.PRIORITY, flags, 1, o.priority_of()) + OPEN,
        o.SETTINGS: o.settings(flags=flags) + OPEN,
        o.PING: o.ping(flags=flags) + OPEN,
        o.WINDOW_UPDATE: OPEN + o.frame(o.WINDOW_UPDATE, flags, 1, b"\0\0\0\1"),
        o.CONTINUATION: o.frame(o.HEADERS, 0, 1, blocks[0])
        + o.frame(o.CONTINUATION, flags | o.END_HEADERS, 1, blocks[1]),
    }
    async with await Peer.greeted(host.port) as peer:
        await peer.send(before[kind], END)
        await served(peer)


async def test_reserved_bits_are_ignored(host: Host) -> None:
    """§4.1 of a stream's number, §6.9 of an increment."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(
            o.headers(1 | RESERVED, FIELDS),
            o.frame(o.WINDOW_UPDATE, 0, RESERVED, b"\x80\0\0\1"),
            o.frame(o.WINDOW_UPDATE, 0, 1 | RESERVED, b"\x80\0\0\1"),
            o.frame(o.SETTINGS, 0, RESERVED),
            o.frame(o.DATA, o.END_STREAM, 1 | RESERVED, o.message(b"hello")),
        )
        await served(peer)


@pytest.mark.parametrize("kind", [0x0A, 0x10, 0xFF])
@pytest.mark.parametrize("stream", [0, 1, 2, 3, 99], ids=lambda stream: f"stream {stream}")
async def test_frames_of_unknown_types_are_ignored_anywhere(host: Host, kind: int, stream: int) -> None:
    """§4.1, §5.5: on the connection, an open, an idle and a server's stream."""
    async with await Peer.greeted(host.port) as peer:
        unknown = o.frame(kind, 0xFF, stream, b"whatever")
        await peer.send(unknown, OPEN, unknown, END)
        await served(peer)
        await peer.send(unknown)
        await pong(peer)


@pytest.mark.parametrize("kind", [*range(10), 0x10], ids=lambda kind: (*o.NAMES, *"??????", "unknown")[kind])
async def test_a_frame_beyond_the_largest_size_is_refused_by_its_head(host: Host, kind: int) -> None:
    """§4.2. Only the head is sent: whoever waits for the rest would hold 16 MB for a stranger."""
    async with await Peer.greeted(host.port) as peer:
        on_stream = kind in (o.DATA, o.HEADERS, o.PRIORITY, o.RST_STREAM, o.CONTINUATION, o.PUSH_PROMISE)
        opening = OPEN if kind == o.DATA else b""
        await peer.send(opening, o.frame(kind, 0, int(on_stream), length=2**24 - 1))
        frame = await peer.until(lambda f: f.kind in (o.GOAWAY, o.RST_STREAM))
        assert frame.code == o.FRAME_SIZE_ERROR or (frame.code == o.PROTOCOL_ERROR and kind in (5, 9))


SIZES = {
    o.PRIORITY: (0, 4, 6),
    o.RST_STREAM: (0, 3, 5),
    o.SETTINGS: (1, 5, 7),
    o.PING: (0, 7, 9),
    o.GOAWAY: (0, 4, 7),
    o.WINDOW_UPDATE: (0, 3, 5),
}


@pytest.mark.parametrize(("kind", "size"), [(kind, size) for kind in SIZES for size in SIZES[kind]])
async def test_a_frame_of_another_length_than_its_type_has_is_a_frame_size_error(
    host: Host, kind: int, size: int
) -> None:
    """§6.3: of the stream for PRIORITY, else of the connection (§6.4, §6.5, §6.7, §6.8, §6.9)."""
    async with await Peer.greeted(host.port) as peer:
        stream = int(kind in (o.PRIORITY, o.RST_STREAM))
        await peer.send(hanging(), o.frame(kind, 0, stream, bytes(size)))
        expect = reset if kind == o.PRIORITY else fault
        await expect(o.FRAME_SIZE_ERROR)(peer)


TOO_SHORT = {
    "DATA without its pad length": OPEN + o.data(1, b"", o.PADDED),
    "HEADERS without its pad length": o.frame(o.HEADERS, o.END_HEADERS | o.PADDED, 1),
    "HEADERS without its whole priority": o.frame(o.HEADERS, o.END_HEADERS | o.PRIORITISED, 1, bytes(4)),
    "HEADERS padded, without its whole priority": o.frame(
        o.HEADERS, o.END_HEADERS | o.PRIORITISED | o.PADDED, 1, bytes(5)
    ),
}


@pytest.mark.parametrize("octets", TOO_SHORT.values(), ids=TOO_SHORT)
async def test_a_frame_too_short_for_its_fields_is_a_connection_error(host: Host, octets: bytes) -> None:
    """§4.2 says FRAME_SIZE_ERROR, §6.1 PROTOCOL_ERROR where the padding does not fit."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(octets)
        assert await peer.fault() in (o.FRAME_SIZE_ERROR, o.PROTOCOL_ERROR)


@pytest.mark.parametrize(("length", "padding"), [(1, 1), (5, 5), (5, 6), (1, 255), (256, 255 + 1)])
@pytest.mark.parametrize("kind", [o.DATA, o.HEADERS], ids=lambda kind: o.NAMES[kind])
async def test_padding_as_long_as_the_payload_is_a_protocol_error(
    host: Host, kind: int, length: int, padding: int
) -> None:
    """§6.1, §6.2. The longest that fits is in the next test."""
    if padding > 255:
        padding, length = 255, 255
    async with await Peer.greeted(host.port) as peer:
        payload = bytes([padding]) + bytes(length - 1)
        opening = OPEN if kind == o.DATA else b""
        await peer.send(opening, o.frame(kind, o.PADDED | o.END_HEADERS * (kind == o.HEADERS), 1, payload))
        assert await peer.fault() == o.PROTOCOL_ERROR


@pytest.mark.parametrize("padding", [0, 1, 255])
async def test_padding_of_any_length_that_fits_is_dropped(host: Host, padding: int) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(
            o.frame(o.HEADERS, o.END_HEADERS | o.PADDED, 1, o.padded(o.block(FIELDS), padding)),
            o.data(1, o.padded(b"", padding), o.PADDED),
            o.data(1, o.padded(o.message(b"hello"), padding), o.PADDED | o.END_STREAM),
        )
        await served(peer)


@pytest.mark.parametrize(
    "inner", [o.ping(), o.settings(), o.data(1), o.rst_stream(1), o.window_update(0, 1), o.goaway()]
)
async def test_nothing_may_stand_inside_a_header_block(host: Host, inner: bytes) -> None:
    """§4.3, §6.10."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, FIELDS[:3], 0), inner, o.continuation(1, FIELDS[3:]))
        assert await peer.fault() == o.PROTOCOL_ERROR


async def test_a_goaway_names_the_last_stream_that_was_begun(host: Host) -> None:
    """§5.4.1, §6.8."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(hanging(1), hanging(7), o.frame(o.PING, 0, 1, bytes(8)))
        last = await peer.goodbye()
        assert (last.code, last.number) == (o.PROTOCOL_ERROR, 7)


async def test_nothing_is_processed_after_a_connection_error(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.frame(o.PING, 0, 1, bytes(8)), request(), o.ping())
        await peer.rest()
        assert {frame.kind for frame in peer.seen if frame.stream or frame.kind == o.PING} == set()


async def test_a_reset_is_not_answered_by_a_reset(host: Host) -> None:
    """§5.4.2: to avoid looping."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(hanging(half_closed=False), o.rst_stream(1))
        await pong(peer)
        await peer.send(o.rst_stream(1))
        await pong(peer)


async def test_every_ping_is_answered_in_order_with_its_own_payload(host: Host) -> None:
    """§6.7."""
    async with await Peer.greeted(host.port) as peer:
        sent = [number.to_bytes(8, "big") for number in range(4)]
        await peer.send(*map(o.ping, sent))
        await pong(peer)
        acks = [f.payload for f in peer.seen if f.kind == o.PING and f.flags == o.ACK]
        assert acks[:4] == sent


async def test_acknowledgements_that_nobody_asked_for_do_no_harm(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.settings(flags=o.ACK), o.ping(flags=o.ACK))
        await pong(peer)


async def test_a_large_header_block_of_the_server_comes_in_one_run_of_frames(host: Host) -> None:
    """§4.3, §6.10: HEADERS, then CONTINUATION only, each within the largest frame."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"hello", "Unary", ("x-initial-bytes", "60000")), request(3), request(5))
        for stream in (1, 3, 5):
            await served(peer, stream)
        runs = [f for f in peer.seen if f.kind == o.CONTINUATION]
        first = next(n for n, f in enumerate(peer.seen) if f.kind == o.HEADERS and f.stream == 1)
        assert peer.seen[first + 1 : first + 1 + len(runs)] == runs != []
        assert {frame.stream for frame in runs} == {1}
        assert max(len(frame.payload) for frame in peer.seen) <= o.FRAME_BYTES


async def test_an_http_1_request_is_not_left_waiting(host: Host) -> None:
    async with await Peer.open(host.port) as peer:
        await peer.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        with pytest.raises(Closed):
            while True:
                await peer.frame()
