"""Ends of jobs: heard of by event, or asked for when none came; applied once."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from google.rpc import code_pb2

from services.chassis.clock import Clock
from services.chassis.db import Database, Tx
from services.chassis.errors import CallFailed, Refusal
from services.chassis.events import Provenance, provenance
from services.chassis.mesh import Mesh
from services.scheduler.domain.progress import OUTPUT_BYTES_MAX, Ended, Outcome
from services.scheduler.domain.schedule import AwaitedJob, RunState
from services.scheduler.firing import Firing
from services.scheduler.launching import Launcher
from services.scheduler.requesting import JSON
from services.scheduler.settings import SchedulerSettings
from services.scheduler.store import glance, schedule as store, workflow as workflows
from weft.jobs.v1.job_pb2 import EndReason, JobState, Payload
from weft.queue.v1 import job_pb2  # noqa: F401 - its service, which the stub looks up
from weft.queue.v1.job_messages_pb2 import CancelJobRequest, GetJobRequest, GetJobResponse
from weft.queue.v1.job_pb2_grpc import JobServiceStub

LOOK_EVERY_S = 0.5
CANCEL_AGAIN = timedelta(seconds=10)  # A job that goes on is told again; its request may not be in yet.
FINAL = {
    JobState.JOB_STATE_SUCCEEDED: Outcome.SUCCEEDED,
    JobState.JOB_STATE_FAILED: Outcome.FAILED,
    JobState.JOB_STATE_CANCELLED: Outcome.CANCELLED,
    JobState.JOB_STATE_EXPIRED: Outcome.EXPIRED,
}
RUN_STATES = {Outcome.SUCCEEDED: RunState.SUCCEEDED, Outcome.CANCELLED: RunState.CANCELLED}
LOST = "LOST"  # Reason of a job that the queue never heard of, or forgot.

log = logging.getLogger("weft.scheduler")


class Hearing:
    """What became of the jobs that were asked for."""

    def __init__(
        self,
        db: Database,
        mesh: Mesh,
        clock: Clock,
        settings: SchedulerSettings,
        works: tuple[Firing, Launcher],
    ) -> None:
        self._db, self._clock, self._settings = db, clock, settings
        self._queue = JobServiceStub(mesh)
        self._firing, self._launcher = works

    async def ended(self, tx: Tx, job_id: UUID, outcome: Outcome, reason: str) -> None:
        """A job has ended. Heard twice, it changes nothing."""
        task = await workflows.task_of_job(tx, job_id)
        result: Any = None
        oversize = False
        if task and task.job_id == job_id and outcome is Outcome.SUCCEEDED:
            job = (await self._queue.GetJob(GetJobRequest(job_id=str(job_id)))).job
            result, oversize = output(job.result)
        if await store.awaited(tx, job_id) is None:
            return
        if task:
            await self._launcher.told(tx, task.run_id, Ended(job_id, outcome, reason, result, oversize))
        elif run := await store.run_of_job(tx, job_id):
            await self._firing.job_ended(tx, run, RUN_STATES.get(outcome, RunState.FAILED), reason)
        await store.forget_job(tx, job_id)

    async def cancel(self) -> None:
        """Calls off what is to be called off, for ever."""
        provenance.set(Provenance("service:scheduler"))
        while True:
            now, rows = self._clock.now(), list[AwaitedJob]()
            if await glance.is_due(self._db, glance.CANCELLATIONS, now):
                async with self._db.transaction() as tx:
                    rows += await store.to_cancel(tx, now, now + CANCEL_AGAIN)
            for row in rows:
                await self._cancel(row)
            if len(rows) < store.ASKED_MAX:
                await self._clock.sleep(LOOK_EVERY_S)

    async def _cancel(self, row: AwaitedJob) -> None:
        """One that has ended is heard of; one that is not known yet is called off again."""
        try:
            await self._queue.CancelJob(CancelJobRequest(job_id=str(row.job_id)))
        except (CallFailed, Refusal, OSError, TimeoutError) as error:
            log.info("a job is called off again later: %s", error)

    async def ask(self) -> None:
        """Asks for jobs of which nothing was heard for long, for ever."""
        provenance.set(Provenance("service:scheduler"))
        while True:
            now, rows = self._clock.now(), list[AwaitedJob]()
            again = now + timedelta(seconds=self._settings.ask_after_s)
            if await glance.is_due(self._db, glance.QUESTIONS, now):
                async with self._db.transaction() as tx:
                    rows += await store.to_ask(tx, now, again)
            for row in rows:
                await self._ask(row, now)
            if len(rows) < store.ASKED_MAX:
                await self._clock.sleep(LOOK_EVERY_S)

    async def _ask(self, row: AwaitedJob, now: datetime) -> None:
        try:
            found = await self._found(row.job_id)
            if found is None:
                lost = now - row.asked_for_at > timedelta(seconds=self._settings.lost_after_s)
                outcome, reason = (Outcome.FAILED, LOST) if lost else (None, "")
            else:
                outcome, reason = FINAL.get(found.job.state), reason_of(found.job.reason)
            if outcome:
                async with self._db.transaction() as tx:
                    await self.ended(tx, row.job_id, outcome, reason)
        except (CallFailed, Refusal, OSError, TimeoutError) as error:
            log.info("a job is asked for again later: %s", error)

    async def _found(self, job_id: UUID) -> GetJobResponse | None:
        """None: the queue knows of none. Raises CallFailed."""
        try:
            return await self._queue.GetJob(GetJobRequest(job_id=str(job_id)))
        except CallFailed as failed:
            if failed.code == code_pb2.NOT_FOUND:
                return None
            raise


def reason_of(value: EndReason.ValueType) -> str:
    """`RETURNED`, `RAISED`."""
    return EndReason.Name(value).removeprefix("END_REASON_")


def output(result: Payload) -> tuple[Any, bool]:
    """A result that is JSON, and whether it was too large to be kept."""
    if not result.content_type.startswith(JSON):
        return None, False
    if len(result.data) > OUTPUT_BYTES_MAX:
        return None, True
    try:
        return json.loads(result.data), False
    except ValueError:
        return None, False
