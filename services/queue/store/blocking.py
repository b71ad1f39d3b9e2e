"""Jobs that wait for others."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch
from services.queue.domain.states import State

STATES = """
select j.job_id, f.state from job j left join steering s on s.job_id = j.job_id
left join job_final f on f.job_id = j.job_id and f.run = coalesce(s.run, 1)
where j.job_id = any($1)
"""
BLOCK = "insert into blocked (job_id, policy) values ($1, $2)"
DEPEND = "insert into dependency (on_job_id, job_id) select unnest($2::uuid[]), $1"
LOCK = "select job_id, policy from blocked where job_id = any($1) order by job_id for update"
LEFT = """
select d.job_id, d.on_job_id, f.state from dependency d left join steering s on s.job_id = d.on_job_id
left join job_final f on f.job_id = d.on_job_id and f.run = coalesce(s.run, 1)
where d.job_id = any($1)
"""
FREE = (
    "with gone as (delete from dependency where job_id = any($1)) delete from blocked where job_id = any($1)"
)
OVERDUE = """
select distinct d.job_id from dependency d join job_final f on f.job_id = d.on_job_id
join blocked b on b.job_id = d.job_id where b.policy <> $1 or f.state = $2 limit $3
"""
WAIT_POLICY = 3


async def states(tx: AnyTx, jobs: Collection[UUID]) -> dict[UUID, int | None]:
    """The final state of each job's current run; None while it is open. Unknown jobs are not there."""
    return {row["job_id"]: row["state"] for row in await fetch(tx, STATES, list(jobs))}


async def block(tx: AnyTx, job_id: UUID, on: Sequence[UUID], policy: int) -> None:
    await execute(tx, BLOCK, job_id, policy)
    await execute(tx, DEPEND, job_id, list(on))


async def lock(tx: AnyTx, jobs: Sequence[UUID]) -> dict[UUID, int]:
    """Policies of those that are still blocked; nobody else frees them until `tx` ends."""
    return {row["job_id"]: row["policy"] for row in await fetch(tx, LOCK, list(jobs))}


async def left(tx: AnyTx, jobs: Sequence[UUID]) -> Sequence[Any]:
    """Pairs of a job and one that it waits for, with the latter's final state."""
    return await fetch(tx, LEFT, list(jobs))


async def free(tx: AnyTx, jobs: Sequence[UUID]) -> None:
    await execute(tx, FREE, list(jobs))


async def overdue(db: Database, limit: int) -> list[UUID]:
    """Blocked jobs of which a dependency has ended, should nobody have noticed when it did."""
    rows = await db.fetch(OVERDUE, WAIT_POLICY, int(State.SUCCEEDED), limit)
    return [row["job_id"] for row in rows]
