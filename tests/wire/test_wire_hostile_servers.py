"""Floods and bombs from a server: the client leaves it, the call fails, the next is made elsewhere."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pytest

from tests.wire import octets as o
from tests.wire.callers import calling, outcome
from tests.wire.scripted import HEAD, OK, Accepted, scripted
from tests.wire.siege import flood

FRAMES_MAX, BATCH = 200_000, 200  # Of a flood; ten times what the client's limits take.
BEGUN, END = o.headers(1, HEAD), o.headers(1, OK, o.WHOLE)
EXHAUSTED, INTERNAL, UNAVAILABLE = 8, 13, 14
FAILED = {EXHAUSTED, INTERNAL, UNAVAILABLE}

CHEAP = {
    "SETTINGS": o.settings(),
    "PING": o.ping(),
    "acknowledgements of PING": o.ping(flags=o.ACK),
    "PRIORITY": o.priority(1, 3),
    "WINDOW_UPDATE": o.window_update(0, 1),
    "unknown frames": o.frame(0x20, 0, 0, b"x"),
    "empty DATA": o.data(1),
    "GOAWAY": o.goaway(2**31 - 1),
    "interim answers": o.headers(1, [(":status", "103")]),
}


def chunks(octets: bytes) -> Iterator[bytes]:
    return (octets * BATCH for _ in range(FRAMES_MAX // BATCH))


@pytest.mark.parametrize("kind", CHEAP)
async def test_frames_that_do_nothing_end_the_connection(kind: str) -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(b"" if kind == "interim answers" else BEGUN)
        last = await flood(peer, chunks(CHEAP[kind]))
        assert last is not None, "the client took all of it"
        assert last.code == o.ENHANCE_YOUR_CALM

    async with scripted(script) as server, calling("wire", server.port) as channel:
        assert (await outcome(channel, timeout=20)).code in FAILED
        assert (await outcome(channel)).messages == [b"hello"]


BLOCKS = {
    "empty CONTINUATIONs": (b"", 100_000),
    "tiny CONTINUATIONs": (o.literal("a", "b"), 100_000),
    "large CONTINUATIONs": (o.literal("a", "b" * 16_000), 5_000),
}


@pytest.mark.parametrize("kind", BLOCKS)
async def test_a_header_block_without_end_ends_the_connection(kind: str) -> None:
    fragment, most = BLOCKS[kind]

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(o.headers(1, HEAD, 0))
        last = await flood(peer, (o.frame(o.CONTINUATION, 0, 1, fragment) for _ in range(most)))
        assert last is not None
        assert last.code == o.ENHANCE_YOUR_CALM

    async with scripted(script) as server, calling("wire", server.port) as channel:
        assert (await outcome(channel)).code in FAILED
        assert (await outcome(channel)).messages == [b"hello"]


async def test_a_block_that_unpacks_a_hundredfold_fails_its_call_only() -> None:
    entry = o.literal("x-large", "v" * 3900, 0x40)

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 1, o.block(HEAD) + entry + b"\xbe" * 10_000))
        await peer.echo()

    async with scripted(script) as server, calling("wire", server.port) as channel:
        assert (await outcome(channel)).code in FAILED
        assert (await outcome(channel)).messages == [b"hello"]
        assert len(server.connections) == 1


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize("rpc", ["Unary", "ServerStream"])
@pytest.mark.parametrize(
    "packed", [bomb(100 << 20), gzip.compress(b"") * 20_000], ids=["large", "many members"]
)
async def test_a_gzip_bomb_fails_its_call_only(rpc: str, packed: bytes) -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        body = o.message(packed, 1)
        parts = [o.data(1, body[at : at + o.FRAME_BYTES]) for at in range(0, len(body), o.FRAME_BYTES)]
        await peer.send(o.headers(1, [*HEAD, ("grpc-encoding", "gzip")]), *parts, END)
        await peer.echo()

    async with scripted(script) as server, calling("wire", server.port) as channel:
        assert (await outcome(channel, rpc)).code in FAILED
        assert (await outcome(channel)).messages == [b"hello"]
        assert len(server.connections) == 1


async def test_a_server_that_says_nothing_does_not_hold_a_call_past_its_deadline() -> None:
    async def script(peer: Accepted) -> None:
        await peer.rest(30)

    async with scripted(script) as server, calling("wire", server.port) as channel:
        assert (await outcome(channel, timeout=0.2)).code in (4, UNAVAILABLE)
