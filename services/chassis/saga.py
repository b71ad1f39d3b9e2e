"""Processes of several steps in other services that end complete, or with all that was done undone.

    CHECKOUT = Saga("checkout", timeout_s=1800, until="confirm", steps=[
        Step("reserve", reserve, undo=release),
        Step("authorise", authorise, undo=void),
        Step("confirm", confirm, undo=revoke),
    ])

A step is a function that calls others, each call idempotent by an id that follows from the saga's own. Where
the saga stands is written down before and after each step, with what the step changes here (`Done.change`)
in the same transaction. So after a kill at any line another replica, or this one, takes the step up again.

A step that is refused turns the saga back: what was done is undone, last step first. A step whose outcome
is unknown (a timeout, a kill) is undone as well, so `undo` must bear that nothing was done. What is away is
tried again: until the deadline on the way forward, for ever on the way back. What cannot be undone is STUCK,
and a person lets it go on (`retry`).

One replica at a time runs a saga: whoever holds its row (SKIP LOCKED), until its connection is gone, or a
lease by the database's clock is over. One that was paused past its lease can still send the call that it was
about to send, which is why calls are idempotent; it can record nothing more.

A change is made with the saga's row locked. Who locks both takes the saga's first (`wake`, `call_off`), and
then what the changes lock.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from google.rpc import code_pb2

from services.chassis.db import Connection
from services.chassis.errors import CallFailed, Refusal

STEP_S = 10.0  # What a step may take unless it says otherwise.
AWAY = frozenset(
    {
        code_pb2.UNAVAILABLE,
        code_pb2.DEADLINE_EXCEEDED,
        code_pb2.RESOURCE_EXHAUSTED,
        code_pb2.ABORTED,
        code_pb2.CANCELLED,
        code_pb2.UNAUTHENTICATED,  # Clocks of two machines apart; a mesh key being changed.
    }
)
BUGS = frozenset({code_pb2.INTERNAL, code_pb2.UNKNOWN, code_pb2.DATA_LOSS})

Change = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a step may know of its saga."""

    kind: str
    saga_id: UUID
    subject: str
    data: Mapping[str, Any]  # What it was started with, and what steps before have added.
    attempt: int  # Of this step, from 1.
    created_at: datetime
    deadline_at: datetime | None  # None once no deadline counts any more.
    reason: str = ""  # On the way back: why.
    failed_step: str = ""  # On the way back: what was refused; empty when it was called off.
    message: str = ""  # On the way back: the refusal's sentence.


@dataclass(frozen=True, slots=True)
class Done:
    """The step is done. `data` is added to the saga's; `change` is made together with the record of it."""

    data: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """The step has begun and waits for the world: it is run again after `seconds`, or when it is woken."""

    seconds: float
    data: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None


Act = Callable[[Run], Awaitable[Done | Wait | None]]  # None: done, nothing to be said.


@dataclass(frozen=True, slots=True)
class Step:
    """One step. Both acts raise Refusal or CallFailed; either may happen more than once."""

    name: str
    do: Act
    undo: Act | None = None  # None: there is nothing to undo.
    timeout_s: float = STEP_S
    only_if: Callable[[Mapping[str, Any]], bool] | None = None  # Of data that never changes. None: always.

    def due(self, data: Mapping[str, Any]) -> bool:
        """Whether a saga with this data has the step at all."""
        return self.only_if is None or self.only_if(data)


@dataclass(frozen=True, slots=True)
class Saga:
    """One kind of process."""

    kind: str
    steps: Sequence[Step]
    timeout_s: float  # From its start, unless that says otherwise; then it turns back.
    until: str = ""  # The deadline counts until this step is done; empty: until all are.

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        assert len(set(names)) == len(names), "two steps of one name"
        assert not self.until or self.until in names, f"no step {self.until}"

    def index(self, name: str) -> int:
        return [step.name for step in self.steps].index(name)

    def next(self, index: int, data: Mapping[str, Any]) -> int:
        """The first step from `index` on that is due; how many there are if none is."""
        left = range(index, len(self.steps))
        return next((at for at in left if self.steps[at].due(data)), len(self.steps))

    def last(self, index: int, data: Mapping[str, Any]) -> int:
        """The first step from `index` back that is to be undone; -1 if none is."""
        left = range(min(index, len(self.steps) - 1), -1, -1)
        return next((at for at in left if self.steps[at].undo and self.steps[at].due(data)), -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A saga that is to begin."""

    kind: str
    saga_id: UUID
    data: Mapping[str, Any]  # JSON; ids and amounts, nothing personal.
    subject: str  # What it is about, such as an order's id.
    after: str = ""  # The step that is done already; empty: none is.
    timeout_s: float | None = None  # None: as the saga says.


class TimedOut(Exception):
    """A step did not end in time; what it did is unknown."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing."""

    reason: str
    message: str
    away: bool  # It may go well later.
    bug: bool  # Nobody foresaw it.


def failure(error: Exception) -> Failure:
    """What an error of a step means."""
    if isinstance(error, CallFailed):
        reason = error.reason or code_pb2.Code.Name(error.code)
        return Failure(reason, error.status.message, error.code in AWAY, error.code in BUGS)
    if isinstance(error, Refusal):
        return Failure(error.reason(), str(error), error.code in AWAY, error.code in BUGS)
    if isinstance(error, TimedOut | OSError):
        return Failure("TIMED_OUT", str(error), away=True, bug=False)
    return Failure("INTERNAL", type(error).__name__, away=False, bug=True)
