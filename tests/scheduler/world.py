"""What tests of scheduler have in common: a lab with a queue that does what it is told, and words to say."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from uuid import uuid4

import grpc.aio
from google.protobuf.json_format import ParseDict

from services.chassis.clock import Clock, FakeClock
from services.chassis.db import Tx
from services.chassis.errors import NotFound
from services.chassis.events import Envelope, emit
from services.chassis.host import Parts, Tools
from services.chassis.method import Call
from services.chassis.testing import Lab, laboratory, until
from services.scheduler.app import build
from tests.servers import Shared
from weft.jobs.v1.job_pb2 import EndReason, JobState, Payload
from weft.queue.v1 import job_messages_pb2 as jobs
from weft.queue.v1.events_pb2 import JobEnded, JobRequested
from weft.queue.v1.job_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server
from weft.queue.v1.spec_pb2 import JobSpec
from weft.scheduler.v1 import (
    schedule_pb2,
    schedule_run_pb2,
    workflow_pb2,
    workflow_run_pb2,
)
from weft.scheduler.v1.schedule_pb2_grpc import ScheduleServiceStub
from weft.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from weft.scheduler.v1.workflow_run_pb2_grpc import WorkflowRunServiceStub

SUCCEEDED, FAILED = JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED
CANCELLED = JobState.JOB_STATE_CANCELLED


class UnknownJob(NotFound):
    """There is no job {job_id}."""


class Queue(JobServiceServicer):
    """Stands for the queue: takes jobs in, and ends them as a test says."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobSpec] = {}
        self.taken: list[str] = []  # In the order they came, repeats included.
        self.answers: dict[str, jobs.Job] = {}
        self.cancelled: list[str] = []
        self.deaf: set[str] = set()  # Jobs that it says it does not know.

    def build(self, tools: Tools) -> Parts:
        self._db = tools.db
        servicers = {add_JobServiceServicer_to_server: self}
        return Parts(servicers=servicers, consumers={JobRequested: self.take})

    async def take(self, event: JobRequested, envelope: Envelope, tx: Tx) -> None:
        self.jobs[event.job_id] = event.job
        self.taken.append(event.job_id)

    async def GetJob(self, request: jobs.GetJobRequest, call: Call) -> jobs.GetJobResponse:
        if request.job_id in self.deaf:
            raise UnknownJob(job_id=request.job_id)
        return jobs.GetJobResponse(job=self.answers.get(request.job_id, jobs.Job()))

    async def CancelJob(self, request: jobs.CancelJobRequest, call: Call) -> jobs.CancelJobResponse:
        self.cancelled.append(request.job_id)
        return jobs.CancelJobResponse()

    async def end(
        self, job_id: str, state: int = SUCCEEDED, result: Any = None, *, silent: bool = False, times: int = 1
    ) -> None:
        """The job has ended; `silent`: nobody announces it."""
        answer = jobs.Job(state=state, reason=EndReason.END_REASON_RETURNED)  # type: ignore[arg-type]
        if result is not None:
            answer.result.CopyFrom(Payload(data=json.dumps(result).encode(), content_type="application/json"))
        self.answers[job_id] = answer
        if silent:
            return
        ended = JobEnded(job_id=job_id, run=1, state=state, reason=EndReason.END_REASON_RETURNED)  # type: ignore[arg-type]
        for _ in range(times):
            async with self._db.transaction() as tx:
                await emit(tx, ended)

    def forget(self) -> None:
        """As if no job had come yet."""
        for kept in (self.jobs, self.taken, self.answers, self.cancelled, self.deaf):
            kept.clear()

    def of_task(self, task: str, *, undo: bool = False) -> list[str]:
        """Ids of jobs that were asked for by this task."""
        return [
            job_id
            for job_id, spec in self.jobs.items()
            if spec.labels["workflow.task"] == task and spec.type.startswith("undo") == undo
        ]


