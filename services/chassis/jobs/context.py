"""What a handler is given beside its payload: the job, and the ways to tell of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from services.chassis.jobs.errors import Cancelled
from services.chassis.jobs.payload import codec
from services.chassis.telemetry import NO_TRACE, Trace

S = TypeVar("S")

STATE_BYTES_MAX = (
    786_432  # As a payload. A checkpoint is a place to go on from; what was made belongs elsewhere.
)
MESSAGE_CHARS_MAX = 500  # A line beside a progress bar.

# Who can tell what is known of the job that runs here; most jobs never ask.
current_job: ContextVar[Callable[[], Facts] | None] = ContextVar("current_job", default=None)


class StateTooLarge(ValueError):
    """A checkpoint exceeds STATE_BYTES_MAX: a bug, for what it holds must be bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a job when an attempt begins."""

    id: UUID
    type: str
    queue: str
    attempt: int = 1  # From 1.
    attempts_max: int = 1
    priority: str = "medium"
    key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    enqueuer: str = ""  # Who asked for it: a subject, or a service.
    enqueued_s: float = 0.0  # Unix seconds.
    ends_s: float | None = None  # When the attempt is ended, Unix seconds; None: never.
    trace: Trace = NO_TRACE
    state: bytes | None = None  # The last checkpoint; None: none was made.


class Told(Protocol):
    """Who hears of an attempt as it goes on: the worker that runs it."""

    @property
    def cancelled(self) -> bool: ...

    def progress(self, percent: float, message: str) -> None: ...


class Asynchronous(Told, Protocol):
    async def checkpoint(self, state: bytes) -> None: ...


class Blocking(Told, Protocol):
    def checkpoint(self, state: bytes) -> None: ...


class JobLog(logging.LoggerAdapter[logging.Logger]):
    """Binds each line to its job."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        given = (kwargs.get("extra") or {}).get("facts", {})
        kwargs["extra"] = {"facts": {**(self.extra or {}), **given}}
        return msg, kwargs


_log = logging.getLogger("weft.job")


class _Attempt:
    """What jobs of both kinds have."""

    __slots__ = ("_facts", "_known", "_log", "_told")

    def __init__(self, known: Facts | Callable[[], Facts], told: Any) -> None:
        self._known, self._told = known, told
        self._facts: Facts | None = None
        self._log: JobLog | None = None

    @property
    def facts(self) -> Facts:
        """What is known of it: its labels, who enqueued it and when."""
        if self._facts is None:
            self._facts = self._known() if callable(self._known) else self._known
        return self._facts

    @property
    def id(self) -> UUID:
        return self.facts.id

    @property
    def attempt(self) -> int:
        """From 1. A higher one says that an earlier attempt failed, or its worker died."""
        return self.facts.attempt

    @property
    def last_attempt(self) -> bool:
        return self.facts.attempt >= self.facts.attempts_max

    @property
    def token(self) -> str:
        """The same in every attempt of this job: for a receiver that keeps idempotency keys."""
        return f"job-{self.facts.id}"

    @property
    def deadline(self) -> datetime | None:
        """When this attempt is ended. None: never."""
        return None if self.facts.ends_s is None else datetime.fromtimestamp(self.facts.ends_s, UTC)

    def remaining_s(self) -> float | None:
        """Seconds until then, at least 0."""
        return None if self.facts.ends_s is None else max(0.0, self.facts.ends_s - time.time())

    @property
    def cancelled(self) -> bool:
        """Whether it is to end: it was cancelled, is out of time, or its worker stops."""
        return bool(self._told.cancelled)

    @property
    def log(self) -> JobLog:
        """Structured lines bound to the job; they go to the worker's log and to whoever watches the job."""
        if self._log is None:
            self._log = JobLog(_log, bound(self.facts))
        return self._log

    def progress(self, percent: float, message: str = "") -> None:
        """Tells those who watch. Cheap: of many in a moment only the last is sent."""
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must lie between 0 and 100, not {percent}")
        self._told.progress(float(percent), message[:MESSAGE_CHARS_MAX])

    def restored(self, kind: type[S]) -> S | None:
        """The state of the last checkpoint of any attempt; None when none was made. Raises BadPayload."""
        if self.facts.state is None:
            return None
        state: S = codec(kind).decode(self.facts.state, "")
        return state


class Job(_Attempt):
    """An attempt as an async handler sees it."""

    __slots__ = ()

    async def checkpoint(self, state: Any) -> None:
        """Keeps `state` (a message, a dataclass or bytes); returns when it would survive this worker.

        While the queue is away it waits, as long as the attempt may. Raises StateTooLarge; CallFailed when a
        later attempt has begun.
        """
        await self._told.checkpoint(encoded(state))


class BlockingJob(_Attempt):
    """An attempt as a plain function sees it, in a thread or a process."""

    __slots__ = ()

    def checkpoint(self, state: Any) -> None:
        """As Job.checkpoint; and a place to stop at: raises Cancelled when the job is to end."""
        self.check()
        self._told.checkpoint(encoded(state))

    def progress(self, percent: float, message: str = "") -> None:
        """As Job.progress; and a place to stop at: raises Cancelled when the job is to end."""
        self.check()
        super().progress(percent, message)

    def check(self) -> None:
        """Raises Cancelled when the job is to end. Call it in long loops."""
        if self._told.cancelled:
            raise Cancelled


def encoded(state: Any) -> bytes:
    """A checkpoint as it is kept. Raises StateTooLarge, TypeError."""
    data = codec(type(state)).encode(state)
    if len(data) > STATE_BYTES_MAX:
        raise StateTooLarge(f"a checkpoint has at most {STATE_BYTES_MAX} bytes, not {len(data)}")
    return data


def bound(facts: Facts) -> dict[str, object]:
    """What binds a line of a log to its job."""
    return {"job_id": str(facts.id), "job_type": facts.type, "queue": facts.queue, "attempt": facts.attempt}
