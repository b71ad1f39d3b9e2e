"""RFC 9113 §5.2 and §6.9 past h2spec: windows in both directions, counted from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.wire import octets as o
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.rig import MESSAGE_BYTES_MAX
from tests.wire.specimen import fault, pong, reset

WINDOW_MAX = 2**31 - 1  # §6.9.1
BIG = 200_000
BIG_CALL = ("x-bytes", str(BIG))
SMALL = o.message(bytes(1019))  # 1 KiB with its prefix.


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire") as host:
        yield host


def sent(peer: Peer, stream: int | None = None) -> int:
    """DATA bytes that the server has sent."""
    return sum(len(f.payload) for f in peer.seen if f.kind == o.DATA and stream in (None, f.stream))


async def after(peer: Peer, *octets: bytes) -> int:
    """DATA bytes that come of these octets, when all has come."""
    before = sent(peer)
    await peer.send(*octets)
    for _ in range(4):  # A server may write what a window allows only after it has answered the PING.
        await peer.pong()
    return sent(peer) - before


async def test_the_server_stops_at_the_streams_window_and_at_the_connections(host: Host) -> None:
    """§6.9.1: room in one of the two is not enough."""
    async with await Peer.greeted(host.port) as peer:
        assert await after(peer, request(1, b"", "Unary", BIG_CALL)) == o.WINDOW_BYTES
        assert await after(peer, o.window_update(1, 1000)) == 0
        assert await after(peer, o.window_update(0, 300)) == 300
        assert await after(peer, o.window_update(0, 1000)) == 700
        assert await after(peer, o.window_update(0, BIG), o.window_update(1, BIG)) == BIG + 5 - 66_535
        assert (await peer.response()).status == 0


async def test_streams_share_the_connections_window(host: Host) -> None:
    async with await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, 40_000)) as peer:
        calls = [request(stream, b"", "Unary", BIG_CALL) for stream in (1, 3)]
        assert await after(peer, *calls) == o.WINDOW_BYTES
        assert max(sent(peer, 1), sent(peer, 3)) <= 40_000
        assert min(sent(peer, 1), sent(peer, 3)) >= 25_535


async def test_a_stream_without_a_window_does_not_hold_up_another(host: Host) -> None:
    async with await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, 0)) as peer:
        await peer.send(request(1, b"", "Unary", BIG_CALL), request(3), o.window_update(3, 100))
        assert (await peer.response(3)).messages == [b"hello"]
        assert sent(peer, 1) == 0


async def test_the_initial_window_is_of_streams_only(host: Host) -> None:
    """§6.9.2: the connection's window is changed by WINDOW_UPDATE alone."""
    async with await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, WINDOW_MAX)) as peer:
        assert await after(peer, request(1, b"", "Unary", BIG_CALL)) == o.WINDOW_BYTES


async def test_what_is_not_data_needs_no_window(host: Host) -> None:
    """§5.2.1, §6.9: headers, trailers and a refusal pass a window of zero."""
    async with await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, 0)) as peer:
        await peer.send(request(1, b"hello", "Unary", ("x-status", "5")))
        assert (await peer.response()).status == 5
        await peer.send(request(3, b"hello", "ServerStream", ("x-count", "0"), ("x-echo", "1")))
        assert (await peer.response(3)).status == 0


@pytest.mark.parametrize("window", [1, 2, 7, 100])
async def test_an_answer_passes_a_tiny_window_whole(host: Host, window: int) -> None:
    async with await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, window)) as peer:
        await peer.send(request(1, b"0123456789" * 20))
        while sent(peer) < 205:
            frame = await peer.until(lambda f: f.kind == o.DATA and len(f.payload) > 0)
            assert len(frame.payload) <= window
            await peer.send(o.window_update(1, len(frame.payload)))
        assert (await peer.response()).messages == [b"0123456789" * 20]


async def test_an_update_that_fills_the_window_to_the_last_byte_is_right(host: Host) -> None:
    """§6.9.1: 2^31-1 is allowed, and one more is not."""
    async with await Peer.greeted(host.port) as peer:
        full = WINDOW_MAX - o.WINDOW_BYTES
        await peer.send(hanging(), o.window_update(0, full), o.window_update(1, full))
        await pong(peer)
        await peer.send(o.window_update(1, 1))
        assert await peer.reset() == o.FLOW_CONTROL_ERROR
        await peer.send(o.window_update(0, 1))
        assert await peer.fault() == o.FLOW_CONTROL_ERROR