class World:
    """A scheduler, and its queue."""

    def __init__(self, lab: Lab, queue: Queue) -> None:
        self.lab, self.queue = lab, queue
        self.schedules = ScheduleServiceStub(lab.channel)
        self.workflows = WorkflowServiceStub(lab.channel)
        self.runs = WorkflowRunServiceStub(lab.channel)
        self.start_of_day = lab.clock.now()
        self._made: list[str] = []

    @property
    def me(self) -> tuple[tuple[str, str], ...]:
        return self.lab.bearer()

    async def create(self, *, paused: bool = False, **settings: Any) -> schedule_pb2.Schedule:
        request = schedule_pb2.CreateScheduleRequest(
            schedule_id=str(uuid4()), settings=wanted(**settings), paused=paused
        )
        answer = await self.schedules.CreateSchedule(request, metadata=self.me)
        made: schedule_pb2.Schedule = answer.schedule
        self._made.append(made.schedule_id)
        return made

    async def clear(self) -> None:
        """Deletes the schedules that were made; the next test has a queue without jobs."""
        for schedule_id in self._made:
            request = schedule_pb2.DeleteScheduleRequest(schedule_id=schedule_id)
            with suppress(grpc.aio.AioRpcError):
                await self.schedules.DeleteSchedule(request, metadata=self.me)
        self._made.clear()
        self.queue.forget()

    async def trigger(self, schedule_id: str) -> schedule_run_pb2.ScheduleRun:
        request = schedule_run_pb2.TriggerScheduleRequest(schedule_id=schedule_id, run_id=str(uuid4()))
        made: schedule_run_pb2.ScheduleRun = (
            await self.schedules.TriggerSchedule(request, metadata=self.me)
        ).run
        return made

    async def history(self, schedule_id: str, **rest: Any) -> list[schedule_run_pb2.ScheduleRun]:
        """Oldest first."""
        request = schedule_run_pb2.ListScheduleRunsRequest(
            schedule_id=schedule_id, order_by="nominal_time", page_size=200, **rest
        )
        return list((await self.schedules.ListScheduleRuns(request, metadata=self.me)).runs)

    async def states(self, schedule_id: str) -> list[str]:
        return [
            schedule_run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
            for run in await self.history(schedule_id)
        ]

    async def has(self, schedule_id: str, *wanted: str) -> None:
        """Waits until the runs of the schedule stand so, oldest first."""
        await self.settle(lambda: self.states(schedule_id), list(wanted))

    async def settle(self, found: Any, wanted: Any) -> None:
        last: Any = None

        async def there() -> bool:
            nonlocal last
            if isinstance(self.lab.clock, FakeClock):
                self.lab.clock.advance(0.05)  # A loop may have gone to sleep just after the test moved on.
            last = await found()
            return bool(last == wanted)

        try:
            await until(there)
        except TimeoutError:
            raise AssertionError(f"{last} is not {wanted}") from None

    async def job(self, run: schedule_run_pb2.ScheduleRun) -> JobSpec:
        """Waits until the queue has the run's job."""

        async def there() -> JobSpec | None:
            return self.queue.jobs.get(run.job_id)

        spec: JobSpec = await until(there)
        return spec

    async def workflow(self, *tasks: Mapping[str, Any], **rest: Any) -> str:
        """Makes a workflow. Returns its id."""
        request = workflow_pb2.CreateWorkflowRequest(workflow_id=str(uuid4()), settings=graph(*tasks, **rest))
        await self.workflows.CreateWorkflow(request, metadata=self.me)
        return str(request.workflow_id)

    async def start(self, workflow_id: str, **given: Any) -> str:
        """Starts a run. Returns its id."""
        request = workflow_run_pb2.StartWorkflowRunRequest(run_id=str(uuid4()), workflow_id=workflow_id)
        request.input.update(given)
        await self.runs.StartWorkflowRun(request, metadata=self.me)
        return str(request.run_id)

    async def run(self, run_id: str) -> workflow_run_pb2.WorkflowRun:
        request = workflow_run_pb2.GetWorkflowRunRequest(run_id=run_id)
        found: workflow_run_pb2.WorkflowRun = (await self.runs.GetWorkflowRun(request, metadata=self.me)).run
        return found

    async def run_state(self, run_id: str) -> str:
        state = (await self.run(run_id)).state
        return workflow_run_pb2.WorkflowRunState.Name(state).removeprefix("WORKFLOW_RUN_STATE_")

    async def run_becomes(self, run_id: str, state: str) -> workflow_run_pb2.WorkflowRun:
        await self.settle(lambda: self.run_state(run_id), state)
        return await self.run(run_id)

    async def task_job(self, task: str, *, undo: bool = False, number: int = 1) -> str:
        """Waits for the `number`-th job of the task."""

        async def there() -> str | None:
            found = self.queue.of_task(task, undo=undo)
            return found[number - 1] if len(found) >= number else None

        job_id: str = await until(there)
        return job_id


@asynccontextmanager
async def world(servers: Shared, clock: Clock | None = None, **settings: str) -> AsyncIterator[World]:
    """`settings` as in SchedulerSettings."""
    own = {f"WEFT_SCHEDULER_{name.upper()}": value for name, value in settings.items()}
    queue = Queue()
    # Not by the name of the queue, whose tables it has not: events find their stream by their type.
    builds = {"scheduler": partial(build, environ=own), "standin": queue.build}
    postgres, nats = servers.postgres(), servers.account()
    async with laboratory(builds, postgres_url=postgres, nats_url=nats, clock=clock) as lab:
        yield World(lab, queue)


def wanted(**settings: Any) -> schedule_pb2.ScheduleSettings:
    """Settings of a schedule: a yearly one that enqueues `test.run`, unless said otherwise."""
    timing = settings.pop("timing", {"cron": "@yearly"})
    made = {"name": "nightly", "timing": timing, **settings}
    if "workflow" not in made:
        made.setdefault("job", {"type": "test.run"})
    return ParseDict(made, schedule_pb2.ScheduleSettings())


def graph(*tasks: Mapping[str, Any], **rest: Any) -> workflow_pb2.WorkflowSettings:
    """Settings of a workflow; tasks are written as `{"name": ..., "needs": [...]}`."""
    made = [{"job": {"type": f"do.{task['name']}"}, **task} for task in tasks]
    return ParseDict({"name": "order", "tasks": made, **rest}, workflow_pb2.WorkflowSettings())


def undo(name: str) -> dict[str, Any]:
    """A compensation."""
    return {"job": {"type": f"undo.{name}"}}
