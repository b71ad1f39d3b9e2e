"""Schedules, their runs, and the jobs whose ends are awaited."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update

from services.chassis.db import Tx, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.scheduler.domain.schedule import (
    ACTIVE,
    AwaitedJob,
    Cause,
    RunState,
    Schedule,
    ScheduleRun,
    UnknownSchedule,
)

FIRED_MAX = 200  # Schedules fired in one transaction: about 0.1 s, and what a crash does over.
RELEASED_MAX = 100  # Runs that one end may set free.
ASKED_MAX = 100  # Jobs asked for in one round.

SCHEDULES = Listing(
    {
        "create_time": Field(Schedule.created_at),
        "schedule_id": Field(Schedule.schedule_id, order=False),
        "name": Field(Schedule.name),
        "next_time": Field(Schedule.next_at, nullable=True),
        "paused": Field(Schedule.paused, order=False),
        "calendar_id": Field(Schedule.calendar_id, nullable=True, order=False),
        "workflow_id": Field(Schedule.workflow_id, nullable=True, order=False),
    },
    "create_time desc",
    "schedule_id",
)
RUNS = Listing(
    {
        "nominal_time": Field(ScheduleRun.nominal_at),
        "create_time": Field(ScheduleRun.created_at, order=False),
        "run_id": Field(ScheduleRun.run_id, order=False),
        "state": Field(ScheduleRun.state, order=False, values={each.value: each.value for each in RunState}),
        "cause": Field(ScheduleRun.cause, order=False, values={each.value: each.value for each in Cause}),
    },
    "nominal_time desc",
    "run_id",
)
STATS = """
select
    percentile_cont(array[0.5, 0.95]) within group (order by extract(epoch from ended_at - started_at))
        filter (where state = 'SUCCEEDED') as took,
    percentile_cont(array[0.5, 0.95]) within group (order by extract(epoch from started_at - due_at))
        filter (where cause = 'SCHEDULED' and started_at is not null) as lag
