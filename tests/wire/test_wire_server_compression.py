"""gzip both ways, and what is refused of it (gRPC's compression document)."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from services.chassis.wire.server import Server
from tests.wire import octets as o
from tests.wire.peer import Peer, asking
from tests.wire.served import PATIENT, channel, handler, path, serving

GZIP = ("grpc-encoding", "gzip")
TAKES = ("grpc-accept-encoding", "identity,deflate, gzip")
TEXT = b"again and " * 1_000


async def squeezed(request: bytes, context: Any) -> bytes:
    context.set_compression(grpc.Compression.Gzip)
    return request


async def test_a_compressing_caller_is_understood() -> None:
    async with serving() as (_, port), channel(port) as client:
        unary, bidi = client.unary_unary(path("Unary")), client.stream_stream(path("Bidi"))
        assert await unary(TEXT, compression=grpc.Compression.Gzip) == TEXT
        call = bidi(iter([TEXT, b"", TEXT]), compression=grpc.Compression.Gzip)
        assert [each async for each in call] == [TEXT, b"", TEXT]


async def test_responses_are_compressed_for_who_takes_it() -> None:
    async with serving(Unary=squeezed) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("Unary", TAKES)), o.data(1, o.message(TEXT), o.END_STREAM))
        response = await peer.response()
        assert response.headers["grpc-encoding"] == "gzip"
        assert response.body[0] == 1
        assert gzip.decompress(response.messages[0]) == TEXT
        await peer.send(o.headers(3, asking("Unary")), o.data(3, o.message(TEXT), o.END_STREAM))
        plain = await peer.response(3)
        assert "grpc-encoding" not in plain.headers
        assert plain.messages == [TEXT]


async def test_one_response_of_a_compressed_stream_may_be_plain() -> None:
    async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
        context.set_compression(grpc.Compression.Gzip)
        yield TEXT
        context.disable_next_message_compression()
        yield TEXT
        yield TEXT

    async with serving(ServerStream=answer) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("ServerStream", TAKES)), o.data(1, o.message(), o.END_STREAM))
        first, second, third = (await peer.response()).messages
    assert [gzip.decompress(first), second, gzip.decompress(third)] == [TEXT] * 3


async def test_a_server_compresses_all_its_responses_when_told_to() -> None:
    server = Server(PATIENT, compression=grpc.Compression.Gzip)
    server.add_generic_rpc_handlers((handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("Unary", TAKES)), o.data(1, o.message(TEXT), o.END_STREAM))
        assert gzip.decompress((await peer.response()).messages[0]) == TEXT
    async with channel(port) as client:
        assert await client.unary_unary(path("Unary"))(TEXT) == TEXT
    await server.stop(None)


@pytest.mark.parametrize(
    ("fields", "message", "status", "says"),
    [
        ([GZIP], o.message(b"no gzip", 1), 13, "gzip"),
        ([], o.message(gzip.compress(TEXT), 1), 13, "compress"),
        ([("grpc-encoding", "identity")], o.message(gzip.compress(TEXT), 1), 13, "compress"),
        ([("grpc-encoding", "br")], o.message(TEXT, 1), 12, "grpc-encoding"),
        ([GZIP], o.message(TEXT, 2), 13, "Flag"),
        ([GZIP], o.message(gzip.compress(bytes(2_000_000)), 1), 8, "longer"),
    ],
    ids=["no gzip", "not announced", "identity", "unknown", "flag 2", "bomb"],
)
async def test_what_cannot_be_decompressed_is_refused(
    fields: list[tuple[str, str]], message: bytes, status: int, says: str
) -> None:
    limits = replace(PATIENT, message_bytes_max=1_000_000)
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        for stream, rpc in ((1, "Unary"), (3, "ClientStream")):
            await peer.send(o.headers(stream, asking(rpc, *fields)), o.data(stream, message, o.END_STREAM))
            response = await peer.response(stream)
            assert response.status == status
            said = response.trailers or response.headers
            assert says in said["grpc-message"]
            assert status != 12 or said["grpc-accept-encoding"] == "identity,gzip"


async def test_messages_above_the_bound_are_refused_before_they_arrive() -> None:
    limits = replace(PATIENT, message_bytes_max=1_000)
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        for stream, rpc in ((1, "Unary"), (3, "ClientStream")):
            # Only the first bytes of a large message: its prefix says enough.
            await peer.send(o.headers(stream, asking(rpc)), o.data(stream, o.message(bytes(1_001))[:10]))
            assert (await peer.response(stream)).status == 8
            assert await peer.reset(stream) == o.NO_ERROR
    async with serving(limits) as (_, port), channel(port) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.unary_unary(path("Unary"))(bytes(1_001))
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await client.unary_unary(path("Unary"))(bytes(1_000)) == bytes(1_000)
