"""A channel of the wire with a unary method, and how its calls end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from grpc import StatusCode

from services.chassis.wire.client import Channel, Options, Pace, RpcError
from tests.wire.answering import path
from tests.wire.peer import WAIT_S

QUICK = Pace(initial_s=0.02, multiplier=1.0, jitter=0.0)
NOBODY = "127.0.0.1:1"


@asynccontextmanager
async def calling(address: str | int, **options: Any) -> AsyncIterator[Any]:
    """A channel and its unary method."""
    target = f"127.0.0.1:{address}" if isinstance(address, int) else address
    options.setdefault("pace", QUICK)
    async with Channel(target, Options(**options)) as channel:
        yield channel, channel.unary_unary(path("Unary"))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.005)


async def code(call: Any) -> StatusCode:
    try:
        await call
    except RpcError as error:
        return error.code()
    return StatusCode.OK