from schedule_run where schedule_id = $1 and nominal_at > $2
"""


async def get(tx: Tx, schedule_id: UUID, *, lock: bool = False) -> Schedule:
    """Raises UnknownSchedule."""
    row = await tx.get(Schedule, schedule_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownSchedule(schedule_id=schedule_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[Schedule], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Schedule)))).all())


async def run_page(tx: Tx, schedule_id: UUID, page: Page) -> tuple[Sequence[ScheduleRun], str]:
    wanted = select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def due(tx: Tx, now: datetime) -> Sequence[Schedule]:
    """The next ones to fire, locked; what another replica is firing is left to it."""
    wanted = select(Schedule).where(Schedule.due_at <= now).order_by(Schedule.due_at).limit(FIRED_MAX)
    return (await tx.scalars(wanted.with_for_update(skip_locked=True))).all()


async def next_due(tx: Tx) -> datetime | None:
    return await tx.scalar(select(func.min(Schedule.due_at)))


async def of_calendar(tx: Tx, calendar_id: UUID) -> Sequence[Schedule]:
    """Those that use it, locked."""
    wanted = select(Schedule).where(Schedule.calendar_id == calendar_id).order_by(Schedule.schedule_id)
    return (await tx.scalars(wanted.with_for_update())).all()


async def taken(tx: Tx, schedule_id: UUID, nominals: Collection[datetime]) -> set[datetime]:
    """Of these nominal times, those that have a run."""
    wanted = select(ScheduleRun.nominal_at).where(
        ScheduleRun.schedule_id == schedule_id,
        ScheduleRun.nominal_at.in_(nominals),
        ScheduleRun.cause != Cause.TRIGGERED,
    )
    return set(await tx.scalars(wanted))


async def taken_by_many(tx: Tx, pairs: Sequence[tuple[UUID, datetime]]) -> set[tuple[UUID, datetime]]:
    """Of these schedules and nominal times, those that have a run."""
    sql = """
    select schedule_id, nominal_at from schedule_run
    join unnest($1::uuid[], $2::timestamptz[]) as given (id, at) on schedule_id = id and nominal_at = at
    where cause <> 'TRIGGERED'
    """
    rows = await fetch(tx, sql, [each for each, _ in pairs], [at for _, at in pairs])
    return {(row["schedule_id"], row["nominal_at"]) for row in rows}


async def active(tx: Tx, schedule_ids: Iterable[UUID]) -> Mapping[UUID, list[ScheduleRun]]:
    """Runs that have not ended, by schedule, in order."""
    wanted = (
        select(ScheduleRun)
        .where(ScheduleRun.schedule_id.in_(list(schedule_ids)), ScheduleRun.state.in_(ACTIVE))
        .order_by(ScheduleRun.nominal_at, ScheduleRun.run_id)
    )
    found: dict[UUID, list[ScheduleRun]] = defaultdict(list)
    for row in await tx.scalars(wanted):
        found[row.schedule_id].append(row)
    return found


async def active_counts(tx: Tx, schedule_ids: Iterable[UUID]) -> Mapping[UUID, int]:
    wanted = (
        select(ScheduleRun.schedule_id, func.count())
        .where(ScheduleRun.schedule_id.in_(list(schedule_ids)), ScheduleRun.state.in_(ACTIVE))
        .group_by(ScheduleRun.schedule_id)
    )
    return Counter({schedule_id: count for schedule_id, count in await tx.execute(wanted)})


async def run_of_job(tx: Tx, job_id: UUID) -> ScheduleRun | None:
    return (await tx.scalars(select(ScheduleRun).where(ScheduleRun.job_id == job_id))).one_or_none()


async def run_of_workflow(tx: Tx, workflow_run_id: UUID) -> ScheduleRun | None:
    wanted = select(ScheduleRun).where(ScheduleRun.workflow_run_id == workflow_run_id)
    return (await tx.scalars(wanted)).one_or_none()


async def run_states(tx: Tx, schedule_id: UUID, since: datetime) -> Mapping[str, int]:
    wanted = (
        select(ScheduleRun.state, func.count())
        .where(ScheduleRun.schedule_id == schedule_id, ScheduleRun.nominal_at > since)
        .group_by(ScheduleRun.state)
    )
    return {state: count for state, count in await tx.execute(wanted)}


async def percentiles(tx: Tx, schedule_id: UUID, since: datetime) -> Mapping[str, Any]:
    """`took` and `lag`: p50 and p95 in seconds, or None."""
    row: Mapping[str, Any] = (await fetch(tx, STATS, schedule_id, since))[0]
    return row


async def awaited(tx: Tx, job_id: UUID) -> AwaitedJob | None:
    """Locked. None: its end is known, or it is none of ours."""
    return await tx.get(AwaitedJob, job_id, with_for_update=True, populate_existing=True)


async def cancel_jobs(tx: Tx, job_ids: Collection[UUID], now: datetime) -> None:
    """Notes that they are to be called off."""
    if job_ids:
        wanted = update(AwaitedJob).where(AwaitedJob.job_id.in_(job_ids), AwaitedJob.cancel_at.is_(None))
        await tx.execute(wanted.values(cancel_at=now).execution_options(synchronize_session="fetch"))


async def to_cancel(tx: Tx, now: datetime, again: datetime) -> Sequence[AwaitedJob]:
    """Jobs to be called off now; nobody else does it until `again`."""
    wanted = select(AwaitedJob.job_id).where(AwaitedJob.cancel_at <= now).limit(ASKED_MAX)
    taken = update(AwaitedJob).where(AwaitedJob.job_id.in_(wanted.with_for_update(skip_locked=True)))
    return (await tx.scalars(taken.values(cancel_at=again).returning(AwaitedJob))).all()


async def to_ask(tx: Tx, now: datetime, again: datetime) -> Sequence[AwaitedJob]:
    """Jobs to be asked for now; nobody else does it until `again`."""
    wanted = select(AwaitedJob.job_id).where(AwaitedJob.ask_at <= now).limit(ASKED_MAX)
    taken = update(AwaitedJob).where(AwaitedJob.job_id.in_(wanted.with_for_update(skip_locked=True)))
    return (await tx.scalars(taken.values(ask_at=again).returning(AwaitedJob))).all()


async def forget_job(tx: Tx, job_id: UUID) -> None:
    await tx.execute(delete(AwaitedJob).where(AwaitedJob.job_id == job_id))
