"""RFC 9113 §5.1, §6.8, §8.1 past h2spec: lives of streams, their numbers, how many, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.wire import octets as o
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.specimen import either, fault, pong, reset

FIELDS = asking()
HEADER_TABLE_ENTRY = o.literal("x-kept", "value", 0x40)
STREAM_MAX = 2**31 - 1  # §5.1.1


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire") as host:
        yield host


async def until_open(host: Host, count: int) -> dict[str, float]:
    """What is measured once that many calls are under way."""
    async with asyncio.timeout(5):
        while (held := await host.measure()).get("open") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return held


IDLE = {
    "DATA": o.data(3, b"x"),
    "RST_STREAM": o.rst_stream(3),
    "WINDOW_UPDATE": o.window_update(3, 1),
    "DATA of the server's": o.data(2, b"x"),
    "RST_STREAM of the server's": o.rst_stream(2),
    "WINDOW_UPDATE of the server's": o.window_update(2, 1),
    "HEADERS of the server's": o.headers(4, FIELDS),
}


@pytest.mark.parametrize("octets", IDLE.values(), ids=IDLE)
async def test_frames_on_an_idle_stream_are_a_connection_error(host: Host, octets: bytes) -> None:
    """§5.1, idle. A call has been before, so the connection is not merely young."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request())
        await peer.response()
        await peer.send(octets)
        assert await peer.fault() == o.PROTOCOL_ERROR


@pytest.mark.parametrize("ending", ["answer", "client's reset"])
@pytest.mark.parametrize(
    "late", [o.window_update(1, 1), o.rst_stream(1), o.priority(1), o.frame(0x16, 0, 1, b"x")]
)
async def test_what_may_cross_the_end_of_a_stream_is_no_error(host: Host, ending: str, late: bytes) -> None:
    """§5.1, closed: WINDOW_UPDATE and RST_STREAM may have been on their way; PRIORITY is allowed."""
    async with await Peer.greeted(host.port) as peer:
        if ending == "answer":
            await peer.send(request())
            await peer.response()
        else:
            await peer.send(hanging(), o.rst_stream(1))
        await peer.send(late)
        await pong(peer)


