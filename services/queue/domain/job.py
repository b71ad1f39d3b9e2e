"""A job: what is checked when it is taken in, and what its refusals are."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.chassis.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)

DUE_AHEAD_MAX = timedelta(days=366)  # A year: beyond it a calendar is meant, which is the scheduler's.
RESULT_BYTES_MAX = 262_144  # Results are for looking at; what is larger belongs into a store of its own.
REPORT_BYTES_MAX = 400_000  # A result, a failure and its log.
SCAN_MAX = 2_000  # Rows that one page of a list reads at most.
SEPARATOR = "\x1f"  # Between labels on their way to an array of arrays; no label has control characters.
DEPENDENTS_MAX = 10_000  # Jobs that one report may set free or call off; the sweep does the rest.


class UnknownJob(NotFound):
    """There is no job {job_id}."""


class TimeRefused(InvalidArgument):
    """The time is refused: {rule}."""


class StatesRefused(InvalidArgument):
    """States are either all final, or none is."""


class ResumeTokenRefused(InvalidArgument):
    """The resume token is not one that this method gave."""


class TooManyWatches(ResourceExhausted):
    """This process serves {max} watches already."""


class UniqueKeyTaken(AlreadyExists):
    """The unique key is held by job {job_id}."""


class UnknownDependency(NotFound):
    """There is no job {job_id} to wait for."""


class UnknownGroup(NotFound):
    """There is no group {group_id}."""


class GroupClosed(FailedPrecondition):
    """Group {group_id} is closed."""


class GroupIdReused(AlreadyExists):
    """The id {group_id} is taken by another group."""


class UnknownDeadLetter(NotFound):
    """Job {job_id} is no dead letter."""


class MisshapenReport(InvalidArgument):
    """The report's columns do not match: {field}."""


class AttemptSuperseded(Aborted):
    """Another attempt of job {job_id} has begun since."""


def enqueued_at(job_id: UUID) -> datetime:
    """The time within a UUIDv7 (RFC 9562 §5.7)."""
    return datetime.fromtimestamp((job_id.int >> 80) / 1000, UTC)


def floor_id(at: datetime) -> UUID:
    """The least UUIDv7 of that millisecond: ids below it are of an earlier one."""
    return UUID(int=max(0, int(at.timestamp() * 1000)) << 80)


def check_due(due: datetime, now: datetime, field: str) -> None:
    """Raises TimeRefused."""
    if due > now + DUE_AHEAD_MAX:
        raise TimeRefused(rule="due more than 366 days ahead", field=field)


def unique_name(queue: str, kind: str, key: str) -> str:
    """What is unique: neither a queue's nor a type's name has a slash."""
    return f"{queue}/{kind}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A row of `job`, to be written."""

    job_id: UUID
    queue: str
    type: str
    priority: int
    key: str
    group_id: UUID | None
    labels: list[str]  # `name=value`
    due_at: datetime | None
    expire_at: datetime | None
    routed_by: str
    envelope: bytes  # weft.jobs.v1.Envelope of its first run and attempt.
    sequence: int | None = None  # Where it stands in the stream; None: it is recorded first.


class JobKind(NamedTuple):
    """What rows share."""

    queue: str
    type: str
    priority: int
    group_id: UUID | None
    labels: str  # `name=value`, with SEPARATOR between them.
    routed_by: str


class NewJobs:
    """Rows of `job`, to be written, in columns. What jobs of a kind share is there once."""

    def __init__(self) -> None:
        self.kinds: dict[JobKind, int] = {}  # Numbered from 1.
        self.job_ids: list[UUID] = []
        self.of_kind: list[int] = []
        self.keys: list[str] = []
        self.due_at: list[datetime | None] = []
        self.expire_at: list[datetime | None] = []
        self.sequences: list[int | None] = []
        self.envelopes: list[bytes] = []

    @classmethod
    def of(cls, jobs: Iterable[NewJob]) -> "NewJobs":
        made = cls()
        for job in jobs:
            labels = SEPARATOR.join(job.labels)
            kind = JobKind(job.queue, job.type, job.priority, job.group_id, labels, job.routed_by)
            times = (job.due_at, job.expire_at)
            made.add(kind, job.job_id, job.key, times, job.sequence, job.envelope)
        return made

    def add(
        self,
        kind: JobKind,
        job_id: UUID,
        key: str,
        times: tuple[datetime | None, datetime | None],
        sequence: int | None,
        envelope: bytes,
    ) -> None:
        """`times`: when it is due, and when it expires."""
        self.job_ids.append(job_id)
        self.of_kind.append(self.kinds.setdefault(kind, len(self.kinds) + 1))
        self.keys.append(key)
        self.due_at.append(times[0])
        self.expire_at.append(times[1])
        self.sequences.append(sequence)
        self.envelopes.append(envelope)
