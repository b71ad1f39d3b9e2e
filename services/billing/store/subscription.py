"""Subscriptions: read whole and locked, written whole, many by one statement."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select

from services.billing.domain.subscription import (
    Advance,
    Running,
    State,
    Subscription,
    UnknownSubscription,
)
from services.billing.domain.totals import Line
from services.chassis.db import AnyTx, Tx, execute, fetch, insert_many
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

OF_ONE_BATCH_MAX = 5_000  # Subscriptions of the customers of one batch; the rest of them follow in the next.
SUBSCRIPTIONS = Listing(
    {
        "create_time": Field(Subscription.created_at),
        "subscription_id": Field(Subscription.subscription_id, order=False),
        "customer_id": Field(Subscription.customer_id, order=False),
        "plan_id": Field(Subscription.plan_id, order=False),
        "state": Field(Subscription.state, order=False, values={each.value: each.value for each in State}),
        "next_bill_time": Field(Subscription.next_bill_at, nullable=True, order=False),
        "problem": Field(Subscription.problem, order=False),
    },
    "create_time desc",
    "subscription_id",
)
KINDS = (
    ("subscription_id", "uuid"),
    ("customer_id", "uuid"),
    ("plan_id", "uuid"),
    ("plan_version", "integer"),
    ("quantity", "bigint"),
    ("state", "text"),
    ("currency", "text"),
    ("time_zone", "text"),
    ("billing_day", "integer"),
    ("trial_days", "integer"),
    ("start_at", "timestamptz"),
    ("trial_end", "timestamptz"),
    ("anchor", "timestamp"),
    ("anchor_day", "integer"),
    ("period_start", "timestamptz"),
    ("period_end", "timestamptz"),
    ("terms_start", "timestamptz"),
    ("usage_start", "timestamptz"),
    ("next_bill_at", "timestamptz"),
    ("cancel_at", "timestamptz"),
    ("paused_at", "timestamptz"),
    ("ended_at", "timestamptz"),
    ("next_plan_id", "uuid"),
    ("next_plan_version", "integer"),
    ("next_quantity", "bigint"),
    ("billed", "jsonb"),
    ("pending", "jsonb"),
    ("last_invoice_id", "uuid"),
    ("problem", "text"),
    ("retry_at", "timestamptz"),
    ("held_at", "timestamptz"),
    ("digest", "bytea"),
    ("revision", "integer"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
)
FIXED = {"subscription_id", "customer_id", "currency", "start_at", "digest", "created_at"}
JSON = {name for name, kind in KINDS if kind == "jsonb"}  # Read and written as text: drivers differ.
NAMES = ", ".join(f"s.{name}::text" if name in JSON else f"s.{name}" for name, _ in KINDS)
CHANGING = [(name, kind) for name, kind in KINDS if name not in FIXED]


def _sent(kind: str) -> str:
    return "text" if kind == "jsonb" else kind


SAVE = f"""
update subscription set {", ".join(f"{name} = new.{name}::{kind}" for name, kind in CHANGING)}
from unnest($1::uuid[], {", ".join(f"${n}::{_sent(kind)}[]" for n, (_, kind) in enumerate(CHANGING, 2))})
    as new (id, {", ".join(name for name, _ in CHANGING)})
where subscription_id = id
"""
DUE = f"""
with due as (
    (select customer_id from subscription
    where next_bill_at <= $1 and (retry_at is null or retry_at <= $2)
    order by next_bill_at, customer_id limit $3)
    union all
    (select customer_id from subscription
    where held_at <= $1 and (retry_at is null or retry_at <= $2)
    order by held_at, customer_id limit $3)
)
select {NAMES} from subscription s
where (s.next_bill_at <= $1 or s.held_at <= $1) and (s.retry_at is null or s.retry_at <= $2)
    and s.customer_id in (select customer_id from due)