async def test_data_that_the_server_did_not_wait_for_is_taken_and_its_window_given_back(host: Host) -> None:
    """§5.1: after its own RST_STREAM a server discards, and counts what came on the connection's window."""
    async with await Peer.greeted(host.port) as peer:
        refusing = asking("ClientStream", ("x-status", "9"))
        for stream in range(1, 41, 2):
            await peer.send(o.headers(stream, refusing))
            assert (await peer.response(stream)).status == 9
            room = o.WINDOW_BYTES + sum(
                f.number for f in peer.seen if f.kind == o.WINDOW_UPDATE and not f.stream
            )
            room -= (stream // 2) * o.FRAME_BYTES
            assert room >= o.FRAME_BYTES, "the window of the connection has shrunk for good"
            await peer.send(o.data(stream, bytes(o.FRAME_BYTES)))
            await peer.pong()


async def test_streams_may_be_skipped_and_the_skipped_are_closed(host: Host) -> None:
    """§5.1.1."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(7))
        assert (await peer.response(7)).status == 0
        await peer.send(o.headers(3, FIELDS))
        assert await peer.fault() in (o.PROTOCOL_ERROR, o.STREAM_CLOSED)


async def test_the_last_stream_number_of_all_is_served(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(STREAM_MAX))
        assert (await peer.response(STREAM_MAX)).status == 0
        await pong(peer)


async def test_a_refused_stream_costs_neither_the_others_nor_the_header_table(host: Host) -> None:
    """§5.1.2, §4.3: REFUSED_STREAM, its block is decoded all the same, and an ended call makes room."""
    async with await Peer.greeted(host.port) as peer:
        most = dict(peer.seen[0].settings)[o.MAX_CONCURRENT_STREAMS]
        held = [2 * index + 1 for index in range(most)]
        await peer.send(*map(hanging, held))
        above = held[-1] + 2
        block = o.block(FIELDS) + HEADER_TABLE_ENTRY
        await peer.send(o.frame(o.HEADERS, o.WHOLE, above, block))
        assert await peer.reset(above) == o.REFUSED_STREAM
        await peer.send(o.rst_stream(1), o.rst_stream(3))
        echoing = o.block([*FIELDS, ("x-echo", "1")]) + b"\xbe"  # The entry that the refused block made.
        await peer.send(
            o.frame(o.HEADERS, o.END_HEADERS, above + 2, echoing),
            o.data(above + 2, o.message(), o.END_STREAM),
        )
        assert (await peer.response(above + 2)).status == 0


async def test_a_reset_cancels_the_call(host: Host) -> None:
    """§6.4, §8.7: nobody waits for the answer any more."""
    before = await host.measure()
    async with await Peer.greeted(host.port) as peer:
        await peer.send(hanging(1), o.headers(3, asking("ClientStream", ("x-hang", "1"))))
        await until_open(host, 2)
        await peer.send(o.rst_stream(1), o.rst_stream(3))
        held = await until_open(host, 0)
    assert held["CancelledError"] - before.get("CancelledError", 0) == 2


@pytest.mark.parametrize("end", ["abort", "half-close", "error"])
async def test_the_end_of_a_connection_cancels_its_calls(host: Host, end: str) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(*map(hanging, (1, 3, 5)))
        await until_open(host, 3)
        if end == "abort":
            peer.close()
        elif end == "half-close":
            peer.half_close()
        else:
            await peer.send(o.rst_stream(0))
        await until_open(host, 0)


async def test_a_client_that_says_goaway_still_gets_its_answers(host: Host) -> None:
    """§6.8: activity on streams that exist may go on."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"hello", "Unary", ("x-delay-ms", "50")), o.goaway())
        assert (await peer.response()).status == 0


LAST, TRAILERS = o.data(1, o.message(), o.END_STREAM), o.headers(1, [("x", "y")], o.WHOLE)
AFTER_THE_END = {
    "DATA after DATA": (LAST, o.data(1, b"x")),
    "DATA after trailers": (TRAILERS, o.data(1, b"x")),
    "empty DATA": (LAST, o.data(1, b"", o.END_STREAM)),
    "trailers after trailers": (TRAILERS, TRAILERS),
}


@pytest.mark.parametrize(("ended", "more"), AFTER_THE_END.values(), ids=AFTER_THE_END)
async def test_nothing_may_follow_the_end_of_a_request(host: Host, ended: bytes, more: bytes) -> None:
    """§5.1, half-closed (remote): STREAM_CLOSED; the call may have been answered before."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, asking("ClientStream", ("x-hang", "1"))), ended, more)
        await either(o.STREAM_CLOSED)(peer)


@pytest.mark.parametrize("rpc", ["Unary", "ServerStream", "ClientStream", "Bidi"])
async def test_a_request_may_end_by_an_empty_frame_or_by_trailers(host: Host, rpc: str) -> None:
    """§8.1."""
    async with await Peer.greeted(host.port) as peer:
        for stream, end in ((1, o.data(1, b"", o.END_STREAM)), (3, o.headers(3, [("x-late", "1")], o.WHOLE))):
            await peer.send(o.headers(stream, asking(rpc)), o.data(stream, o.message(b"hello")), end)
            response = await peer.response(stream)
            assert (response.status, response.messages) == (0, [b"hello"])


@pytest.mark.parametrize("stream", [0, 2, 4])
async def test_headers_on_a_number_that_is_not_a_clients_are_a_connection_error(
    host: Host, stream: int
) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(stream, FIELDS))
        await fault(o.PROTOCOL_ERROR)(peer)


async def test_a_stream_error_leaves_the_other_calls_of_the_connection_alone(host: Host) -> None:
    """§5.4.2."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(request(1, b"hello", "Unary", ("x-delay-ms", "100")))
        await peer.send(o.headers(3, [*FIELDS, ("Upper", "x")], o.WHOLE))
        await reset(o.PROTOCOL_ERROR, stream=3)(peer)
        assert (await peer.response(1)).status == 0
