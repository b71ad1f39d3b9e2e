"""weft.scheduler.v1.ScheduleService."""

from datetime import UTC, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.scheduler import reading
from services.scheduler.domain.calendar import Days
from services.scheduler.domain.schedule import (
    BACKFILL_MAX,
    BackfillRefused,
    Cause,
    Due,
    RunIdReused,
    Schedule,
    ScheduleIdReused,
    ScheduleRun,
)
from services.scheduler.domain.timing import INSTANT, Timing
from services.scheduler.service import pack
from services.scheduler.service.shared import Shared
from services.scheduler.store import calendar as calendars, schedule as store, workflow as workflows
from services.scheduler.store.once import written
from weft.scheduler.v1 import schedule_pb2 as pb, schedule_run_pb2 as runs
from weft.scheduler.v1.events_pb2 import (
    ScheduleCreated,
    ScheduleDeleted,
    SchedulePaused,
    ScheduleResumed,
    ScheduleUpdated,
)
from weft.scheduler.v1.schedule_pb2_grpc import ScheduleServiceServicer
from weft.scheduler.v1.timing_pb2 import Timing as WireTiming

PREVIEWED, STATS_DAYS = 10, 30  # What absence means, as the contract has it.


class Schedules(ScheduleServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateSchedule(
        self, request: pb.CreateScheduleRequest, call: Call
    ) -> pb.CreateScheduleResponse:
        settings, now = request.settings.SerializeToString(deterministic=True), self._shared.clock.now()
        row = Schedule(
            schedule_id=UUID(request.schedule_id),
            paused=request.paused,
            anchor=now,
            last_at=None,
            revision=1,
            created_at=now,
            updated_at=now,
        )
        async with self._shared.db.transaction() as tx:
            await self._settle(tx, row, request.settings)
            if await written(tx, row):
                await emit(tx, ScheduleCreated(schedule_id=request.schedule_id))
            kept = await store.get(tx, row.schedule_id)
        if kept.settings != settings:
            raise ScheduleIdReused(schedule_id=row.schedule_id)
        self._shared.firing.poke()
        return pb.CreateScheduleResponse(schedule=pack.schedule(kept, 0))

    async def _settle(self, tx: Tx, row: Schedule, settings: pb.ScheduleSettings) -> None:
        """Takes the settings over. Raises whatever is wrong with them."""
        reading.check_action(settings)
        timing = await self._timing(tx, settings.timing, row)
        if settings.HasField("workflow"):
            await workflows.get(tx, UUID(settings.workflow.workflow_id))
        row.name, row.settings = settings.name, settings.SerializeToString(deterministic=True)
        row.calendar_id = UUID(settings.timing.calendar_id) if settings.timing.calendar_id else None
        row.workflow_id = UUID(settings.workflow.workflow_id) if settings.HasField("workflow") else None
        row.aim(timing, self._shared.clock.now(), reading.policy(settings).jitter)

    async def _timing(self, tx: Tx, wire: WireTiming, row: Schedule | None = None) -> Timing:
        """Checked."""
        days: Days | None = None
        if wire.calendar_id:
            days = reading.days(await calendars.get(tx, UUID(wire.calendar_id)))
        timing = reading.timing(wire, row.anchor if row else self._shared.clock.now(), days)
        timing.check()
        return timing

    async def GetSchedule(self, request: pb.GetScheduleRequest, call: Call) -> pb.GetScheduleResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.schedule_id))
            return pb.GetScheduleResponse(schedule=await self._packed(tx, row))

    async def _packed(self, tx: Tx, row: Schedule) -> pb.Schedule:
        counts = await store.active_counts(tx, [row.schedule_id])
        return pack.schedule(row, counts[row.schedule_id])

    async def ListSchedules(self, request: pb.ListSchedulesRequest, call: Call) -> pb.ListSchedulesResponse:
        page = store.SCHEDULES.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
            counts = await store.active_counts(tx, [row.schedule_id for row in rows])
        packed = [pack.schedule(row, counts[row.schedule_id]) for row in rows]
        return pb.ListSchedulesResponse(schedules=packed, next_page_token=token)

    async def UpdateSchedule(
        self, request: pb.UpdateScheduleRequest, call: Call
    ) -> pb.UpdateScheduleResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.schedule_id), lock=True)
            check_etag(request.etag, row.revision)
            if row.settings != request.settings.SerializeToString(deterministic=True):
                await self._settle(tx, row, request.settings)
                row.revision, row.updated_at = row.revision + 1, self._shared.clock.now()
                await emit(tx, ScheduleUpdated(schedule_id=request.schedule_id))
            packed = await self._packed(tx, row)
        self._shared.firing.poke()
        return pb.UpdateScheduleResponse(schedule=packed)

    async def DeleteSchedule(
        self, request: pb.DeleteScheduleRequest, call: Call
    ) -> pb.DeleteScheduleResponse:
        async with self._shared.db.transaction() as tx:
            await tx.delete(await store.get(tx, UUID(request.schedule_id), lock=True))
            await emit(tx, ScheduleDeleted(schedule_id=request.schedule_id))
        return pb.DeleteScheduleResponse()

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, call: Call) -> pb.PauseScheduleResponse:
        packed = await self._pause(request.schedule_id, paused=True)
        return pb.PauseScheduleResponse(schedule=packed)

    async def ResumeSchedule(
        self, request: pb.ResumeScheduleRequest, call: Call
    ) -> pb.ResumeScheduleResponse:
        packed = await self._pause(request.schedule_id, paused=False)
        self._shared.firing.poke()
        return pb.ResumeScheduleResponse(schedule=packed)

    async def _pause(self, schedule_id: str, *, paused: bool) -> pb.Schedule:
        now = self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(schedule_id), lock=True)
            if row.paused != paused:
                settings = pb.ScheduleSettings.FromString(row.settings)
                row.paused, row.revision, row.updated_at = paused, row.revision + 1, now
                row.aim(await self._timing(tx, settings.timing, row), now, reading.policy(settings).jitter)
                made = SchedulePaused if paused else ScheduleResumed
                await emit(tx, made(schedule_id=schedule_id))
            return await self._packed(tx, row)

    async def TriggerSchedule(
        self, request: runs.TriggerScheduleRequest, call: Call
    ) -> runs.TriggerScheduleResponse:
        now, run_id = self._shared.clock.now(), UUID(request.run_id)
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.schedule_id), lock=True)
            run = await tx.get(ScheduleRun, run_id)
            if run is None:
                due = Due(now, now, Cause.TRIGGERED)
                run = (await self._shared.firing.fire_one(tx, row, run_id, [due]))[0]
            if (run.schedule_id, run.cause) != (row.schedule_id, Cause.TRIGGERED):
                raise RunIdReused(run_id=run_id)
        return runs.TriggerScheduleResponse(run=pack.run(run))

    async def BackfillSchedule(
        self, request: runs.BackfillScheduleRequest, call: Call
    ) -> runs.BackfillScheduleResponse:
        now = self._shared.clock.now()
        first = request.start_time.ToDatetime(UTC)
        until = min(reading.moment(request, "end_time") or now, now)
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.schedule_id), lock=True)
            settings = pb.ScheduleSettings.FromString(row.settings)
            timing = await self._timing(tx, settings.timing, row)
            found = [at for at in timing.upcoming(first - INSTANT, BACKFILL_MAX + 1) if at < until]
            if len(found) > BACKFILL_MAX:
                problem = f"it has more than {BACKFILL_MAX} runs"
                raise BackfillRefused(problem=problem, field="end_time")
            taken = await store.taken(tx, row.schedule_id, found)
            wanted = [at for at in found if at not in taken]
            if wanted and not request.validate_only:
                dues = [Due(at, now, Cause.BACKFILLED) for at in wanted]
                await self._shared.firing.fire_one(tx, row, None, dues, waiting=not request.parallel)
        return runs.BackfillScheduleResponse(
            nominal_times=[stamp for at in wanted if (stamp := pack.stamp(at))]
        )

    async def PreviewTiming(
        self, request: runs.PreviewTimingRequest, call: Call
    ) -> runs.PreviewTimingResponse:
        async with self._shared.db.transaction() as tx:
            timing = await self._timing(tx, request.timing)
        after = reading.moment(request, "after") or self._shared.clock.now()
        times = list(timing.upcoming(after, request.count or PREVIEWED))
        return runs.PreviewTimingResponse(
            times=[stamp for at in times if (stamp := pack.stamp(at))],
            local_times=[at.astimezone(timing.tz).isoformat() for at in times],
        )

    async def ListScheduleRuns(
        self, request: runs.ListScheduleRunsRequest, call: Call
    ) -> runs.ListScheduleRunsResponse:
        page, schedule_id = store.RUNS.page(request, self._shared.page_key), UUID(request.schedule_id)
        async with self._shared.db.transaction() as tx:
            await store.get(tx, schedule_id)
            rows, token = await store.run_page(tx, schedule_id, page)
        return runs.ListScheduleRunsResponse(runs=map(pack.run, rows), next_page_token=token)

    async def GetScheduleStats(
        self, request: runs.GetScheduleStatsRequest, call: Call
    ) -> runs.GetScheduleStatsResponse:
        since = self._shared.clock.now() - timedelta(days=request.days or STATS_DAYS)
        schedule_id = UUID(request.schedule_id)
        async with self._shared.db.transaction() as tx:
            await store.get(tx, schedule_id)
            counts = await store.run_states(tx, schedule_id, since)
            found = await store.percentiles(tx, schedule_id, since)
        made = runs.GetScheduleStatsResponse(runs=counts)
        for name, values in (("duration", found["took"]), ("lag", found["lag"])):
            for part, seconds in zip(("p50", "p95"), values or (), strict=False):
                _set(getattr(made, f"{name}_{part}"), seconds)
        return made


def _set(span: Duration, seconds: float) -> None:
    span.FromMicroseconds(int(seconds * 1_000_000))
