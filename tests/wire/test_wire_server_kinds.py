"""All four kinds of rpc, on asyncio's loop and uvloop's, as grpcio's sync and aio clients see them."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import uvloop

from tests.wire.served import channel, path, serving, serving_in_thread

SIZES = [0, 1, 16_379, 16_380, 65_531, 200_000, 1_048_576, 4_194_304]  # Around frames and windows.
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS, scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """A sync client of a server on each kind of loop."""
    options = [("grpc.max_receive_message_length", -1)]
    with (
        serving_in_thread(request.param) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as found,
    ):
        yield found


def test_unary_messages_of_any_size_come_back(client: grpc.Channel) -> None:
    call = client.unary_unary(path("Unary"))
    for size in SIZES:
        payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        assert call(payload) == payload


def test_a_server_stream_keeps_order_and_count(client: grpc.Channel) -> None:
    call = client.unary_stream(path("ServerStream"))
    assert [*call(b"5000")] == [b"%d" % number for number in range(5000)]
    assert [*call(b"0")] == []


def test_a_client_stream_arrives_whole(client: grpc.Channel) -> None:
    call = client.stream_unary(path("ClientStream"))
    sent = [b"%d" % number for number in range(3000)]
    assert call(iter(sent)) == b"|".join(sent)
    assert call(iter(())) == b""


def test_bidi_echoes_each_message_before_the_next_is_sent(client: grpc.Channel) -> None:
    asking: queue.Queue[bytes | None] = queue.Queue()
    answers = client.stream_stream(path("Bidi"))(iter(asking.get, None))
    for number in range(50):
        asking.put(b"%d" % number)
        assert next(answers) == b"%d" % number
    asking.put(None)
    assert [*answers] == []


def test_large_messages_stream_both_ways(client: grpc.Channel) -> None:
    sent = [bytes([number]) * 700_000 for number in range(8)]
    assert [*client.stream_stream(path("Bidi"))(iter(sent))] == sent


def test_an_unknown_method_is_unimplemented(client: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        client.unary_unary(path("Nothing"))(b"")
    assert code(error) == grpc.StatusCode.UNIMPLEMENTED


async def test_a_thousand_calls_at_once_get_their_own_answers() -> None:
    async with serving() as (_, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))
        answers = await asyncio.gather(*(call(b"%d" % number * 50) for number in range(1000)))
    assert answers == [b"%d" % number * 50 for number in range(1000)]


async def test_twenty_large_calls_at_once_share_the_windows() -> None:
    async with serving() as (_, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))
        answers = await asyncio.gather(*(call(bytes([number]) * 1_000_000) for number in range(20)))
    assert answers == [bytes([number]) * 1_000_000 for number in range(20)]


async def test_what_the_caller_sends_too_much_is_answered_early_and_refused() -> None:
    async def first(requests: Any, context: Any) -> bytes:
        return bytes(await anext(requests))

    async with serving(ClientStream=first) as (_, port), channel(port) as client:
        sent = (b"%d" % number * 10_000 for number in range(1000))
        assert await client.stream_unary(path("ClientStream"))(sent) == b"0" * 10_000
        assert await client.unary_unary(path("Unary"))(b"next") == b"next"


async def test_handlers_may_read_and_write_by_their_context() -> None:
    async def talk(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request + b"!")

    async with serving(Bidi=talk) as (_, port), channel(port) as client:
        call = client.stream_stream(path("Bidi"))(iter([b"a", b"b"]))
        assert [answer async for answer in call] == [b"a!", b"b!"]


def code(error: pytest.ExceptionInfo[Any]) -> grpc.StatusCode:
    found: grpc.StatusCode = error.value.code()
    return found
