"""The worker's side of cells: asks for one, gives it its task, hears it out, and ends it in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from google.protobuf.message import DecodeError

from services.chassis.errors import CallFailed
from services.chassis.jobs.limits import Limits
from services.worker.cells.cell import packed
from services.worker.cells.frames import (
    CONTROL_BYTES_MAX,
    FRAME_BYTES_MAX,
    LENGTH,
    BadFrame,
    Checkpoint,
    Control,
    Done,
    Ended,
    Frame,
    Kept,
    Kill,
    Line,
    Progress,
    Start,
    Task,
    control,
    frame,
    read_control,
    read_frame,
)
from services.worker.delivery import Run
from services.worker.ending import Ending, because
from services.worker.lines import LINE_CHARS_MAX
from weft.jobs.v1.attempt_pb2 import Failure, LogLine
from weft.jobs.v1.job_pb2 import EndReason

START_S_MAX = 60.0  # Loading the modules; a forker that takes longer hangs in one of them.
ASKED_S = 2.0  # Between asking a cell to end and killing it.
READ_BYTES = 64 * 1024

log = logging.getLogger("weft.worker")


class NoForker(Exception):
    """The process that forks cells could not be started."""


@dataclass(slots=True)
class _Watched:
    """What was noticed of a cell from outside."""

    done: Done | None = None
    printed: int = 0
    flooded: bool = False
    damaged: str = ""


class Cells:
    """Starts the forker when it is asked to or the first cell is wanted, and again when it died."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._loop = asyncio.get_running_loop()
        self._starting: asyncio.Task[_Forker] | None = None

    async def perform(self, run: Run) -> Ending:
        """Cancelled, it sees to it that the cell ends; then raises CancelledError."""
        forker = await asyncio.shield(self.begin())  # Others may wait for it, too.
        return await forker.cell(run)

    def begin(self) -> asyncio.Task[_Forker]:
        """Starts the forker, unless it is there: loading the modules takes it a second."""
        if self._starting is None or _failed(self._starting):
            self._starting = asyncio.create_task(_Forker.started(self._modules))
        return self._starting

    async def close(self) -> None:
        if self._starting:
            with contextlib.suppress(NoForker):
                await (await self._starting).close()


def _failed(starting: asyncio.Task[_Forker]) -> bool:
    """Whether there is no forker, and will be none."""
    return starting.done() and (starting.exception() is not None or starting.result().gone)


