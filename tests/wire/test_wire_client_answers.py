"""What a caller is told of answers that are odd, late, too many or unreadable, and what is sent for them."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest
from grpc import StatusCode

from services.chassis.wire.client import RpcError
from tests.wire import octets as o
from tests.wire.answering import answering, path
from tests.wire.channels import calling, code
from tests.wire.scripted import HEAD, OK, Accepted, scripted


@pytest.mark.parametrize("count", [0, 2])
async def test_a_unary_answer_is_one_message(count: int) -> None:
    """gRPC's status codes, "Response cardinality violation"."""

    async def odd(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        await peer.answer(asked, *[b"x"] * count)
        await peer.pong()

    async with scripted(odd) as server, calling(server.port) as (_, unary):
        assert await code(unary(b"x", timeout=5)) is StatusCode.UNIMPLEMENTED


async def test_a_message_that_fits_the_windows_and_no_frame_is_split() -> None:
    """RFC 9113 §4.2."""

    async def look(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        assert asked.messages == [bytes(40_000)]
        assert max(len(frame.payload) for frame in peer.seen if frame.kind == o.DATA) <= o.FRAME_BYTES
        await peer.answer(asked, b"")

    async with scripted(look) as server, calling(server.port) as (channel, unary):
        await channel.channel_ready()
        assert await unary(bytes(40_000), timeout=5) == b""


async def test_an_answer_that_ends_without_trailers_is_unknown() -> None:
    async def cut(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        await peer.send(o.headers(1, HEAD), o.data(1, o.message(b"x"), o.END_STREAM))
        await peer.answer(await peer.call(), *asked.messages)

    async with scripted(cut) as server, calling(server.port) as (_, unary):
        assert await code(unary(b"x", timeout=5)) is StatusCode.UNKNOWN
        assert await unary(b"y", timeout=5) == b"x"


async def test_only_what_shrinks_is_sent_compressed() -> None:
    """The protocol document: Compressed-Flag, for each message."""

    async def look(peer: Accepted) -> None:
        await peer.greet()
        for flag in (1, 0, 0):
            asked = await peer.call()
            assert (dict(asked.fields)["grpc-encoding"], asked.body[0]) == ("gzip", flag)
            await peer.answer(asked, b"")

    options = {"compression": grpc.Compression.Gzip}
    async with scripted(look) as server, calling(server.port, **options) as (_, unary):
        for request in (bytes(1_000), random.randbytes(1_000), b"short"):
            await unary(request, timeout=5)


async def test_a_server_that_cancels_after_the_deadline_tells_that_it_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def late(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        await asyncio.sleep(0.05)
        await peer.send(o.rst_stream(asked.stream, o.CANCEL))
        await peer.send(o.rst_stream((await peer.call()).stream, o.CANCEL))
        await peer.pong()

    async with scripted(late) as server, calling(server.port) as (channel, unary):
        await channel.channel_ready()
        monkeypatch.setattr(channel.deadlines, "add", lambda deadline, call: {})  # Never looked at.
        assert await code(unary(b"x", timeout=0.02)) is StatusCode.DEADLINE_EXCEEDED
        assert await code(unary(b"y", timeout=5)) is StatusCode.CANCELLED


async def test_metadata_that_cannot_be_read_is_left_out() -> None:
    async def odd(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        fields = [*HEAD, ("grpc-status", "5"), ("x-bin", "!"), ("y-bin", "AAE"), ("z", "1")]
        await peer.send(o.headers(asked.stream, fields, o.WHOLE))
        await peer.pong()

    async with scripted(odd) as server, calling(server.port) as (_, unary):
        with pytest.raises(RpcError) as error:
            await unary(b"x", timeout=5)
        assert error.value.code() is StatusCode.NOT_FOUND
        assert error.value.trailing_metadata() == (("y-bin", b"\0\1"), ("z", "1"))


async def test_a_bug_of_one_call_leaves_the_others_alone() -> None:
    async with answering("wire") as port, calling(port) as (channel, unary):
        broken = channel.unary_unary(path("Unary"), response_deserializer=lambda raw: raw.nothing)
        calls = [broken(b"x"), unary(b"y"), broken(b"z"), unary(b"w")]
        codes = [await code(call) for call in calls]
        assert codes == [StatusCode.INTERNAL, StatusCode.OK, StatusCode.INTERNAL, StatusCode.OK]


async def test_content_length_is_held_before_trailers_that_are_known_too() -> None:
    """RFC 9113 §8.1.1; trailers that came before are not read again, what stands before them is."""

    async def short(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(o.headers(1, HEAD), o.data(1, o.message(b"x")), o.headers(1, OK, o.WHOLE))
        await peer.call()
        promise = o.headers(3, [*HEAD, ("content-length", "99")])
        await peer.send(promise, o.data(3, o.message(b"y")), o.headers(3, OK, o.WHOLE))
        assert await peer.reset(3) == o.PROTOCOL_ERROR

    async with scripted(short) as server, calling(server.port) as (_, unary):
        assert await unary(b"x", timeout=5) == b"x"
        assert await code(unary(b"y", timeout=5)) is not StatusCode.OK
        await server.done.wait()
