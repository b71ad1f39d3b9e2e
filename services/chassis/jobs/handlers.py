"""Handlers of jobs: typed functions, found by their type's name.

    @job("billing.invoice.send", timeout_s=30)
    async def send_invoice(job: Job, invoice: SendInvoice) -> Sent: ...

An `async def` runs on the worker's event loop and takes a Job. A plain `def` runs in a thread and takes a
BlockingJob; with `process=True` or limits, in a process of its own. The payload's and the result's types
are those of the signature: a protobuf message, a dataclass, bytes or None.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from services.chassis.jobs.context import BlockingJob, Job
from services.chassis.jobs.limits import Limits
from services.chassis.jobs.payload import Codec, codec
from services.chassis.jobs.surroundings import Surroundings

P = ParamSpec("P")
R = TypeVar("R")
Next = Callable[[], Awaitable[Any]]  # The rest of the way: further middleware, then the handler.

TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,199}")  # As the queue takes them.


class BadHandler(TypeError):
    """A handler or a module of handlers that cannot be used: a bug, told before any job runs."""


class Kind(Enum):
    """Where a handler runs."""

    ASYNC = "async"
    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Handler(Generic[P, R]):
    """What runs jobs of one type. Called as the function that it is, in tests."""

    type: str
    run: Callable[P, R]
    kind: Kind
    payload: Codec
    result: Codec
    timeout_s: float | None  # Of one attempt; None: what the job or its queue says.
    concurrency: int | None  # Jobs of this type that one worker runs at once; None: as it has slots.
    limits: Limits
    takes_payload: bool

    def start(self, job: Job | BlockingJob, payload: Any) -> Any:
        """Calls the function: what it returns, or its coroutine."""
        run: Callable[..., Any] = self.run
        return run(job, payload) if self.takes_payload else run(job)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.run(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Middleware:
    """Runs around every job of the modules that a worker serves, outermost first by module and name."""

    run: Callable[[Job, Next], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Lifespan:
    """Opened before a worker's first job, closed after its last."""

    run: Callable[[Surroundings], AsyncIterator[None]]


def job(
    type: str,
    *,
    timeout_s: float | None = None,
    concurrency: int | None = None,
    process: bool = False,
    limits: Limits | None = None,
) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Makes a function the handler of jobs of `type`. Raises BadHandler."""
    if not TYPE.fullmatch(type):
        raise BadHandler(f"{type!r} is no job type: words with dots between, such as `billing.invoice.send`")
    for name, bound in (("timeout_s", timeout_s), ("concurrency", concurrency)):
        if bound is not None and bound <= 0:
            raise BadHandler(f"{type}: {name} must be above 0, not {bound}")

    def handle(function: Callable[P, R]) -> Handler[P, R]:
        kind = _kind(type, function, process=process or limits is not None)
        payload, result, takes_payload = _types(type, function, kind)
        bounds = (timeout_s, concurrency, limits or Limits())
        return Handler(type, function, kind, payload, result, *bounds, takes_payload)

    return handle


def middleware(function: Callable[[Job, Next], Awaitable[Any]]) -> Middleware:
    """Runs `function(job, proceed)` around every job, on the event loop, wherever its handler runs."""
    if not inspect.iscoroutinefunction(function):
        raise BadHandler(f"{function!r}: middleware is an async function")
    return Middleware(function)


def lifespan(function: Callable[[Surroundings], AsyncIterator[None]]) -> Lifespan:
    """An async generator with one `yield`: before it what handlers need is opened, after it closed."""
    if not inspect.isasyncgenfunction(function):
        raise BadHandler(f"{function!r}: a lifespan is an async generator function")
    return Lifespan(function)


@asynccontextmanager
async def opened(lifespans: Sequence[Lifespan], around: Surroundings) -> AsyncIterator[None]:
    """What handlers need is there until the block ends."""
    async with AsyncExitStack() as stack:
        for each in lifespans:
            await stack.enter_async_context(asynccontextmanager(each.run)(around))
        yield


def _kind(type: str, function: Callable[..., Any], *, process: bool) -> Kind:
    if inspect.iscoroutinefunction(function):
        if process:
            raise BadHandler(f"{type}: a handler with a process of its own is a plain function")
        return Kind.ASYNC
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise BadHandler(f"{type}: a handler is no generator")
    return Kind.PROCESS if process else Kind.THREAD


def _types(type: str, function: Callable[..., Any], kind: Kind) -> tuple[Codec, Codec, bool]:
    """From the signature: the codecs of payload and result, and whether it takes a payload."""
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)
    if len(names) not in (1, 2) or any(name not in hints for name in names) or "return" not in hints:
        raise BadHandler(f"{type}: a handler is `(job: Job, payload: T) -> R`, fully annotated")
    context = Job if kind is Kind.ASYNC else BlockingJob
    if hints[names[0]] is not context:
        raise BadHandler(f"{type}: the first parameter of a handler of this kind is a {context.__name__}")
    try:
        payload = codec(hints[names[1]] if len(names) > 1 else None)
        return payload, codec(hints["return"]), len(names) > 1
    except TypeError as error:
        raise BadHandler(f"{type}: {error}") from None


@dataclass(frozen=True, slots=True)
class Registry:
    """All that was found in the modules of one worker."""

    handlers: Mapping[str, Handler[..., Any]]
    middleware: tuple[Middleware, ...] = ()
    lifespans: tuple[Lifespan, ...] = ()

    @classmethod
    def of(cls, modules: Iterable[str]) -> Registry:
        """Imports the modules, and all below those that are packages. Raises BadHandler, ImportError."""
        handlers: dict[str, Handler[..., Any]] = {}
        around: list[Middleware] = []
        spans: list[Lifespan] = []
        for found in _unique(modules):
            match found:
                case Handler():
                    if found.type in handlers:
                        both = (handlers[found.type].run, found.run)
                        places = " and ".join(f"{each.__module__}.{each.__qualname__}" for each in both)
                        raise BadHandler(f"{found.type} has two handlers: {places}")
                    handlers[found.type] = found
                case Middleware():
                    around.append(found)
                case Lifespan():
                    spans.append(found)
        if not handlers:
            raise BadHandler(f"there is no handler in {', '.join(modules)}")
        return cls(handlers, tuple(around), tuple(spans))


def _unique(modules: Iterable[str]) -> Iterator[Handler[..., Any] | Middleware | Lifespan]:
    """Each once, though several modules may import it."""
    seen: set[int] = set()
    for module in _walk(modules):
        for value in list(vars(module).values()):
            if isinstance(value, Handler | Middleware | Lifespan) and id(value) not in seen:
                seen.add(id(value))
                yield value


def _walk(modules: Iterable[str]) -> Iterator[ModuleType]:
    for name in modules:
        module = import_module(name)
        yield module
        if hasattr(module, "__path__"):
            for below in pkgutil.walk_packages(module.__path__, f"{name}."):
                if not below.name.endswith(".__main__"):
                    yield import_module(below.name)
