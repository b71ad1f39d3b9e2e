"""What a service config says of a method holds for its calls (gRFC A2); the caller's own word is nearer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode

from services.chassis.wire.client import Channel, Options, RpcError, parse
from services.chassis.wire.limits import Limits
from tests.wire.answering import answering, path

LONG_S, SHORT_S = 60.0, 0.05


@asynccontextmanager
async def configured(**of_method: Any) -> AsyncIterator[Channel]:
    config = parse(json.dumps({"methodConfig": [{"name": [{}], **of_method}]}))
    async with answering("wire") as port, Channel(f"127.0.0.1:{port}", Options(config=config)) as channel:
        yield channel


async def code(call: Any) -> StatusCode:
    with pytest.raises(RpcError) as error:
        await call
    return error.value.code()


@pytest.mark.parametrize(("configured_s", "asked_s"), [(SHORT_S, None), (SHORT_S, LONG_S), (LONG_S, SHORT_S)])
async def test_the_shorter_timeout_counts(configured_s: float, asked_s: float | None) -> None:
    async with configured(timeout=f"{configured_s}s") as channel:
        call = channel.unary_unary(path("Unary"))(b"slow", timeout=asked_s)
        assert call.time_remaining() <= SHORT_S
        assert await code(call) is StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("given", "asked", "wanted"),
    [
        (True, None, StatusCode.DEADLINE_EXCEEDED),
        (True, False, StatusCode.UNAVAILABLE),
        (False, None, StatusCode.UNAVAILABLE),
        (False, True, StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_the_caller_may_say_whether_to_wait(
    given: bool, asked: bool | None, wanted: StatusCode
) -> None:
    config = parse(json.dumps({"methodConfig": [{"name": [{}], "waitForReady": given}]}))
    async with Channel("127.0.0.1:1", Options(config=config)) as channel:
        timeout = 0.2 if wanted is StatusCode.DEADLINE_EXCEEDED else LONG_S
        call = channel.unary_unary(path("Unary"))(b"x", timeout=timeout, wait_for_ready=asked)
        assert await code(call) is wanted


async def test_requests_above_their_bound_do_not_leave() -> None:
    async with configured(maxRequestMessageBytes=100) as channel:
        unary, streamed = channel.unary_unary(path("Unary")), channel.stream_unary(path("ClientStream"))
        assert await unary(bytes(100)) == bytes(100)
        assert await code(unary(bytes(101))) is StatusCode.RESOURCE_EXHAUSTED
        assert await code(streamed(iter([b"x", bytes(101)]))) is StatusCode.RESOURCE_EXHAUSTED
        call = streamed()
        with pytest.raises(RpcError, match="101 bytes"):
            await call.write(bytes(101))


async def test_responses_above_their_bound_are_not_taken() -> None:
    async with configured(maxResponseMessageBytes=100) as channel:
        unary, bidi = channel.unary_unary(path("Unary")), channel.stream_stream(path("Bidi"))
        assert await unary(bytes(100)) == bytes(100)
        assert await code(unary(bytes(101))) is StatusCode.RESOURCE_EXHAUSTED
        call = bidi()
        await call.write(b"x")
        assert await call.read() == b"x"
        await call.write(bytes(101))
        assert await code(call.read()) is StatusCode.RESOURCE_EXHAUSTED


async def test_a_channel_has_a_bound_of_its_own_for_responses() -> None:
    options = Options(limits=Limits(message_bytes_max=1_000))
    async with answering("wire") as port, Channel(f"127.0.0.1:{port}", options) as channel:
        unary = channel.unary_unary(path("Unary"))
        assert await unary(bytes(1_000)) == bytes(1_000)
        for size in (1_001, 100_000):
            assert await code(unary(bytes(size))) is StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_of_the_channel_goes_with_every_call() -> None:
    options = Options(metadata=(("x-always", "1"),))
    async with answering("wire") as port, Channel(f"127.0.0.1:{port}", options) as channel:
        answer = await channel.unary_unary(path("Unary"))(b"metadata", metadata=(("x-once", "2"),))
        assert answer == repr([("x-always", "1"), ("x-once", "2")]).encode()
