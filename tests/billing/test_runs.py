"""Billing runs: every period once, by whoever runs, however often they are killed or fail."""

import asyncio
import csv
import gzip
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import grpc.aio
import pytest

from services.billing.domain.totals import tax_on
from services.chassis.clock import FakeClock
from services.chassis.db import Database
from services.chassis.testing import reason
from tests.billing.rows import START, biller, billing_rows, customers, judge, plan, subscribe, until_none
from tests.billing.world import World, flat, stamp
from tests.data import shared
from weft.billing.v1 import billing_run_pb2 as pb

SUBSCRIBERS, OF_CI = 7_043, 700  # All of them, and a tenth.


@pytest.fixture
async def rows(postgres: str) -> AsyncIterator[Database]:
    async with billing_rows(postgres) as db:
        yield db


async def test_billers_that_race_and_are_cancelled_bill_each_once(rows: Database) -> None:
    plan_id = await plan(rows, Decimal(10))
    people = await customers(rows, 1_200)
    await subscribe(rows, [(each, plan_id) for each in people])
    cancelled = [asyncio.create_task(biller(rows).batch(START)) for _ in range(3)]
    await asyncio.sleep(0.05)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await asyncio.gather(*(until_none(biller(rows)) for _ in range(3)))
    await judge(rows, 1_200)


async def test_a_batch_whose_connection_is_killed_leaves_nothing_and_is_done_again(rows: Database) -> None:
    plan_id = await plan(rows, Decimal(10))
    await subscribe(rows, [(each, plan_id) for each in await customers(rows, 300)])
    killing = """select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'"""
    for _ in range(4):
        batch = asyncio.create_task(biller(rows).batch(START))
        while not batch.done() and not await rows.fetchval(killing):
            continue
        await asyncio.gather(batch, return_exceptions=True)
    await until_none(biller(rows))
    await judge(rows, 300)


async def test_one_that_cannot_be_taxed_holds_up_no_other_and_is_tried_again(rows: Database) -> None:
    plan_id = await plan(rows, Decimal(10))
    good, bad = await customers(rows, 3), await customers(rows, 1, country="FR")
    await rows.execute("delete from tax_rate where country = 'FR'")
    await subscribe(rows, [(each, plan_id) for each in (*good, *bad)])
    assert await until_none(biller(rows)) == 3
    problem = await rows.fetchrow("select problem, state, retry_at from subscription where problem <> ''")
    assert (problem["problem"], problem["state"]) == ("NO_TAX_RATE", "SCHEDULED")
    await rows.execute(
        "insert into tax_rate select gen_random_uuid(), 'FR', region, kind, percent, valid_from,"
        " valid_to, 1, now(), now() from tax_rate where country = 'DE'"
    )
    later = FakeClock(problem["retry_at"])
    assert len((await biller(rows, later).batch(START)).invoices) == 1
    await judge(rows, 4)


async def test_who_waits_for_vies_is_billed_when_it_answers_or_has_not_for_three_days(rows: Database) -> None:
    plan_id = await plan(rows, Decimal(10))
    sure, unsure = await customers(rows, 2, country="FR")
    number = """insert into billing_party values ($1, 'SARL', '{}', '75001', 'Paris', '', '', 'fr', $2)"""
    await rows.execute(number, sure, "FR40303265045")
    await rows.execute(number, unsure, "FR83404833048")
    await subscribe(rows, [(sure, plan_id), (unsure, plan_id)])
    hold = timedelta(days=3)
    assert await until_none(biller(rows, hold=hold)) == 0
    assert await rows.fetchval("select min(problem) from subscription") == "TAX_UNCONFIRMED"
    await rows.execute(
        """insert into vat_check values (gen_random_uuid(), $1, 'FR40303265045', '', 'FR', 'VALID',
        '', '', '', '', 1, $2, $2, null)""",
        sure,
        START,
    )
    await biller(rows, FakeClock(START + timedelta(hours=2)), hold).batch(START)
    await biller(rows, FakeClock(START + hold), hold).batch(START)
    taxes = await rows.fetch(
        "select customer_id, tax_code, tax_rate from invoice join invoice_tax using (invoice_id)"
    )
    assert {(row["customer_id"], row["tax_code"], row["tax_rate"]) for row in taxes} == {
        (sure, "AE", Decimal(0)),
        (unsure, "S", Decimal(20)),
    }


async def test_a_run_counts_what_it_did_and_begins_by_itself(own_world: World) -> None:
    plan_id = await own_world.plan(flat("10"))
    soon = stamp(own_world.clock.now() + timedelta(hours=1))
    people = [await own_world.customer() for _ in range(3)]
    for customer_id in people:
        await own_world.subscribe(customer_id, plan_id, start_time=soon)
    await own_world.pass_time(hours=1)
    for customer_id in people:
        await own_world.billed(customer_id, 1)

    async def finished() -> pb.BillingRun | None:
        answer = await own_world.runs.ListBillingRuns(pb.ListBillingRunsRequest(), metadata=own_world.staff)
        return next((run for run in answer.runs if run.state == pb.BILLING_RUN_STATE_FINISHED), None)

    run = await own_world.settles(finished)
    assert (run.invoices, run.subscriptions, run.failures) == (3, 3, 0)
    assert await own_world.told("BillingRunFinished", run.run_id) == 1


async def test_a_run_that_is_asked_for_twice_is_one(own_world: World) -> None:
    request = pb.StartBillingRunRequest(run_id=str(uuid4()), as_of_time=stamp(own_world.clock.now()))
    start, staff = own_world.runs.StartBillingRun, own_world.staff
    first = (await start(request, metadata=staff)).run
    assert (await start(request, metadata=staff)).run.start_time == first.start_time
    request.as_of_time.CopyFrom(stamp(own_world.clock.now() - timedelta(days=1)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await start(request, metadata=staff)
    assert reason(refused.value) == "RUN_ID_REUSED"
    request.run_id = str(uuid4())
    request.as_of_time.CopyFrom(stamp(own_world.clock.now() + timedelta(days=1)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await start(request, metadata=staff)
    assert reason(refused.value) == "RUN_REFUSED"


def subscribers() -> list[Decimal]:
    """What each pays in a month."""
    packed = (shared("05_telco_churn") / "Telco-Customer-Churn.csv.gz").read_bytes()
    text = gzip.decompress(packed).decode("utf-8-sig")
    return [Decimal(row["MonthlyCharges"]) for row in csv.DictReader(io.StringIO(text))]


async def month(db: Database, prices: list[Decimal]) -> None:
    """Each subscriber of the telco as a customer with a plan of its price: one month is billed."""
    plans = {price: await plan(db, price) for price in sorted(set(prices))}
    people = await customers(db, len(prices))
    await subscribe(db, [(each, plans[price]) for each, price in zip(people, prices, strict=True)])
    assert await until_none(biller(db)) == len(prices)
    await judge(db, len(prices))
    sums = await db.fetchrow("select sum(net) as net, sum(tax) as tax from invoice")
    minor = [int(price * 100) for price in prices]
    assert sums["net"] == sum(minor)
    assert sums["tax"] == sum(tax_on(each, Decimal(19)) for each in minor)
    assert await until_none(biller(db)) == 0, "a month is billed once"


async def test_a_month_of_a_telco_is_one_invoice_each(rows: Database) -> None:
    await month(rows, subscribers()[:OF_CI])


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_month_of_the_whole_telco_is_one_invoice_each(rows: Database) -> None:
    prices = subscribers()
    assert len(prices) == SUBSCRIBERS
    await month(rows, prices)
