"""Clients that mean harm: many that send a byte now and then, some that send 10 MB where bytes were meant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from launcher.ports import HOST
from scripts.chaos.faults import Fault

DRIP_S = 1.0  # Between two bytes of a slow client.
HUGE_BYTES = 10_000_000
HUGE_AT_ONCE = 4  # Senders of huge bodies; each begins anew when it is refused.
PIECE = b"x" * 65_536
PAUSE_S = 0.1  # Of a huge sender that was refused.
HEAD = b"POST /v1/sessions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"

Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Hostile(Fault):
    """Against the edge's door without TLS: a handshake would slow the attacker more than the edge."""

    def begin(self) -> str:
        self._port = self.mesh.seen().ports["plain"]
        slow = int(self.step.numbers["connections"])
        self._tasks = [asyncio.create_task(self._for_ever(self._drip)) for _ in range(slow)]
        self._tasks += [asyncio.create_task(self._for_ever(self._pour)) for _ in range(HUGE_AT_ONCE)]
        return f"{slow} slow, {HUGE_AT_ONCE} with {HUGE_BYTES // 1_000_000} MB each"

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _for_ever(self, attack: Attack) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(HOST, self._port)
                try:
                    await attack(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(PAUSE_S)

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A head that never ends (Slowloris)."""
        writer.write(HEAD)
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1_024), DRIP_S)

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As much as is taken, then whatever is answered."""
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % HUGE_BYTES)
        for _ in range(HUGE_BYTES // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()
        await reader.read(1_024)
