"""Where a job stands, and where it may go from there."""

from enum import IntEnum

from services.chassis.errors import FailedPrecondition


class State(IntEnum):
    """weft.jobs.v1.JobState."""

    BLOCKED = 1
    SCHEDULED = 2
    QUEUED = 3
    RUNNING = 4
    RETRYING = 5
    SUCCEEDED = 6
    FAILED = 7
    CANCELLED = 8
    EXPIRED = 9


class Reason(IntEnum):
    """weft.jobs.v1.EndReason: those that the queue itself gives."""

    CANCELLED_BY_REQUEST = 15
    DEPENDENCY_FAILED = 16
    REPLACED = 17
    PURGED = 18
    QUEUED_TOO_LONG = 19


class Outcome(IntEnum):
    """weft.jobs.v1.AttemptOutcome."""

    SUCCEEDED = 1
    RETRYING = 2
    FAILED = 3
    CANCELLED = 4
    EXPIRED = 5
    RELEASED = 6


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})
OPEN = frozenset(State) - FINAL
# How each outcome ends a run; the others do not.
ENDS = {
    Outcome.SUCCEEDED: State.SUCCEEDED,
    Outcome.FAILED: State.FAILED,
    Outcome.CANCELLED: State.CANCELLED,
    Outcome.EXPIRED: State.EXPIRED,
}
# Within a run; what ends one may come before the beginning is heard of.
MOVES: dict[State, frozenset[State]] = {
    State.BLOCKED: frozenset({State.SCHEDULED, State.QUEUED, State.CANCELLED, State.EXPIRED}),
    State.SCHEDULED: frozenset({State.SCHEDULED, State.QUEUED, State.CANCELLED, State.EXPIRED}),
    State.QUEUED: frozenset({State.RUNNING, State.QUEUED, State.SCHEDULED}) | FINAL,
    State.RUNNING: frozenset({State.QUEUED, State.RETRYING}) | FINAL,
    State.RETRYING: frozenset({State.QUEUED, State.SCHEDULED, State.CANCELLED, State.EXPIRED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}
# From these another run begins, by somebody's wish.
AGAIN = frozenset({State.FAILED, State.CANCELLED, State.EXPIRED})


class JobEnded(FailedPrecondition):
    """Job {job_id} has ended: {state}."""


class JobNotWaiting(FailedPrecondition):
    """Job {job_id} does not wait for its time: {state}."""


class JobNotRetryable(FailedPrecondition):
    """Job {job_id} neither failed, nor was cancelled, nor expired: {state}."""


class JobNotQueued(FailedPrecondition):
    """Job {job_id} is not queued: {state}."""


class QueueIsKeyed(FailedPrecondition):
    """Queue {queue} keeps its keys in order: nothing overtakes there."""


def can_move(before: State, after: State) -> bool:
    """Whether a run that stands at `before` may stand at `after` next."""
    return after in MOVES[before]


def refuse_cancel(job_id: object, state: State) -> None:
    """Raises JobEnded. One that is cancelled already may be cancelled."""
    if state != State.CANCELLED and not can_move(state, State.CANCELLED):
        raise JobEnded(job_id=job_id, state=state.name)


def refuse_reschedule(job_id: object, state: State) -> None:
    """Raises JobNotWaiting: what is due already may have begun any moment."""
    if state not in (State.SCHEDULED, State.RETRYING):
        raise JobNotWaiting(job_id=job_id, state=state.name)


def refuse_retry(job_id: object, state: State) -> None:
    """Raises JobNotRetryable."""
    if state not in AGAIN and state != State.RETRYING:
        raise JobNotRetryable(job_id=job_id, state=state.name)


def refuse_escalate(job_id: object, state: State) -> None:
    """Raises JobNotQueued."""
    if state != State.QUEUED:
        raise JobNotQueued(job_id=job_id, state=state.name)
