"""Firing of schedules: many due at once, and how late one is fired that is due alone.

On the benchmarks' PostgreSQL, which writes through to disk; one replica in this process. A fired run is its
row, the row that awaits its job, and the event that asks the queue for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from statistics import median, quantiles
from time import perf_counter
from uuid import uuid4

import asyncpg
import uvloop

from bench import mesh
from bench.machine import Meter
from bench.mesh import ROOT, Mesh
from bench.report import Report
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.scheduler.domain.schedule import Schedule
from services.scheduler.firing import Firing
from services.scheduler.launching import Launcher
from services.scheduler.settings import SchedulerSettings
from weft.scheduler.v1.schedule_pb2 import ScheduleSettings
from weft.scheduler.v1.timing_pb2 import JobTemplate, Timing

DATABASE = "bench_schedules"
AT_ONCE = 10_000  # What the figure is quoted for.
LAID = 1_000  # Schedules made in one transaction.
APART = 20  # Schedules by the second, each with its own offset, whose delay is measured.
LAG = """
select extract(epoch from started_at - due_at)::float8 * 1000 as ms from schedule_run order by due_at
"""


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up()
    samples = [uvloop.run(_sample(found, seconds)) for _ in range(repeats)]
    report = Report("Schedules (`bench schedules`)")
    report.say(f"{AT_ONCE:,} schedules due at once, cron in a time zone, fired by one replica in batches.")
    columns = ["", "runs/s", "process us", "PostgreSQL us", "longest batch ms"]
    report.table(columns, [("due at once", *_middle(samples, "burst"))])
    report.say(f"From when a run is due to when it is fired, {APART} runs a second, in ms:")
    report.table(["", "p50", "p95", "p99"], [("due alone", *_middle(samples, "lag"))])
    report.disturbance([one["strangers"][0] for one in samples])
    return report


def _middle(samples: Sequence[dict[str, Sequence[float]]], name: str) -> list[float]:
    return [median(column) for column in zip(*(one[name] for one in samples), strict=True)]


async def _sample(found: Mesh, seconds: float) -> dict[str, Sequence[float]]:
    async with _database(found) as db:
        await _lay(db, AT_ONCE, Timing(cron="0 3 * * *", time_zone="Europe/Berlin"), timedelta())
        with Meter({"postgres": found.pids["postgres"]}) as meter:
            began = perf_counter()
            longest = await _fire_all(_firing(db))
            took = perf_counter() - began
        each = 1_000_000 / AT_ONCE
        burst = (AT_ONCE / took, meter.load * each, meter.seconds["postgres"] * each, longest * 1000)
        await db.execute("truncate schedule cascade")
        lag = await _lag(db, seconds)
    return {"burst": burst, "lag": lag, "strangers": [meter.strangers]}


@asynccontextmanager
async def _database(found: Mesh) -> AsyncIterator[Database]:
    """An empty one with the scheduler's tables."""
    admin = await asyncpg.connect(found.database("postgres", superuser=True))
    await admin.execute(f"drop database if exists {DATABASE} with (force)")
    await admin.execute(f"create database {DATABASE}")
    db = Database(found.database(DATABASE, superuser=True))
    try:
        await db.open()
        services = ROOT / "services"
        await db.migrate(services / "chassis" / "migrations", services / "scheduler" / "migrations")
        yield db
    finally:
        await db.close()
        await admin.execute(f"drop database {DATABASE} with (force)")
        await admin.close()


def _firing(db: Database) -> Firing:
    settings, clock = SchedulerSettings(), Clock()
    return Firing(db, clock, settings, Launcher(db, clock, settings))


async def _lay(db: Database, count: int, timing: Timing, apart: timedelta) -> None:
    """Schedules that are due now, or each `apart` from the one before."""
    settings = ScheduleSettings(name="bench", timing=timing, job=JobTemplate(type="bench.run"))
    now = Clock().now()
    for first in range(0, count, LAID):
        async with db.transaction() as tx:
            for n in range(first, min(first + LAID, count)):
                tx.add(_row(settings.SerializeToString(), now + n * apart))


def _row(settings: bytes, due: datetime) -> Schedule:
    return Schedule(
        schedule_id=uuid4(),
        name="bench",
        settings=settings,
        paused=False,
        anchor=due,
        next_at=due,
        due_at=due,
        revision=1,
        created_at=due,
        updated_at=due,
    )


async def _fire_all(firing: Firing) -> float:
    """Until nothing is due. Returns the longest batch in seconds."""
    longest, fired = 0.0, 1
    while fired:
        began = perf_counter()
        fired, _ = await firing.round()
        longest = max(longest, perf_counter() - began)
    return longest


async def _lag(db: Database, seconds: float) -> Sequence[float]:
    """p50, p95 and p99."""
    every = Timing()
    every.every.FromSeconds(1)
    await _lay(db, APART, every, timedelta(seconds=1) / APART)
    task = asyncio.create_task(_firing(db).run())
    await asyncio.sleep(seconds + 1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    cuts = quantiles([row["ms"] for row in (await db.fetch(LAG))[APART:]], n=100)
    return cuts[49], cuts[94], cuts[98]
