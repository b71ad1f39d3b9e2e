"""How an attempt ends: what is made of a handler's exception, and whether another attempt follows."""

import random
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass

from services.chassis.jobs.errors import BadPayload, Fail, Retry
from services.chassis.jobs.retrying import Backoff
from weft.jobs.v1.attempt_pb2 import AttemptOutcome, Failure, LogLine
from weft.jobs.v1.job_pb2 import EndReason, RetryPolicy

KIND_CHARS_MAX, MESSAGE_CHARS_MAX, TRACE_CHARS_MAX = 200, 4_000, 16_000  # As AttemptReport has them.
LINES_MAX = 50  # The last lines of a log that a report takes along.
CRASHES_MAX = 3  # Processes that one run may end before it is called poisonous: the first two may be chance.

SUCCEEDED = AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED
RETRYING = AttemptOutcome.ATTEMPT_OUTCOME_RETRYING
FAILED = AttemptOutcome.ATTEMPT_OUTCOME_FAILED
CANCELLED = AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED
EXPIRED = AttemptOutcome.ATTEMPT_OUTCOME_EXPIRED
RELEASED = AttemptOutcome.ATTEMPT_OUTCOME_RELEASED

RETURNED = EndReason.END_REASON_RETURNED
NOT_RETRIED = {
    EndReason.END_REASON_NOT_RETRYABLE,
    EndReason.END_REASON_PAYLOAD_REFUSED,
    EndReason.END_REASON_RESULT_TOO_LARGE,
    EndReason.END_REASON_POISONOUS,
}
BY_REASON = {  # Reasons that are no failure of the handler's.
    EndReason.END_REASON_RETURNED: SUCCEEDED,
    EndReason.END_REASON_CANCELLED_BY_REQUEST: CANCELLED,
    EndReason.END_REASON_REPLACED: CANCELLED,
    EndReason.END_REASON_PURGED: CANCELLED,
    EndReason.END_REASON_QUEUED_TOO_LONG: EXPIRED,
    EndReason.END_REASON_WORKER_STOPPED: RELEASED,
}


@dataclass(slots=True)
class Ending:
    """One attempt's end, as the runner found it."""

    reason: EndReason.ValueType
    failure: Failure | None = None
    result: bytes = b""
    result_type: str = ""
    after_s: float | None = None  # When the handler said when to try again.
    crashed: bool = False  # It ended its process.
    start_s: float = 0.0  # Unix seconds; 0: it was not begun.
    end_s: float = 0.0
    lines: Collection[LogLine] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows."""

    outcome: AttemptOutcome.ValueType
    reason: EndReason.ValueType
    delay_s: float = 0.0  # Until the next attempt; with RETRYING only.


_SETTLED = {reason: Verdict(outcome, reason) for reason, outcome in BY_REASON.items()}


def raised(error: BaseException) -> Ending:
    """What a handler's exception means."""
    match error:
        case BadPayload():
            return Ending(EndReason.END_REASON_PAYLOAD_REFUSED, _said(error, error.reason))
        case Fail():
            return Ending(EndReason.END_REASON_NOT_RETRYABLE, _said(error, error.reason))
        case Retry():
            return Ending(EndReason.END_REASON_RAISED, _said(error), after_s=error.after_s)
    return Ending(EndReason.END_REASON_RAISED, failure(error))


def failure(error: BaseException) -> Failure:
    """With the traceback: somebody may have to find the bug."""
    trace = "".join(traceback.format_exception(error))[-TRACE_CHARS_MAX:]
    return Failure(kind=_name(error), message=str(error)[:MESSAGE_CHARS_MAX], trace=trace)


def _said(error: Exception, code: str = "") -> Failure:
    """What a handler raised on purpose: where it did says nothing."""
    return Failure(kind=type(error).__name__, message=str(error)[:MESSAGE_CHARS_MAX], code=code)


def _name(error: BaseException) -> str:
    """`ValueError`, `shop.OutOfStock`."""
    kind = type(error)
    full = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return full[:KIND_CHARS_MAX]


def because(reason: EndReason.ValueType, message: str, kind: str = "") -> Ending:
    """An end that no exception explains."""
    return Ending(reason, Failure(kind=kind, message=message[:MESSAGE_CHARS_MAX]))


def judge(
    ending: Ending,
    policy: RetryPolicy,
    attempt: int,
    crashes: int,
    chance: Callable[[], float] = random.random,
) -> Verdict:
    """What follows an attempt of this number, `crashes` attempts of the run having ended their process."""
    if verdict := _SETTLED.get(ending.reason):
        return verdict
    if crashes >= CRASHES_MAX:
        return Verdict(FAILED, EndReason.END_REASON_POISONOUS)
    wait_s = None if _final(ending, policy) else _backoff(policy).wait_s(attempt, chance)
    if wait_s is None:
        return Verdict(FAILED, ending.reason)
    return Verdict(RETRYING, ending.reason, wait_s if ending.after_s is None else ending.after_s)


def _final(ending: Ending, policy: RetryPolicy) -> bool:
    if ending.reason in NOT_RETRIED or ending.reason in policy.not_retried:
        return True
    return ending.failure is not None and ending.failure.kind in policy.not_retried_errors


def _backoff(policy: RetryPolicy) -> Backoff:
    """The policy with nothing absent."""
    given: dict[str, float] = {}
    if policy.HasField("backoff"):
        given["backoff_s"] = policy.backoff.ToMilliseconds() / 1000
    if policy.HasField("backoff_max"):
        given["backoff_s_max"] = policy.backoff_max.ToMilliseconds() / 1000
    if policy.HasField("jitter"):
        given["jitter"] = policy.jitter
    if policy.multiplier:
        given["multiplier"] = policy.multiplier
    return Backoff(attempts_max=attempts_max(policy), **given)


def attempts_max(policy: RetryPolicy) -> int:
    """Attempts of one run in all."""
    return policy.attempts_max or Backoff().attempts_max


def merged(own: RetryPolicy, other: RetryPolicy) -> RetryPolicy:
    """The job's policy, completed by its queue's."""
    if not own.ListFields():
        return other
    whole = RetryPolicy()
    whole.CopyFrom(other)
    for found, _ in own.ListFields():  # Merging would add to lists and durations what is there.
        whole.ClearField(found.name)  # type: ignore[arg-type] # typed by each field's literal name
    whole.MergeFrom(own)
    return whole
