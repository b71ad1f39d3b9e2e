"""A process that makes one attempt, within limits, and tells the worker of it."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from services.chassis.config import Settings, load
from services.chassis.jobs.context import BlockingJob, Facts, Job, current_job
from services.chassis.jobs.errors import Cancelled
from services.chassis.jobs.handlers import Handler, Kind, Lifespan, Registry, opened
from services.chassis.jobs.limits import Limits
from services.chassis.jobs.surroundings import surrounding
from services.chassis.telemetry import Trace, current_trace
from services.worker.cells.frames import (
    Checkpoint,
    Done,
    Frame,
    Kept,
    Line,
    Progress,
    Task,
    frame,
    receive,
)
from services.worker.ending import Ending, raised
from services.worker.lines import LineHandler
from services.worker.results import returned
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import EndReason

PR_SET_PDEATHSIG = 1
SERVICE = "worker"  # As whom handlers call others.
FULL = {errno.EMFILE, errno.ENFILE, errno.EFBIG}


class NotKept(Exception):
    """The checkpoint was refused, or the queue's service is away."""


def live(registry: Registry, limits: Limits, forker: int, channel: int, output: int) -> NoReturn:
    """From fork to exit. Nothing of the stack of the process `forker` is ever returned to."""
    code = 1
    try:
        _settle(forker, output)
        with socket.socket(fileno=channel) as stream:
            task = receive(stream)
            if isinstance(task, Task):
                confine(limits)
                done = _attempt(registry, task, stream)
                with suppress(OSError, ValueError):  # Full or closed: what is left of the output is lost.
                    sys.stdout.flush()
                stream.sendall(frame(done))
                code = 0
    except OSError:  # The worker is gone.
        code = 1
    finally:
        os._exit(code)


def _settle(forker: int, output: int) -> None:
    """A session of its own, its output into the worker's hands, and no end that outlives the forker's."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != forker:  # It died before the leash was on.
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr] # Who watches sees lines as they come.


def confine(limits: Limits) -> None:
    """Sets what the kernel enforces; processes and output are watched from outside."""
    if limits.cpu_s is not None:
        seconds = math.ceil(limits.cpu_s)
        _limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    if limits.memory_bytes is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + limits.memory_bytes)
    if limits.open_files is not None:
        _limit(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + limits.open_files)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    """Never more than what is allowed already."""
    allowed = resource.getrlimit(which)[1]
    wanted = soft if hard is None else hard
    hard = wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)
    resource.setrlimit(which, (min(soft, hard), hard))


def _attempt(registry: Registry, task: Task, stream: socket.socket) -> Done:
    """Runs the handler; everything it may raise becomes an ending."""
    told, handler = _Told(stream), registry.handlers[task.handler]
    signal.signal(signal.SIGTERM, told.stop)
    logging.basicConfig(level=logging.INFO, handlers=[LineHandler(told.line)], force=True)
    told_facts = facts(task)
    current_job.set(lambda: told_facts)
    current_trace.set(told_facts.trace)
    try:
        payload = handler.payload.decode(task.payload, task.content_type)
        if task.lifespans:
            result = asyncio.run(_with_lifespans(registry, handler, told_facts, told, payload))
        else:
            result = handler.start(BlockingJob(told_facts, told), payload)
        ending = returned(handler.result.encode(result), handler.result.content_type)
    except SystemExit as left:
        ending = Ending(EndReason.END_REASON_PROCESS_ENDED)
        ending.failure = raised(left).failure
        assert ending.failure is not None
        ending.failure.exit_code = left.code if isinstance(left.code, int) else int(bool(left.code))
    except BaseException as error:
        ending = raised(error)
        ending.reason = _reason(error, task.limits, ending.reason)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    failure = ending.failure.SerializeToString() if ending.failure else b""
    return Done(ending.reason, failure, ending.result, ending.result_type, ending.after_s)


def _reason(error: BaseException, limits: Limits, otherwise: EndReason.ValueType) -> EndReason.ValueType:
    """Which limit an exception tells of."""
    if isinstance(error, MemoryError) and limits.memory_bytes is not None:
        return EndReason.END_REASON_MEMORY_EXCEEDED
    if isinstance(error, OSError) and error.errno in FULL:
        return EndReason.END_REASON_FILES_EXCEEDED
    return otherwise


async def _with_lifespans(
    registry: Registry, handler: Handler[..., Any], facts: Facts, told: _Told, payload: Any
) -> Any:
    async with _lives(registry.lifespans):
        if handler.kind is Kind.ASYNC:
            return await handler.start(Job(facts, _Awaited(told)), payload)
        return handler.start(BlockingJob(facts, told), payload)


@asynccontextmanager
async def _lives(lifespans: Sequence[Lifespan]) -> AsyncIterator[None]:
    """What handlers need is there until the block ends, for this process alone."""
    if not lifespans:
        yield
        return
    async with surrounding(load(Settings), SERVICE) as around, opened(lifespans, around):
        yield


def packed(facts: Facts) -> dict[str, Any]:
    """Facts as a Task has them, save the state."""
    values = {name: getattr(facts, name) for name in Facts.__slots__ if name not in ("trace", "state")}
    trace = facts.trace.header() if facts.trace.trace_id else ""
    return {**values, "id": str(facts.id), "trace": trace}


def facts(task: Task) -> Facts:
    values: dict[str, Any] = dict(task.facts)
    parts = values.pop("trace").split("-")
    trace = Trace(parts[1], parts[2], parts[3] == "01") if len(parts) == 4 else Trace()
    return Facts(**{**values, "id": UUID(values["id"]), "trace": trace, "state": task.state})


class _Told:
    """Carries to the worker what the handler tells."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream, self.cancelled = stream, False
        self._whole = threading.RLock()  # A handler may have threads; frames stay whole.

    def stop(self, number: int, where: object) -> None:
        self.cancelled = True
        raise Cancelled

    def progress(self, percent: float, message: str) -> None:
        self._send(Progress(percent, message))

    def line(self, line: LogLine) -> None:
        self._send(Line(line.SerializeToString()))

    def checkpoint(self, state: bytes) -> None:
        """Raises NotKept."""
        with self._whole:
            self._send(Checkpoint(state))
            answer = receive(self._stream)
        if not isinstance(answer, Kept):
            raise NotKept("the worker is gone")
        if answer.refused:
            raise NotKept(answer.refused)

    def _send(self, what: Frame) -> None:
        with self._whole:
            self._stream.sendall(frame(what))


class _Awaited:
    """The same for an async handler, which is alone in its process."""

    def __init__(self, told: _Told) -> None:
        self._told, self.progress = told, told.progress

    @property
    def cancelled(self) -> bool:
        return self._told.cancelled

    async def checkpoint(self, state: bytes) -> None:
        self._told.checkpoint(state)
