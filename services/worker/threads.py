"""Threads for plain handlers. One that is to end is asked first, then interrupted, then left to itself.

A thread cannot be killed. `Cancelled` is raised into it as soon as it runs Python again; a thread that hangs
in C code is given up, and counted: who has lost many is to be replaced.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from services.chassis.jobs.errors import Cancelled

ASKED_S = 2.0  # Between asking a thread to end and interrupting it.
INTERRUPTED_S = 3.0  # Between interrupting it and giving it up.


class ThreadLost(Exception):
    """The handler's thread did not end though it was interrupted; it hangs outside Python."""


@dataclass(slots=True, eq=False)
class _Work:
    call: Callable[[], Any]
    context: Context
    done: asyncio.Future[Any]


class Threads:
    """As many as are at work at once; idle ones are kept."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Thread] = []
        self.lost = 0

    async def run(self, call: Callable[[], Any], context: Context) -> Any:
        """What `call` returns or raises. Cancelled, it sees to it that the call ends; raises ThreadLost."""
        work = _Work(call, context, self._loop.create_future())
        thread = self._idle.pop() if self._idle else _Thread(self._loop)
        thread.give(work)
        try:
            result = await asyncio.shield(work.done)
        except asyncio.CancelledError:
            if not work.done.done():
                await self._finish(thread, work)
            self._idle.append(thread)
            return work.done.result()
        except BaseException:
            self._idle.append(thread)
            raise
        self._idle.append(thread)
        return result

    async def _finish(self, thread: _Thread, work: _Work) -> None:
        """Until the call has ended. Raises ThreadLost."""
        if await _ended(work.done, ASKED_S):
            return
        thread.interrupt(work)
        if await _ended(work.done, INTERRUPTED_S):
            return
        self.lost += 1
        thread.leave()
        raise ThreadLost

    def close(self) -> None:
        while self._idle:
            self._idle.pop().leave()


async def _ended(done: asyncio.Future[Any], seconds: float) -> bool:
    """Whether it ends within so long; a further cancellation changes nothing."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while not done.done() and (left := ends - loop.time()) > 0:
        try:
            await asyncio.wait({done}, timeout=left)
        except asyncio.CancelledError:
            continue
    return done.done()


class _Thread:
    """Does one work after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._given: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._work: _Work | None = None  # The one whose call may be interrupted.
        self._thread = threading.Thread(target=self._live, name="job", daemon=True)
        self._thread.start()

    def give(self, work: _Work) -> None:
        self._given.put(work)

    def leave(self) -> None:
        """It ends after what it does now."""
        self._given.put(None)

    def interrupt(self, work: _Work) -> None:
        """Raises Cancelled in it, if it is at this work still."""
        with self._lock:
            if self._work is work and self._thread.ident is not None:
                thread, error = ctypes.c_ulong(self._thread.ident), ctypes.py_object(Cancelled)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, error)

    def _live(self) -> None:
        work: _Work | None = None
        while True:
            try:
                work = self._given.get()
                if work is None:
                    return
                self._do(work)
            except Cancelled as late:  # It came when the call had just ended.
                if work:
                    self._tell(work, None, late)

    def _do(self, work: _Work) -> None:
        with self._lock:
            self._work = work
        result, error = None, None
        try:
            result = work.context.run(work.call)
        except BaseException as raised:
            error = raised
        with self._lock:
            self._work = None
        self._tell(work, result, error)

    def _tell(self, work: _Work, result: Any, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, work.done, result, error)
        except RuntimeError:  # The loop is closed: nobody waits.
            return


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    elif isinstance(error, StopIteration):  # Which no future may hold.
        done.set_exception(RuntimeError("a handler raised StopIteration"))
    else:
        done.set_exception(error)
