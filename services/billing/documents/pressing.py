"""The press as its users see it: a process that is there while documents are wanted."""

import asyncio
import contextlib
import logging
import os
import struct
import sys
from asyncio.subprocess import PIPE, Process

import msgspec

from services.billing.documents.orders import (
    FRAME_BYTES_MAX,
    LENGTH,
    Answer,
    Check,
    Made,
    Make,
    Order,
    Report,
)
from services.billing.domain.document import DocumentsBusy

TIME_S_MAX = 30.0  # Of one document; a page takes some tens of milliseconds.
IDLE_S_MAX = 60.0  # A press that nobody needs gives its memory back, some 200 MB.
WAITING_MAX = 64  # Documents asked for at once; more would wait longer than their callers do.

log = logging.getLogger("weft.billing.press")


class PressBroke(Exception):
    """The press could not make a document: a bug, or it was killed."""


class Press:
    """One process, one document at a time."""

    def __init__(self, time_s_max: float = TIME_S_MAX, idle_s_max: float = IDLE_S_MAX) -> None:
        self._time_s_max, self._idle_s_max = time_s_max, idle_s_max
        self._process: Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0
        self._leaving: asyncio.TimerHandle | None = None

    async def make(self, order: Make) -> Made:
        """Raises DocumentsBusy, PressBroke."""
        answer = await self._ask(Order(make=order))
        assert answer.made
        return answer.made

    async def check(self, content: bytes) -> Report:
        """Raises DocumentsBusy, PressBroke."""
        answer = await self._ask(Order(check=Check(content=content)))
        assert answer.report
        return answer.report

    async def _ask(self, order: Order) -> Answer:
        if self._waiting >= WAITING_MAX:
            raise DocumentsBusy
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                answer = await self._asked(msgspec.msgpack.encode(order))
        finally:
            self._waiting -= 1
        if answer.failed:
            raise PressBroke(answer.failed)
        return answer

    async def _asked(self, order: bytes) -> Answer:
        """A press that broke, or was given up in the middle, is followed by a new one."""
        process = await self._running()
        try:
            async with asyncio.timeout(self._time_s_max):
                return await _answer(process, order)
        except BaseException as error:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(error, OSError | asyncio.IncompleteReadError):
                raise PressBroke(type(error).__name__) from error
            raise
        finally:
            self._leaving = asyncio.get_running_loop().call_later(self._idle_s_max, self._leave)

    async def _running(self) -> Process:
        if self._leaving:
            self._leaving.cancel()
        if self._process is None or self._process.returncode is not None:
            command = (sys.executable, "-m", "services.billing.documents.press")
            paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ.get("PATH", "")}
            self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=paths)
        return self._process

    def _leave(self) -> None:
        """Nobody has needed it for long: its input ends, and so does it."""
        if self._process and self._process.stdin and not self._one_at_a_time.locked():
            self._process.stdin.close()
            self._process = None

    async def run(self) -> None:
        """For as long as the service lives; the press goes with it."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """After the document in hand."""
        async with self._one_at_a_time:
            process, self._process = self._process, None
            if self._leaving:
                self._leaving.cancel()
            if process and process.stdin:
                process.stdin.close()
                await process.wait()


async def _answer(process: Process, order: bytes) -> Answer:
    """Raises OSError, asyncio.IncompleteReadError."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(struct.pack(LENGTH, len(order)) + order)
    await process.stdin.drain()
    [length] = struct.unpack(LENGTH, await process.stdout.readexactly(struct.calcsize(LENGTH)))
    if length > FRAME_BYTES_MAX:
        raise OSError("an answer longer than any document")
    return msgspec.msgpack.decode(await process.stdout.readexactly(length), type=Answer)
