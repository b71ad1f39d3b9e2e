"""Floods: cheap frames, resets of every making, blocks without end. The server must tire of them first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count, islice

import pytest

from tests.wire import octets as o
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.siege import besieged, flood

FIELDS = asking()
OPEN = o.block(asking("ClientStream"))
WHOLE = o.block(FIELDS)
BATCH = 200  # Frames that are written at once.
STREAMS_MAX = 40_000  # That a flood opens at most; ten times what the server's limits take.
FRAMES_MAX = 200_000  # Of a flood without streams.


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    async with hosted("wire", uvloop=request.param) as host:
        yield host


def opened(stream: int, flags: int = o.END_HEADERS) -> bytes:
    return o.frame(o.HEADERS, flags, stream, OPEN)


# What a client does to a stream of its own so that the server, or it, must reset it (CVE-2023-44487,
# CVE-2025-8671): each costs the server a call, and the client nothing.
RESETS = {
    "reset by the client": lambda s: opened(s) + o.rst_stream(s),
    "window update of nothing": lambda s: opened(s) + o.window_update(s, 0),
    "window update too large": lambda s: opened(s) + o.window_update(s, 2**31 - 1),
    "data after the end": lambda s: hanging(s) + o.data(s, b"x"),
    "headers after the end": lambda s: hanging(s) + opened(s, o.WHOLE),
    "priority of a wrong size": lambda s: opened(s) + o.frame(o.PRIORITY, 0, s, b"x"),
    "malformed field": lambda s: o.headers(s, [*FIELDS, ("Upper", "x")]),
    "content-length that lies": lambda s: (
        o.headers(s, [*FIELDS, ("content-length", "1")]) + o.data(s, o.message(), o.END_STREAM)
    ),
    "trailers without an end": lambda s: opened(s) + o.headers(s, [("x", "y")]),
}


@pytest.mark.parametrize("making", RESETS)
async def test_streams_opened_to_be_reset_end_the_connection(host: Host, making: str) -> None:
    def chunks() -> Iterator[bytes]:
        streams = count(1, 2)
        for _ in range(STREAMS_MAX // BATCH):
            yield b"".join(RESETS[making](stream) for stream in islice(streams, BATCH))

    async with besieged(host), await Peer.greeted(host.port) as peer:
        last = await flood(peer, chunks())
        assert last is not None, "the server took all of it"
        assert last.code == o.ENHANCE_YOUR_CALM


async def test_streams_past_the_limit_end_the_connection(host: Host) -> None:
    """Each is refused, which costs the server a frame and the client another."""

    def chunks() -> Iterator[bytes]:
        streams = count(1, 2)
        for _ in range(STREAMS_MAX // BATCH):
            yield b"".join(hanging(stream) for stream in islice(streams, BATCH))

    async with besieged(host, 96), await Peer.greeted(host.port) as peer:
        last = await flood(peer, chunks())
        assert last is not None
        assert last.code == o.ENHANCE_YOUR_CALM


CHEAP = {
    "SETTINGS": o.settings(),
    "SETTINGS with values": o.settings(*[(o.INITIAL_WINDOW_SIZE, n) for n in range(100)]),
    "acknowledgements of SETTINGS": o.settings(flags=o.ACK),
    "PING": o.ping(),
    "acknowledgements of PING": o.ping(flags=o.ACK),
    "PRIORITY": o.priority(1, 3),
    "WINDOW_UPDATE": o.window_update(0, 1),
    "unknown frames": o.frame(0x20, 0, 0, b"x"),
    "empty DATA": o.data(1),
    "padded empty DATA": o.data(1, o.padded(b"", 255), o.PADDED),
    "WINDOW_UPDATE of a stream": o.window_update(1, 1),
    "RST_STREAM of an ended stream": o.rst_stream(3),
    "WINDOW_UPDATE of an ended stream": o.window_update(3, 1),
}


@pytest.mark.parametrize("kind", CHEAP)
async def test_frames_that_do_nothing_end_the_connection(host: Host, kind: str) -> None:
    """CVE-2019-9512, -9515, -9518 and the like."""
    async with besieged(host), await Peer.greeted(host.port) as peer:
        await peer.send(opened(1), hanging(3), o.rst_stream(3))
        last = await flood(peer, (CHEAP[kind] * BATCH for _ in range(FRAMES_MAX // BATCH)))
        assert last is not None, "the server took all of it"
        assert last.code == o.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("kind", ["PING", "SETTINGS"])
async def test_answers_that_nobody_reads_are_not_kept(host: Host, kind: str) -> None:
    """CVE-2019-9512, -9515: the client writes on and never reads."""
    async with besieged(host), await Peer.greeted(host.port) as peer:
        for _ in range(FRAMES_MAX // BATCH):
            await peer.send(CHEAP[kind] * BATCH)
        assert (await peer.fault()) == o.ENHANCE_YOUR_CALM


BLOCKS = {
    "empty CONTINUATIONs": (b"", 100_000),
    "tiny CONTINUATIONs": (o.literal("a", "b"), 100_000),
    "large CONTINUATIONs": (o.literal("a", "b" * 16_000), 5_000),
}


@pytest.mark.parametrize("kind", BLOCKS)
async def test_a_header_block_without_end_ends_the_connection(host: Host, kind: str) -> None:
    """CVE-2024-27316 and its kin."""
    fragment, most = BLOCKS[kind]
    async with besieged(host), await Peer.greeted(host.port) as peer:
        await peer.send(o.frame(o.HEADERS, 0, 1, WHOLE))
        last = await flood(peer, (o.frame(o.CONTINUATION, 0, 1, fragment) for _ in range(most)))
        assert last is not None
        assert last.code == o.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("times", [100, 10_000])
async def test_a_block_that_unpacks_a_hundredfold_is_not_unpacked(host: Host, times: int) -> None:
    """RFC 7541 §7.1.3, RFC 9113 §10.5.1: one large entry, and references to it."""
    entry = o.literal("x-large", "v" * 3900, 0x40)
    async with besieged(host), await Peer.greeted(host.port) as peer:
        for stream in range(1, 41, 2):
            block = WHOLE + (entry if stream == 1 else b"") + b"\xbe" * times
            await peer.send(o.frame(o.HEADERS, o.WHOLE, stream, block[: o.FRAME_BYTES]))
            response = await peer.response(stream)
            refused = response.headers.get(":status") == "431" or response.status == 8
            assert refused or response.reset == o.ENHANCE_YOUR_CALM
        await peer.send(request(99))
        assert (await peer.response(99)).status == 0


async def test_table_sizes_that_change_all_the_time_cost_nothing(host: Host) -> None:
    """RFC 7541 §4.2: no more than two updates are of use before a block."""
    async with besieged(host), await Peer.greeted(host.port) as peer:
        for stream in range(1, 201, 2):
            fill = o.literal(f"x-{stream}", "v" * 1000, 0x40) * 3
            await peer.send(o.frame(o.HEADERS, o.END_HEADERS, stream, b"\x20\x3f\xe1\x1f" + WHOLE + fill))
            await peer.send(o.data(stream, o.message(), o.END_STREAM))
            assert (await peer.response(stream)).status == 0
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 201, b"\x20\x21" * 8000 + WHOLE))
        await peer.send(o.data(201, o.message(), o.END_STREAM))
        found = await peer.until(lambda f: f.stream == 201 or f.kind == o.GOAWAY)
        assert found.kind == o.HEADERS or found.code in (o.COMPRESSION_ERROR, o.ENHANCE_YOUR_CALM)


async def test_pings_that_come_too_often_without_calls_are_told_off() -> None:
    """gRPC keepalive: "too_many_pings", with the server's usual limits."""
    async with (
        hosted("wire", limits={"ping_interval_s": 10.0}) as host,
        besieged(host),
        await Peer.greeted(host.port) as peer,
    ):
        await peer.send(o.ping() * 10)
        last = await peer.goodbye()
        assert (last.code, last.payload[8:]) == (o.ENHANCE_YOUR_CALM, b"too_many_pings")
