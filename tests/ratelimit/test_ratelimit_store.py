"""The statements that take: as the rules say, for many keys and many deciders at once, and after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import pytest

from services.chassis.db import Database
from services.ratelimit.domain import gcra
from services.ratelimit.domain.limit import Limit
from services.ratelimit.store import taking, usage
from services.ratelimit.store.taking import Ask, Back
from tests import databases
from tests.ratelimit.deciders import SECOND, limit

MIGRATIONS = databases.ROOT / "services" / "ratelimit" / "migrations"
NOON = round(datetime(2026, 2, 28, 12, tzinfo=UTC).timestamp()) * SECOND
DAY = 86_400 * SECOND
KEYS = ("a", "b", "c")


@pytest.fixture
async def url(postgres: str) -> AsyncIterator[str]:
    async with databases.fresh(postgres, databases.CHASSIS, MIGRATIONS) as url:
        yield url


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    db = Database(url)
    yield db
    await db.close()


async def one(db: Database, of: Limit, calls: int, at: int | None, key: str = "a") -> gcra.Taken:
    return (await taking.take(db, [Ask(of, key, calls)], at))[0]


async def test_a_rate_in_the_database_is_the_rule_whatever_its_clock_does(db: Database) -> None:
    choose, at, tats = Random(19), NOON, dict[str, int]()
    wide, narrow = limit(requests=7, burst=9), limit(requests=3, burst=2)
    for _ in range(80):
        at += choose.choice((0, 1, SECOND // 7, SECOND // 3, SECOND, 5 * SECOND, -2 * SECOND))
        of = choose.choice((wide, narrow))
        asks = [Ask(of, key, choose.randrange(6)) for key in KEYS if choose.random() < 0.7]
        for ask, taken in zip(asks, await taking.take(db, asks, at), strict=True):
            bounds = of.emission_ns, of.tolerance_ns
            granted, tats[ask.key] = gcra.take(tats.get(ask.key), at, ask.calls, *bounds)
            assert taken == gcra.rate(granted, tats[ask.key], at, *bounds)


async def test_a_day_ends_at_midnight_and_a_month_with_its_last(db: Database) -> None:
    daily = limit(unit="DAY", requests=5)
    first = await one(db, daily, 3, NOON)
    assert (first.granted, first.left, first.full_ns) == (3, 2, DAY // 2)
    assert (await one(db, daily, 3, NOON + DAY // 2 - 1)).granted == 2
    late = await one(db, daily, 3, NOON + DAY // 2)
    assert (late.granted, late.full_ns, late.period) == (3, DAY, first.period + 1)
    assert (await one(db, daily, 3, NOON)).granted == 2  # A clock set back begins no day anew.
    monthly = limit(unit="MONTH", requests=5, rate_limit_id=UUID(int=2))
    assert (await one(db, monthly, 9, NOON)).granted == 5
    assert (await one(db, monthly, 9, NOON + DAY // 2 - 1)).wait_ns == 1
    assert (await one(db, monthly, 9, NOON + DAY // 2)).granted == 5


async def test_what_goes_back_counts_no_more_in_its_own_period_only(db: Database) -> None:
    daily = limit(unit="DAY", requests=5)
    taken = await one(db, daily, 5, NOON)
    await taking.give_back(db, [Back(daily, "a", 2, taken.period - 1)])
    assert (await one(db, daily, 1, NOON)).granted == 0
    await taking.give_back(db, [Back(daily, "a", 2, taken.period)])
    assert (await one(db, daily, 5, NOON)).granted == 2


async def test_deciders_that_take_the_same_keys_at_once_take_no_more_than_there_is(db: Database) -> None:
    monthly, hourly = limit(unit="MONTH", requests=50), limit(unit="HOUR", rate_limit_id=UUID(int=2))
    choose = Random(7)

    async def decider() -> list[gcra.Taken]:
        asks = [Ask(of, key, 3) for of in (monthly, hourly) for key in KEYS]
        choose.shuffle(asks)
        return [*await taking.take(db, asks, NOON)]

    found = await asyncio.gather(*(decider() for _ in range(30)))
    assert sum(taken.granted for each in found for taken in each) == 3 * (50 + 10)


async def test_a_quota_outlives_whoever_dies_with_what_it_took(url: str) -> None:
    monthly = limit(unit="MONTH", requests=20)
    for granted in (8, 8, 4, 0):
        dying = Database(url)
        assert (await one(dying, monthly, 8, None)).granted == granted
        connection = dying._free.pop()
        connection.terminate()  # Nothing is given back, nothing is said.
        await dying.close()


async def test_what_says_nothing_any_more_is_swept_away(db: Database) -> None:
    daily, hourly = limit(unit="DAY"), limit(unit="HOUR", rate_limit_id=UUID(int=2))
    for of in (daily, hourly):
        await one(db, of, 1, NOON, "old")
        await one(db, of, 1, None, "new")
    await usage.sweep(db)
    for table in ("rate_bucket", "quota_count"):
        assert [row["key"] for row in await db.fetch(f"select key from {table}")] == ["new"]
