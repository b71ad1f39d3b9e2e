"""Server and client of ours under mixed calls for a while: nothing is lost, nothing stays behind.

The long form takes WEFT_SOAK_S seconds (an hour) at WEFT_SOAK_RATE calls a second (10,000).
"""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import AsyncExitStack
from statistics import median

import pytest

from tests.wire.callers import calling
from tests.wire.hosts import hosted
from tests.wire.siege import MEGABYTE
from tests.wire.soak import Count, Soak

SHORT_S, SHORT_RATE = 6.0, 300.0
LONG_S = float(os.environ.get("WEFT_SOAK_S", "3600"))
LONG_RATE = float(os.environ.get("WEFT_SOAK_RATE", "10000"))
CHANNELS = 4
GROWTH_BYTES_MAX = 8 * MEGABYTE  # Between the second fifth of the time and the last: noise of the allocator.
SEED = 2026


async def soak(seconds: float, rate: float) -> Count:
    before = len(asyncio.all_tasks())
    async with hosted("wire", uvloop=True) as host:
        at_first = await host.measure()
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(calling("wire", host.port)) for _ in range(CHANNELS)]
            count = await Soak(host, channels, SEED).run(seconds, rate)
            while (await host.measure()).get("open"):  # noqa: ASYNC110 - what the server does is seen by asking
                await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while (at_last := await host.measure())["fds"] > at_first["fds"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert at_last["tasks"] <= at_first["tasks"]
    gc.collect()
    assert len(asyncio.all_tasks()) <= before
    return count


def flat(memory: list[int]) -> bool:
    """Whether what was held in the end is what was held early on."""
    fifth = max(1, len(memory) // 5)
    return median(memory[-fifth:]) - median(memory[fifth : 2 * fifth]) < GROWTH_BYTES_MAX


def judge(count: Count) -> None:
    assert count.odd == []
    assert sum(count.ends.values()) == count.begun > 0
    assert {code for _, code in count.ends} == {0, 1, 4, 9}
    server, own = (list(each) for each in zip(*count.memory, strict=True))
    assert flat(server), [size // MEGABYTE for size in server]
    assert flat(own), [size // MEGABYTE for size in own]


async def test_mixed_calls_for_a_while() -> None:
    judge(await soak(SHORT_S, SHORT_RATE))


@pytest.mark.slow
@pytest.mark.timeout(LONG_S + 300)
async def test_mixed_calls_for_an_hour() -> None:
    judge(await soak(LONG_S, LONG_RATE))
