"""Counts of what ended, a row for each minute, queue, type and process."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.chassis.db import Database

ADD = """
insert into stat as s (minute, queue, type, process, enqueued, succeeded, failed, retried, wait_bins,
    run_bins, wait_s_max, run_s_max)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (minute, queue, type, process) do update set
    enqueued = s.enqueued + excluded.enqueued,
    succeeded = s.succeeded + excluded.succeeded,
    failed = s.failed + excluded.failed,
    retried = s.retried + excluded.retried,
    wait_bins = (select array_agg(a + b order by n)
        from unnest(s.wait_bins, excluded.wait_bins) with ordinality as both_ (a, b, n)),
    run_bins = (select array_agg(a + b order by n)
        from unnest(s.run_bins, excluded.run_bins) with ordinality as both_ (a, b, n)),
    wait_s_max = greatest(s.wait_s_max, excluded.wait_s_max),
    run_s_max = greatest(s.run_s_max, excluded.run_s_max)
"""
SINCE = """
select queue, type, enqueued, succeeded, failed, retried, wait_bins, run_bins, wait_s_max, run_s_max from stat
where minute >= $1 and ($2 = '' or queue = $2)
"""
FORGET = "delete from stat where minute < $1"


async def add(db: Database, rows: Sequence[tuple[Any, ...]]) -> None:
    async with db.fast() as tx:
        for row in sorted(rows, key=lambda each: each[:4]):
            await tx.execute(ADD, *row)


async def since(db: Database, minute: datetime, queue: str) -> Sequence[Any]:
    """Rows from that minute on; of one queue, or of all when it is empty."""
    return await db.fetch(SINCE, minute, queue)


async def forget(db: Database, before: datetime) -> None:
    await db.execute(FORGET, before)
