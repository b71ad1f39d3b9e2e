"""What a handler is told of its call and what it may say, as under grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.wire import octets as o
from tests.wire.peer import Peer, asking, hanging
from tests.wire.served import PATIENT, channel, path, serving

HANG_S = 60.0
DEADLINE_S = 0.2
BINARY = bytes(range(256))
UNSWEPT = replace(PATIENT, sweep_s=3_600.0)  # So that nothing ends late calls but their own deadlines.


class Hanging:
    """A handler that waits for its end, and says how that came."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.cancelled: bool | None = None

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.begun.set()
        try:
            await asyncio.sleep(HANG_S)
        finally:
            self.cancelled = context.cancelled()
            self.ended.set()
        return request

    async def over(self) -> None:
        async with asyncio.timeout(5):
            await self.ended.wait()


async def test_metadata_goes_both_ways_binary_too() -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        given = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
        await context.send_initial_metadata(given)
        context.set_trailing_metadata([(f"x-t{key}", value) for key, value in given])
        return request

    given = (("x-a", "b"), ("x-a", "c"), ("x-raw-bin", BINARY), ("x-raw-bin", b""))
    async with serving(Unary=echo) as (_, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))(b"", metadata=given)
        await call
        assert ours(await call.initial_metadata()) == [*given]
        assert ours(await call.trailing_metadata()) == [(f"x-t{key}", value) for key, value in given]


async def test_a_code_and_details_set_before_the_return_are_the_status() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost: ä€𝄞 100%\n")
        assert context.code() == grpc.StatusCode.DATA_LOSS
        return request

    error = await failure(Unary=answer)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "lost: ä€𝄞 100%\n")


async def test_an_abort_ends_the_handler_with_its_status_and_trailers() -> None:
    reached = []

    async def answer(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-kept", "1"),))
        await context.abort(grpc.StatusCode.ABORTED, "try again", (("x-more", "2"),))
        reached.append(1)
        return request

    error = await failure(Unary=answer)
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "try again")
    assert ours(error.trailing_metadata()) == [("x-more", "2")]
    assert reached == []


async def test_an_abort_keeps_trailers_that_were_set_if_it_has_none() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-kept", "1"),))
        await context.abort(grpc.StatusCode.ABORTED, "try again")

    assert ours((await failure(Unary=answer)).trailing_metadata()) == [("x-kept", "1")]


async def test_an_abort_cannot_be_taken_back() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        with suppress(Exception):
            await context.abort(grpc.StatusCode.ABORTED, "once for all")
        return request

    assert (await failure(Unary=answer)).code() == grpc.StatusCode.ABORTED


async def test_a_code_that_was_set_is_that_of_what_the_handler_raises() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        raise KeyError("which")

    assert (await failure(Unary=answer)).code() == grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("response", [5, None, "text"])
async def test_a_response_that_is_no_bytes_is_a_bug_that_the_caller_sees(response: Any) -> None:
    async def answer(request: bytes, context: Any) -> Any:
        return response

    assert (await failure(Unary=answer)).code() == grpc.StatusCode.UNKNOWN


async def test_a_rich_status_arrives_whole() -> None:
    rich = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="no such thing")
    packed = Packed()
    packed.Pack(error_details_pb2.ErrorInfo(reason="GONE", domain="test"))
    rich.details.append(packed)

    async def answer(request: bytes, context: Any) -> bytes:
        await context.abort_with_status(rpc_status.to_status(rich))

    error = await failure(Unary=answer)
    assert rpc_status.from_call(error) == rich  # type: ignore[arg-type] # typed for the sync API


async def test_an_abort_with_ok_is_a_bug_that_the_caller_sees() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.OK, "fine")

    assert (await failure(Unary=answer)).code() == grpc.StatusCode.UNKNOWN


async def test_a_handler_that_raises_is_unknown_and_the_connection_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        if request == b"bad":
            raise KeyError("which")
        return request

    async with serving(Unary=answer) as (server, port), channel(port) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.unary_unary(path("Unary"))(b"bad")
        assert await client.unary_unary(path("Unary"))(b"good") == b"good"
        assert len(server.connections) == 1
    assert error.value.code() == grpc.StatusCode.UNKNOWN
    assert "KeyError" in (error.value.details() or "")
    assert "the handler of" in caplog.text


async def test_an_error_before_any_response_is_trailers_only() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "none")

    async with serving(Unary=answer) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking()), o.data(1, o.message(), o.END_STREAM))
        response = await peer.response()
    assert (response.blocks, response.status, response.body) == (1, 5, b"")


async def test_responses_before_an_abort_arrive() -> None:
    async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "no third")

    async with serving(ServerStream=answer) as (_, port), channel(port) as client:
        call = client.unary_stream(path("ServerStream"))(b"")
        assert [await call.read(), await call.read()] == [b"1", b"2"]
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
    assert error.value.code() == grpc.StatusCode.OUT_OF_RANGE


