"""How a run of a workflow goes on: from what has ended to what starts next. Pure; the caller keeps the rows.

A run is RUNNING until all its tasks have ended, or one failed that no other task handles. Then it is
STOPPING until what was started has ended too, then COMPENSATING: what succeeded and can be undone is undone,
one after another, the last first. Every function may be called again with what it has heard before; it
changes nothing then.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from services.scheduler.domain import expression
from services.scheduler.domain.expression import EvaluationFailed
from services.scheduler.domain.row import Row
from services.scheduler.domain.workflow import Definition, Rule, Task, Work

PAYLOAD_BYTES_MAX = 32_768  # Inputs of a job: they travel in an event of 64 kB.
OUTPUT_BYTES_MAX = 65_536  # Results are kept in the run, and read whole at each step.
TIMED_OUT, CANCELLED = "TIMED_OUT", "CANCELLED"


class UnknownWorkflowRun(NotFound):
    """There is no run {run_id}."""


class WorkflowRunEnded(FailedPrecondition):
    """The run {run_id} has ended: it is {state}."""


class WorkflowRunNotStuck(FailedPrecondition):
    """The run {run_id} is {state}; only one that is STUCK is gone on with."""


class ResumeTokenRefused(InvalidArgument):
    """The resume token is not one that this method gave."""


class TooManyWatches(ResourceExhausted):
    """This process serves {max} watches already."""


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    COMPENSATING = "COMPENSATING"
    SUCCEEDED = "SUCCEEDED"
    COMPENSATED = "COMPENSATED"
    STUCK = "STUCK"


FINAL = (RunState.SUCCEEDED, RunState.COMPENSATED)


class TaskState(StrEnum):
    """Where a task stands."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


UNENDED = (TaskState.PENDING, TaskState.STARTED)


