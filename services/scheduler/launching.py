"""Runs of workflows: each transition in one transaction, with what it asks of the queue and tells others."""

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database, Tx
from services.chassis.events import emit
from services.scheduler import reading, requesting
from services.scheduler.domain.progress import (
    FINAL,
    Cancel,
    Ended,
    Progress,
    RunState,
    Start,
    TaskRun,
    TaskState as TaskStates,
    UnknownWorkflowRun,
    WorkflowRun,
    new_tasks,
)
from services.scheduler.domain.schedule import RunIdReused
from services.scheduler.domain.webhook import DeliveryState, WebhookDelivery
from services.scheduler.domain.workflow import Definition
from services.scheduler.settings import SchedulerSettings
from services.scheduler.store import glance, schedule as jobs, webhook as webhooks, workflow as store
from services.scheduler.store.once import written
from weft.scheduler.v1.events_pb2 import WorkflowRunChanged, WorkflowTaskChanged
from weft.scheduler.v1.timing_pb2 import JobTemplate
from weft.scheduler.v1.webhook_endpoint_pb2 import WebhookEndpointSettings
from weft.scheduler.v1.workflow_run_pb2 import TaskState, WorkflowRunState

LOOK_EVERY_S = 1.0  # Deadlines are kept to about this.
BEGUN = (TaskStates.STARTED, TaskStates.COMPENSATING)  # Told behind what they were waiting for.
# What webhooks call the states of a run.
TOLD = {
    RunState.RUNNING: "workflow_run.started",
    RunState.STOPPING: "workflow_run.failed",
    RunState.SUCCEEDED: "workflow_run.succeeded",
    RunState.COMPENSATED: "workflow_run.compensated",
    RunState.STUCK: "workflow_run.stuck",
}

OnEnd = Callable[[Tx, WorkflowRun], Awaitable[None]]


