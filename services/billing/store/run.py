"""Billing runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.billing.domain.run import BillingRun, RunState, UnknownRun
from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

RUNS = Listing(
    {
        "start_time": Field(BillingRun.started_at),
        "run_id": Field(BillingRun.run_id, order=False),
        "state": Field(BillingRun.state, order=False, values={each.value: each.value for each in RunState}),
    },
    "start_time desc",
    "run_id",
)
UNFINISHED = "select run_id, as_of from billing_run where state = 'RUNNING' order by started_at limit 1"
ANY_DUE = """
select exists (
    select from subscription where next_bill_at <= $1 and (retry_at is null or retry_at <= $1)
) or exists (
    select from subscription where held_at <= $1 and (retry_at is null or retry_at <= $1)
) as due
"""
COUNT = """
update billing_run set invoices = invoices + $2, subscriptions = subscriptions + $3, failures = failures + $4
where run_id = $1
"""
FINISH = """
update billing_run set state = 'FINISHED', finished_at = $2 where run_id = $1 and state = 'RUNNING'
returning invoices, failures
"""
BEGIN = """
insert into billing_run (run_id, as_of, state, invoices, subscriptions, failures, started_at)
values ($1, $2, 'RUNNING', 0, 0, 0, $3) on conflict do nothing returning run_id
"""


async def begin(tx: AnyTx, run_id: UUID, as_of: datetime, now: datetime) -> bool:
    """False when its id is taken."""
    return bool(await fetch(tx, BEGIN, run_id, as_of, now))


async def count(tx: AnyTx, run_id: UUID, invoices: int, subscriptions: int, failures: int) -> None:
    await execute(tx, COUNT, run_id, invoices, subscriptions, failures)


async def finish(tx: AnyTx, run_id: UUID, now: datetime) -> Any:
    """What it did; None when it was finished before."""
    rows = await fetch(tx, FINISH, run_id, now)
    return rows[0] if rows else None


async def get(tx: Tx, run_id: UUID) -> BillingRun:
    """Raises UnknownRun."""
    row = await tx.get(BillingRun, run_id)
    if row is None:
        raise UnknownRun(run_id=run_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[BillingRun], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(BillingRun)))).all())
