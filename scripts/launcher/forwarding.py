"""Forwards TCP between the parts of a mesh, and does to each link what a file says: delay, loss, a cut.

    python -P forwarding.py FILE HOST NAME=ADDRESS:PORT...

Each NAME is listened for at ADDRESS:PORT and forwarded to HOST:PORT. FILE holds `{"faults": [...]}`, each
with the names of its `links`, `until` when it holds (seconds of the machine's monotonic clock: it ends though
nobody is left to end it), and `cut`, `delay_ms`, `jitter_ms`, `share`. Without the file nothing is done.

What a cut holds back is passed on when it heals, as TCP would. A lost segment of TCP is a wait for its
repetition, in which all that follows waits too; so that is what `share` does.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 0.05  # The file is looked for.
SEGMENT_BYTES = 1_448  # Of Ethernet's frame; the loss is of these.
CHUNK_BYTES = 16_384
REPEAT_S = 0.2  # Linux repeats a lost segment after this at the earliest, then after twice that, and so on.
REPEATS_MAX = 6  # So a chunk is never held for more than 13 s by loss.
QUEUED_MAX = 256  # Chunks on their way in one direction of a connection: 4 MB, as a window of TCP.


@dataclass(frozen=True)
class Fault:
    """What happens to some links for a while."""

    links: frozenset[str]
    until: float
    cut: bool = False
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    share: float = 0.0  # Of segments that are lost.


def read(text: str) -> list[Fault]:
    """Faults of a file; one that cannot be read has none."""
    try:
        told = json.loads(text)["faults"]
        return [Fault(**{**each, "links": frozenset(each["links"])}) for each in told]
    except (ValueError, TypeError, KeyError):
        return []


def wait_s(faults: list[Fault], size: int, chance: random.Random) -> float:
    """How long these hold a chunk of `size` bytes that they let through."""
    waits = 0.0
    for fault in faults:
        waits += max(0.0, fault.delay_ms + chance.uniform(-fault.jitter_ms, fault.jitter_ms)) / 1_000
        for _ in range(-(-size // SEGMENT_BYTES) if fault.share else 0):
            waits += lost_s(fault.share, chance)
    return waits


def lost_s(share: float, chance: random.Random) -> float:
    """What the losses of one segment cost."""
    repeats = 0
    while repeats < REPEATS_MAX and chance.random() < share:
        repeats += 1
    return float(REPEAT_S * (2**repeats - 1))


@dataclass
class Board:
    """The faults that hold now."""

    file: Path
    now: Callable[[], float] = time.monotonic
    chance: random.Random = field(default_factory=random.Random)
    faults: list[Fault] = field(default_factory=list)
    _seen: tuple[int, int] = (0, 0)

    def of(self, name: str) -> list[Fault]:
        moment = self.now()
        return [fault for fault in self.faults if name in fault.links and moment < fault.until]

    def look(self) -> None:
        """Reads the file if it has changed."""
        try:
            found = self.file.stat()
            mark = (found.st_mtime_ns, found.st_ino)
            if mark != self._seen:
                self.faults, self._seen = read(self.file.read_text()), mark
        except OSError:
            self.faults, self._seen = [], (0, 0)

    async def follow(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)


Chunk = tuple[float, bytes]


class Way:
    """One direction of one connection: what is read now is written when its time has come, in order."""

    def __init__(self, name: str, board: Board) -> None:
        self._name, self._board = name, board
        self._queue: asyncio.Queue[Chunk] = asyncio.Queue(QUEUED_MAX)

    async def run(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Until the source has ended and all of it is written, or either breaks."""
        taking = asyncio.create_task(self._take(source))
        try:
            await self._give(sink)
        finally:
            taking.cancel()

    async def _take(self, source: asyncio.StreamReader) -> None:
        """Nothing at last, when the source has ended or is broken."""
        latest = 0.0
        while True:
            data = b""
            with suppress(OSError):
                data = await source.read(CHUNK_BYTES)
            held = wait_s(self._board.of(self._name), len(data), self._board.chance)
            latest = max(latest, self._board.now() + held)
            await self._queue.put((latest, data))
            if not data:
                return

    async def _give(self, sink: asyncio.StreamWriter) -> None:
        while True:
            moment, data = await self._queue.get()
            if (left := moment - self._board.now()) > 0:
                await asyncio.sleep(left)
            while any(fault.cut for fault in self._board.of(self._name)):  # noqa: ASYNC110 - a file is asked
                await asyncio.sleep(LOOK_EVERY_S)
            if not data:
                break
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof() and not sink.is_closing():
            sink.write_eof()


async def listen(name: str, at: tuple[str, int], to: tuple[str, int], board: Board) -> asyncio.Server:
    """One link's door."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        with suppress(OSError, RuntimeError):  # uvloop's word for a transport that broke meanwhile.
            far, there = await asyncio.open_connection(*to)
            await _both(Way(name, board).run(reader, there), Way(name, board).run(far, writer))
        for each in (writer, there):
            if each:
                each.close()

    return await asyncio.start_server(accepted, *at, backlog=1_024)


async def _both(*ways: Any) -> None:
    """Until both have ended; one that breaks ends the other."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def serve(file: Path, host: str, links: list[str]) -> None:
    """For ever."""
    board = Board(file)
    for link in links:
        name, _, address = link.partition("=")
        own, _, port = address.rpartition(":")
        await listen(name, (own, int(port)), (host, int(port)), board)
    await board.follow()


def main(words: list[str]) -> None:
    import uvloop

    uvloop.run(serve(Path(words[0]), words[1], words[2:]))


if __name__ == "__main__":
    main(sys.argv[1:])
