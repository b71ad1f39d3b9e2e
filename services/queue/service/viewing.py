"""Jobs as callers see them: the record, and of open jobs what was last heard of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.queue.domain.job import UnknownJob, enqueued_at
from services.queue.domain.states import FINAL, Outcome, State
from services.queue.service.pack import moment, report_from, stamp
from services.queue.service.running import SILENT, Running
from services.queue.store import reading as store
from services.queue.store.days import Days
from weft.jobs.v1.attempt_pb2 import AttemptReport
from weft.jobs.v1.job_pb2 import Envelope, JobState
from weft.jobs.v1.live_pb2 import Update
from weft.queue.v1 import job_messages_pb2 as pb

YOUNG = timedelta(seconds=5)
LATE_S_MAX = 0.5  # A job that was published straight into the stream is in the record before.
ATTEMPTS_MAX = 1_000  # The last ones of a job: its retry policy allows as many in a run.


class Views:
    """Reads jobs and puts together what they are."""

    def __init__(self, db: Database, days: Days, clock: Clock, running: Running) -> None:
        self._db, self._days, self._clock, self._running = db, days, clock, running

    async def get(self, job_id: UUID) -> pb.Job:
        """Raises UnknownJob; of a young id only after a moment, for fast jobs come late to the record."""
        ends = self._clock.monotonic() + (LATE_S_MAX if self._is_young(job_id) else 0.0)
        while not (found := await self.many([job_id])):
            if self._clock.monotonic() >= ends:
                raise UnknownJob(job_id=job_id)
            await asyncio.sleep(LATE_S_MAX / 10)
        return found[0]

    def _is_young(self, job_id: UUID) -> bool:
        return job_id.version == 7 and self._clock.now() - enqueued_at(job_id) < YOUNG

    async def many(self, jobs: Sequence[UUID]) -> list[pb.Job]:
        """Whole, in the order that was asked for; unknown ones are left out."""
        rows = await store.views(self._db, self._days, jobs)
        return await self.show([rows[job_id] for job_id in jobs if job_id in rows])

    async def show(self, rows: Sequence[Any]) -> list[pb.Job]:
        """What the rows of the store's view say."""
        live = self._running.among(rows)
        blocked = [row["job_id"] for row in rows if row["state"] is None and row["policy"] is not None]
        waits = await store.dependencies(self._db, blocked) if blocked else {}
        now = self._clock.now()
        return [_job(row, live.get(row["job_id"]), waits, now) for row in rows]

    async def attempts(self, job_id: UUID) -> list[pb.Attempt]:
        """Raises UnknownJob."""
        attempts, ends = await store.attempts(self._db, job_id, ATTEMPTS_MAX)
        if not attempts and not ends and not await store.views(self._db, self._days, [job_id]):
            raise UnknownJob(job_id=job_id)
        known = {(row["run"], row["attempt"]) for row in attempts if Outcome(row["outcome"]) in ENDING}
        made = [
            pb.Attempt(report=AttemptReport.FromString(row["report"]), worker=row["worker"])
            for row in attempts
        ]
        made += [
            pb.Attempt(report=report_from(row), worker=row["worker"])
            for row in ends
            if (row["run"], row["attempt"]) not in known
        ]
        made.sort(key=lambda each: (each.report.run, each.report.end_time.ToNanoseconds()))
        return made[-ATTEMPTS_MAX:]


ENDING = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED, Outcome.EXPIRED})


def state_of(row: Any, last: Update | None, now: datetime) -> State:
    """Where a job stands. `last` is what was last heard of it."""
    if row["state"] is not None:
        return State(row["state"])
    if row["policy"] is not None:
        return State.BLOCKED
    if running(row, last, now):
        return State.RUNNING
    due = due_of(row)
    if due is None or due <= now:
        return State.QUEUED
    return State.RETRYING if row["last_attempt"] else State.SCHEDULED


