"""Schedules and their runs: rows, states, and which runs are fired when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound
from services.scheduler.domain.row import Row
from services.scheduler.domain.timing import INSTANT, Timing, jittered

DUE_MAX = 1_000  # Runs of one schedule that one look fires or records; a busy second holds few.
MISSED_KEPT_MAX = 100  # Of missed runs the newest are recorded: a year of seconds is no history.
BACKFILL_MAX = 1_000  # Runs of one backfill: they are written in one transaction.
# A job is asked for by an event of at most 60,000 bytes: its template, and the inputs of a task beside it.
PAYLOAD_BYTES_MAX, TEMPLATE_BYTES_MAX, BARE_TEMPLATE_BYTES_MAX = 32_768, 49_152, 24_576
WINDOW, GROWTH = timedelta(seconds=1), 4  # Of the search for the newest times: back from now, ever wider.


class UnknownSchedule(NotFound):
    """There is no schedule {schedule_id}."""


class ScheduleIdReused(AlreadyExists):
    """Schedule {schedule_id} was made with other settings."""


class RunIdReused(AlreadyExists):
    """Run {run_id} is another one."""


class ActionRefused(InvalidArgument):
    """The action breaks a rule: {problem}."""


class BackfillRefused(InvalidArgument):
    """The range breaks a rule: {problem}."""


class Cause(StrEnum):
    """Why there is a run."""

    SCHEDULED = "SCHEDULED"
    CAUGHT_UP = "CAUGHT_UP"
    TRIGGERED = "TRIGGERED"
    BACKFILLED = "BACKFILLED"


class RunState(StrEnum):
    """Where a run stands."""

    WAITING = "WAITING"
    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    MISSED = "MISSED"


ACTIVE = (RunState.WAITING, RunState.STARTED)


class CatchUp(StrEnum):
    """What becomes of missed runs."""

    SKIP = "SKIP"
    ONE = "ONE"
    ALL = "ALL"


class Overlap(StrEnum):
    """What becomes of a run while another has not ended."""

    ALLOW = "ALLOW"
    SKIP = "SKIP"
    QUEUE = "QUEUE"
    CANCEL_OTHER = "CANCEL_OTHER"


class Schedule(Row):
    """A schedule."""

    __tablename__ = "schedule"
    schedule_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    settings: Mapped[bytes]
    calendar_id: Mapped[UUID | None]
    workflow_id: Mapped[UUID | None]
    paused: Mapped[bool]
    anchor: Mapped[datetime]
    next_at: Mapped[datetime | None]  # Nominal.
    due_at: Mapped[datetime | None]  # With jitter. None: nothing will be fired, or not while paused.
    last_at: Mapped[datetime | None]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def aim(self, timing: Timing, after: datetime, jitter: timedelta) -> None:
        """Sets the next run: the first that is later than `after`."""
        self.next_at = timing.next(after)
        due = jittered(self.schedule_id, self.next_at, jitter) if self.next_at else None
        self.due_at = None if self.paused else due


class ScheduleRun(Row):
    """One run."""

    __tablename__ = "schedule_run"
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    schedule_id: Mapped[UUID]
    nominal_at: Mapped[datetime]
    cause: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]  # Name of the job's end reason; empty: none.
    job_id: Mapped[UUID | None]
    workflow_run_id: Mapped[UUID | None]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def start(self, now: datetime, job_id: UUID | None, workflow_run_id: UUID | None) -> None:
        self.state, self.started_at = RunState.STARTED, now
        self.job_id, self.workflow_run_id = job_id, workflow_run_id

    def end(self, state: RunState, now: datetime, reason: str = "") -> bool:
        """False when it had ended before."""
        if not self.active:
            return False
        self.state, self.ended_at, self.reason = state, now, reason
        return True


class AwaitedJob(Row):
    """A job whose end is awaited."""

    __tablename__ = "awaited_job"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    asked_for_at: Mapped[datetime]
    ask_at: Mapped[datetime]  # When the queue is asked, should no event have come.
    cancel_at: Mapped[datetime | None]  # When the queue is told (again) to cancel it. None: it is not.


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What decides which runs are fired, beside their times."""

    jitter: timedelta
    catch_up: CatchUp
    catch_up_max: int
    late_after: timedelta
    overlap: Overlap
    queue_max: int


@dataclass(frozen=True)
class Due:
    """A run that is to be written."""

    nominal_at: datetime
    due_at: datetime
    cause: Cause
    missed: bool = False


def due(schedule: Schedule, timing: Timing, policy: Policy, now: datetime) -> list[Due]:
    """The runs whose time has come, in order. `schedule` still has its old next time."""
    assert schedule.next_at
    jitter, since = policy.jitter, schedule.next_at
    found = [
        Due(at, jittered(schedule.schedule_id, at, jitter), Cause.SCHEDULED)
        for at in newest(timing, since, now, DUE_MAX)
    ]
    found = _until_first_later(found, now)
    late = [each for each in found if each.due_at < now - policy.late_after]
    wanted = {CatchUp.SKIP: 0, CatchUp.ONE: 1, CatchUp.ALL: policy.catch_up_max}[policy.catch_up]
    split = max(0, len(late) - wanted)
    missed = [Due(each.nominal_at, each.due_at, Cause.SCHEDULED, missed=True) for each in late[:split]]
    caught = [Due(each.nominal_at, each.due_at, Cause.CAUGHT_UP) for each in late[split:]]
    return [*missed[-MISSED_KEPT_MAX:], *caught, *(each for each in found if each not in late)]


def _until_first_later(found: Sequence[Due], now: datetime) -> list[Due]:
    """Runs start in the order of their nominal times: jitter lets none overtake another."""
    for n, each in enumerate(found):
        if each.due_at > now:
            return list(found[:n])
    return list(found)


def newest(timing: Timing, since: datetime, until: datetime, most: int) -> list[datetime]:
    """The last `most` nominal times from `since`, which is one, to `until`, both included, in order."""
    following, window = timing.next(since), WINDOW
    if following is None or following > until:
        return [since]  # As it is nearly always.
    while True:
        start = max(since, until - window)
        found: list[datetime] = []
        at = timing.next(start - INSTANT)
        while at is not None and at <= until:
            found.append(at)
            at = timing.next(at)
        if len(found) >= most or start == since:
            return found[-most:]
        window *= GROWTH


def place(policy: Policy, cause: Cause, started: int, waiting: int) -> RunState:
    """Where a new run begins, beside so many others of its schedule."""
    if policy.overlap is Overlap.SKIP and started + waiting:
        return RunState.SKIPPED
    if policy.overlap is Overlap.QUEUE and started + waiting:
        backfilled = cause is Cause.BACKFILLED  # A backfill was asked for as a whole.
        return RunState.WAITING if backfilled or waiting < policy.queue_max else RunState.SKIPPED
    return RunState.STARTED
