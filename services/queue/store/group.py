"""Groups of jobs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, execute, fetch

GET = "select * from job_group where group_id = $1"
ADD = """
insert into job_group (group_id, callback, jobs, create_time) values ($1, $2, $3, $4)
on conflict do nothing returning *
"""
CLOSE = "update job_group set jobs = $2 where group_id = $1 returning *"
END = "update job_group set end_time = $2, callback_job_id = $3 where group_id = $1 returning *"


async def get(tx: AnyTx, group_id: UUID, *, lock: str = "") -> Any:
    """None when there is no such group. `lock` is `update` or `share`: of code, never of input."""
    rows = await fetch(tx, f"{GET} for {lock}" if lock else GET, group_id)
    return rows[0] if rows else None


async def add(tx: AnyTx, group_id: UUID, callback: bytes | None, jobs: int | None, now: datetime) -> Any:
    """None when the id is taken. `jobs` is how many it will have; None: it is open."""
    rows = await fetch(tx, ADD, group_id, callback, jobs, now)
    return rows[0] if rows else None


async def close(tx: AnyTx, group_id: UUID, jobs: int) -> Any:
    return (await fetch(tx, CLOSE, group_id, jobs))[0]


async def end(tx: AnyTx, group_id: UUID, now: datetime, callback: UUID | None) -> None:
    await execute(tx, END, group_id, now, callback)
