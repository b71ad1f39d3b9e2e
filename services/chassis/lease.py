"""Work that one process at a time may do for a service: relays and consumers.

A lease is an advisory lock of one connection outside the pools. When the connection ends, PostgreSQL gives
the lock to whoever asks next; until the old holder notices, two may work, so what they do must bear doing
twice (message ids, the inbox).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

ASK_EVERY_S = 1.0  # A dead holder's work is taken over within about this.

TAKE = "select pg_try_advisory_lock(hashtextextended($1, 0))"
GIVE = "select pg_advisory_unlock(hashtextextended($1, 0))"


class LeaseLost(Exception):
    """The connection that held the lease is gone."""


class Lease:
    """Held until its block ends or its connection does."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def check(self) -> None:
        """Raises LeaseLost. Call it before each piece of the work."""
        if self._connection.is_closed():
            raise LeaseLost


class Leases:
    """The leases that one process holds or waits for in one database."""

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Lease]:
        """Waits until nobody else holds `name`. Raises OSError while the database is away."""
        while not await self._ask(TAKE, name):  # noqa: ASYNC110 - PostgreSQL tells nobody
            await asyncio.sleep(ASK_EVERY_S)
        lease = Lease(self._connection)
        try:
            yield lease
        finally:
            if not lease._connection.is_closed():
                await self._ask(GIVE, name)

    async def _ask(self, sql: str, name: str) -> bool:
        async with self._one_at_a_time:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connect()
            try:
                return bool(await self._connection.fetchval(sql, name))
            except BaseException:  # Cancelled half-way, the connection is in no state to be asked again.
                self._connection.terminate()
                raise

    async def close(self) -> None:
        """Gives all leases back."""
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close()