async def test_the_deadline_is_known_and_ends_the_handler() -> None:
    remaining: list[float | None] = []

    class Timed(Hanging):
        async def __call__(self, request: bytes, context: Any) -> bytes:
            remaining.append(context.time_remaining())
            return await super().__call__(request, context)

    timed = Timed()
    async with serving(UNSWEPT, Unary=timed) as (_, port), await Peer.greeted(port) as peer:
        # A raw peer waits on: it is the server that ends the call.
        await peer.send(o.headers(1, asking("Unary", ("grpc-timeout", "200m"))))
        await peer.send(o.data(1, o.message(), o.END_STREAM))
        assert (await peer.response()).status == 4
        await timed.over()
    assert timed.cancelled
    assert remaining[0] is not None
    assert 0 < remaining[0] <= DEADLINE_S


async def test_a_deadline_ends_a_call_whose_request_never_comes() -> None:
    async with serving(UNSWEPT) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("Unary", ("grpc-timeout", "50m"))))
        assert (await peer.response()).status == 4
        assert await peer.reset() == o.NO_ERROR


async def test_a_deadline_ends_a_stream_whose_reader_opens_no_window() -> None:
    async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    async with serving(UNSWEPT, ServerStream=answer) as (server, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("ServerStream", ("grpc-timeout", "100m"))))
        await peer.send(o.data(1, o.message(), o.END_STREAM))
        assert await peer.reset() == o.CANCEL
        assert [connection.pending for connection in server.connections] == [0]


async def test_a_call_without_a_deadline_has_all_the_time() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    async with serving(Unary=answer) as (_, port), channel(port) as client:
        assert await client.unary_unary(path("Unary"))(b"") == b"None"


@pytest.mark.parametrize("how", ["reset", "disconnect"])
async def test_a_caller_who_goes_away_cancels_the_handler(how: str) -> None:
    waiting, callbacks = Hanging(), list[bool]()

    async def answer(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda seen: callbacks.append(seen.done()))
        return await waiting(request, context)

    async with serving(Unary=answer) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(hanging())
        await waiting.begun.wait()
        if how == "reset":
            await peer.send(o.rst_stream(1))
        else:
            peer.close()
        await waiting.over()
        await asyncio.sleep(0)
    assert waiting.cancelled
    assert callbacks == [True]


async def test_an_async_generator_left_half_read_is_closed_by_its_own_task() -> None:
    """Not by the garbage collector, in whatever task and order that comes along."""
    closed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
        task = asyncio.current_task()
        try:
            while True:
                yield bytes(50_000)
        finally:
            closed.set_result(asyncio.current_task() is task)

    async with serving(ServerStream=answer) as (_, port), channel(port) as client:
        call = client.unary_stream(path("ServerStream"))(b"")
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            assert await closed


async def test_a_reset_before_the_handlers_first_step_leaves_nothing_behind() -> None:
    async with serving() as (server, port), await Peer.greeted(port) as peer:
        await peer.send(hanging(), o.rst_stream(1))
        await peer.pong()
        (connection,) = server.connections
        assert (connection.running, connection.streams) == (0, {})


async def test_nothing_is_sent_for_a_call_whose_caller_went_away() -> None:
    told: list[str] = []

    async def answer(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.sleep(HANG_S)
        finally:
            for attempt in (context.send_initial_metadata((("x-a", "b"),)), context.write(b"")):
                with pytest.raises(ConnectionError):
                    await attempt
                told.append("gone")
        return request

    async with serving(Unary=answer) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(hanging())
        await peer.pong()
        await peer.send(o.rst_stream(1))
        assert [frame for frame in await peer.pong() if frame.stream == 1] == []
        await peer.pong()
    assert told == ["gone", "gone"]


async def test_a_callback_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    async def answer(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda _: 1 / 0)
        context.add_done_callback(lambda _: called.append(1))
        return request

    async with serving(Unary=answer) as (_, port), channel(port) as client:
        assert await client.unary_unary(path("Unary"))(b"x") == b"x"
        await asyncio.sleep(0)
    assert called == [1]
    assert "a callback of" in caplog.text


async def test_the_peer_is_named_as_grpc_names_it() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        assert context.auth_context() == {}
        assert context.peer_identities() is context.peer_identity_key() is None
        return str(context.peer()).encode()

    async with serving(Unary=answer) as (_, port), channel(port) as client:
        assert (await client.unary_unary(path("Unary"))(b"")).startswith(b"ipv4:127.0.0.1:")


async def test_wrong_base64_is_an_error_of_the_caller_and_not_of_the_connection() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        context.invocation_metadata()
        return request

    async with serving(Unary=answer) as (_, port), await Peer.greeted(port) as peer:
        fields = asking("Unary", ("x-raw-bin", "&&&"))
        await peer.send(o.headers(1, fields), o.data(1, o.message(), o.END_STREAM))
        assert (await peer.response()).status == 13
        await peer.pong()


async def failure(**kinds: Any) -> grpc.aio.AioRpcError:
    """How a unary call fails."""
    async with serving(**kinds) as (_, port), channel(port) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.unary_unary(path("Unary"))(b"")
    return error.value


def ours(metadata: Any) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata or () if key.startswith("x-")]
