"""A job as it lies in this worker, an attempt of it as it runs, and who hears of both."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from services.chassis import telemetry
from services.chassis.jobs.context import Facts
from services.chassis.jobs.handlers import Handler
from services.chassis.jobs.subjects import HIGH, LOW, MEDIUM
from services.worker.ending import LINES_MAX, Ending, Verdict, attempts_max
from services.worker.ready import RANK, Rank
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import EndReason, Envelope, Priority, RetryPolicy

PRIORITIES = {
    Priority.PRIORITY_UNSPECIFIED: "medium",
    Priority.PRIORITY_HIGH: "high",
    Priority.PRIORITY_MEDIUM: "medium",
    Priority.PRIORITY_LOW: "low",
}
LETTERS = {
    Priority.PRIORITY_UNSPECIFIED: MEDIUM,
    Priority.PRIORITY_HIGH: HIGH,
    Priority.PRIORITY_MEDIUM: MEDIUM,
    Priority.PRIORITY_LOW: LOW,
}


@dataclass(slots=True, eq=False)
class Delivery:
    """What the source handed over: the worker holds it until its end was told."""

    envelope: Envelope
    handle: Any = None  # By which the source knows it; nothing here looks into it.
    deliveries: int = 1  # How often it was delivered, this time included.
    again: bool = False  # Another worker had it before.
    due_s: float = 0.0  # When it could first have run, Unix seconds.
    expires_s: float | None = None  # Not begun by then, it expires. Unix seconds; None: never.
    timeout_s: float | None = None  # Of one attempt, where neither job nor handler says; None: none.
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    rank: Rank = RANK
    waits_s: float = 0.0  # Not to begin before, Unix seconds: in a lane, an earlier owner had it wait.
    state: bytes | None = None  # The last checkpoint; None: there is none.
    step: int = 0  # Of the last checkpoint, if this attempt made it in an earlier life.
    stop: EndReason.ValueType | None = None  # Why it is to end, once somebody said so.
    # Of the envelope; each look into a message makes a new string.
    job_id: str = field(init=False)
    run: int = field(init=False)
    queue: str = field(init=False)
    type: str = field(init=False)

    def __post_init__(self) -> None:
        envelope = self.envelope
        self.job_id, self.run = envelope.job_id, envelope.run
        self.queue, self.type = envelope.queue, envelope.type


@dataclass(slots=True, eq=False)
class Run:
    """An attempt that has begun."""

    delivery: Delivery
    handler: Handler[..., Any]
    outside: Outside
    task: asyncio.Task[None]  # The slot's: cancelled when the attempt is to end.
    trace: telemetry.Trace
    start_s: float  # Unix seconds.
    timeout_s: float | None  # None: it may last for ever.
    isolated: bool = False  # In a process of its own, whatever its handler's kind.
    ends: float | None = None  # On the event loop's clock; None: never, or it has not waited yet.
    lines: deque[LogLine] | None = None  # None: it has logged nothing.
    asked_at: float = 0.0  # When it was last asked to end, on the event loop's clock.
    percent: float | None = None
    message: str = ""
    _facts: Facts | None = None

    @property
    def ends_s(self) -> float | None:
        """As Unix seconds, for people."""
        return None if self.timeout_s is None else self.start_s + self.timeout_s

    def known(self) -> Facts:
        """What the handler is told; made when somebody asks."""
        if self._facts is None:
            self._facts = facts(self.delivery, self.ends_s, self.trace)
        return self._facts

    @property
    def cancelled(self) -> bool:
        return self.delivery.stop is not None

    def progress(self, percent: float, message: str) -> None:
        self.percent, self.message = percent, message
        self.outside.progress(self)

    def line(self, line: LogLine) -> None:
        if self.lines is None:
            self.lines = deque(maxlen=LINES_MAX)
        self.lines.append(line)
        self.outside.line(self, line)

    async def checkpoint(self, state: bytes) -> None:
        await self.outside.checkpoint(self, state)


class Outside(Protocol):
    """Who hears of what becomes of jobs. `progress` and `line` may be called from any thread."""

    def begun(self, run: Run) -> None: ...
    def progress(self, run: Run) -> None: ...
    def line(self, run: Run, line: LogLine) -> None: ...
    async def checkpoint(self, run: Run, state: bytes) -> None: ...
    def dropped(self, delivery: Delivery) -> None:
        """It was not begun, and is others'."""

    def ended(self, delivery: Delivery, ending: Ending, verdict: Verdict) -> None:
        """The last word on a delivery. Returns at once; what takes time is done in groups."""


def facts(delivery: Delivery, ends_s: float | None, trace: telemetry.Trace) -> Facts:
    """What the handler is told."""
    envelope = delivery.envelope
    return Facts(
        id=UUID(envelope.job_id),
        type=envelope.type,
        queue=envelope.queue,
        attempt=envelope.attempt,
        attempts_max=attempts_max(delivery.policy),
        priority=PRIORITIES.get(envelope.priority, "medium"),
        key=envelope.key,
        labels=dict(envelope.labels),
        enqueuer=envelope.enqueuer,
        enqueued_s=envelope.create_time.ToNanoseconds() / 1e9,
        ends_s=ends_s,
        trace=trace,
        state=delivery.state,
    )