order by s.customer_id, s.subscription_id limit $4
for update skip locked
"""
DUE_OF_CUSTOMER = f"""
select {NAMES} from subscription s where s.customer_id = $2 and s.next_bill_at <= $1
order by s.subscription_id limit $3 for update
"""
LOCKED = f"select {NAMES} from subscription s where s.subscription_id = any($1) order by s.subscription_id"


def running(row: Any) -> Running:
    values = dict(row)
    values["state"] = State(values["state"])
    values["billed"] = msgspec.json.decode(values["billed"], type=list[Advance])
    values["pending"] = msgspec.json.decode(values["pending"], type=list[Line])
    return Running(**values)


def _value(sub: Running, name: str) -> Any:
    value = getattr(sub, name)
    return msgspec.json.encode(value).decode() if name in JSON else value


async def insert(tx: AnyTx, sub: Running) -> bool:
    """False when its id is taken."""
    names = ", ".join(name for name, _ in KINDS)
    values = ", ".join(f"${n}::{_sent(kind)}::{kind}" for n, (_, kind) in enumerate(KINDS, 1))
    sql = f"insert into subscription ({names}) values ({values}) on conflict do nothing returning 1 as new"
    return bool(await fetch(tx, sql, *(_value(sub, name) for name, _ in KINDS)))


async def insert_all(tx: AnyTx, subs: Sequence[Running]) -> None:
    await insert_many(tx, "subscription", KINDS, [[_value(s, name) for name, _ in KINDS] for s in subs])


async def save(tx: AnyTx, subs: Sequence[Running]) -> None:
    """Writes what may have changed; their rows are locked."""
    if subs:
        columns = [[_value(sub, name) for sub in subs] for name, _ in CHANGING]
        await execute(tx, SAVE, [sub.subscription_id for sub in subs], *columns)


async def due(tx: AnyTx, as_of: datetime, now: datetime, customers: int) -> list[Running]:
    """Those to be billed next, of so many customers, locked; what others hold is left to them."""
    rows = await fetch(tx, DUE, as_of, now, customers, OF_ONE_BATCH_MAX)
    return [running(row) for row in rows]


async def due_of(tx: AnyTx, as_of: datetime, customer_id: UUID) -> list[Running]:
    """Those of one customer that are to be billed, locked."""
    rows = await fetch(tx, DUE_OF_CUSTOMER, as_of, customer_id, OF_ONE_BATCH_MAX)
    return [running(row) for row in rows]


async def lock(tx: AnyTx, subscription_id: UUID) -> Running:
    """Raises UnknownSubscription."""
    rows = await fetch(tx, f"{LOCKED} for update", [subscription_id])
    if not rows:
        raise UnknownSubscription(subscription_id=subscription_id)
    return running(rows[0])


async def living(tx: AnyTx, customer_id: UUID) -> list[Running]:
    """Those of a customer that have not ended, locked."""
    sql = f"""select {NAMES} from subscription s where s.customer_id = $1 and s.state <> 'CANCELLED'
        order by s.subscription_id for update"""
    return [running(row) for row in await fetch(tx, sql, customer_id)]


async def share(tx: AnyTx, subscription_ids: Collection[UUID]) -> dict[UUID, Running]:
    """So locked that nobody bills them, while others may do the same. Raises UnknownSubscription."""
    rows = await fetch(tx, f"{LOCKED} for share", list(subscription_ids))
    found = {row["subscription_id"]: running(row) for row in rows}
    for subscription_id in subscription_ids:
        if subscription_id not in found:
            raise UnknownSubscription(subscription_id=subscription_id)
    return found


async def page(tx: Tx, page: Page, customer_id: UUID | None) -> tuple[Sequence[Subscription], str]:
    """Rows, and the next page's token."""
    wanted = select(Subscription)
    if customer_id:
        wanted = wanted.where(Subscription.customer_id == customer_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def get(tx: AnyTx, subscription_id: UUID, customer_id: UUID | None = None) -> Running:
    """Raises UnknownSubscription, also of another customer."""
    rows = await fetch(tx, LOCKED, [subscription_id])
    if not rows or (customer_id and rows[0]["customer_id"] != customer_id):
        raise UnknownSubscription(subscription_id=subscription_id)
    return running(rows[0])


async def postpone(tx: AnyTx, failed: Sequence[tuple[UUID, str]], until: datetime) -> None:
    """Notes why these could not be billed, and when that is tried again."""
    if failed:
        sql = """update subscription set problem = new.problem, retry_at = $3
            from unnest($1::uuid[], $2::text[]) as new (id, problem) where subscription_id = id"""
        await execute(tx, sql, [each for each, _ in failed], [problem for _, problem in failed], until)
