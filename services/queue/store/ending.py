"""How runs ended: the first report wins, in one statement for hundreds."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch
from services.queue.domain.ends import Ends, Run
from services.queue.domain.states import State

# Most runs of a report are of few kinds: what they share goes once, and only those that had ended come back.
END = """
with asked as materialized (
    select run.job_id, kind.run, kind.state, kind.reason, kind.queue, kind.type, kind.attempt, kind.worker,
        to_timestamp(run.start_at) as start_at, to_timestamp(run.end_at) as end_at, run.report
    from unnest($1::uuid[], $2::int[], $3::float8[], $4::float8[], $5::bytea[])
        as run (job_id, kind, start_at, end_at, report)
    join unnest($6::int[], $7::smallint[], $8::smallint[], $9::text[], $10::text[], $11::int[], $12::text[])
        with ordinality as kind (run, state, reason, queue, type, attempt, worker, n) on kind.n = run.kind
), new as (
    insert into job_final (job_id, run, state, reason, queue, type, attempt, worker, start_at, end_at, report)
    select job_id, run, state, reason, queue, type, attempt, worker, start_at, end_at, report
    from asked order by job_id, run
    on conflict (job_id, run) do nothing returning job_id, run
)
select job_id, run from asked except select job_id, run from new
"""
ATTEMPTS = """
insert into attempt (job_id, run, attempt, start_at, outcome, worker, next_at, report)
select job_id, run, attempt, to_timestamp(start_at), outcome, worker, to_timestamp(next_at), report
from unnest($1::uuid[], $2::int[], $3::int[], $4::float8[], $5::smallint[], $6::text[], $7::float8[],
    $8::bytea[])
    as new (job_id, run, attempt, start_at, outcome, worker, next_at, report)
on conflict do nothing
"""
# Unless that worker has said itself what became of the attempt.
LOST = """
insert into attempt (job_id, run, attempt, start_at, outcome, worker, next_at, report)
select job_id, run, attempt, to_timestamp(start_at), outcome, worker, to_timestamp(next_at), report
from unnest($1::uuid[], $2::int[], $3::int[], $4::float8[], $5::smallint[], $6::text[], $7::float8[],
    $8::bytea[])
    as new (job_id, run, attempt, start_at, outcome, worker, next_at, report)
where not exists (
    select from attempt a where a.job_id = new.job_id and a.run = new.run and a.attempt = new.attempt
        and a.worker = new.worker and a.job_id = any($1)
)
on conflict do nothing
"""
DEAD = """
insert into dead_letter (job_id, run, queue, type, reason, kind, attempts, fail_time)
select job_id, run, queue, type, reason, kind, attempts, to_timestamp(fail_time)
from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::int[],
    $8::float8[])
    as new (job_id, run, queue, type, reason, kind, attempts, fail_time)
on conflict (job_id) do update set run = excluded.run, reason = excluded.reason, kind = excluded.kind,
    attempts = excluded.attempts, fail_time = excluded.fail_time
"""
LOOKUP = """
select asked.n, f.state, s.cancel_run, a.attempts, a.retried, a.next_at, c.job_id is not null as checkpoint
from unnest($1::uuid[], $2::int[]) with ordinality as asked (job_id, run, n)
left join job_final f on f.job_id = asked.job_id and f.run = asked.run and f.job_id = any($1)
left join steering s on s.job_id = asked.job_id
left join checkpoint c on c.job_id = asked.job_id and c.run = asked.run and c.job_id = any($1)
left join lateral (
    select max(attempt) as attempts, max(attempt) filter (where next_at is not null) as retried,
        (array_agg(next_at order by attempt desc) filter (where next_at is not null))[1] as next_at
    from attempt where job_id = asked.job_id and job_id = any($1) and run = asked.run and outcome = 2
) a on f.job_id is null
order by asked.n
"""
EPOCHS = (
    "select queue, lane, epoch from lane where (queue, lane) in (select * from unnest($1::text[], $2::int[]))"
)
COUNT = """
update job_group set succeeded = succeeded + $2, failed = failed + $3, cancelled = cancelled + $4,
    expired = expired + $5
where group_id = $1 returning *
"""
# Both tables are empty most of the time; then a thousand ids cost one look, and not a probe each.
FOLLOW = """
with forgotten as (
    delete from checkpoint where exists (select from checkpoint) and job_id = any($1)
)
select distinct job_id from dependency
where exists (select from dependency) and on_job_id = any($1) order by job_id
"""
SETTLED = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED)


async def end(tx: AnyTx, ends: Sequence[Ends]) -> set[Run]:
    """Writes how runs ended that had not; returns those that had."""
    if not ends:
        return set()
    kinds: dict[tuple[Any, ...], int] = {}
    runs: list[list[Any]] = [[], [], [], [], []]
    for each in ends:
        kind, count = each.kind, len(each.job_ids)
        shared = (kind.run, kind.state, kind.reason, kind.queue, kind.type, kind.attempt, kind.worker)
        place = kinds.setdefault(shared, len(kinds) + 1)
        reports = each.reports or [None] * count
        for column, more in zip(
            runs, (each.job_ids, [place] * count, each.start_at, each.end_at, reports), strict=True
        ):
            column += more
    rows = await fetch(tx, END, *runs, *(list(column) for column in zip(*kinds, strict=True)))
    return {(row["job_id"], row["run"]) for row in rows}


async def add_attempts(tx: AnyTx, rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows are job, run, attempt, start, outcome, worker, next and report; what is known stays."""
    if rows:
        ordered = sorted(rows, key=lambda row: row[:3])
        await execute(tx, ATTEMPTS, *(list(column) for column in zip(*ordered, strict=True)))


async def lose(tx: AnyTx, rows: Sequence[tuple[Any, ...]]) -> None:
    """As `add_attempts`, of attempts whose worker is gone."""
    ordered = sorted(rows, key=lambda row: row[:3])
    await execute(tx, LOST, *(list(column) for column in zip(*ordered, strict=True)))


async def bury(tx: AnyTx, ends: Sequence[Ends]) -> None:
    """Keeps failed runs as dead letters."""
    rows = sorted(
        (job_id, kind.run, kind.queue, kind.type, kind.reason, kind.failure, kind.attempt, end_at)
        for each in ends
        for kind in (each.kind,)
        for job_id, end_at in zip(each.job_ids, each.end_at, strict=True)
    )
    await execute(tx, DEAD, *(list(column) for column in zip(*rows, strict=True)))


async def lookup(db: Database, jobs: Sequence[str], runs: Sequence[int]) -> Sequence[Any]:
    """Of each, in order: final state, up to which run it is to be called off, attempts, any checkpoint."""
    return await db.fetch(LOOKUP, list(jobs), list(runs))


async def epochs(tx: AnyTx, lanes: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The epoch of each of these lanes now."""
    rows = await fetch(tx, EPOCHS, [queue for queue, _ in lanes], [lane for _, lane in lanes])
    return {(row["queue"], row["lane"]): row["epoch"] for row in rows}


async def count(tx: AnyTx, group_id: UUID, states: Sequence[int]) -> Any:
    """Counts ends in a group, which stays locked until `tx` ends. None: there is no such group."""
    rows = await fetch(tx, COUNT, group_id, *(states.count(state) for state in SETTLED))
    return rows[0] if rows else None


async def follow(tx: AnyTx, jobs: Sequence[UUID]) -> list[UUID]:
    """Forgets the checkpoints of jobs that have ended; returns those that wait for any of them."""
    return [row["job_id"] for row in await fetch(tx, FOLLOW, list(jobs))]
