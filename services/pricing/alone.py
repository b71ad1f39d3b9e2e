"""Questions that this service asks for itself, whoever asked it.

What is remembered for everybody must not depend on what one caller may see, nor end with their deadline. So
such a call carries no token of the call that is being answered.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeVar

T = TypeVar("T")


async def alone(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` answers, or its error."""

    async def asking() -> T:
        return await ask()

    task = asyncio.create_task(asking(), context=Context())
    try:
        return await task
    finally:
        task.cancel()
