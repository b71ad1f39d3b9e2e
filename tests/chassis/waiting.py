"""Waits for a condition instead of for a time."""

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

WAIT_S = 20.0
LOOK_S = 0.01


async def until(condition: Callable[[], Any]) -> Any:
    """The first true value of `condition()`, which may be awaitable. Raises TimeoutError."""
    async with asyncio.timeout(WAIT_S):
        while True:
            value = condition()
            if isawaitable(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(LOOK_S)
