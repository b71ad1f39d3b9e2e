"""Runs of schedules: fired when due, one transaction for a batch, its rows and its jobs.

A schedule's row is locked while it is fired, and skipped by others; the run's row is unique by schedule and
nominal time. So a replica that is killed leaves either all of a batch or nothing, and the next one to look
finds what is still due.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database, Tx
from services.chassis.events import Provenance, emit, provenance
from services.chassis.steady import SteadyClock
from services.scheduler import metrics, reading, requesting
from services.scheduler.domain import schedule as rules
from services.scheduler.domain.calendar import Days
from services.scheduler.domain.progress import RunState as WorkflowState, WorkflowRun, WorkflowRunEnded
from services.scheduler.domain.schedule import Cause, Due, Overlap, Policy, RunState, Schedule, ScheduleRun
from services.scheduler.domain.workflow import InputRefused, UnknownWorkflow
from services.scheduler.launching import Launcher
from services.scheduler.settings import SchedulerSettings
from services.scheduler.store import calendar as calendars, glance, schedule as store
from weft.scheduler.v1.events_pb2 import ScheduleRunEnded
from weft.scheduler.v1.schedule_pb2 import ScheduleSettings
from weft.scheduler.v1.schedule_run_pb2 import RunState as WireRunState

BROKEN_REST = timedelta(minutes=10)  # Until a schedule whose next time cannot be reckoned is tried again.
SOON_S = 0.001  # Asleep until a schedule is due, a loop wakes this much later rather than too early.

log = logging.getLogger("weft.scheduler")


class Firing:
    """One replica's share of the work."""

    def __init__(self, db: Database, clock: Clock, settings: SchedulerSettings, launcher: Launcher) -> None:
        self._db, self._clock, self._settings, self._launcher = db, clock, settings, launcher
        self._steady = SteadyClock(clock, settings.jump_s, settings.hold_s)
        self._ask_after = timedelta(seconds=settings.ask_after_s)
        self._poked = asyncio.Event()
        launcher.on_end = self.workflow_ended

    def poke(self) -> None:
        """Some schedule may be due sooner than was thought."""
        self._poked.set()

    async def run(self) -> None:
        """For ever."""
        provenance.set(Provenance("service:scheduler"))
        while True:
            self._poked.clear()
            fired, next_at = await self.round()
            if fired < store.FIRED_MAX:
                await self._sleep(next_at)

    async def _sleep(self, next_at: datetime | None) -> None:
        seconds = self._settings.poll_s
        if next_at:
            seconds = min(seconds, max(0.0, (next_at - self._steady.now()).total_seconds()) + SOON_S)
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait({sleeping, poked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            poked.cancel()

    async def round(self) -> tuple[int, datetime | None]:
        """Fires one batch. Returns how many schedules, and when the next is due."""
        now, next_at = self._steady.now(), await glance.next_schedule(self._db)
        if next_at is None or next_at > now:
            return 0, next_at
        async with self._db.transaction() as tx:
            rows = await store.due(tx, now)
            if rows:
                await self._fire(tx, rows, now)
            return len(rows), await store.next_due(tx)

    async def _fire(self, tx: Tx, rows: Sequence[Schedule], now: datetime) -> None:
        days = await self.days(tx, rows)
        found: list[tuple[Schedule, ScheduleSettings, Due]] = []
        for row in rows:
            found += self._due(row, days.get(row.schedule_id), now)
        pairs = [(row.schedule_id, due.nominal_at) for row, _, due in found]
        taken = await store.taken_by_many(tx, pairs) if pairs else set()
        batch = Batch(self, tx, now, await store.active(tx, [row.schedule_id for row in rows]))
        for row, settings, each in found:
            if (row.schedule_id, each.nominal_at) not in taken:
                await batch.add(row.schedule_id, settings, each)
        await batch.flush()

    def _due(
        self, row: Schedule, days: Days | None, now: datetime
    ) -> list[tuple[Schedule, ScheduleSettings, Due]]:
        """The runs of one schedule whose time has come; it is aimed at the one after them."""
        settings = ScheduleSettings.FromString(row.settings)
        policy = reading.policy(settings)
        try:
            timing = reading.timing(settings.timing, row.anchor, days)
            due = rules.due(row, timing, policy, now)
            assert row.next_at
            row.last_at = max((each.nominal_at for each in due), default=row.next_at)
            row.aim(timing, row.last_at, policy.jitter)
        except Exception:  # A time zone that is no more, a bug: the others of the batch are none the worse.
            log.exception("a schedule rests", extra={"facts": {"schedule": str(row.schedule_id)}})
            row.due_at = now + BROKEN_REST
            return []
        return [(row, settings, each) for each in due]

    async def days(self, tx: Tx, rows: Sequence[Schedule]) -> dict[UUID, Days]:
        """Calendars by schedule; of schedules that have one."""
        known = await calendars.many(tx, {row.calendar_id for row in rows if row.calendar_id})
        made = {row.schedule_id: reading.days(known.get(row.calendar_id)) for row in rows if row.calendar_id}
        return {schedule_id: days for schedule_id, days in made.items() if days}

    async def fire_one(
        self, tx: Tx, row: Schedule, run_id: UUID | None, dues: Sequence[Due], *, waiting: bool = False
    ) -> list[ScheduleRun]:
        """Runs that somebody asked for; `row` is locked. `waiting`: one after another."""
        batch = Batch(self, tx, self._clock.now(), await store.active(tx, [row.schedule_id]))
        settings = ScheduleSettings.FromString(row.settings)
        made = [
            await batch.add(row.schedule_id, settings, due, run_id=run_id, waiting=waiting) for due in dues
        ]
        await batch.flush()
        if waiting:
            await self.release(tx, row)
        return made

    async def job_ended(self, tx: Tx, run: ScheduleRun, state: RunState, reason: str) -> None:
        """What the run started has ended; its schedule may go on."""
        schedule = await store.get(tx, run.schedule_id, lock=True)
        await tx.refresh(run)
        if run.end(state, self._clock.now(), reason):
            await self._ended(tx, [run])
            await tx.flush()
            await self.release(tx, schedule)

    async def workflow_ended(self, tx: Tx, ended: WorkflowRun) -> None:
        run = await store.run_of_workflow(tx, ended.run_id)
        if run is not None:
            good = ended.state == WorkflowState.SUCCEEDED
            called_off = ended.failure == "CANCELLED"
            state = RunState.SUCCEEDED if good else RunState.CANCELLED if called_off else RunState.FAILED
            await self.job_ended(tx, run, state, "")

    async def release(self, tx: Tx, schedule: Schedule) -> None:
        """Starts runs that wait, as far as they may now; `schedule` is locked."""
        settings = ScheduleSettings.FromString(schedule.settings)
        queues = reading.policy(settings).overlap is Overlap.QUEUE
        active = (await store.active(tx, [schedule.schedule_id])).get(schedule.schedule_id, [])
        batch = Batch(self, tx, self._clock.now(), {})
        for run in active[: store.RELEASED_MAX]:
            alone = [each for each in active if queues or each.cause == Cause.BACKFILLED]
            if run.state == RunState.WAITING and not any(each.state == RunState.STARTED for each in alone):
                await batch.start(run, settings)
        await batch.flush()

    async def _ended(self, tx: Tx, runs: Sequence[ScheduleRun]) -> None:
        for run in runs:
            metrics.RUNS.labels(run.state).inc()
        await emit(
            tx,
            *(
                ScheduleRunEnded(
                    schedule_id=str(run.schedule_id),
                    run_id=str(run.run_id),
                    state=WireRunState.Value(f"RUN_STATE_{run.state}"),
                )
                for run in runs
            ),
        )


class Batch:
    """Runs of one transaction: written, started, announced together."""

    def __init__(self, firing: Firing, tx: Tx, now: datetime, active: Any) -> None:
        self._firing, self._tx, self._now = firing, tx, now
        self._active = active
        self._requests: list[Any] = []
        self._jobs: list[UUID] = []
        self._ended: list[ScheduleRun] = []
        self._cancelled: list[UUID] = []

    async def add(
        self,
        schedule_id: UUID,
        settings: ScheduleSettings,
        due: Due,
        *,
        run_id: UUID | None = None,
        waiting: bool = False,
    ) -> ScheduleRun:
        """Writes a run, and starts it if it may."""
        policy, others = reading.policy(settings), self._active.setdefault(schedule_id, [])
        run = ScheduleRun(
            run_id=run_id or uuid7(),
            schedule_id=schedule_id,
            nominal_at=due.nominal_at,
            cause=due.cause,
            state=RunState.WAITING,
            reason="",
            created_at=self._now,
            due_at=due.due_at,
        )
        self._tx.add(run)
        state = RunState.MISSED if due.missed else self._place(policy, due, others, waiting)
        if state in (RunState.MISSED, RunState.SKIPPED):
            run.end(state, self._now)
            self._ended.append(run)
            return run
        if state is RunState.STARTED:
            if policy.overlap is Overlap.CANCEL_OTHER:
                await self._cancel(others)
            await self.start(run, settings)
        if run.active:
            others.append(run)
        return run

    def _place(self, policy: Policy, due: Due, others: Sequence[ScheduleRun], waiting: bool) -> RunState:
        if waiting:
            return RunState.WAITING
        started = sum(run.state == RunState.STARTED for run in others)
        return rules.place(policy, due.cause, started, len(others) - started)

    async def start(self, run: ScheduleRun, settings: ScheduleSettings) -> None:
        """Asks for its job, or starts its workflow."""
        if settings.HasField("workflow"):
            await self._start_workflow(run, settings)
            return
        job_id = uuid7()
        run.start(self._now, job_id, None)
        labels = {"schedule.id": str(run.schedule_id), "schedule.run": str(run.run_id)}
        self._requests.append(requesting.requested(job_id, settings.job, labels))
        self._jobs.append(job_id)
        if run.cause == Cause.SCHEDULED:
            metrics.LAG.observe(max(0.0, (self._now - run.due_at).total_seconds()))

    async def _start_workflow(self, run: ScheduleRun, settings: ScheduleSettings) -> None:
        workflow_run_id, wanted = uuid7(), settings.workflow
        run.start(self._now, None, workflow_run_id)
        await self._tx.flush()
        given, cause = reading.json_of(wanted.input), f"schedule:{run.run_id}"
        try:
            await self._firing._launcher.start(
                self._tx, UUID(wanted.workflow_id), given, cause, workflow_run_id
            )
        except (UnknownWorkflow, InputRefused) as refused:
            run.end(RunState.FAILED, self._now, refused.reason())
            self._ended.append(run)

    async def _cancel(self, others: list[ScheduleRun]) -> None:
        """Calls off runs that have not ended; they end when they have."""
        for run in list(others):
            if run.state == RunState.WAITING:
                run.end(RunState.CANCELLED, self._now)
                self._ended.append(run)
                others.remove(run)
            elif run.job_id:
                self._cancelled.append(run.job_id)
            elif run.workflow_run_id:
                await self._cancel_workflow(run.workflow_run_id)

    async def _cancel_workflow(self, run_id: UUID) -> None:
        try:
            await self._firing._launcher.cancel(self._tx, run_id)
        except WorkflowRunEnded:
            return  # It is about to be heard of.

    async def flush(self) -> None:
        firing = self._firing
        requesting.awaits(self._tx, self._jobs, self._now, firing._ask_after)
        await self._tx.flush()
        await emit(self._tx, *self._requests)
        await store.cancel_jobs(self._tx, self._cancelled, self._now)
        await firing._ended(self._tx, self._ended)
