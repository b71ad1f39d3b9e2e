"""One attempt, from payload to result: on the event loop, in a thread, or in a process of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context, ContextVar
from functools import lru_cache
from types import coroutine
from typing import Any, Protocol

from services.chassis.events import Provenance, provenance
from services.chassis.jobs.context import BlockingJob, Job, current_job
from services.chassis.jobs.handlers import Handler, Kind, Middleware, Next, Registry
from services.chassis.telemetry import current_trace
from services.worker.delivery import Run
from services.worker.ending import Ending, because, raised
from services.worker.results import returned
from services.worker.threads import ThreadLost, Threads

current_run: ContextVar[Run | None] = ContextVar("current_run", default=None)


class Apart(Protocol):
    """Who performs attempts in processes of their own."""

    async def perform(self, run: Run) -> Ending: ...
    async def close(self) -> None: ...


class Performers:
    """The three ways, and the middleware around each."""

    def __init__(self, registry: Registry, apart: Apart) -> None:
        self._middleware, self._threads, self._apart = registry.middleware, Threads(), apart

    @property
    def lost(self) -> int:
        """Threads that hang."""
        return self._threads.lost

    def begin(self, run: Run) -> Ending | Awaitable[Ending]:
        """Its ending, if it came at once; else what to wait for, which raises as `perform` does.

        Most handlers of short jobs never wait: their first step is their last, and costs neither a task nor
        layers of coroutines. Raises CancelledError when it was cancelled; what a handler raised is an Ending.
        """
        handler = run.handler
        if handler.kind is not Kind.ASYNC or self._middleware or run.isolated:
            return self.perform(run)
        context = contextvars.copy_context()
        context.run(_mark, run)
        payload = run.delivery.envelope.payload
        try:
            value = handler.payload.decode(payload.data, payload.content_type)
            coroutine = handler.start(Job(run.known, run), value)
            try:
                awaited = context.run(coroutine.send, None)
            except StopIteration as stop:
                return _returned(handler, stop.value)
        except BaseException as error:
            return _raised(run, error)
        return _go_on(run, _within(context, coroutine, awaited))

    async def perform(self, run: Run) -> Ending:
        """Raises CancelledError when it was cancelled; whatever the handler raised is an Ending."""
        context = contextvars.copy_context()
        context.run(_mark, run)
        way = self._around if self._middleware else self._once
        inner = way(run, context)
        try:
            try:
                awaited = context.run(inner.send, None)
            except StopIteration as stop:
                ending: Ending = stop.value
            else:
                ending = await _within(context, inner, awaited)
        except BaseException as error:
            return _raised(run, error)
        return ending

    async def close(self) -> None:
        self._threads.close()
        await self._apart.close()

    async def _once(self, run: Run, context: Context) -> Ending:
        if run.isolated or run.handler.kind is Kind.PROCESS:
            return await self._apart.perform(run)
        handler, payload = run.handler, run.delivery.envelope.payload
        value = handler.payload.decode(payload.data, payload.content_type)
        if handler.kind is Kind.ASYNC:
            result = await handler.start(Job(run.known, run), value)
        else:
            job = BlockingJob(run.known, Threaded(run))
            result = await self._threads.run(lambda: handler.start(job, value), context.copy())
        return returned(handler.result.encode(result), handler.result.content_type)

    async def _around(self, run: Run, context: Context) -> Ending:
        """The handler's ending, or what middleware made of it."""
        ending: Ending | None = None

        async def innermost() -> Any:
            nonlocal ending
            ending = await self._once(run, context)
            return ending

        proceed: Next = innermost
        job = Job(run.known, run)
        for each in reversed(self._middleware):
            proceed = _bound(each, job, proceed)
        await proceed()
        return ending or returned(b"", "")


def _bound(each: Middleware, job: Job, proceed: Next) -> Next:
    return lambda: each.run(job, proceed)


class Threaded:
    """What a plain handler tells, carried from its thread to the event loop."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._loop = run.task.get_loop()

    @property
    def cancelled(self) -> bool:
        return self._run.cancelled

    def progress(self, percent: float, message: str) -> None:
        self._run.progress(percent, message)

    def checkpoint(self, state: bytes) -> None:
        asyncio.run_coroutine_threadsafe(self._run.checkpoint(state), self._loop).result()


@lru_cache(maxsize=1_000)
def _provenance(enqueuer: str, trace_id: str) -> Provenance:
    """Jobs without a trace have few different ones."""
    return Provenance(enqueuer, "", trace_id)


def _mark(run: Run) -> None:
    """Sets what code of the handler, and below it, may ask of the context."""
    current_run.set(run)
    current_job.set(run.known)
    current_trace.set(run.trace)
    provenance.set(_provenance(run.delivery.envelope.enqueuer or "system", run.trace.trace_id))


async def _go_on(run: Run, rest: Awaitable[Any]) -> Ending:
    try:
        return _returned(run.handler, await rest)
    except BaseException as error:
        return _raised(run, error)


def _returned(handler: Handler[..., Any], value: Any) -> Ending:
    return returned(handler.result.encode(value), handler.result.content_type)


def _raised(run: Run, error: BaseException) -> Ending:
    """What is made of it. Raises it again if it ends more than the attempt."""
    if isinstance(error, GeneratorExit):
        raise error
    if isinstance(error, ThreadLost):
        assert run.delivery.stop is not None
        return because(run.delivery.stop, "its thread could not be ended", "ThreadLost")
    if isinstance(error, asyncio.CancelledError):
        if run.task.cancelling():
            raise error
        return raised(error)  # The handler's own: nobody asked it to end.
    if run.cancelled:  # It was told to end, and this is how it did.
        raise asyncio.CancelledError from error
    return raised(error)


@coroutine
def _within(context: Context, inner: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """Goes on with `inner`, which waits for `awaited`, in a context of its own: what it sets ends with it."""
    while True:
        try:
            value = yield awaited
            step = inner.send
        except BaseException as error:
            step, value = inner.throw, error
        try:
            awaited = context.run(step, value)
        except StopIteration as stop:
            return stop.value
