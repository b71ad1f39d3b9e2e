"""Schedules through gRPC: made, timed, fired once, paused, caught up, kept from overlapping."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest

from services.chassis.clock import FakeClock
from services.chassis.testing import broken_fields, reason, until
from tests.scheduler.world import CANCELLED, FAILED, World, wanted, world
from tests.servers import Shared
from weft.scheduler.v1 import calendar_pb2, schedule_pb2 as pb, schedule_run_pb2 as runs
from weft.scheduler.v1.calendar_pb2_grpc import CalendarServiceStub
from weft.scheduler.v1.timing_pb2 import Timing

DAY = timedelta(days=1)
HOURLY = {"cron": "0 * * * *"}


@pytest.fixture(scope="module")
async def frozen(servers: Shared) -> AsyncIterator[World]:
    async with world(servers, FakeClock(datetime(2026, 1, 1, tzinfo=UTC))) as made:
        yield made


@pytest.fixture
async def here(frozen: World) -> AsyncIterator[World]:
    """At the midnight that follows the test before."""
    now, clock = frozen.lab.clock.now(), frozen.lab.clock
    assert isinstance(clock, FakeClock)
    clock.advance((now.replace(hour=0, minute=0, second=0, microsecond=0) + DAY - now).total_seconds())
    frozen.start_of_day = clock.now()
    yield frozen
    await frozen.clear()


@pytest.fixture
def clock(here: World) -> FakeClock:
    assert isinstance(here.lab.clock, FakeClock)
    return here.lab.clock


@pytest.fixture
def start(here: World) -> datetime:
    return here.start_of_day


async def test_a_run_is_fired_at_its_time_and_its_job_says_whose_it_is(
    here: World, clock: FakeClock, start: datetime
) -> None:
    made = await here.create(timing=HOURLY, job={"type": "report.make", "labels": {"a": "b"}})
    assert made.next_time.ToDatetime(UTC) == start + timedelta(hours=1)
    clock.advance(3_599)
    assert await here.states(made.schedule_id) == []
    clock.advance(1)
    await here.has(made.schedule_id, "STARTED")
    (run,) = await here.history(made.schedule_id)
    spec = await here.job(run)
    assert (spec.type, spec.announce, spec.labels["a"]) == ("report.make", True, "b")
    assert spec.labels["schedule.run"] == run.run_id
    await here.queue.end(run.job_id, times=2)
    await here.has(made.schedule_id, "SUCCEEDED")
    found = await here.schedules.GetSchedule(
        pb.GetScheduleRequest(schedule_id=made.schedule_id), metadata=here.me
    )
    assert found.schedule.active_runs == 0
    assert found.schedule.next_time.ToDatetime(UTC) == start + timedelta(hours=2)


async def test_a_job_that_failed_is_told_by_its_run_and_by_the_figures(here: World, clock: FakeClock) -> None:
    made = await here.create(timing=HOURLY)
    clock.advance(3_600)
    await here.has(made.schedule_id, "STARTED")
    (run,) = await here.history(made.schedule_id)
    clock.advance(90)
    await here.job(run)
    await here.queue.end(run.job_id, FAILED)
    await here.has(made.schedule_id, "FAILED")
    stats = await here.schedules.GetScheduleStats(
        runs.GetScheduleStatsRequest(schedule_id=made.schedule_id), metadata=here.me
    )
    assert dict(stats.runs) == {"FAILED": 1}
    assert not stats.HasField("duration_p50")
    assert stats.lag_p50.ToTimedelta() < timedelta(seconds=2)


@pytest.mark.parametrize(
    ("policy", "wanted_states"),
    [
        ("CATCH_UP_POLICY_SKIP", ["MISSED"] * 4),
        ("CATCH_UP_POLICY_ONE", ["MISSED"] * 3 + ["STARTED"]),
        ("CATCH_UP_POLICY_ALL", ["MISSED"] * 2 + ["STARTED"] * 2),
    ],
)
async def test_missed_runs_are_made_up_for_as_declared(
    here: World, clock: FakeClock, policy: str, wanted_states: list[str]
) -> None:
    made = await here.create(timing=HOURLY, catch_up=policy, catch_up_max=2)
    clock.advance(4 * 3_600 + 1_800)  # At once: nobody looked meanwhile.
    await here.has(made.schedule_id, *wanted_states)


async def test_a_paused_schedule_rests_and_its_pause_is_not_made_up_for(
    here: World, clock: FakeClock, start: datetime
) -> None:
    made = await here.create(timing=HOURLY, catch_up="CATCH_UP_POLICY_ALL", paused=True)
    clock.advance(7_200)
    answer = await here.schedules.ResumeSchedule(
        pb.ResumeScheduleRequest(schedule_id=made.schedule_id), metadata=here.me
    )
    assert answer.schedule.next_time.ToDatetime(UTC) == start + timedelta(hours=3)
    clock.advance(3_600)
    await here.has(made.schedule_id, "STARTED")
    await here.schedules.PauseSchedule(
        pb.PauseScheduleRequest(schedule_id=made.schedule_id), metadata=here.me
    )
    clock.advance(7_200)
    assert await here.states(made.schedule_id) == ["STARTED"]


async def test_a_run_is_skipped_while_another_has_not_ended(here: World, clock: FakeClock) -> None:
    made = await here.create(overlap="OVERLAP_POLICY_SKIP")
    first = await here.trigger(made.schedule_id)
    clock.advance(1)
    await here.trigger(made.schedule_id)
    await here.has(made.schedule_id, "STARTED", "SKIPPED")
    await here.job(first)
    await here.queue.end(first.job_id)
    await here.has(made.schedule_id, "SUCCEEDED", "SKIPPED")
    await here.trigger(made.schedule_id)
    await here.has(made.schedule_id, "SUCCEEDED", "SKIPPED", "STARTED")


async def test_runs_wait_for_each_other_as_many_as_may(here: World, clock: FakeClock) -> None:
    made = await here.create(overlap="OVERLAP_POLICY_QUEUE", queue_max=1)
    first = await here.trigger(made.schedule_id)
    for _ in range(2):
        clock.advance(1)
        await here.trigger(made.schedule_id)
    await here.has(made.schedule_id, "STARTED", "WAITING", "SKIPPED")
    await here.job(first)
    await here.queue.end(first.job_id, FAILED)
    await here.has(made.schedule_id, "FAILED", "STARTED", "SKIPPED")


async def test_a_run_cancels_the_one_before(here: World, clock: FakeClock) -> None:
    made = await here.create(overlap="OVERLAP_POLICY_CANCEL_OTHER")
    first = await here.trigger(made.schedule_id)
    await here.job(first)
    clock.advance(1)
    second = await here.trigger(made.schedule_id)

    async def called_off() -> bool:
        clock.advance(0.5)
        return first.job_id in here.queue.cancelled

    await until(called_off)
    assert second.job_id not in here.queue.cancelled
    await here.queue.end(first.job_id, CANCELLED)
    await here.has(made.schedule_id, "CANCELLED", "STARTED")


async def test_a_past_range_is_filled_in_order_and_once(here: World, start: datetime) -> None:
    made = await here.create(timing=HOURLY)
    request = runs.BackfillScheduleRequest(schedule_id=made.schedule_id)
    request.start_time.FromDatetime(start - timedelta(hours=3))
    request.end_time.FromDatetime(start)
    for count in (3, 0):
        answer = await here.schedules.BackfillSchedule(request, metadata=here.me)
        assert len(answer.nominal_times) == count
    await here.has(made.schedule_id, "STARTED", "WAITING", "WAITING")
    for n in range(3):
        run = (await here.history(made.schedule_id))[n]
        await here.job(run)
        await here.queue.end(run.job_id)
        await here.has(made.schedule_id, *["SUCCEEDED"] * (n + 1), *["STARTED", "WAITING"][: 2 - n])
    request.start_time.FromDatetime(start - timedelta(days=90))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.schedules.BackfillSchedule(request, metadata=here.me)
    assert reason(refused.value) == "BACKFILL_REFUSED"


async def test_a_job_that_nobody_announced_is_asked_for_and_a_lost_one_has_failed(
    here: World, clock: FakeClock
) -> None:
    made = await here.create()
    quiet, lost = await here.trigger(made.schedule_id), await here.trigger(made.schedule_id)
    await here.job(quiet)
    await here.queue.end(quiet.job_id, silent=True)
    here.queue.deaf.add(lost.job_id)

    async def settled() -> bool:
        clock.advance(30)
        return sorted(await here.states(made.schedule_id)) == ["FAILED", "SUCCEEDED"]

    await until(settled)


async def test_making_a_schedule_twice_makes_one(here: World) -> None:
    request = pb.CreateScheduleRequest(schedule_id=str(uuid4()), settings=wanted())
    first = await here.schedules.CreateSchedule(request, metadata=here.me)
    again = await here.schedules.CreateSchedule(request, metadata=here.me)
    assert again.schedule == first.schedule
    request.settings.name = "another"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.schedules.CreateSchedule(request, metadata=here.me)
    assert reason(refused.value) == "SCHEDULE_ID_REUSED"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"timing": {"cron": "61 * * * *"}}, "BAD_CRON"),
        ({"timing": {"recurrence": "DTstart:20260101\nRRULE:FREQ=NEVER"}}, "BAD_RECURRENCE"),
        ({"timing": {"cron": "@daily", "time_zone": "Mars/Olympus"}}, "UNKNOWN_TIME_ZONE"),
        ({"timing": {"cron": "@daily", "calendar_id": str(uuid4())}}, "UNKNOWN_CALENDAR"),
        ({"workflow": {"workflow_id": str(uuid4())}}, "UNKNOWN_WORKFLOW"),
        ({"job": {"type": "x", "payload": {"data": "QUFB" * 15_000}}}, "ACTION_REFUSED"),
        ({"timing": {}}, "VALIDATION_FAILED"),
    ],
)
async def test_settings_that_cannot_work_are_refused(
    here: World, settings: dict[str, object], why: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.create(**settings)
    assert reason(refused.value) == why or broken_fields(refused.value)


async def test_updating_reckons_anew_and_knows_who_was_first(here: World, start: datetime) -> None:
    made = await here.create(timing=HOURLY)
    request = pb.UpdateScheduleRequest(
        schedule_id=made.schedule_id, settings=wanted(timing={"every": "90s"}), etag=made.etag
    )
    answer = await here.schedules.UpdateSchedule(request, metadata=here.me)
    assert answer.schedule.next_time.ToDatetime(UTC) == start + timedelta(seconds=90)
    request.settings.name = "again"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.schedules.UpdateSchedule(request, metadata=here.me)
    assert reason(refused.value) == "ETAG_MISMATCH"


async def test_closing_a_day_moves_the_schedules_that_ask_the_calendar(here: World, start: datetime) -> None:
    stub, calendar_id = CalendarServiceStub(here.lab.channel), str(uuid4())
    settings = calendar_pb2.CalendarSettings(name="office")
    settings.closed_days.add(date=f"{start:%Y-%m-%d}", reason="stocktaking")
    request = calendar_pb2.CreateCalendarRequest(calendar_id=calendar_id, settings=settings)
    await stub.CreateCalendar(request, metadata=here.me)
    timing = {
        "cron": "0 9 * * *",
        "calendar_id": calendar_id,
        "on_closed_day": "CLOSED_DAY_POLICY_NEXT",
    }
    made = await here.create(timing=timing)
    assert made.next_time.ToDatetime(UTC) == start + DAY + timedelta(hours=9)
    update = calendar_pb2.UpdateCalendarRequest(calendar_id=calendar_id, settings=settings)
    update.settings.closed_days.add(date=f"{start + DAY:%Y-%m-%d}", reason="bridge")
    await stub.UpdateCalendar(update, metadata=here.me)
    found = await here.schedules.GetSchedule(
        pb.GetScheduleRequest(schedule_id=made.schedule_id), metadata=here.me
    )
    assert found.schedule.next_time.ToDatetime(UTC) == start + 2 * DAY + timedelta(hours=9)
    days = calendar_pb2.ListClosedDaysRequest(
        calendar_id=calendar_id, from_date=f"{start:%Y-%m-%d}", to_date=f"{start + 3 * DAY:%Y-%m-%d}"
    )
    answer = await stub.ListClosedDays(days, metadata=here.me)
    assert [day.reason for day in answer.days] == ["stocktaking", "bridge"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.DeleteCalendar(
            calendar_pb2.DeleteCalendarRequest(calendar_id=calendar_id), metadata=here.me
        )
    assert reason(refused.value) == "CALENDAR_IN_USE"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"country": "XX"}, "settings.country"),
        ({"country": "DE", "subdivision": "ZZ"}, "settings.subdivision"),
        ({"subdivision": "BY"}, "settings.subdivision"),
        ({"open_days": ["2026-02-30"]}, "settings.open_days"),
    ],
)
async def test_calendars_that_say_nothing_are_refused(
    here: World, settings: dict[str, object], field: str
) -> None:
    made = calendar_pb2.CalendarSettings(name="office", **settings)  # type: ignore[arg-type]
    request = calendar_pb2.CreateCalendarRequest(calendar_id=str(uuid4()), settings=made)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await CalendarServiceStub(here.lab.channel).CreateCalendar(request, metadata=here.me)
    assert (reason(refused.value), list(broken_fields(refused.value))) == ("CALENDAR_REFUSED", [field])


async def test_sixty_four_who_trigger_at_once_start_one(here: World) -> None:
    made = await here.create(overlap="OVERLAP_POLICY_SKIP")
    found = await asyncio.gather(*(here.trigger(made.schedule_id) for _ in range(64)))
    assert Counter(run.state for run in found) == {runs.RUN_STATE_STARTED: 1, runs.RUN_STATE_SKIPPED: 63}


async def test_a_timing_is_shown_as_clocks_will_show_it(here: World) -> None:
    request = runs.PreviewTimingRequest(timing=Timing(cron="30 2 * * *", time_zone="Europe/Berlin"), count=2)
    request.after.FromDatetime(datetime(2026, 3, 28, 12, tzinfo=UTC))
    answer = await here.schedules.PreviewTiming(request, metadata=here.me)
    assert list(answer.local_times) == ["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]


async def test_lists_are_filtered_and_deleting_takes_the_history_along(here: World) -> None:
    kept, gone = await here.create(name="kept"), await here.create(name="gone")
    await here.trigger(gone.schedule_id)
    await here.schedules.DeleteSchedule(
        pb.DeleteScheduleRequest(schedule_id=gone.schedule_id), metadata=here.me
    )
    found = await here.schedules.ListSchedules(
        pb.ListSchedulesRequest(filter='name:"e*" OR name:"k*"', order_by="next_time"), metadata=here.me
    )
    assert [each.schedule_id for each in found.schedules] == [kept.schedule_id]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.history(gone.schedule_id)
    assert reason(refused.value) == "UNKNOWN_SCHEDULE"
