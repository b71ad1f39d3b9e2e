"""A subscription to iterate over, with a bound: a slow reader misses messages, and is told how many."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

from services.chassis.jetstream.connection import Connection, Subscription
from services.chassis.jetstream.protocol import Message

MESSAGES_MAX = 10_000  # That wait for the reader.
BYTES_MAX = 16 * 1024 * 1024  # Of their payloads.


class Feed:
    """`async with Feed(...) as feed: async for messages in feed: ...`, each time all that waits."""

    def __init__(
        self,
        connection: Connection,
        subject: str,
        queue: str = "",
        *,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._connection, self._subject, self._queue = connection, subject, queue
        self._messages_max, self._bytes_max = messages_max, bytes_max
        self._waiting: deque[Message] = deque()
        self._bytes, self._stirred = 0, asyncio.Event()
        self._subscription: Subscription | None = None
        self.missed = 0  # Messages dropped because too many waited.

    async def __aenter__(self) -> Self:
        self._subscription = self._connection.subscribe(self._subject, self._arrive, self._queue)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscription:
            self._subscription.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Message]:
        while not self._waiting:
            self._stirred.clear()
            await self._stirred.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return taken

    def _arrive(self, messages: list[Message]) -> None:
        for message in messages:
            size = len(message.head) + len(message.payload)
            if len(self._waiting) >= self._messages_max or self._bytes + size > self._bytes_max:
                self.missed += 1
                continue
            self._waiting.append(message)
            self._bytes += size
        self._stirred.set()
