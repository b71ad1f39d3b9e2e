"""Dead letters, by what they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, fetch

GET = """
select d.*, j.envelope, f.report from dead_letter d left join job j on j.job_id = d.job_id
left join job_final f on f.job_id = d.job_id and f.run = d.run where d.job_id = $1
"""
REPORTS = """
select d.*, f.report from dead_letter d left join job_final f on f.job_id = d.job_id and f.run = d.run
where d.job_id = any($1) order by d.job_id desc
"""
ROWS = "select * from dead_letter where job_id < $1 order by job_id desc limit $2"
ROWS_OF_QUEUE = "select * from dead_letter where queue = $3 and job_id < $1 order by job_id desc limit $2"
MATCHING = """
select job_id from dead_letter
where ($1 = '' or queue = $1) and ($2 = '' or type = $2) and ($3 = 0 or reason = $3)
    and ($4 = '' or kind = $4) and ($5::timestamptz is null or fail_time < $5)
order by job_id limit $6 for update skip locked
"""
DELETE = "delete from dead_letter where job_id = any($1) returning job_id"
COUNTS = "select queue, count(*) as letters from dead_letter group by queue"
OLD = """
delete from dead_letter where job_id in (
    select job_id from dead_letter where queue = $1 and fail_time < $2 limit $3
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """weft.queue.v1.DeadLetterFilter."""

    queue: str = ""
    type: str = ""
    reason: int = 0
    kind: str = ""
    until: datetime | None = None

    def fits(self, row: Any) -> bool:
        wanted = {"queue": self.queue, "type": self.type, "reason": self.reason, "kind": self.kind}
        same = all(row[name] == value for name, value in wanted.items() if value)
        return same and (self.until is None or row["fail_time"] < self.until)


async def get(db: Database, job_id: UUID) -> Any:
    """With its job's envelope and last report. None: there is none."""
    return await db.fetchrow(GET, job_id)


async def reports(db: Database, jobs: Sequence[UUID]) -> Sequence[Any]:
    """The latest first, with their last reports."""
    return await db.fetch(REPORTS, list(jobs))


async def rows(db: Database, queue: str, before: UUID, limit: int) -> Sequence[Any]:
    """The latest first, from `before` (excluded) on."""
    if queue:
        return await db.fetch(ROWS_OF_QUEUE, before, limit, queue)
    return await db.fetch(ROWS, before, limit)


async def matching(tx: AnyTx, which: Which, limit: int) -> list[UUID]:
    """Ids, oldest first; nobody else takes them until `tx` ends."""
    asked = (which.queue, which.type, which.reason, which.kind, which.until)
    return [row["job_id"] for row in await fetch(tx, MATCHING, *asked, limit)]


async def delete(tx: AnyTx, jobs: Sequence[UUID]) -> list[UUID]:
    """Returns those that there were."""
    return [row["job_id"] for row in await fetch(tx, DELETE, list(jobs))]


async def counts(db: Database) -> dict[str, int]:
    """How many each queue has."""
    return {row["queue"]: row["letters"] for row in await db.fetch(COUNTS)}


async def forget(db: Database, queue: str, before: datetime, limit: int) -> None:
    """Deletes those whose time is up, so many at a time."""
    await db.execute(OLD, queue, before, limit)