class _Forker:
    """One life of the forker."""

    def __init__(self, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self._process, self._ours = process, ours
        self._numbers = count(1)
        self._ends: dict[int, asyncio.Future[Ended]] = {}
        self._loop = asyncio.get_running_loop()
        self.gone = False
        ours.setblocking(False)
        self._loop.add_reader(ours, self._hear)

    @classmethod
    async def started(cls, modules: Sequence[str]) -> _Forker:
        """Raises NoForker."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = ["-m", "services.worker.cells.forker", str(theirs.fileno()), str(os.getpid()), *modules]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # It finds modules as we do.
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *words,
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env=environ,
            )
        forker = cls(process, ours)
        ready = forker._ends[0] = forker._loop.create_future()
        try:
            async with asyncio.timeout(START_S_MAX):
                await ready
        except (TimeoutError, ConnectionError):
            await forker.close()
            raise NoForker("the handlers' modules could not be loaded in another process") from None
        return forker

    async def close(self) -> None:
        """The cells go with it."""
        if not self.gone:
            self._leave()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def _hear(self) -> None:
        """What the forker tells; when it is gone, so are all cells."""
        try:
            data = self._ours.recv(CONTROL_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave()
            return
        told = read_control(data)
        if isinstance(told, Ended) and (end := self._ends.pop(told.number, None)) and not end.done():
            end.set_result(told)

    def _leave(self) -> None:
        self.gone = True
        self._loop.remove_reader(self._ours)
        self._ours.close()
        for end in self._ends.values():
            if not end.done():
                end.set_exception(ConnectionError("the process that forks cells is gone"))
        self._ends.clear()

    def tell(self, what: Control, *descriptors: int) -> None:
        """Raises OSError when it is gone."""
        socket.send_fds(self._ours, [control(what)], list(descriptors))

    async def cell(self, run: Run) -> Ending:
        """One attempt in a cell."""
        number, limits = next(self._numbers), run.handler.limits
        channel, theirs = socket.socketpair()
        output, printed = socket.socketpair()
        end = self._ends[number] = self._loop.create_future()
        with theirs, printed:
            self.tell(Start(number, limits), theirs.fileno(), printed.fileno())
        watched = _Watched()
        beside = [
            asyncio.create_task(self._converse(run, channel, watched)),
            asyncio.create_task(self._drink(run, output, watched, number)),
        ]
        try:
            ended = await self._until(end, number)
            await asyncio.gather(*beside)
        except ConnectionError as error:
            return because(EndReason.END_REASON_WORKER_LOST, str(error))
        finally:
            for task in beside:
                task.cancel()
        return _judged(watched, ended, limits)

    async def _until(self, end: asyncio.Future[Ended], number: int) -> Ended:
        """The cell's end. Cancelled, asks it to end, then kills it, and raises when it is gone."""
        try:
            return await asyncio.shield(end)
        except asyncio.CancelledError:
            for sent in (signal.SIGTERM, signal.SIGKILL):
                if not end.done() and not self.gone:
                    self.tell(Kill(number, sent))
                    await _patient(end, ASKED_S if sent == signal.SIGTERM else None)
            raise

    async def _converse(self, run: Run, channel: socket.socket, watched: _Watched) -> None:
        reader, writer = await asyncio.open_connection(sock=channel, limit=FRAME_BYTES_MAX)
        try:
            writer.write(frame(_task(run)))
            while (heard := await _read(reader)) is not None:
                if isinstance(heard, Done):
                    watched.done = heard
                elif isinstance(heard, Checkpoint):
                    writer.write(frame(Kept(await _kept(run, heard.state))))
                else:
                    _tell(run, heard)
        except (BadFrame, DecodeError) as error:
            watched.damaged = str(error)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # It ended in the middle of a frame; its status says why.
        finally:
            writer.close()

    async def _drink(self, run: Run, output: socket.socket, watched: _Watched, number: int) -> None:
        """What it prints goes into its log, up to the limit."""
        reader, writer = await asyncio.open_connection(sock=output, limit=READ_BYTES)
        rest = b""
        try:
            while data := await reader.read(READ_BYTES):
                watched.printed += len(data)
                if watched.printed > run.handler.limits.output_bytes and not watched.flooded:
                    watched.flooded = True
                    self.tell(Kill(number, signal.SIGKILL))
                if not watched.flooded:
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        _print(run, line)
            if rest and not watched.flooded:
                _print(run, rest)
        except OSError:
            return
        finally:
            writer.close()


async def _patient(end: asyncio.Future[Ended], seconds: float | None) -> None:
    """Waits for the end, whatever further cancellation comes."""
    loop = asyncio.get_running_loop()
    ends = None if seconds is None else loop.time() + seconds
    while not end.done():
        left = None if ends is None else ends - loop.time()
        if left is not None and left <= 0:
            return
        try:
            await asyncio.wait({end}, timeout=left)
        except asyncio.CancelledError:
            continue


async def _read(reader: asyncio.StreamReader) -> Frame | None:
    """None when the cell is gone."""
    try:
        head = await reader.readexactly(LENGTH.size)
    except asyncio.IncompleteReadError:
        return None
    size: int = LENGTH.unpack(head)[0]
    if size > FRAME_BYTES_MAX:
        raise BadFrame(f"a frame of {size} bytes")
    return read_frame(await reader.readexactly(size))


def _task(run: Run) -> Task:
    envelope = run.delivery.envelope
    return Task(
        handler=envelope.type,
        payload=envelope.payload.data,
        content_type=envelope.payload.content_type,
        facts=packed(run.known()),
        state=run.known().state,
        limits=run.handler.limits,
        lifespans=run.isolated,
    )


async def _kept(run: Run, state: bytes) -> str:
    """Why a checkpoint was not kept; empty when it was."""
    try:
        await run.checkpoint(state)
    except (CallFailed, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    return ""


def _tell(run: Run, heard: Frame) -> None:
    if isinstance(heard, Progress):
        run.progress(heard.percent, heard.message)
    elif isinstance(heard, Line):
        run.line(LogLine.FromString(heard.line))


def _print(run: Run, line: bytes) -> None:
    told = LogLine(level="INFO", message=line.decode("utf-8", "replace")[:LINE_CHARS_MAX])
    told.time.GetCurrentTime()
    run.line(told)


def _judged(watched: _Watched, ended: Ended, limits: Limits) -> Ending:
    """Why it ended: what stopped it from outside comes before what it said itself."""
    if watched.flooded:
        words = f"it printed more than {limits.output_bytes} bytes"
        return because(EndReason.END_REASON_OUTPUT_EXCEEDED, words)
    if ended.crowded:
        words = f"it had more than {limits.processes} processes below it"
        return because(EndReason.END_REASON_PROCESSES_EXCEEDED, words)
    if watched.done is not None:
        return _said(watched.done)
    if _out_of_cpu(ended, limits):
        words = f"it used {ended.cpu_s:.1f} s of CPU time, more than {limits.cpu_s} s"
        return because(EndReason.END_REASON_CPU_EXCEEDED, words)
    return _crashed(ended.status, watched.damaged)


def _said(done: Done) -> Ending:
    failure = Failure.FromString(done.failure) if done.failure else None
    reason = EndReason.ValueType(done.reason)
    return Ending(reason, failure, result=done.result, result_type=done.result_type, after_s=done.after_s)


def _out_of_cpu(ended: Ended, limits: Limits) -> bool:
    if limits.cpu_s is None:
        return False
    return ended.status == -signal.SIGXCPU or (
        ended.status == -signal.SIGKILL and ended.cpu_s >= limits.cpu_s
    )


def _crashed(status: int, damaged: str) -> Ending:
    kind = signal.Signals(-status).name if status < 0 else "exit"
    words = f"its process was ended by {kind}" if status < 0 else f"its process exited with {status}"
    ending = because(EndReason.END_REASON_PROCESS_ENDED, f"{words}; {damaged}" if damaged else words, kind)
    assert ending.failure is not None
    ending.failure.exit_code, ending.crashed = status, True
    return ending
