"""One program that is kept running: started on a leash, watched until ready, restarted when it dies.

Restarts come later and later, up to a bound; a child that keeps dying young is called crash-looping and
says with which words it died.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import leash, state
from launcher.account import Account
from launcher.problem import Problem

BACKOFF_S, BACKOFF_S_MAX = 0.25, 15.0  # Between a death and the next start.
STEADY_S = 30.0  # Who lived so long did not die young.
CRASHES_MAX = 4  # Deaths in youth, one after the other, that make a crash loop.
POLL_S = 0.05  # Between two questions whether it is ready; starts are a second or two.
TAIL_BYTES = 4_096  # Enough of a log to find its last line.


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is run, and how it is asked and stopped."""

    command: Sequence[str]
    log: Path
    unready: Callable[[], str]  # What it still waits for; empty when it is ready. Runs in a thread.
    environ: Mapping[str, str] | None = None
    account: Account | None = None  # Another account to run as.
    stop: int = signal.SIGTERM
    stop_s: float = 10.0  # Until it is killed.
    orphan: int = signal.SIGKILL  # What it gets when the supervisor dies.
    after: asyncio.Event | None = None  # It is sent an empty line when this is set (see ahead.py).
    before: Callable[[], Awaitable[None]] | None = None  # Ahead of each start; a Problem counts as a death.
    ended: Callable[[], Awaitable[None]] | None = None  # After each end, unless it is stopped for good.


log = logging.getLogger("weft.supervisor")


class Child:
    """A program and the loop that keeps it."""

    def __init__(self, shown: state.Component, program: Program, changed: Callable[[], None]) -> None:
        self.shown, self.program = shown, program
        self.ready = asyncio.Event()
        self._changed = changed
        self._nudged = asyncio.Event()  # Ends a backoff early.
        self._stopping = self._asked = False
        self._crashes = 0
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts it, and keeps it."""
        self._task = asyncio.create_task(self._keep(), name=self.shown.name)

    async def end(self) -> None:
        """Stops it for good; kills it when it takes too long."""
        self._stopping = True
        self._nudged.set()
        if self._task is None:
            return
        self._signal(self.program.stop)
        try:
            await asyncio.wait_for(asyncio.shield(self._task), self.program.stop_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._task

    async def restart(self) -> None:
        """Stops it; the loop starts it again at once."""
        self._asked, process = True, self._process
        self._nudged.set()
        self._signal(self.program.stop)
        try:
            if process:
                await asyncio.wait_for(process.wait(), self.program.stop_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process and self._process.returncode is None:
            self._process.send_signal(number)

    async def _keep(self) -> None:
        while not self._stopping:
            self._asked = False
            self._nudged.clear()
            began = time.monotonic()
            how = await self._one_life()
            self.ready.clear()
            if self._was_told():
                continue
            young = time.monotonic() - began < STEADY_S
            self._crashes = self._crashes + 1 if young else 1
            await self._back_off(how)
        self._tell(state.STOPPED, "", None)

    def _was_told(self) -> bool:
        """Whether it ended because we wanted it to."""
        return self._stopping or self._asked

    async def _one_life(self) -> str:
        """How it ended."""
        try:
            if self.program.before:
                self._tell(state.STARTING, "is prepared", None)
                await self.program.before()
            how = _how(await self._live())
            if self.program.ended and not self._stopping:
                await self.program.ended()
        except (Problem, OSError) as error:  # A disk that is full, say: it is tried again.
            log.warning("%s: %s", self.shown.name, error)
            return error.what if isinstance(error, Problem) else str(error)
        return how

    async def _live(self) -> int:
        """One life, from start to exit code."""
        who = self.program.account
        uid, gid = (who.uid, who.gid) if who and not who.is_us else (-1, -1)
        words = [self.program.orphan, os.getpid(), uid, gid, *self.program.command]
        with self.program.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", leash.__file__, *(str(word) for word in words),
                stdin=asyncio.subprocess.PIPE if self.program.after else asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, env=self.program.environ, cwd="/" if uid >= 0 else None,
            )  # fmt: skip
        self._tell(state.STARTING, "", self._process.pid)
        if self._stopping:
            self._signal(self.program.stop)
        beside = [asyncio.create_task(task) for task in (self._watch(), self._let_go(self._process))]
        code = await self._process.wait()
        for task in beside:
            task.cancel()
        return code

    async def _let_go(self, process: asyncio.subprocess.Process) -> None:
        """Sends the line it waits for."""
        if self.program.after and process.stdin:
            await self.program.after.wait()
            process.stdin.write(b"\n")

    async def _watch(self) -> None:
        """Asks until it is ready."""
        while why := await asyncio.to_thread(self.program.unready):
            if why != self.shown.note:
                self._tell(state.STARTING, why, self.shown.pid)
            await asyncio.sleep(POLL_S)
        self._tell(state.READY, "", self.shown.pid)
        self.ready.set()

    async def _back_off(self, how: str) -> None:
        delay = min(BACKOFF_S * 2 ** (self._crashes - 1), BACKOFF_S_MAX)
        self.shown.restarts += 1
        phase = state.CRASHING if self._crashes >= CRASHES_MAX else state.RESTARTING
        last = last_line(self.program.log)
        self._tell(phase, f"{how}, next try in {delay:.3g} s{': ' if last else ''}{last}", None)
        try:
            await asyncio.wait_for(self._nudged.wait(), delay)
        except TimeoutError:
            return

    def _tell(self, phase: str, note: str, pid: int | None) -> None:
        if phase != self.shown.phase:
            self.shown.since = time.time()
            log.info(
                "%s: %s%s%s",
                self.shown.name,
                phase,
                f", pid {pid}" if pid else "",
                f", {note}" if note else "",
            )
        self.shown.phase, self.shown.note, self.shown.pid = phase, note, pid
        self._changed()


def last_line(log: Path) -> str:
    """The last line of a log, for people."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


def _how(code: int) -> str:
    return f"ended with {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
