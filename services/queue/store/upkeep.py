"""Days of jobs: made ahead, dropped when their time is up; which open jobs are old; what may be deleted."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from services.chassis.db import Database
from services.queue.store.days import BY_JOB, TABLES, bounds, suffix_of

HORIZON_S = 40  # Longer than a statement may take: what was begun before a round is visible in the next.
DELETED_MAX = 5_000  # Rows of one statement; more wait for the next round.

ADVANCE = """
with was as (select up_to from open_horizon for update),
moved as (update open_horizon set up_to = $1 where up_to < $1)
insert into job_open (job_id, queue, type)
select j.job_id, j.queue, j.type from job j
where j.job_id >= (select up_to from was) and j.job_id < $1
    and not exists (select from job_final f where f.job_id = j.job_id)
on conflict do nothing
"""
CLOSE = """
delete from job_open where job_id in (
    select o.job_id from job_open o left join steering s on s.job_id = o.job_id
    where o.job_id > $1 and exists (
        select from job_final f where f.job_id = o.job_id and f.run = coalesce(s.run, 1)
    ) order by o.job_id limit $2
) returning job_id
"""
HAS_OPEN = """
select exists (
    select from job_open o left join steering s on s.job_id = o.job_id
    where o.job_id >= $1 and o.job_id < $2 and not exists (
        select from job_final f where f.job_id = o.job_id and f.run = coalesce(s.run, 1)
    )
)
"""
WAITING = """
select o.job_id, coalesce(p.sequence, j.sequence) as sequence
from job_open o join job j on j.job_id = o.job_id
left join lateral (select * from placement p where p.job_id = o.job_id) p on true
left join steering s on s.job_id = o.job_id
where o.job_id > $1 and o.job_id < $2 and (p.job_id is null or p.sequence is not null)
    and not exists (select from blocked b where b.job_id = o.job_id)
    and not exists (select from job_final f where f.job_id = o.job_id and f.run = coalesce(s.run, 1))
order by o.job_id limit $3
"""
FINISHED = """
select distinct f.job_id from job_final f
where f.queue = $1 and f.state = any('{6,7,8,9}') and f.job_id < $2
    and not exists (select from job_open o where o.job_id = f.job_id)
order by f.job_id limit $3
"""
FORGET_LABELS = """
delete from job_label where (label, job_id) in (select unnest(labels), job_id from job where job_id = any($1))
"""
SMALL = (
    "delete from unique_key where released",
    "delete from unique_key where until < now() - interval '1 hour'",
    "delete from job_group where end_time < now() - interval '30 days'",
    "delete from slot where until < now()",
    "delete from lane_asker where until < now()",
    "delete from stat where minute < now() - interval '25 hours'",
)


async def add_day(db: Database, day: date) -> None:
    """Makes the partitions of a day, unless they are there; rows that came before them move in."""
    least, most = bounds(day)
    for table in TABLES:
        name = f"{table}_{suffix_of(day)}"
        if await db.fetchval("select to_regclass($1) is not null", name):
            continue
        async with db.fast() as tx:
            await tx.execute(f"create table {name} (like {table} including all)")
            early = f"delete from {table}_default where job_id >= $1 and job_id < $2 returning *"
            await tx.execute(f"with moved as ({early}) insert into {name} select * from moved", least, most)
            await tx.execute(
                f"alter table {table} attach partition {name} for values from ('{least}') to ('{most}')"
            )


async def add_default(db: Database) -> None:
    """For ids of days that nobody foresaw: enqueuers may have odd clocks."""
    for table in TABLES:
        await db.execute(f"create table if not exists {table}_default partition of {table} default")


async def drop_day(db: Database, day: date) -> bool:
    """Drops a day unless it has open jobs. Returns whether it did."""
    least, most = bounds(day)
    if await db.fetchval(HAS_OPEN, least, most):
        return False
    async with db.fast() as tx:
        for table in TABLES:
            await tx.execute(f"drop table if exists {table}_{suffix_of(day)}")
        for small in ("steering", "job_run", "job_open", "dead_letter"):
            await tx.execute(f"delete from {small} where job_id >= $1 and job_id < $2", least, most)
    return True


async def advance(db: Database, up_to: UUID) -> None:
    """Notes which jobs below `up_to` are open; from then on nobody looks for them elsewhere."""
    await db.execute(ADVANCE, up_to)


async def close(db: Database, after: UUID) -> Sequence[Any]:
    """Forgets old open jobs that have ended, from `after` on, so many at a time."""
    return await db.fetch(CLOSE, after, DELETED_MAX)


async def waiting(db: Database, after: UUID, before: UUID, limit: int) -> Sequence[Any]:
    """Old open jobs that were published, in the order of ids, with the sequence of their messages."""
    return await db.fetch(WAITING, after, before, limit)


async def finished(db: Database, queue: str, before: UUID) -> list[UUID]:
    """Jobs of a queue that were enqueued before that, and have ended."""
    return [row["job_id"] for row in await db.fetch(FINISHED, queue, before, DELETED_MAX)]


async def forget(db: Database, jobs: Sequence[UUID]) -> None:
    """Deletes all that is known of these jobs."""
    async with db.fast() as tx:
        await tx.execute(FORGET_LABELS, list(jobs))
        for table in (*BY_JOB, "steering", "job_run", "dead_letter", "checkpoint"):
            await tx.execute(f"delete from {table} where job_id = any($1)", list(jobs))


async def forget_small(db: Database) -> None:
    """What no longer counts of keys, groups, limits and statistics."""
    for sql in SMALL:
        await db.execute(sql)