def due_of(row: Any) -> datetime | None:
    """When a job is due that waits for its time, or was; None: at once."""
    steered: datetime | None = row["steered_due"]
    if not row["last_attempt"]:
        return steered or row["due_at"]
    # What was steered before the attempt led to it; what was after it is about the next.
    return steered if steered and steered > row["last_start"] else row["next_at"]


def running(row: Any, last: Update | None, now: datetime) -> bool:
    """Whether a worker said so lately, of this run and of no attempt that has ended."""
    if last is None or last.run != row["run"] or now - moment(last.time) > SILENT:
        return False
    over = row["last_attempt"] and last.attempt <= row["last_attempt"]
    return not over or row["outcome"] == Outcome.RELEASED


def fits(row: Any, state: State, wanted: store.Wanted, labels: Collection[str]) -> bool:
    """Whether a job is one of those that a list is about."""
    asked = {"queue": wanted.queue, "type": wanted.type, "key": wanted.key, "group_id": wanted.group_id}
    same = all(row[name] == value for name, value in asked.items() if value)
    return same and (not wanted.states or state in wanted.states) and set(labels) <= set(row["labels"])


def _job(row: Any, last: Update | None, waits: Mapping[UUID, Iterable[UUID]], now: datetime) -> pb.Job:
    state = state_of(row, last, now)
    job = pb.Job(
        envelope=_envelope(row),
        state=cast("JobState.ValueType", int(state)),
        run=row["run"],
        attempt=row["final_attempt"] or row["last_attempt"] or 0,
        cancelling=state not in FINAL and (row["cancel_run"] or 0) >= row["run"],
        routed_by=row["routed_by"],
    )
    if state in FINAL:
        _add_end(job, row)
        return job
    if row["last_report"]:
        _add_report(job, AttemptReport.FromString(row["last_report"]))
    if state == State.RUNNING and last:
        _add_live(job, last)
    if state == State.BLOCKED:
        job.waits_for.extend(str(each) for each in waits.get(row["job_id"], ()))
    if state in (State.SCHEDULED, State.RETRYING) and (due := due_of(row)):
        job.due_time.FromDatetime(due)
    return job


def enqueued(envelope: Envelope, routed_by: str, now: datetime) -> pb.Job:
    """A job that was enqueued this moment."""
    waits = envelope.HasField("due_time") and moment(envelope.due_time) > now
    state = JobState.JOB_STATE_SCHEDULED if waits else JobState.JOB_STATE_QUEUED
    job = pb.Job(envelope=envelope, state=state, run=envelope.run, routed_by=routed_by)
    if waits:
        job.due_time.CopyFrom(envelope.due_time)
    return job


def _envelope(row: Any) -> Envelope:
    envelope = Envelope.FromString(row["envelope"])
    envelope.run = row["run"]
    if row["steered"]:
        envelope.priority = row["steered"]
    return envelope


def _add_end(job: pb.Job, row: Any) -> None:
    job.reason, job.worker = row["reason"], row["worker"]
    job.end_time.FromDatetime(row["end_at"])
    if row["start_at"]:
        job.start_time.FromDatetime(row["start_at"])
    if row["report"]:
        _add_report(job, AttemptReport.FromString(row["report"]))


def _add_report(job: pb.Job, report: AttemptReport) -> None:
    if report.reason:
        job.reason = report.reason
    if report.HasField("failure"):
        job.failure.CopyFrom(report.failure)
    if report.HasField("result"):
        job.result.CopyFrom(report.result)


def _add_live(job: pb.Job, last: Update) -> None:
    job.worker, job.attempt = last.worker, last.attempt
    if last.state.HasField("start_time"):
        job.start_time.CopyFrom(last.state.start_time)
    progress = last.state.progress
    if progress.percent or progress.message:
        job.progress.CopyFrom(progress)
    if last.WhichOneof("what") == "state":
        began = stamp(moment(last.time))
        if began:
            job.start_time.CopyFrom(began)