class Launcher:
    """Starts runs, and moves them on."""

    def __init__(self, db: Database, clock: Clock, settings: SchedulerSettings) -> None:
        self._db, self._clock = db, clock
        self._ask_after = timedelta(seconds=settings.ask_after_s)
        self.on_end: OnEnd | None = None  # Who waits for runs to end.

    async def start(
        self, tx: Tx, workflow_id: UUID, given: Mapping[str, Any], cause: str, run_id: UUID, version: int = 0
    ) -> WorkflowRun:
        """The run, or the one that has the id. Raises UnknownWorkflow, InputRefused, RunIdReused."""
        workflow = await store.get(tx, workflow_id)
        number = version or workflow.version
        definition = reading.definition((await store.version(tx, workflow_id, number)).settings)
        definition.accept(given)
        now = self._clock.now()
        new = WorkflowRun(
            run_id=run_id,
            workflow_id=workflow_id,
            version=number,
            state=RunState.RUNNING,
            input=dict(given),
            cause=cause,
            failure="",
            successes=0,
            revision=0,
            created_at=now,
            deadline_at=now + definition.timeout,
            ended_at=None,
        )
        fresh = await written(tx, new)
        run = await store.run(tx, run_id)
        if not fresh:
            if (run.workflow_id, run.input) != (workflow_id, dict(given)):
                raise RunIdReused(run_id=run_id)
            return run
        tasks = new_tasks(definition, run_id)
        tx.add_all(tasks.values())
        await self._carry_out(tx, definition, run, tasks, lambda progress: progress.begin(), new=True)
        return run

    async def told(self, tx: Tx, run_id: UUID, ended: Ended) -> None:
        """A job of the run has ended."""
        await self._move(tx, run_id, lambda progress: progress.ended(ended))

    async def cancel(self, tx: Tx, run_id: UUID) -> WorkflowRun:
        """Raises UnknownWorkflowRun, WorkflowRunEnded."""
        return await self._move(tx, run_id, lambda progress: progress.cancel())

    async def retry(self, tx: Tx, run_id: UUID) -> WorkflowRun:
        """Raises UnknownWorkflowRun, WorkflowRunNotStuck."""
        return await self._move(tx, run_id, lambda progress: progress.retry())

    async def watch_deadlines(self) -> None:
        """Calls off what has run for too long, for ever."""
        while True:
            now, late = self._clock.now(), list[UUID]()
            if await glance.is_due(self._db, glance.DEADLINES, now):
                async with self._db.transaction() as tx:
                    late += await store.past_deadline(tx, now)
            for run_id in late:
                await self._time_out(run_id)
            if len(late) < store.TIMED_OUT_MAX:
                await self._clock.sleep(LOOK_EVERY_S)

    async def _time_out(self, run_id: UUID) -> None:
        try:
            async with self._db.transaction() as tx:
                await self._move(tx, run_id, lambda progress: progress.time_out())
        except UnknownWorkflowRun:
            return  # It was deleted meanwhile.

    async def _move(self, tx: Tx, run_id: UUID, verb: Callable[[Progress], None]) -> WorkflowRun:
        run = await store.run(tx, run_id, lock=True)
        tasks = await store.tasks(tx, run_id)
        version = await store.version(tx, run.workflow_id, run.version)
        await self._carry_out(tx, reading.definition(version.settings), run, tasks, verb)
        return run

    async def _carry_out(
        self,
        tx: Tx,
        definition: Definition,
        run: WorkflowRun,
        tasks: Mapping[str, TaskRun],
        verb: Callable[[Progress], None],
        *,
        new: bool = False,
    ) -> None:
        progress = Progress(definition, run, tasks, self._clock.now(), uuid7)
        verb(progress)
        run.revision += 1
        starts = [order for order in progress.orders if isinstance(order, Start)]
        cancelled = [order.job_id for order in progress.orders if isinstance(order, Cancel)]
        requests = [self._request(run, order) for order in starts]
        await emit(tx, *requests, *self._changes(run, progress, new=new))
        requesting.awaits(tx, [order.job_id for order in starts], self._clock.now(), self._ask_after)
        await tx.flush()
        await jobs.cancel_jobs(tx, cancelled, self._clock.now())
        await self._tell(tx, run, progress, new=new)
        if progress.run_moved and run.state in (*FINAL, RunState.STUCK) and self.on_end:
            await self.on_end(tx, run)

    def _request(self, run: WorkflowRun, order: Start) -> Any:
        labels = {
            "workflow.id": str(run.workflow_id),
            "workflow.run": str(run.run_id),
            "workflow.task": order.task,
        }
        return requesting.requested(order.job_id, JobTemplate.FromString(order.job), labels, order.payload)

    def _changes(self, run: WorkflowRun, progress: Progress, *, new: bool) -> Iterator[Message]:
        """What is announced: that a run has begun before its tasks do, and that it has ended after them."""
        ids = {"run_id": str(run.run_id), "workflow_id": str(run.workflow_id)}
        state = WorkflowRunState.Value(f"WORKFLOW_RUN_STATE_{run.state}")
        if new and not progress.run_moved:
            yield WorkflowRunChanged(**ids, state=state)
        for task, moved in sorted(progress.moved, key=lambda each: (each[1] in BEGUN, each)):
            yield WorkflowTaskChanged(**ids, task=task, state=TaskState.Value(f"TASK_STATE_{moved}"))
        if progress.run_moved:
            yield WorkflowRunChanged(**ids, state=state)

    async def _tell(self, tx: Tx, run: WorkflowRun, progress: Progress, *, new: bool) -> None:
        """Writes a delivery for each endpoint that wants to hear of what has changed."""
        messages = [(f"task.{state.lower()}", name) for name, state in progress.moved]
        if new:
            messages.insert(0, (TOLD[RunState.RUNNING], ""))
        if progress.run_moved and run.state in TOLD:
            messages.append((TOLD[RunState(run.state)], ""))
        if not messages:
            return
        for endpoint in await webhooks.endpoints(tx):
            if endpoint.disabled:
                continue
            wants = WebhookEndpointSettings.FromString(endpoint.settings)
            tx.add_all(self._deliveries(endpoint.endpoint_id, wants, run, messages))

    def _deliveries(
        self,
        endpoint_id: UUID,
        wants: WebhookEndpointSettings,
        run: WorkflowRun,
        messages: Iterable[tuple[str, str]],
    ) -> Iterable[WebhookDelivery]:
        if wants.workflow_ids and str(run.workflow_id) not in wants.workflow_ids:
            return
        now = self._clock.now()
        for kind, task in messages:
            if kind not in wants.types if wants.types else not kind.startswith("workflow_run."):
                continue
            data = {"run_id": str(run.run_id), "workflow_id": str(run.workflow_id), "version": run.version}
            body = {
                "type": kind,
                "timestamp": now.isoformat(),
                "data": data | ({"task": task} if task else {}),
            }
            yield WebhookDelivery(
                delivery_id=uuid7(),
                endpoint_id=endpoint_id,
                type=kind,
                body=json.dumps(body),
                state=DeliveryState.WAITING,
                attempts=0,
                status=0,
                problem="",
                created_at=now,
                due_at=now,
            )
