"""Messages that are larger than they look, or than they may be."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from tests.wire import octets as o
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Peer, Response, asking, request
from tests.wire.rig import MESSAGE_BYTES_MAX
from tests.wire.siege import besieged

GZIP = ("grpc-encoding", "gzip")
EXHAUSTED, INTERNAL = 8, 13


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire") as host:
        yield host


def bomb(size: int) -> bytes:
    """Zeros, packed a thousandfold."""
    packer = zlib.compressobj(9, wbits=31)
    part = bytes(1 << 20)
    return b"".join(packer.compress(part) for _ in range(size >> 20)) + packer.flush()


async def send(peer: Peer, stream: int, fields: o.Fields, body: bytes) -> Response:
    """A call whose body is larger than one frame may be."""
    await peer.send(o.headers(stream, fields))
    for at in range(0, len(body), o.FRAME_BYTES):
        await peer.send(o.data(stream, body[at : at + o.FRAME_BYTES]))
    await peer.send(o.data(stream, b"", o.END_STREAM))
    return await peer.response(stream)


BOMBS = {
    "200 MB in 200 KB": bomb(200 << 20),
    "just above the limit": gzip.compress(bytes(MESSAGE_BYTES_MAX + 1)),
    "ten members of 4 MB": bomb(4 << 20) * 10,
    "many empty members": gzip.compress(b"") * 20_000,
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("rpc", ["Unary", "ClientStream"])
async def test_a_gzip_bomb_is_not_unpacked(host: Host, rpc: str, kind: str) -> None:
    """RESOURCE_EXHAUSTED; more than one gzip member, or garbage after it, may also be no gzip at all."""
    async with besieged(host), await Peer.greeted(host.port) as peer:
        for stream in range(1, 9, 2):
            response = await send(peer, stream, asking(rpc, GZIP), o.message(BOMBS[kind], 1))
            assert response.status in (EXHAUSTED, INTERNAL) or (
                kind.startswith("many") and response.status == 0
            )
        await peer.send(request(99))
        assert (await peer.response(99)).status == 0


async def test_a_message_of_exactly_the_limit_passes(host: Host) -> None:
    async with besieged(host, 64), await Peer.greeted(host.port) as peer:
        fields = asking("Unary", ("x-bytes", "10"))
        for stream, body in (
            (1, o.message(gzip.compress(bytes(MESSAGE_BYTES_MAX)), 1)),
            (3, o.message(gzip.compress(b"x" * MESSAGE_BYTES_MAX, 0)[:5], 1)),
        ):
            response = await send(peer, stream, [*fields, GZIP], body)
            assert response.status == (0 if stream == 1 else INTERNAL)


@pytest.mark.parametrize("length", [MESSAGE_BYTES_MAX + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("rpc", ["Unary", "ServerStream", "ClientStream", "Bidi"])
async def test_a_message_is_refused_by_its_announced_length(host: Host, rpc: str, length: int) -> None:
    async with besieged(host), await Peer.greeted(host.port) as peer:
        prefix = b"\0" + length.to_bytes(4, "big")
        await peer.send(o.headers(1, asking(rpc)), o.data(1, prefix + bytes(100)))
        assert (await peer.response()).status == EXHAUSTED


async def test_many_messages_of_nothing_are_messages(host: Host) -> None:
    """5 bytes each, 3,276 a frame: work for the server, which back-pressure bounds."""
    async with besieged(host, 64), await Peer.greeted(host.port) as peer:
        body = o.message() * 30_000
        response = await send(peer, 1, asking("ClientStream"), body)
        assert (response.status, len(response.messages[0])) == (0, 29_999)
