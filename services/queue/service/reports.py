"""What workers say of attempts that ended, on its way to rows; in columns where they sent columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from services.chassis.ids import UUID
from services.queue.domain.ends import EndKind, Ends
from services.queue.domain.job import REPORT_BYTES_MAX, RESULT_BYTES_MAX, MisshapenReport
from services.queue.domain.states import ENDS, Outcome, State
from services.queue.service.pack import stamp, unix_s, uuid_or_none
from weft.jobs.v1.attempt_pb2 import AttemptOutcome, AttemptReport, Failure, Successes
from weft.jobs.v1.job_pb2 import END_REASON_RETURNED, END_REASON_WORKER_LOST, JobState, Payload
from weft.jobs.v1.live_pb2 import Same, StateChange, Update

REPORTS_MAX = 2_000  # In one transaction: some 10 ms of PostgreSQL's time.
LOG_LINES_MAX = 50  # Of one attempt, the last.
TRACE_CHARS_MAX = 16_000  # Of a traceback, its end.
MESSAGE_CHARS_MAX = 4_000  # Of a failure's message, and of a log line.
ID_BYTES = 16
SUCCEEDED = int(Outcome.SUCCEEDED)
STATES = {**ENDS, Outcome.RETRYING: State.RETRYING, Outcome.RELEASED: State.QUEUED}  # For watchers.


class Part(NamedTuple):
    """One attempt, or several that ended well."""

    first: int  # The position of the first of them in the report.
    size: int
    lease: tuple[str, int, int]  # Queue, lane and epoch; an epoch of 0: no lane's.
    ends: Ends | None  # None: their run goes on.
    said: AttemptReport | Successes

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.size)


def parts(
    attempts: Sequence[AttemptReport], successes: Sequence[Successes], worker: str
) -> tuple[list[Part], list[int]]:
    """What is written down, and positions of what is about no job at all. Raises MisshapenReport."""
    made, strange = list[Part](), list[int]()
    for n, report in enumerate(attempts[:REPORTS_MAX]):
        job_id = _job_id(report.job_id)
        if job_id is None:  # Whatever else somebody put into the stream is acknowledged, and that is that.
            strange.append(n)
            continue
        lease = (report.queue, report.lane, report.lane_epoch)
        made.append(Part(n, 1, lease, _end(report, job_id, worker), report))
    first = len(attempts)
    for each in successes:
        count = _count(each)
        lease = (each.queue, each.lane, each.lane_epoch)
        made.append(Part(first, count, lease, _ends(each, worker), each))
        first += count
    if first > REPORTS_MAX:
        raise MisshapenReport(field="successes")
    return made, strange


def alone(part: Part) -> Iterator[Part]:
    """Each attempt by itself: for a report that names a run more than once."""
    if part.ends is None or part.size == 1:
        yield part
        return
    ends = part.ends
    for n in range(part.size):
        one = slice(n, n + 1)
        single = Ends(ends.kind, ends.job_ids[one], ends.start_at[one], ends.end_at[one], ends.reports[one])
        yield Part(part.first + n, 1, part.lease, single, part.said)


def _job_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _count(said: Successes) -> int:
    """How many they are. Raises MisshapenReport."""
    count, odd = divmod(len(said.job_ids), ID_BYTES)
    columns = {"due_s": said.due_s, "start_s": said.start_s, "end_s": said.end_s}
    for name, column in columns.items():
        if len(column) != count:
            raise MisshapenReport(field=f"successes.{name}")
    if odd or (said.results and len(said.results) != count):
        raise MisshapenReport(field="successes.job_ids" if odd else "successes.results")
    return count


def _ends(said: Successes, worker: str) -> Ends:
    packed = said.job_ids
    job_ids = [UUID(packed[n : n + ID_BYTES]) for n in range(0, len(packed), ID_BYTES)]
    kind = EndKind(
        run=said.run,
        state=State.SUCCEEDED,
        reason=END_REASON_RETURNED,
        queue=_text(said.queue),
        type=_text(said.type),
        attempt=said.attempt,
        worker=worker,
        group_id=uuid_or_none(said.group_id),
        unique=said.unique,
        announce=said.announce,
    )
    reports = [_result(data, said.result_type) for data in said.results]
    return Ends(kind, job_ids, list(said.start_s), list(said.end_s), reports)


def _result(data: bytes, content_type: str) -> bytes | None:
    """As much of a report as the columns do not say."""
    if not data or len(data) > RESULT_BYTES_MAX:
        return None
    return AttemptReport(result=Payload(data=data, content_type=content_type)).SerializeToString()


def _end(report: AttemptReport, job_id: UUID, worker: str) -> Ends | None:
    if int(report.outcome) not in ENDS:
        return None
    kind = EndKind(
        run=report.run,
        state=ENDS[Outcome(report.outcome)],
        reason=report.reason,
        queue=_text(report.queue),
        type=_text(report.type),
        attempt=report.attempt,
        worker=worker,
        group_id=uuid_or_none(report.group_id),
        unique=report.unique,
        announce=report.announce,
        failure=_text(report.failure.kind)[:200],
    )
    said_more = report.HasField("result") or report.HasField("failure") or report.log
    kept = _cut(report).SerializeToString() if said_more else None
    start_at = unix_s(report.start_time) if report.HasField("start_time") else None
    return Ends(kind, [job_id], [start_at], [unix_s(report.end_time)], [kept])


def attempt(report: AttemptReport, worker: str) -> tuple[Any, ...] | None:
    """The row of an attempt; None for one that ended well, which is told by its run's."""
    if report.outcome == SUCCEEDED:
        return None
    start = report.start_time if report.HasField("start_time") else report.end_time
    return (
        UUID(report.job_id),
        report.run,
        report.attempt,
        unix_s(start),
        report.outcome,
        worker,
        unix_s(report.next_time) if report.HasField("next_time") else None,
        _cut(report).SerializeToString(),
    )


