"""Workflows, their runs, and what starts them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, or_, select, union

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.scheduler.domain.progress import FINAL, RunState, TaskRun, UnknownWorkflowRun, WorkflowRun
from services.scheduler.domain.schedule import Schedule
from services.scheduler.domain.workflow import (
    UnknownWorkflow,
    Workflow,
    WorkflowTrigger,
    WorkflowVersion,
)

TIMED_OUT_MAX = 50  # Runs that one round looks after; each is a transaction of its own.

WORKFLOWS = Listing(
    {"create_time": Field(Workflow.created_at), "workflow_id": Field(Workflow.workflow_id, order=False)},
    "create_time desc",
    "workflow_id",
)
RUNS = Listing(
    {
        "create_time": Field(WorkflowRun.created_at),
        "run_id": Field(WorkflowRun.run_id, order=False),
        "workflow_id": Field(WorkflowRun.workflow_id, order=False),
        "state": Field(WorkflowRun.state, order=False, values={each.value: each.value for each in RunState}),
        "cause": Field(WorkflowRun.cause, order=False),
    },
    "create_time desc",
    "run_id",
)


async def get(tx: Tx, workflow_id: UUID, *, lock: bool = False) -> Workflow:
    """Raises UnknownWorkflow."""
    row = await tx.get(Workflow, workflow_id, with_for_update=lock)
    if row is None:
        raise UnknownWorkflow(workflow_id=workflow_id)
    return row


async def version(tx: Tx, workflow_id: UUID, number: int) -> WorkflowVersion:
    """Raises UnknownWorkflow."""
    row = await tx.get(WorkflowVersion, (workflow_id, number))
    if row is None:
        raise UnknownWorkflow(workflow_id=workflow_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[tuple[Workflow, WorkflowVersion]], str]:
    """Workflows with their newest versions, and the next page's token."""
    rows, token = page.cut((await tx.scalars(page.select(select(Workflow)))).all())
    wanted = select(WorkflowVersion).join(
        Workflow,
        (Workflow.workflow_id == WorkflowVersion.workflow_id) & (Workflow.version == WorkflowVersion.version),
    )
    newest = await tx.scalars(wanted.where(Workflow.workflow_id.in_([row.workflow_id for row in rows])))
    by_id = {each.workflow_id: each for each in newest}
    return [(row, by_id[row.workflow_id]) for row in rows], token


async def replace_triggers(tx: Tx, workflow_id: UUID, event_types: Sequence[str], now: datetime) -> None:
    """One whose type was there before goes on from where it was."""
    gone = delete(WorkflowTrigger).where(WorkflowTrigger.workflow_id == workflow_id)
    since = {row.event_type: row.since_at for row in await tx.scalars(gone.returning(WorkflowTrigger))}
    await tx.flush()
    for number, kind in enumerate(event_types):
        since_at = since.get(kind, now)
        tx.add(WorkflowTrigger(workflow_id=workflow_id, number=number, event_type=kind, since_at=since_at))


async def event_types(tx: Tx) -> set[str]:
    """All that start any workflow."""
    return set(await tx.scalars(select(WorkflowTrigger.event_type).distinct()))


async def triggered_by(tx: Tx, event_type: str) -> Sequence[WorkflowTrigger]:
    wanted = select(WorkflowTrigger).where(WorkflowTrigger.event_type == event_type)
    return (await tx.scalars(wanted.order_by(WorkflowTrigger.workflow_id, WorkflowTrigger.number))).all()


async def users(tx: Tx, workflow_id: UUID) -> tuple[int, int]:
    """Schedules that start it, and runs that have not ended."""
    schedules = select(func.count()).where(Schedule.workflow_id == workflow_id)
    runs = select(func.count()).where(WorkflowRun.workflow_id == workflow_id, WorkflowRun.state.not_in(FINAL))
    return int(await tx.scalar(schedules) or 0), int(await tx.scalar(runs) or 0)


async def run(tx: Tx, run_id: UUID, *, lock: bool = False) -> WorkflowRun:
    """Raises UnknownWorkflowRun."""
    row = await tx.get(WorkflowRun, run_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownWorkflowRun(run_id=run_id)
    return row


async def tasks(tx: Tx, run_id: UUID) -> dict[str, TaskRun]:
    """By name; fresh, for their run may have been locked just now."""
    wanted = select(TaskRun).where(TaskRun.run_id == run_id).execution_options(populate_existing=True)
    return {row.name: row for row in await tx.scalars(wanted)}


async def task_of_job(tx: Tx, job_id: UUID) -> TaskRun | None:
    """The task that the job does or undoes."""
    wanted = select(TaskRun).where(or_(TaskRun.job_id == job_id, TaskRun.undo_job_id == job_id))
    return (await tx.scalars(wanted)).one_or_none()


async def run_page(tx: Tx, page: Page) -> tuple[Sequence[WorkflowRun], str]:
    return page.cut((await tx.scalars(page.select(select(WorkflowRun)))).all())


async def past_deadline(tx: Tx, now: datetime) -> Sequence[UUID]:
    """Runs that have, or have a task that has, a deadline behind it."""
    late = select(WorkflowRun.run_id).where(WorkflowRun.deadline_at <= now)
    tasks_late = select(TaskRun.run_id).where(TaskRun.deadline_at <= now)
    return (await tx.scalars(union(late, tasks_late).limit(TIMED_OUT_MAX))).all()
