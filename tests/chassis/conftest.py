"""A database and a bus, opened, for tests of the chassis' data half."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from services.chassis.bus import Bus
from services.chassis.db import Database

Until = Callable[[Callable[[], Any]], Awaitable[Any]]
Running = Callable[[Coroutine[Any, Any, None]], Any]


@pytest.fixture
async def db(fresh_database: str) -> AsyncIterator[Database]:
    database = Database(fresh_database)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    connection = Bus(nats_url)
    await connection.connect()
    yield connection
    await connection.close()


@pytest.fixture
def running() -> Running:
    """Runs a loop beside the test, for a block."""

    @asynccontextmanager
    async def run(loop: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(loop)
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return run
