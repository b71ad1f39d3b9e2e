"""Calls of all four kinds, with the methods that callers of grpc.aio use, to grpcio's servers and our own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from services.chassis.wire.client import Channel, Metadata, Options, RpcError, UsageError
from services.chassis.wire.metadata import MetadataFault
from tests.wire.answering import PEERS, STATUS, answering, path

BIG = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture(params=PEERS, scope="module")
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    async with answering(request.param) as port:
        yield port


@pytest.fixture
async def channel(port: int) -> AsyncIterator[Channel]:
    async with Channel(f"127.0.0.1:{port}") as channel:
        yield channel


def unary(channel: Channel, **coding: Any) -> Any:
    return channel.unary_unary(path("Unary"), **coding)


async def test_a_unary_call_is_answered(channel: Channel) -> None:
    call = unary(channel)(b"hello", timeout=5)
    assert await call == b"hello"
    assert await call == b"hello", "a call may be awaited again"
    assert (await call.code(), await call.details(), call.done(), call.cancelled()) == (
        StatusCode.OK,
        "",
        True,
        False,
    )


async def test_messages_are_coded_by_the_stub(channel: Channel) -> None:
    call = unary(channel, request_serializer=str.encode, response_deserializer=bytes.decode)
    assert await call("прямо") == "прямо"


async def test_an_empty_message_is_a_message(channel: Channel) -> None:
    assert await unary(channel)(b"") == b""


async def test_large_messages_go_both_ways(channel: Channel) -> None:
    assert await unary(channel)(BIG) == BIG
    call = channel.stream_stream(path("Bidi"))(iter([BIG, BIG]))
    assert [message async for message in call] == [BIG, BIG]


async def test_many_calls_at_once_get_their_own_answers(channel: Channel) -> None:
    calls = [unary(channel)(b"%d" % number) for number in range(500)]
    assert await asyncio.gather(*(_of(call) for call in calls)) == [b"%d" % n for n in range(500)]


async def test_metadata_goes_both_ways_binary_too(channel: Channel) -> None:
    call = unary(channel)(b"metadata", metadata=(("x-a", " padded "), ("x-b-bin", b"\xff\0"), ("x-a", "two")))
    assert await call == repr(sorted([("x-a", "padded"), ("x-b-bin", b"\xff\0"), ("x-a", "two")])).encode()
    assert ("x-initial", "first") in tuple(await call.initial_metadata())
    trailing = await call.trailing_metadata()
    assert set(STATUS) <= set(trailing)
    assert (trailing["x-why"], trailing.get("x-none"), "x-why" in trailing) == ("asked for", None, True)


@pytest.mark.parametrize(
    "wrong",
    [("Upper", "x"), ("a b", "x"), ("x", "line\nbreak"), ("grpc-timeout", "1S"), ("te", "x"), ("", "x")],
)
async def test_metadata_that_cannot_be_sent_is_refused_by_name(
    channel: Channel, wrong: tuple[str, str]
) -> None:
    with pytest.raises(MetadataFault, match="metadata key"):
        unary(channel)(b"x", metadata=(wrong,))


async def test_a_refusal_has_code_details_and_trailers(channel: Channel) -> None:
    call = unary(channel)(b"refuse")
    with pytest.raises(grpc.RpcError) as error:
        await call
    assert isinstance(error.value, RpcError)
    assert (error.value.code(), error.value.details()) == (StatusCode.NOT_FOUND, "nobody hört")
    assert set(STATUS) <= set(error.value.trailing_metadata())
    assert "NOT_FOUND" in str(error.value)
    assert set(STATUS) <= set(await call.trailing_metadata())


async def test_an_unknown_method_is_unimplemented(channel: Channel) -> None:
    assert await channel.unary_unary(path("Nope"))(b"").code() is StatusCode.UNIMPLEMENTED


async def test_the_deadline_ends_the_call(channel: Channel) -> None:
    for timeout in (0.05, 0, -1):
        call = unary(channel)(b"slow", timeout=timeout)
        with pytest.raises(RpcError) as error:
            await call
        assert error.value.code() is StatusCode.DEADLINE_EXCEEDED
        assert call.time_remaining() in (0.0, None)
    assert await unary(channel)(b"next") == b"next"


async def test_a_call_without_timeout_has_no_time_remaining(channel: Channel) -> None:
    assert unary(channel)(b"x").time_remaining() is None
    assert 4 < unary(channel)(b"x", timeout=5).time_remaining() <= 5


async def test_cancelling_is_told_as_grpc_aio_tells_it(channel: Channel) -> None:
    call, ended = unary(channel)(b"slow"), []
    call.add_done_callback(ended.append)
    await call.wait_for_connection()
    assert call.cancel() is True
    assert call.cancel() is False
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (call.cancelled(), await call.code()) == (True, StatusCode.CANCELLED)
    await asyncio.sleep(0)
    assert ended == [call]


async def test_who_stops_waiting_cancels_the_call(channel: Channel) -> None:
    call = unary(channel)(b"slow")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_of(call), 0.05)
    assert call.cancelled()


async def test_who_stops_waiting_for_the_code_does_not(channel: Channel) -> None:
    call = unary(channel)(b"slow")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.code(), 0.05)
    assert not call.done()
    call.cancel()


async def test_a_stream_is_iterated_in_order(channel: Channel) -> None:
    call = channel.unary_stream(path("ServerStream"))(b"3000")
    assert [message async for message in call] == [b"%d" % number for number in range(3000)]
    assert await call.code() is StatusCode.OK
    assert [message async for message in channel.unary_stream(path("ServerStream"))(b"0")] == []


async def test_a_stream_is_read_to_the_end_of_file_of_grpc_aio(channel: Channel) -> None:
    call = channel.unary_stream(path("ServerStream"))(b"2")
    read = [await call.read() for _ in range(4)]
    assert read == [b"0", b"1", grpc.aio.EOF, grpc.aio.EOF]


async def test_a_stream_may_fail_after_messages(channel: Channel) -> None:
    call = channel.unary_stream(path("ServerStream"))(b"2,then")
    assert [await call.read(), await call.read()] == [b"0", b"1"]
    with pytest.raises(RpcError) as error:
        await call.read()
    assert error.value.code() is StatusCode.ABORTED


async def test_requests_may_come_from_any_iterable(channel: Channel) -> None:
    async def each() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d" % number

    for requests in (each(), [b"%d" % number for number in range(100)]):
        answer = await channel.stream_unary(path("ClientStream"))(requests)
        assert answer == b"|".join(b"%d" % number for number in range(100))


async def test_requests_may_be_written(channel: Channel) -> None:
    call = channel.stream_unary(path("ClientStream"))()
    for number in range(3):
        await call.write(b"%d" % number)
    await call.done_writing()
    await call.done_writing()
    assert await call == b"0|1|2"
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"late")


async def test_both_sides_speak_in_turn(channel: Channel) -> None:
    call = channel.stream_stream(path("Bidi"))()
    for number in range(50):
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
    await call.done_writing()
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"late")
    assert await call.read() is grpc.aio.EOF


async def test_an_iterator_that_breaks_ends_its_call_and_says_why(channel: Channel) -> None:
    def breaks() -> Any:
        yield b"1"
        raise LookupError("nothing more")

    call = channel.stream_unary(path("ClientStream"))(breaks())
    with pytest.raises(RpcError) as error:
        await call
    assert error.value.code() is StatusCode.UNKNOWN
    assert isinstance(error.value.__cause__, LookupError)


async def test_an_iterator_ends_with_its_call(channel: Channel) -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await asyncio.sleep(60)
        finally:
            ended.set()

    assert await channel.stream_unary(path("Nope"))(endless()).code() is StatusCode.UNIMPLEMENTED
    await asyncio.wait_for(ended.wait(), 5)


async def test_who_stops_reading_cancels_the_call(channel: Channel) -> None:
    call = channel.stream_stream(path("Bidi"))()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.read(), 0.05)
    assert call.cancelled()


async def test_a_call_with_an_iterator_is_not_written_to(channel: Channel) -> None:
    call = channel.stream_stream(path("Bidi"))(iter([]))
    with pytest.raises(UsageError):
        await call.write(b"x")
    with pytest.raises(UsageError):
        await call.done_writing()


async def test_a_stream_that_is_dropped_is_cancelled(channel: Channel) -> None:
    call = channel.unary_stream(path("ServerStream"))(b"100000000", timeout=60)
    assert await call.read() == b"0"
    attempt = call.attempt
    assert attempt is not None
    del call
    gc.collect()
    assert attempt.gone


async def test_messages_are_compressed_where_it_helps(port: int) -> None:
    options = Options(compression=grpc.Compression.Gzip)
    async with Channel(f"127.0.0.1:{port}", options) as channel:
        for request in (b"a" * 100_000, b"short", bytes(range(256))):
            assert await unary(channel)(request) == request
            assert await unary(channel)(request, compression=grpc.Compression.NoCompression) == request
        with pytest.raises(ValueError, match="Deflate"):
            unary(channel)(b"x", compression=grpc.Compression.Deflate)


async def test_responses_that_cannot_be_decoded_are_internal(channel: Channel) -> None:
    def breaks(_: bytes) -> None:
        raise ValueError("no such thing")

    call = unary(channel, response_deserializer=breaks)(b"x")
    with pytest.raises(RpcError) as error:
        await call
    assert error.value.code() is StatusCode.INTERNAL
    assert isinstance(error.value.__cause__, ValueError)
    stream = channel.unary_stream(path("ServerStream"), response_deserializer=breaks)(b"5")
    with pytest.raises(RpcError):
        await stream.read()


async def test_a_serializer_that_breaks_raises_what_it_raises(channel: Channel) -> None:
    with pytest.raises(AttributeError):
        unary(channel, request_serializer=lambda request: request.SerializeToString())(b"x")


async def test_a_slow_reader_stops_the_server(channel: Channel) -> None:
    """Of 100 MB, no more comes than a window and a message, until it is read."""
    call = channel.stream_stream(path("Bidi"))()
    writer = asyncio.create_task(_write_all(call, bytes(100_000), 1_000))
    assert await call.read() == bytes(100_000)
    held = []
    for _ in range(20):
        await asyncio.sleep(0.01)
        held.append(call.attempt.held)
    assert not writer.done(), "the writer waits for the reader"
    assert max(held) <= Options().limits.stream_window_bytes
    read = 1
    while await call.read() is not grpc.aio.EOF:
        read += 1
    assert read == 1_000
    await writer


def test_metadata_is_pairs_that_can_be_asked_by_key() -> None:
    metadata = Metadata((("a", "1"), ("b", "2"), ("a", "3")))
    assert (metadata["a"], metadata.get_all("a"), metadata.keys()) == ("1", ["1", "3"], ["a", "b"])
    assert dict(metadata) == {"a": "1", "b": "2"}
    assert (metadata[1], list(metadata)[2]) == (("b", "2"), ("a", "3"))
    with pytest.raises(KeyError):
        metadata["c"]


async def _of(call: Any) -> Any:
    return await call


async def _write_all(call: Any, message: bytes, count: int) -> None:
    for _ in range(count):
        await call.write(message)
    await call.done_writing()
