"""Firing by many at once: batches, cancelled halves, poisoned rows, clocks that jump."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.chassis.clock import Clock, FakeClock
from services.chassis.db import Database
from services.chassis.steady import SteadyClock
from services.scheduler.domain.schedule import DUE_MAX, Schedule, newest
from services.scheduler.domain.timing import Kind, Timing
from services.scheduler.domain.zoned import zone
from services.scheduler.firing import Firing
from services.scheduler.launching import Launcher
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tidying import Tidying
from tests import databases
from tests.scheduler.world import wanted
from weft.scheduler.v1.schedule_pb2 import ScheduleSettings

OWN = Path(__file__).parent.parent.parent / "services" / "scheduler" / "migrations"
START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = SchedulerSettings(jump_s=1e9)


@pytest.fixture
async def db(postgres: str) -> AsyncIterator[Database]:
    async with databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        database = Database(url)
        await database.open()
        yield database
        await database.close()


async def due(db: Database, count: int, settings: ScheduleSettings) -> list[UUID]:
    """Schedules of the minute that has just begun."""
    ids = [uuid4() for _ in range(count)]
    async with db.transaction() as tx:
        for schedule_id in ids:
            row = Schedule(schedule_id=schedule_id, name="x", settings=settings.SerializeToString())
            row.paused, row.revision, row.anchor = False, 1, START
            row.next_at = row.due_at = row.created_at = row.updated_at = START
            tx.add(row)
    return ids


def firing(db: Database, clock: Clock) -> Firing:
    return Firing(db, clock, SETTINGS, Launcher(db, clock, SETTINGS))


async def until_none(one: Firing) -> None:
    while (await one.round())[0]:
        pass


async def test_many_who_fire_at_once_fire_each_run_once(db: Database) -> None:
    await due(db, 450, wanted(timing={"cron": "* * * * *"}))
    clock = FakeClock(START)
    cancelled = [asyncio.create_task(firing(db, clock).round()) for _ in range(2)]
    await asyncio.sleep(0.05)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await asyncio.gather(*(until_none(firing(db, clock)) for _ in range(3)))
    runs = await db.fetch("select schedule_id, nominal_at, job_id, state from schedule_run")
    assert len({(run["schedule_id"], run["nominal_at"]) for run in runs}) == len(runs) == 450
    events = await db.fetch("select key from event where type = 'weft.queue.v1.JobRequested'")
    assert sorted(row["key"] for row in events) == sorted(str(run["job_id"]) for run in runs)


async def test_a_schedule_that_cannot_be_reckoned_holds_up_no_other(db: Database) -> None:
    broken = wanted(timing={"cron": "* * * * *"})
    broken.timing.time_zone = "Mars/Olympus"
    await due(db, 1, broken)
    (good,) = await due(db, 1, wanted(timing={"cron": "* * * * *"}))
    await until_none(firing(db, FakeClock(START)))
    assert [row["schedule_id"] for row in await db.fetch("select schedule_id from schedule_run")] == [good]


async def test_a_clock_that_went_back_fires_nothing_again(db: Database) -> None:
    await due(db, 3, wanted(timing={"cron": "* * * * *"}))
    await until_none(firing(db, FakeClock(START + timedelta(minutes=2))))
    fired = await db.fetchval("select count(*) from schedule_run")
    await db.execute("update schedule set next_at = $1, due_at = $1", START + timedelta(minutes=1))
    await until_none(firing(db, FakeClock(START + timedelta(minutes=2))))
    assert fired == await db.fetchval("select count(*) from schedule_run") == 9


async def test_what_ended_long_ago_is_forgotten_and_nothing_else(db: Database) -> None:
    await due(db, 1, wanted(timing={"cron": "* * * * *"}))
    clock = FakeClock(START + timedelta(minutes=2))
    await until_none(firing(db, clock))
    await db.execute("update schedule_run set ended_at = $1 where nominal_at = $1", START)
    tidying = Tidying(db, clock, days=1)
    await tidying.round()
    assert await db.fetchval("select count(*) from schedule_run") == 3
    clock.advance(90_000)
    await tidying.round()
    assert await db.fetchval("select min(nominal_at) from schedule_run") == START + timedelta(minutes=1)


def test_of_a_long_outage_the_newest_times_are_found_without_counting_all() -> None:
    timing = Timing(kind=Kind.CRON, text="* * * * * *", anchor=START, tz=zone("UTC"))
    now = START + timedelta(days=365)
    found = newest(timing, START, now, DUE_MAX)
    assert (len(found), found[-1], found[0]) == (DUE_MAX, now, now - timedelta(seconds=DUE_MAX - 1))
    assert newest(timing, now, now, DUE_MAX) == [now]


class Jumping(FakeClock):
    """A machine's clock that somebody sets."""

    jump = timedelta()

    def now(self) -> datetime:
        return super().now() + self.jump


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_jump_of_the_clock_is_believed_when_it_has_lasted(hours: int) -> None:
    clock = Jumping(START)
    steady = SteadyClock(clock, jump_s=5, hold_s=60)
    clock.advance(10)
    clock.jump = timedelta(hours=hours)
    assert steady.now() == START + timedelta(seconds=10)
    clock.advance(59)
    assert steady.now() == START + timedelta(seconds=69)
    clock.advance(1)
    assert steady.now() == clock.now()


def test_a_jump_that_is_taken_back_never_was() -> None:
    clock = Jumping(START)
    steady = SteadyClock(clock, jump_s=5, hold_s=60)
    clock.jump = timedelta(days=400)
    assert steady.now() == START
    clock.advance(30)
    clock.jump = timedelta(seconds=2)
    assert steady.now() == clock.now(), "a little drift is no jump"
    clock.advance(100)
    clock.jump = timedelta(days=400)
    assert steady.now() == START + timedelta(seconds=132)
