"""Mixed calls with random ends: each is told of its end, and nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode

from services.chassis.wire.client import Channel, Live, Options, Pace, RpcError, parse
from services.chassis.wire.client.call import Call
from services.chassis.wire.server import Server
from tests.wire.answering import path
from tests.wire.served import PATIENT, handler

CALLS, LONG_CALLS = 1_000, 100_000
AT_ONCE = 100
CANCEL_S = 0.01
ENDINGS = {StatusCode.OK, StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE}
CONFIG = {
    "loadBalancingConfig": [{"least_request": {}}],
    "connectionScaling": {"maxConnectionsPerSubchannel": 3},
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 1},
    "methodConfig": [
        {"name": [{}], "waitForReady": True},
        {
            "name": [{"service": path("").strip("/"), "method": "Unary"}],
            "waitForReady": True,
            "hedgingPolicy": {
                "maxAttempts": 2,
                "hedgingDelay": "0.002s",
                "nonFatalStatusCodes": ["UNAVAILABLE"],
            },
        },
    ],
}
made: weakref.WeakSet[Call] = weakref.WeakSet()


async def unary(request: bytes, context: Any) -> bytes:
    if request[:1] == b"w":
        await asyncio.sleep(0.005)
    return request


async def started() -> tuple[Server, str]:
    server = Server(PATIENT)
    server.add_generic_rpc_handlers((handler(Unary=unary),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def requests(chance: random.Random) -> AsyncIterator[bytes]:
    for _ in range(chance.randrange(5)):
        yield bytes(chance.choice([1, 1_000, 50_000]))
        if chance.random() < 0.3:
            await asyncio.sleep(0.001)


def begun(channel: Channel, kind: int, chance: random.Random) -> Any:
    timeout = chance.choice([None, 5.0, 0.003])
    if kind == 0:
        request = chance.choice([b"now", b"wait", bytes(40_000)])
        return channel.unary_unary(path("Unary"))(request, timeout=timeout)
    if kind == 1:
        return channel.unary_stream(path("ServerStream"))(b"%d" % chance.randrange(50), timeout=timeout)
    if kind == 2:
        return channel.stream_unary(path("ClientStream"))(requests(chance), timeout=timeout)
    return channel.stream_stream(path("Bidi"))(requests(chance), timeout=timeout)


async def call_somehow(channel: Channel, chance: random.Random) -> StatusCode:
    """A call of any kind, which ends in any way."""
    kind = chance.randrange(4)
    call = begun(channel, kind, chance)
    made.add(call)
    if chance.random() < 0.3:
        asyncio.get_running_loop().call_later(chance.random() * CANCEL_S, call.cancel)
    try:
        if kind in (0, 2):
            await call
        else:
            await read(call, chance)
    except RpcError as error:
        return error.code()
    except asyncio.CancelledError:
        assert call.cancelled()
    code: StatusCode = await call.code()
    return code


async def read(call: Any, chance: random.Random) -> None:
    async for _ in call:
        if chance.random() < 0.05:
            call.cancel()


async def wear(count: int, seed: int) -> None:
    chance = random.Random(seed)
    (first, one), (second, two) = await started(), await started()
    live = Live([one, two])
    options = Options(config=parse(json.dumps(CONFIG)), pace=Pace(initial_s=0.01, jitter=0.0))
    seen = set()

    async def some(channel: Channel) -> None:
        for _ in range(count // AT_ONCE):
            seen.add(await call_somehow(channel, chance))

    async def change() -> None:
        while True:
            await asyncio.sleep(0.05)
            live.update(chance.choice([[one], [two], [one, two]]))
            for connection in [*first.connections][:1]:
                chance.choice([connection.drain, connection.close])()

    async with Channel(live, options) as channel:
        changing = asyncio.create_task(change())
        async with asyncio.timeout(600):
            await asyncio.gather(*(some(channel) for _ in range(AT_ONCE)))
        changing.cancel()
        await idle(channel)
        assert seen <= ENDINGS, seen
        assert channel.replay_bytes == 0
        assert not channel._waiting
        assert not any(channel.deadlines._buckets.values())
    for server in (first, second):
        await server.stop(1.0)
    await asyncio.sleep(2 * CANCEL_S)  # The timers above hold their calls, too.
    gc.collect()
    assert list(made) == []


async def idle(channel: Channel) -> None:
    """Waits until no endpoint has a stream."""
    async with asyncio.timeout(10):
        while any(each.load for each in channel._subchannels.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_nothing_is_left_of_calls_however_they_end() -> None:
    await wear(CALLS, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_nothing_is_left_of_many_more_calls() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)  # noqa: T201
    await wear(LONG_CALLS, seed)
