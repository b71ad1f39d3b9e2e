"""Retries and hedging as gRFC A6 has them, against a server whose every answer is scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode

from services.chassis.wire.client import Channel, Options, RpcError, parse
from tests.wire import octets as o
from tests.wire.answering import path
from tests.wire.scripted import HEAD, Accepted, Asked, scripted

UNAVAILABLE, ABORTED = 14, 10
RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.02s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
HEDGE = {"maxAttempts": 3, "hedgingDelay": "0.05s", "nonFatalStatusCodes": ["UNAVAILABLE"]}


def refusal(asked: Asked, code: int, *more: tuple[str, str]) -> bytes:
    """An answer that is nothing but its status."""
    return o.headers(asked.stream, [*HEAD, ("grpc-status", str(code)), *more], o.WHOLE)


def previous(asked: Asked) -> str | None:
    return dict(asked.fields).get("grpc-previous-rpc-attempts")


@asynccontextmanager
async def calling(
    port: int, throttling: Any = None, options: Any = None, **policy: Any
) -> AsyncIterator[Any]:
    """A channel whose methods have this policy."""
    config = {"methodConfig": [{"name": [{}], **policy}], "retryThrottling": throttling}
    given = Options(config=parse(json.dumps(config)), **(options or {}))
    async with Channel(f"127.0.0.1:{port}", given) as channel:
        yield channel


def unary(channel: Channel) -> Any:
    return channel.unary_unary(path("Unary"))


async def failure(call: Any) -> RpcError:
    with pytest.raises(RpcError) as error:
        await call
    return error.value


async def test_a_call_is_tried_again_until_it_succeeds() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        for number in (None, "1"):
            asked = await peer.call()
            assert previous(asked) == number
            await peer.send(refusal(asked, UNAVAILABLE))
        last = await peer.call()
        assert (previous(last), last.messages) == ("2", [b"x"])
        await peer.answer(last, b"done")

    async with scripted(script) as server, calling(server.port, retryPolicy=RETRY) as channel:
        assert await unary(channel)(b"x", timeout=5) == b"done"


async def test_the_last_attempt_is_what_the_caller_sees() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        for number in range(3):
            await peer.send(refusal(await peer.call(), UNAVAILABLE, ("x-attempt", str(number))))
        await peer.pong()

    async with scripted(script) as server, calling(server.port, retryPolicy=RETRY) as channel:
        error = await failure(unary(channel)(b"x", timeout=5))
        assert error.code() is StatusCode.UNAVAILABLE
        assert error.trailing_metadata()["x-attempt"] == "2"


async def test_another_status_is_not_retried() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), ABORTED))
        await peer.answer(await peer.call(), b"the next call")

    async with scripted(script) as server, calling(server.port, retryPolicy=RETRY) as channel:
        assert (await failure(unary(channel)(b"x", timeout=5))).code() is StatusCode.ABORTED
        assert await unary(channel)(b"y", timeout=5) == b"the next call"


async def test_after_headers_nothing_is_retried() -> None:
    """The application may have seen them: the call is committed."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        await peer.send(o.headers(asked.stream, HEAD))
        await peer.send(o.headers(asked.stream, [("grpc-status", "14")], o.WHOLE))
        await peer.answer(await peer.call(), b"the next call")

    async with scripted(script) as server, calling(server.port, retryPolicy=RETRY) as channel:
        assert (await failure(unary(channel)(b"x", timeout=5))).code() is StatusCode.UNAVAILABLE
        assert await unary(channel)(b"y", timeout=5) == b"the next call"


@pytest.mark.parametrize("pushback", ["-1", "soon", "", "99999999999"])
async def test_a_server_may_forbid_retries(pushback: str) -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), UNAVAILABLE, ("grpc-retry-pushback-ms", pushback)))
        await peer.pong()

    async with scripted(script) as server, calling(server.port, retryPolicy=RETRY) as channel:
        assert (await failure(unary(channel)(b"x", timeout=5))).code() is StatusCode.UNAVAILABLE


