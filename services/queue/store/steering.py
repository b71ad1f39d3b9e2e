"""What operators change of a job: its run, time and place, and the wish to call it off."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch

AGAIN = """
insert into steering (job_id, run) select unnest($1::uuid[]), 2
on conflict (job_id) do update set run = steering.run + 1, due_at = null, cancel_run = null,
    cancel_reason = null
returning job_id, run
"""
RUN = """
insert into job_run (job_id, run, at, actor, note)
select job_id, run, $3, $4, $5 from unnest($1::uuid[], $2::int[]) as new (job_id, run)
"""
REOPEN = """
insert into job_open (job_id, queue, type)
select job_id, queue, type from job where job_id = any($1) on conflict do nothing
"""
MOVE = """
insert into steering (job_id, moves) values ($1, 1)
on conflict (job_id) do update set moves = steering.moves + 1
"""
DUE = """
insert into steering (job_id, due_at, moves) values ($1, $2, 1)
on conflict (job_id) do update set due_at = excluded.due_at, moves = steering.moves + 1 returning *
"""
RAISE = """
insert into steering (job_id, priority, moves) values ($1, $2, 1)
on conflict (job_id) do update set priority = excluded.priority, moves = steering.moves + 1 returning *
"""
CANCEL = """
insert into steering (job_id, cancel_run, cancel_reason) values ($1, $2, $3)
on conflict (job_id) do update set cancel_run = excluded.cancel_run, cancel_reason = excluded.cancel_reason
"""
EXPIRED = """
select job_id, expire_at from job j
where expire_at > $1 and expire_at <= $2
    and not exists (select from job_final f where f.job_id = j.job_id)
    and not exists (select from steering s where s.job_id = j.job_id and s.run > 1)
order by expire_at limit $3
"""
OPEN_OF_QUEUE = """
select o.job_id from job_open o left join steering s on s.job_id = o.job_id
where o.queue = $1 and not exists (
    select from job_final f where f.job_id = o.job_id and f.run = coalesce(s.run, 1)
) order by o.job_id limit $2
"""
YOUNG_OF_QUEUE = """
select j.job_id from job j
where j.queue = $1 and j.job_id >= (select up_to from open_horizon)
    and not exists (select from job_final f where f.job_id = j.job_id)
order by j.job_id limit $2
"""


async def again(tx: AnyTx, jobs: Sequence[UUID], now: datetime, actor: str, note: str) -> dict[UUID, int]:
    """Begins the next run of each; they are open again. Returns the runs."""
    runs = {row["job_id"]: row["run"] for row in await fetch(tx, AGAIN, sorted(jobs))}
    await execute(tx, RUN, list(runs), list(runs.values()), now, actor, note)
    await execute(tx, REOPEN, list(runs))
    return runs


async def move(tx: AnyTx, job_id: UUID) -> None:
    """Its next message has another id than those before."""
    await execute(tx, MOVE, job_id)


async def set_due(tx: AnyTx, job_id: UUID, due: datetime) -> None:
    await execute(tx, DUE, job_id, due)


async def set_priority(tx: AnyTx, job_id: UUID, priority: int) -> None:
    await execute(tx, RAISE, job_id, priority)


async def ask_to_cancel(tx: AnyTx, job_id: UUID, run: int, reason: int) -> None:
    await execute(tx, CANCEL, job_id, run, reason)


async def expired(db: Database, after: datetime, until: datetime, limit: int) -> Sequence[Any]:
    """First runs that are open and whose time to begin ended within these times."""
    return await db.fetch(EXPIRED, after, until, limit)


async def open_of(tx: AnyTx, queue: str, limit: int) -> list[UUID]:
    """Open jobs of a queue, oldest first."""
    found: dict[UUID, None] = {}
    for sql in (OPEN_OF_QUEUE, YOUNG_OF_QUEUE):
        found |= {row["job_id"]: None for row in await fetch(tx, sql, queue, limit)}
    return list(found)[:limit]
