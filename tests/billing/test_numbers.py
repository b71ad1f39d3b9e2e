"""Invoice numbers: none is missing and none comes twice, whoever races, fails or is killed."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from services.billing.store import series
from services.chassis.db import Database
from tests import databases

OWN = Path(__file__).parent.parent.parent / "services" / "billing" / "migrations"
START = datetime(2026, 1, 1, tzinfo=UTC)
CALLERS = 64
TAKEN = "create table taken (number bigint primary key, at timestamptz not null)"


class Failed(Exception):
    """Somebody changed their mind after the number was taken."""


@pytest.fixture
async def db(postgres: str) -> AsyncIterator[Database]:
    async with databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        database = Database(url, pool_max=32)
        await database.open()
        await database.execute(TAKEN)
        yield database
        await database.close()


async def number(db: Database, dice: random.Random) -> None:
    """Takes a number in a transaction that ends well, fails, or is killed by the server."""
    fate, shift = dice.random(), timedelta(seconds=dice.randrange(-60, 60))
    async with db.fast() as tx:
        first, at = await series.take(tx, "INV", 1, START + shift)
        await tx.execute("insert into taken values ($1, $2)", first, at)
        if fate < 0.3:
            raise Failed
        if fate < 0.5:
            await asyncio.sleep(0)
            await tx.execute("select pg_terminate_backend(pg_backend_pid())")


async def test_numbers_have_no_gap_and_rise_with_time_under_rollbacks_and_kills(db: Database) -> None:
    dice = random.Random(20260131)
    rounds = [number(db, dice) for _ in range(4 * CALLERS)]
    results = await asyncio.gather(*rounds, return_exceptions=True)
    failed = [each for each in results if each is not None]
    assert CALLERS < len(failed) < 3 * CALLERS, "some fail, and some do not"
    rows = await db.fetch("select number, at from taken order by number")
    assert [row["number"] for row in rows] == list(range(1, 4 * CALLERS - len(failed) + 1))
    times = [row["at"] for row in rows]
    assert times == sorted(times), "whatever the clocks of those who took them said"


async def test_a_number_that_was_rolled_back_is_given_again(db: Database) -> None:
    async with db.fast() as tx:
        assert (await series.take(tx, "INV", 3, START))[0] == 1
    with pytest.raises(Failed):
        await fails(db)
    async with db.fast() as tx:
        assert (await series.take(tx, "INV", 1, START))[0] == 4
        assert (await series.take(tx, "OTHER", 1, START))[0] == 1, "each series counts by itself"


async def fails(db: Database) -> None:
    async with db.fast() as tx:
        await series.take(tx, "INV", 5, START)
        raise Failed


async def test_no_two_invoices_have_a_number(db: Database) -> None:
    sql = """insert into invoice (invoice_id, customer_id, kind, state, series, number, number_text, currency,
        country, net, discount, tax, gross, credit_applied, amount_paid, credited, credited_due, memo,
        collection, net_days, created_at, issued_at) values (gen_random_uuid(), $1, 'ONE_OFF', 'OPEN', 'INV',
        7, 'INV-000007', 'EUR', 'DE', 0, 0, 0, 0, 0, 0, 0, 0, '', 'SENT', 0, now(), now())"""
    customer_id = await db.fetchval("""insert into billing_profile values (gen_random_uuid(), 'DE', 'UTC',
        null, 'SENT', 0, 'INV', null, false, 'GOOD', 1, now(), now()) returning customer_id""")
    await db.execute(sql, customer_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute(sql, customer_id)