async def test_a_server_may_say_when_to_come_again() -> None:
    policy = {**RETRY, "initialBackoff": "60s", "maxBackoff": "60s"}

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), UNAVAILABLE, ("grpc-retry-pushback-ms", "10")))
        await peer.answer(await peer.call(), b"done")

    async with scripted(script) as server, calling(server.port, retryPolicy=policy) as channel:
        assert await unary(channel)(b"x", timeout=5) == b"done"


async def test_the_deadline_holds_over_all_attempts() -> None:
    policy = {**RETRY, "initialBackoff": "60s", "maxBackoff": "60s"}

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), UNAVAILABLE))

    async with scripted(script) as server, calling(server.port, retryPolicy=policy) as channel:
        assert (await failure(unary(channel)(b"x", timeout=0.1))).code() is StatusCode.DEADLINE_EXCEEDED


async def test_a_call_that_is_cancelled_is_not_tried_again() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), UNAVAILABLE))
        await peer.pong()
        assert (await peer.call()).messages == [b"y"]
        await peer.answer(Asked(3, []), b"next")

    policy = {**RETRY, "initialBackoff": "0.1s", "maxBackoff": "0.1s"}
    async with scripted(script) as server, calling(server.port, retryPolicy=policy) as channel:
        call = unary(channel)(b"x")
        await asyncio.sleep(0.05)
        assert call.cancel()
        await asyncio.sleep(0.1)
        assert await unary(channel)(b"y", timeout=5) == b"next"


async def test_requests_that_were_streamed_are_sent_again_in_order() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        early = await peer.call(whole=False)
        await peer.until(lambda frame: frame.kind == o.DATA)
        await peer.send(refusal(early, UNAVAILABLE), o.rst_stream(early.stream, o.NO_ERROR))
        again = await peer.call()
        assert again.messages == [b"1", b"2", b"3"]
        await peer.answer(again, b"all")

    async with scripted(script) as server, calling(server.port, retryPolicy=RETRY) as channel:
        call = channel.stream_unary(path("ClientStream"))(timeout=5)
        await call.write(b"1")
        await asyncio.sleep(0.05)
        await call.write(b"2")
        await call.write(b"3")
        await call.done_writing()
        assert await call == b"all"
        assert channel.replay_bytes == 0


async def test_what_is_too_much_to_keep_is_not_tried_again() -> None:
    """The buffer's bound: the call is committed, and goes on."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        assert asked.messages == [bytes(600), bytes(600)]
        await peer.send(refusal(asked, UNAVAILABLE))
        await peer.send(refusal(await peer.call(), UNAVAILABLE))
        await peer.pong()

    options = {"replay_bytes_max": 1_000}
    async with (
        scripted(script) as server,
        calling(server.port, options=options, retryPolicy=RETRY) as channel,
    ):
        call = channel.stream_unary(path("ClientStream"))(iter([bytes(600)] * 2), timeout=5)
        assert (await failure(call)).code() is StatusCode.UNAVAILABLE
        assert (await failure(unary(channel)(bytes(2_000), timeout=5))).code() is StatusCode.UNAVAILABLE
        assert channel.replay_bytes == 0


async def test_what_is_too_much_to_keep_is_not_replayed_in_part() -> None:
    """Also without a policy: the server refused the stream after all of it was sent."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        assert len(asked.messages) == 3
        await peer.send(o.rst_stream(asked.stream, o.REFUSED_STREAM))
        await peer.pong()
        assert sum(frame.kind == o.HEADERS for frame in peer.seen) == 1

    options = Options(replay_bytes_max=1_000)
    async with scripted(script) as server, Channel(f"127.0.0.1:{server.port}", options) as channel:
        call = channel.stream_unary(path("ClientStream"))(iter([bytes(400)] * 3), timeout=5)
        assert (await failure(call)).code() is StatusCode.UNAVAILABLE
        await server.done.wait()


