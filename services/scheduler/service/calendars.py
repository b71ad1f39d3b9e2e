"""weft.scheduler.v1.CalendarService."""

from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.scheduler import reading
from services.scheduler.domain.calendar import Calendar, CalendarIdReused, CalendarInUse, days_of
from services.scheduler.service import pack
from services.scheduler.service.shared import Shared
from services.scheduler.store import calendar as store, schedule as schedules
from services.scheduler.store.once import written
from weft.scheduler.v1 import calendar_pb2 as pb
from weft.scheduler.v1.calendar_pb2_grpc import CalendarServiceServicer
from weft.scheduler.v1.events_pb2 import CalendarChanged, CalendarDeleted
from weft.scheduler.v1.schedule_pb2 import ScheduleSettings


class Calendars(CalendarServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateCalendar(
        self, request: pb.CreateCalendarRequest, call: Call
    ) -> pb.CreateCalendarResponse:
        reading.days_of(request.settings).check()
        settings, now = request.settings.SerializeToString(deterministic=True), self._shared.clock.now()
        calendar_id = UUID(request.calendar_id)
        async with self._shared.db.transaction() as tx:
            new = Calendar(
                calendar_id=calendar_id,
                name=request.settings.name,
                settings=settings,
                revision=1,
                created_at=now,
                updated_at=now,
            )
            if await written(tx, new):
                await emit(tx, CalendarChanged(calendar_id=request.calendar_id))
            row = await store.get(tx, calendar_id)
        if row.settings != settings:
            raise CalendarIdReused(calendar_id=calendar_id)
        return pb.CreateCalendarResponse(calendar=pack.calendar(row))

    async def GetCalendar(self, request: pb.GetCalendarRequest, call: Call) -> pb.GetCalendarResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.calendar_id))
        return pb.GetCalendarResponse(calendar=pack.calendar(row))

    async def ListCalendars(self, request: pb.ListCalendarsRequest, call: Call) -> pb.ListCalendarsResponse:
        page = store.CALENDARS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListCalendarsResponse(calendars=map(pack.calendar, rows), next_page_token=token)

    async def UpdateCalendar(
        self, request: pb.UpdateCalendarRequest, call: Call
    ) -> pb.UpdateCalendarResponse:
        reading.days_of(request.settings).check()
        settings = request.settings.SerializeToString(deterministic=True)
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.calendar_id), lock=True)
            check_etag(request.etag, row.revision)
            if row.settings != settings:
                row.name, row.settings = request.settings.name, settings
                row.revision, row.updated_at = row.revision + 1, self._shared.clock.now()
                await self._aim_anew(tx, row)
                await emit(tx, CalendarChanged(calendar_id=request.calendar_id))
        self._shared.firing.poke()
        return pb.UpdateCalendarResponse(calendar=pack.calendar(row))

    async def _aim_anew(self, tx: Tx, calendar: Calendar) -> None:
        """Schedules that use the calendar have other next times now."""
        days = reading.days(calendar)
        for schedule in await schedules.of_calendar(tx, calendar.calendar_id):
            settings = ScheduleSettings.FromString(schedule.settings)
            timing = reading.timing(settings.timing, schedule.anchor, days)
            schedule.aim(timing, self._shared.clock.now(), reading.policy(settings).jitter)

    async def DeleteCalendar(
        self, request: pb.DeleteCalendarRequest, call: Call
    ) -> pb.DeleteCalendarResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.calendar_id), lock=True)
            if users := await store.users(tx, row.calendar_id):
                raise CalendarInUse(calendar_id=row.calendar_id, schedules=users)
            await tx.delete(row)
            await emit(tx, CalendarDeleted(calendar_id=request.calendar_id))
        return pb.DeleteCalendarResponse()

    async def ListClosedDays(
        self, request: pb.ListClosedDaysRequest, call: Call
    ) -> pb.ListClosedDaysResponse:
        first, last = days_of(request.from_date, request.to_date)
        async with self._shared.db.transaction() as tx:
            days = reading.days(await store.get(tx, UUID(request.calendar_id)))
        assert days
        closed = days.closed_between(first, last)
        return pb.ListClosedDaysResponse(
            days=[pb.ClosedDay(date=day.isoformat(), reason=reason) for day, reason in closed]
        )