def lost(last: Update, now: datetime) -> tuple[Any, ...]:
    """The row of an attempt whose worker is gone; `last` is what that told of it."""
    begun = last.state.start_time if last.state.HasField("start_time") else last.time
    report = AttemptReport(
        job_id=last.job_id,
        run=last.run,
        attempt=last.attempt,
        queue=last.queue,
        type=last.type,
        outcome=AttemptOutcome.ATTEMPT_OUTCOME_RETRYING,
        reason=END_REASON_WORKER_LOST,
        failure=Failure(message=f"the worker {last.worker} was lost"),
        start_time=begun,
        end_time=stamp(now),
    )
    return attempt(report, last.worker) or ()


def _cut(report: AttemptReport) -> AttemptReport:
    """Within its bounds, whatever the worker sent; NULs are no text for PostgreSQL elsewhere."""
    if report.HasField("failure"):
        failure = report.failure
        failure.message, failure.trace = failure.message[:MESSAGE_CHARS_MAX], failure.trace[-TRACE_CHARS_MAX:]
        failure.kind = _text(failure.kind)[:200]
    if len(report.result.data) > RESULT_BYTES_MAX:
        report.ClearField("result")
    if len(report.log) > LOG_LINES_MAX:
        del report.log[:-LOG_LINES_MAX]
    if report.ByteSize() > REPORT_BYTES_MAX:
        report.ClearField("log")
    return report


def _text(said: str) -> str:
    return said.replace("\0", "")


def told(part: Part, worker: str) -> Update | Same | None:
    """What watchers hear of it."""
    said = part.said
    if isinstance(said, Successes):
        update = _update(said, worker, State.SUCCEEDED, said.end_s[-1])
        update.state.reason = END_REASON_RETURNED
        return Same(update=update, job_ids=said.job_ids)
    state = STATES.get(Outcome(said.outcome)) if said.outcome else None
    if state is None:
        return None
    update = _update(said, worker, state, unix_s(said.end_time))
    update.job_id, update.state.reason = said.job_id, said.reason
    if said.HasField("failure"):
        failure = said.failure
        update.state.failure.CopyFrom(
            Failure(
                kind=failure.kind, message=failure.message, exit_code=failure.exit_code, code=failure.code
            )
        )
    if said.HasField("next_time"):
        update.state.next_time.CopyFrom(said.next_time)
    return update


def _update(said: AttemptReport | Successes, worker: str, state: State, at_s: float) -> Update:
    update = Update(
        run=said.run,
        attempt=said.attempt,
        queue=said.queue,
        type=said.type,
        worker=worker,
        state=StateChange(state=cast("JobState.ValueType", int(state))),
    )
    update.time.FromNanoseconds(int(at_s * 1e9))
    if said.labels:
        update.labels.update(said.labels)
    return update