async def test_retries_stop_while_too_many_calls_fail() -> None:
    """4 tokens, a threshold of 2: the second failure is the last that is retried."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        for _ in range(3):
            await peer.send(refusal(await peer.call(), UNAVAILABLE))
        await peer.pong()

    throttling = {"maxTokens": 4, "tokenRatio": 0.5}
    async with scripted(script) as server, calling(server.port, throttling, retryPolicy=RETRY) as channel:
        await failure(unary(channel)(b"x", timeout=5))
        await failure(unary(channel)(b"y", timeout=5))
        assert channel.throttle.tokens == 1


async def test_success_fills_the_bucket() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), UNAVAILABLE))
        await peer.echo()

    throttling = {"maxTokens": 4, "tokenRatio": 0.25}
    async with scripted(script) as server, calling(server.port, throttling, retryPolicy=RETRY) as channel:
        for _ in range(2):
            await unary(channel)(b"x", timeout=5)
        assert channel.throttle.tokens == 3.5


async def test_hedges_follow_each_other_and_the_first_answer_wins() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        first, second, third = [await peer.call() for _ in range(3)]
        assert [previous(each) for each in (first, second, third)] == [None, "1", "2"]
        await peer.answer(second, b"second")
        resets = [await peer.until(lambda frame: frame.kind == o.RST_STREAM) for _ in range(2)]
        assert {reset.stream for reset in resets} == {first.stream, third.stream}
        assert {reset.code for reset in resets} == {o.CANCEL}

    async with scripted(script) as server, calling(server.port, hedgingPolicy=HEDGE) as channel:
        assert await unary(channel)(b"x", timeout=5) == b"second"


async def test_a_failure_that_is_not_fatal_brings_the_next_hedge_at_once() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), UNAVAILABLE))
        await peer.answer(await peer.call(), b"second")

    policy = {**HEDGE, "hedgingDelay": "60s"}
    async with scripted(script) as server, calling(server.port, hedgingPolicy=policy) as channel:
        assert await unary(channel)(b"x", timeout=5) == b"second"


async def test_a_fatal_failure_ends_all_hedges() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        first, second = [await peer.call() for _ in range(2)]
        await peer.send(refusal(second, ABORTED))
        reset = await peer.until(lambda frame: frame.kind == o.RST_STREAM)
        assert reset.stream == first.stream

    policy = {**HEDGE, "maxAttempts": 2}
    async with scripted(script) as server, calling(server.port, hedgingPolicy=policy) as channel:
        assert (await failure(unary(channel)(b"x", timeout=5))).code() is StatusCode.ABORTED


async def test_when_all_hedges_fail_the_last_is_what_the_caller_sees() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        for number in range(3):
            await peer.send(refusal(await peer.call(), UNAVAILABLE, ("x-attempt", str(number))))
        await peer.pong()

    policy = {**HEDGE, "hedgingDelay": "60s"}
    async with scripted(script) as server, calling(server.port, hedgingPolicy=policy) as channel:
        error = await failure(unary(channel)(b"x", timeout=5))
        assert error.trailing_metadata()["x-attempt"] == "2"


async def test_hedges_may_all_go_at_once() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        asked = [await peer.call() for _ in range(3)]
        await peer.answer(asked[2], b"third")
        await peer.until(lambda frame: frame.kind == o.RST_STREAM)

    policy = {**HEDGE, "hedgingDelay": "0s"}
    async with scripted(script) as server, calling(server.port, hedgingPolicy=policy) as channel:
        assert await unary(channel)(b"x", timeout=5) == b"third"


async def test_a_server_may_forbid_hedges() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(refusal(await peer.call(), UNAVAILABLE, ("grpc-retry-pushback-ms", "-1")))
        await peer.pong()

    async with scripted(script) as server, calling(server.port, hedgingPolicy=HEDGE) as channel:
        assert (await failure(unary(channel)(b"x", timeout=5))).code() is StatusCode.UNAVAILABLE


async def test_a_cancelled_call_cancels_its_hedges() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.call()
        for _ in range(2):
            assert (await peer.until(lambda frame: frame.kind == o.RST_STREAM)).code == o.CANCEL

    policy = {**HEDGE, "maxAttempts": 2}
    async with scripted(script) as server, calling(server.port, hedgingPolicy=policy) as channel:
        call = unary(channel)(b"x")
        await asyncio.sleep(0.1)
        assert call.cancel()
        await server.done.wait()
