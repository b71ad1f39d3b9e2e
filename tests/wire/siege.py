"""An attack on one connection, while a caller on another goes on and the server's memory is watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from tests.wire import octets as o
from tests.wire.hosts import Host, calls, unary
from tests.wire.octets import Frame
from tests.wire.peer import Closed, Peer

MEGABYTE = 1024 * 1024
LOOK_S = 0.01  # Between two looks at the server's memory.


@dataclass
class Toll:
    """What an attack has cost others."""

    answered: int = 0
    peak_bytes: int = 0


@asynccontextmanager
async def besieged(host: Host, megabytes: int = 48) -> AsyncIterator[Toll]:
    """All calls of the honest caller are answered, and the server has grown by less than `megabytes`."""
    process, toll = psutil.Process(host.process.pid), Toll()
    async with calls(host.port) as channel:
        await unary(channel, b"before")
        before = process.memory_info().rss
        tasks = [
            asyncio.create_task(_call(channel, toll)),
            asyncio.create_task(_watch(process, before, toll)),
        ]
        try:
            yield toll
            while not toll.answered and not tasks[0].done():  # noqa: ASYNC110 - it may be over in no time
                await asyncio.sleep(LOOK_S)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []
        assert await unary(channel, b"after") == b"after"
    assert toll.answered > 0
    assert toll.peak_bytes < megabytes * MEGABYTE, f"grew by {toll.peak_bytes / MEGABYTE:.0f} MB"


async def _call(channel: object, toll: Toll) -> None:
    while True:
        assert await unary(channel, b"honest") == b"honest"
        toll.answered += 1
        await asyncio.sleep(LOOK_S)


async def _watch(process: psutil.Process, before: int, toll: Toll) -> None:
    while True:
        toll.peak_bytes = max(toll.peak_bytes, process.memory_info().rss - before)
        await asyncio.sleep(LOOK_S)


async def flood(peer: Peer, chunks: Iterable[bytes]) -> Frame | None:
    """Sends chunk after chunk until the server ends the connection; its GOAWAY, None when all was taken."""
    reading = asyncio.create_task(_read(peer))
    for chunk in chunks:
        if reading.done():
            break
        await peer.send(chunk)
        await asyncio.sleep(0)
    else:
        await peer.send(o.ping(b"the end!"))
    await reading
    return next((frame for frame in reversed(peer.seen) if frame.kind == o.GOAWAY), None)


async def _read(peer: Peer) -> None:
    """Until the end of the connection, or the answer to the last PING."""
    try:
        while (await peer.frame(30)).payload != b"the end!":
            if len(peer.seen) > 10_000:
                del peer.seen[1:5_000]
    except Closed:
        return