async def test_a_setting_that_overflows_a_streams_window_is_a_connection_error(host: Host) -> None:
    """§6.9.2."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(hanging(), o.window_update(1, WINDOW_MAX - o.WINDOW_BYTES))
        await peer.send(o.settings((o.INITIAL_WINDOW_SIZE, o.WINDOW_BYTES + 1)))
        await fault(o.FLOW_CONTROL_ERROR)(peer)


async def test_an_update_of_nothing_on_a_half_closed_stream_is_a_stream_error(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(hanging(half_closed=False), o.window_update(1, 0))
        await reset(o.PROTOCOL_ERROR)(peer)


async def test_frames_are_no_larger_than_the_client_takes(host: Host) -> None:
    """§4.2, §6.5.2: 16,384 unless the client says more; never more than it says."""
    for most in (o.FRAME_BYTES, 20_000, 2**24 - 1):
        values = (o.INITIAL_WINDOW_SIZE, WINDOW_MAX), (o.MAX_FRAME_SIZE, most)
        async with await Peer.greeted(host.port, *values) as peer:
            await peer.send(o.window_update(0, BIG), request(1, b"", "Unary", BIG_CALL))
            assert (await peer.response()).status == 0
            assert max(len(f.payload) for f in peer.seen) <= most


def room(peer: Peer, stream: int, taken: int) -> int:
    """What the server has promised to take on a stream, less what it got."""
    initial = dict(peer.seen[0].settings).get(o.INITIAL_WINDOW_SIZE, o.WINDOW_BYTES)
    given = sum(f.number for f in peer.seen if f.kind == o.WINDOW_UPDATE and f.stream == stream)
    return (initial if stream else o.WINDOW_BYTES) + given - taken


async def fill(peer: Peer, stream: int) -> int:
    """Sends small messages until the server gives no more window; returns the bytes."""
    taken, most = 0, 4 * MESSAGE_BYTES_MAX
    while (left := min(room(peer, stream, taken), room(peer, 0, taken))) > 0:
        assert taken < most, "the server takes all that comes, though nobody reads it"
        part = (SMALL * (left // len(SMALL) + 1))[: min(left, o.FRAME_BYTES)]
        await peer.send(o.data(stream, part))
        taken += len(part)
        if left <= o.FRAME_BYTES:
            await peer.pong()
    return taken


async def test_a_stream_that_nobody_reads_gets_no_more_window_and_overrunning_it_is_an_error(
    host: Host,
) -> None:
    """§5.2: back-pressure. §6.9.1: a receiver that gets more than it allowed answers FLOW_CONTROL_ERROR."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, asking("ClientStream", ("x-hang", "1"))))
        taken = await fill(peer, 1)
        await pong(peer)
        assert taken >= dict(peer.seen[0].settings).get(o.INITIAL_WINDOW_SIZE, o.WINDOW_BYTES)
        await peer.send(o.data(1, b"x"))
        found = await peer.until(lambda f: f.kind in (o.RST_STREAM, o.GOAWAY))
        assert found.code == o.FLOW_CONTROL_ERROR


async def test_a_stream_that_nobody_reads_does_not_hold_up_another(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, asking("ClientStream", ("x-hang", "1"))))
        taken = await fill(peer, 1)
        assert room(peer, 0, taken) > 1000, "one stream has used the connection's window up"
        await peer.send(request(3))
        assert (await peer.response(3)).status == 0


async def test_padding_is_counted_and_given_back() -> None:
    """§6.1, §6.9: the whole payload is flow-controlled; a leak would stall stream and connection for ever."""
    small = {"connection_window_bytes": 200_000, "stream_window_bytes": 100_000}
    async with hosted("wire", limits=small) as host, await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, asking("ClientStream")))
        taken, frames = 0, o.data(1, o.padded(o.message(b"x"), 255), o.PADDED) * 40
        size = len(frames) - 40 * o.HEAD_BYTES
        while taken < 5 * small["connection_window_bytes"]:
            if min(room(peer, 1, taken), room(peer, 0, taken)) < size:
                await peer.until(lambda f: f.kind == o.WINDOW_UPDATE)
                continue
            await peer.send(frames)
            taken += size
        await peer.send(o.data(1, b"", o.END_STREAM))
        assert (await peer.response()).status == 0


async def test_a_message_larger_than_the_first_window_gets_through(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        body = o.message(bytes(MESSAGE_BYTES_MAX // 2))
        await peer.send(o.headers(1, asking("ClientStream", ("x-bytes", "1"))))
        at = 0
        while at < len(body):
            while (left := min(room(peer, 1, at), room(peer, 0, at), o.FRAME_BYTES)) <= 0:
                await peer.until(lambda f: f.kind == o.WINDOW_UPDATE)
            await peer.send(o.data(1, body[at : at + left]))
            at += left
        await peer.send(o.data(1, b"", o.END_STREAM), o.window_update(0, at), o.window_update(1, at))
        response = await peer.response()
        assert (response.status, len(response.body)) == (0, len(body))