class Outcome(StrEnum):
    """How a job ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class WorkflowRun(Row):
    """A run of one version."""

    __tablename__ = "workflow_run"
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID]
    version: Mapped[int]
    state: Mapped[str]
    input: Mapped[dict[str, Any]]
    cause: Mapped[str]
    failure: Mapped[str]
    successes: Mapped[int]  # Tasks whose effects are there, ever.
    revision: Mapped[int]
    created_at: Mapped[datetime]
    deadline_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class TaskRun(Row):
    """A task in a run."""

    __tablename__ = "task_run"
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    job_id: Mapped[UUID | None]
    undo_job_id: Mapped[UUID | None]
    reason: Mapped[str]
    end_reason: Mapped[str]
    output: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    succeeded_no: Mapped[int | None]  # Place among those whose effects are there. None: they are not.
    started_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


@dataclass(frozen=True)
class Start:
    """Enqueue this job."""

    task: str
    job_id: UUID
    job: bytes
    payload: bytes | None  # None: the template's own.


@dataclass(frozen=True)
class Cancel:
    """Call this job off."""

    task: str
    job_id: UUID


@dataclass(frozen=True)
class Ended:
    """What is known of a job that has ended."""

    job_id: UUID
    outcome: Outcome
    reason: str = ""
    output: Any = None
    oversize: bool = False  # The result was larger than OUTPUT_BYTES_MAX.


Order = Start | Cancel


class Progress:
    """One transition of one run: call one of its verbs, then carry out `orders` and keep the rows."""

    def __init__(
        self,
        definition: Definition,
        run: WorkflowRun,
        tasks: Mapping[str, TaskRun],
        now: datetime,
        new_id: Callable[[], UUID],
    ) -> None:
        self._definition, self._run, self._tasks = definition, run, tasks
        self._now, self._new_id = now, new_id
        self.orders: list[Order] = []
        self._before = (run.state, {name: task.state for name, task in tasks.items()})

    @property
    def moved(self) -> Sequence[tuple[str, str]]:
        """Tasks that stand elsewhere now, with their states."""
        _, before = self._before
        return [(name, task.state) for name, task in self._tasks.items() if task.state != before[name]]

    @property
    def run_moved(self) -> bool:
        return self._run.state != self._before[0]

    def begin(self) -> None:
        """The first step of a new run."""
        self._go_on()

    def ended(self, told: Ended) -> None:
        """A job has ended. One that is not awaited is none of ours any more."""
        for task in self._tasks.values():
            if task.job_id == told.job_id and task.state == TaskState.STARTED:
                self._task_ended(task, told)
            elif task.undo_job_id == told.job_id and task.state == TaskState.COMPENSATING:
                done = told.outcome is Outcome.SUCCEEDED
                task.state = TaskState.COMPENSATED if done else TaskState.COMPENSATION_FAILED
                task.ended_at, task.reason = self._now, "" if done else told.reason or told.outcome
        self._go_on()

    def time_out(self) -> None:
        """Calls off what has run past its deadline: tasks, or the run as a whole."""
        for task in self._started():
            if task.deadline_at and task.deadline_at <= self._now:
                task.deadline_at, task.reason = None, TIMED_OUT
                self._call_off(task)
        if self._run.deadline_at and self._run.deadline_at <= self._now:
            self._run.deadline_at = None
            if self._run.state == RunState.RUNNING:
                self._stop(TIMED_OUT)
        self._go_on()

    def cancel(self) -> None:
        """Somebody calls the run off. Raises WorkflowRunEnded."""
        if self._run.state in (*FINAL, RunState.STUCK) and self._run.failure != CANCELLED:
            raise WorkflowRunEnded(run_id=self._run.run_id, state=self._run.state)
        if self._run.state == RunState.RUNNING:
            self._stop(CANCELLED)
        self._go_on()

    def retry(self) -> None:
        """Tries the compensations that failed once more. Raises WorkflowRunNotStuck."""
        if self._run.state != RunState.STUCK:
            raise WorkflowRunNotStuck(run_id=self._run.run_id, state=self._run.state)
        for task in self._tasks.values():
            if task.state == TaskState.COMPENSATION_FAILED:
                task.state, task.reason = TaskState.SUCCEEDED, ""
        self._run.state = RunState.COMPENSATING
        self._go_on()

    def _task_ended(self, task: TaskRun, told: Ended) -> None:
        task.ended_at, task.deadline_at, task.end_reason = self._now, None, told.reason
        late = task.reason == TIMED_OUT
        if told.outcome is Outcome.SUCCEEDED:
            self._run.successes += 1
            task.succeeded_no = self._run.successes
            problem = TIMED_OUT if late else self._problem(task, told)
            task.state = TaskState.FAILED if problem else TaskState.SUCCEEDED
            task.reason = problem
            task.output = None if problem else told.output
        elif told.outcome is Outcome.CANCELLED and self._run.state != RunState.RUNNING and not late:
            task.state = TaskState.CANCELLED
        else:
            task.state = TaskState.FAILED
            task.reason = task.reason or told.reason or told.outcome

    def _problem(self, task: TaskRun, told: Ended) -> str:
        """What is wrong with a result."""
        outputs = self._definition.by_name[task.name].outputs
        if told.oversize:
            return f"OUTPUT_TOO_LARGE: more than {OUTPUT_BYTES_MAX} bytes"
        if outputs and not isinstance(told.output, dict):
            return "OUTPUT_REFUSED: it is no object"
        for name, kind in outputs.items():
            if name not in told.output or not kind.fits(told.output[name]):
                return f"OUTPUT_REFUSED: {name} is missing or no {kind.lower()}"
        return ""

    def _go_on(self) -> None:
        """Takes every step that can be taken now."""
        if self._run.state == RunState.RUNNING:
            self._start_ready()
        if self._run.state == RunState.STOPPING and not self._started():
            self._run.state = RunState.COMPENSATING
        if self._run.state == RunState.COMPENSATING:
            self._undo_next()

    def _start_ready(self) -> None:
        for task in self._definition.order:  # Each behind its needs: one pass takes all steps.
            row = self._tasks[task.name]
            if row.state == TaskState.PENDING:
                self._try(task, row)
        if failed := self._unhandled():
            self._stop(failed)
        elif not any(task.state in UNENDED for task in self._tasks.values()):
            self._end(RunState.SUCCEEDED)

    def _unhandled(self) -> str:
        handled = self._definition.handled
        failed = [t for t in self._tasks.values() if t.state == TaskState.FAILED and t.name not in handled]
        return f"{failed[0].name}: {failed[0].reason}" if failed else ""

    def _try(self, task: Task, row: TaskRun) -> None:
        verdict = _verdict(task, [self._tasks[name].state for name in task.needs])
        if verdict is None:
            return
        if not verdict:
            self._settle(row, TaskState.SKIPPED, "")
            return
        try:
            if not expression.holds(task.condition, self._values()):
                self._settle(row, TaskState.SKIPPED, "CONDITION")
                return
            payload = self._payload(task.work)
        except EvaluationFailed as error:
            self._settle(row, TaskState.FAILED, f"EXPRESSION: {error}")
            return
        row.job_id, row.state, row.started_at = self._new_id(), TaskState.STARTED, self._now
        row.deadline_at = self._now + task.timeout if task.timeout else None
        self.orders.append(Start(task.name, row.job_id, task.work.job, payload))

    def _settle(self, row: TaskRun, state: TaskState, reason: str) -> None:
        row.state, row.reason, row.ended_at = state, reason, self._now

    def _payload(self, work: Work) -> bytes | None:
        """Raises EvaluationFailed."""
        if work.fixed:
            return None
        made = json.dumps(expression.mapped(work.inputs, self._values())).encode()
        if len(made) > PAYLOAD_BYTES_MAX:
            raise EvaluationFailed(f"the inputs have more than {PAYLOAD_BYTES_MAX} bytes")
        return made

    def _values(self) -> dict[str, Any]:
        """What expressions see."""
        run = {
            "id": str(self._run.run_id),
            "workflow_id": str(self._run.workflow_id),
            "version": self._run.version,
        }
        tasks = {name: {"state": task.state, "output": task.output} for name, task in self._tasks.items()}
        return {"input": self._run.input, "run": run, "tasks": tasks}

    def _stop(self, failure: str) -> None:
        self._run.state, self._run.failure, self._run.deadline_at = RunState.STOPPING, failure, None
        for task in self._tasks.values():
            if task.state == TaskState.PENDING:
                self._settle(task, TaskState.CANCELLED, "")
        for task in self._started():
            self._call_off(task)

    def _started(self) -> list[TaskRun]:
        return [task for task in self._tasks.values() if task.state == TaskState.STARTED]

    def _call_off(self, task: TaskRun) -> None:
        assert task.job_id
        if Cancel(task.name, task.job_id) not in self.orders:
            self.orders.append(Cancel(task.name, task.job_id))

    def _undo_next(self) -> None:
        """The last of what succeeded, unless one is being undone or could not be."""
        states = [task.state for task in self._tasks.values()]
        if TaskState.COMPENSATING in states:
            return
        if TaskState.COMPENSATION_FAILED in states:
            self._run.state = RunState.STUCK
            return
        undoable = [task for task in self._tasks.values() if self._to_undo(task)]
        if not undoable:
            self._end(RunState.COMPENSATED)
            return
        row = max(undoable, key=lambda task: task.succeeded_no or 0)
        work = self._definition.by_name[row.name].undo
        assert work
        try:
            payload = self._payload(work)
        except EvaluationFailed as error:
            self._settle(row, TaskState.COMPENSATION_FAILED, f"EXPRESSION: {error}")
            self._run.state = RunState.STUCK
            return
        row.undo_job_id, row.state = self._new_id(), TaskState.COMPENSATING
        self.orders.append(Start(row.name, row.undo_job_id, work.job, payload))

    def _to_undo(self, task: TaskRun) -> bool:
        there = task.state in (TaskState.SUCCEEDED, TaskState.FAILED) and task.succeeded_no is not None
        return there and self._definition.by_name[task.name].undo is not None

    def _end(self, state: RunState) -> None:
        self._run.state, self._run.ended_at, self._run.deadline_at = state, self._now, None


def _verdict(task: Task, needs: Sequence[str]) -> bool | None:
    """True: it starts; False: it never will; None: it waits."""
    if not needs:
        return True
    all_ended = not any(state in UNENDED for state in needs)
    succeeded = [state == TaskState.SUCCEEDED for state in needs]
    match task.rule:
        case Rule.ALL_SUCCEEDED:
            return True if all(succeeded) else False if _lost(needs) else None
        case Rule.ANY_SUCCEEDED:
            return True if any(succeeded) else False if all_ended else None
        case Rule.ANY_FAILED:
            failed = TaskState.FAILED in needs
            return True if failed else False if all_ended else None
        case Rule.ALL_ENDED:
            return True if all_ended else None


def _lost(needs: Sequence[str]) -> bool:
    return any(state not in (*UNENDED, TaskState.SUCCEEDED) for state in needs)


def new_tasks(definition: Definition, run_id: UUID) -> dict[str, TaskRun]:
    """The rows of a run that begins."""
    return {
        task.name: TaskRun(
            run_id=run_id, name=task.name, state=TaskState.PENDING, reason="", end_reason="", output=None
        )
        for task in definition.tasks
    }
