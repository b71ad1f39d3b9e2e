"""What workers hold: checkpoints, lanes, slots and starts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch

SAVE = """
insert into checkpoint (job_id, run, attempt, step, state, at) values ($1, $2, $3, $4, $5, $6)
on conflict (job_id) do update set run = excluded.run, attempt = excluded.attempt, step = excluded.step,
    state = excluded.state, at = excluded.at
where (checkpoint.run, checkpoint.attempt, checkpoint.step) < (excluded.run, excluded.attempt, excluded.step)
returning true
"""
CHECKPOINT = "select * from checkpoint where job_id = $1"
LOCK_QUEUE = "select pg_advisory_xact_lock(hashtextextended($1, 2))"
GIVE_UP = """
update lane set worker = '', until = $4 where queue = $1 and worker = $2 and lane = any($3::int[])
"""
LEAVE = "update lane set worker = '', until = $3 where queue = $1 and worker = $2"
LEAVE_ASKING = "delete from lane_asker where queue = $1 and (worker = $2 or until <= $3)"
ASK = """
insert into lane_asker (queue, worker, until) values ($1, $2, $3)
on conflict (queue, worker) do update set until = excluded.until
"""
RENEW = "update lane set until = $3 where queue = $1 and worker = $2 and until > $4"
OWNERS = "select lane, worker, epoch from lane where queue = $1 and worker <> '' and until > $2"
ASKERS = "select worker from lane_asker where queue = $1 and until > $2"
TAKE = """
insert into lane (queue, lane, epoch, worker, until)
select $1, unnest($3::int[]), 1, $2, $4
on conflict (queue, lane) do update set epoch = lane.epoch + 1, worker = excluded.worker,
    until = excluded.until
"""
HELD_SLOTS = """
select type, coalesce(sum(count) filter (where worker <> $2), 0)::int as others,
    coalesce(sum(count) filter (where worker = $2), 0)::int as own
from slot where queue = $1 and until > $3 group by type
"""
HOLD = """
insert into slot (queue, type, worker, count, until) values ($1, $2, $3, $4, $5)
on conflict (queue, type, worker) do update set count = excluded.count, until = excluded.until
"""
DROP = "delete from slot where queue = $1 and type = $2 and worker = $3"
BUCKET = "select tokens, at from rate where queue = $1"
FILL = """
insert into rate (queue, tokens, at) values ($1, $2, $3)
on conflict (queue) do update set tokens = excluded.tokens, at = excluded.at
"""
FORGET_LANES = "update lane set worker = '', until = $2 where worker = $1 returning queue"
FORGET_ASKER = "delete from lane_asker where worker = $1"
FORGET_SLOTS = "delete from slot where worker = $1"
LAPSED = "delete from slot where until <= $1"


async def save(db: Database, job_id: UUID, at: tuple[int, int, int], state: bytes, now: datetime) -> bool:
    """Keeps a checkpoint of (run, attempt, step) unless a later one is there. Returns whether it did."""
    return bool(await db.fetchval(SAVE, job_id, *at, state, now))


async def checkpoint(db: Database, job_id: UUID) -> Any:
    """None: there is none."""
    return await db.fetchrow(CHECKPOINT, job_id)


async def lock_queue(tx: AnyTx, queue: str) -> None:
    """One at a time shares out what a queue has, until `tx` ends."""
    await execute(tx, LOCK_QUEUE, queue)


async def give_up(tx: AnyTx, queue: str, worker: str, lanes: Sequence[int], now: datetime) -> None:
    await execute(tx, GIVE_UP, queue, worker, list(lanes), now)


async def leave(tx: AnyTx, queue: str, worker: str, now: datetime) -> None:
    await execute(tx, LEAVE, queue, worker, now)
    await execute(tx, LEAVE_ASKING, queue, worker, now)


async def ask(tx: AnyTx, queue: str, worker: str, now: datetime, until: datetime) -> list[str]:
    """Notes that it wants lanes, and renews those it has. Returns all who want some."""
    await execute(tx, LEAVE_ASKING, queue, worker, now)
    await execute(tx, ASK, queue, worker, until)
    await execute(tx, RENEW, queue, worker, until, now)
    return [row["worker"] for row in await fetch(tx, ASKERS, queue, now)]


async def owners(tx: AnyTx, queue: str, now: datetime) -> dict[int, tuple[str, int]]:
    """Worker and epoch of each lane whose lease lasts."""
    return {row["lane"]: (row["worker"], row["epoch"]) for row in await fetch(tx, OWNERS, queue, now)}


async def take(tx: AnyTx, queue: str, worker: str, lanes: Sequence[int], until: datetime) -> None:
    await execute(tx, TAKE, queue, worker, list(lanes), until)


async def slots(tx: AnyTx, queue: str, worker: str, now: datetime) -> dict[str, tuple[int, int]]:
    """By type: slots that others hold, and that it holds."""
    rows = await fetch(tx, HELD_SLOTS, queue, worker, now)
    return {row["type"]: (row["others"], row["own"]) for row in rows}


async def hold(tx: AnyTx, queue: str, kind: str, worker: str, count: int, until: datetime) -> None:
    """From now on it holds so many slots of this limit."""
    if count:
        await execute(tx, HOLD, queue, kind, worker, count, until)
    else:
        await execute(tx, DROP, queue, kind, worker)


async def bucket(tx: AnyTx, queue: str) -> tuple[float, datetime] | None:
    """What a queue's rate had left, and when; None: nobody has drawn from it."""
    rows = await fetch(tx, BUCKET, queue)
    return (rows[0]["tokens"], rows[0]["at"]) if rows else None


async def fill(tx: AnyTx, queue: str, tokens: float, now: datetime) -> None:
    await execute(tx, FILL, queue, tokens, now)


async def forget(tx: AnyTx, worker: str, now: datetime) -> set[str]:
    """Frees all that a worker holds. Returns queues whose lanes it had."""
    queues = {row["queue"] for row in await fetch(tx, FORGET_LANES, worker, now)}
    await execute(tx, FORGET_ASKER, worker)
    await execute(tx, FORGET_SLOTS, worker)
    return queues


async def forget_lapsed(db: Database, now: datetime) -> None:
    """Slots of those who did not renew them."""
    await db.execute(LAPSED, now)
