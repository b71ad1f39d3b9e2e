"""Jobs on their way in: written once, placed once, published from here if need be."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch
from services.queue.domain.job import NewJobs

# Jobs that come together are of few kinds: what they share goes once, and only ids that were taken come back.
ADD = """
with asked as materialized (
    select one.job_id, kind.queue, kind.type, kind.priority, one.key, kind.group_id,
        string_to_array(kind.labels, E'\\x1f') as labels, one.due_at, one.expire_at, one.sequence,
        kind.routed_by, one.envelope
    from unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[],
        $7::bytea[]) as one (job_id, kind, key, due_at, expire_at, sequence, envelope)
    join unnest($8::text[], $9::text[], $10::smallint[], $11::uuid[], $12::text[], $13::text[])
        with ordinality as kind (queue, type, priority, group_id, labels, routed_by, n) on kind.n = one.kind
), new as (
    insert into job (job_id, queue, type, priority, key, group_id, labels, due_at, expire_at, sequence,
        routed_by, envelope)
    select * from asked order by job_id
    on conflict (job_id) do nothing returning job_id
)
select job_id from asked except select job_id from new
"""
LABEL = """
insert into job_label (label, job_id)
select label, one.job_id
from unnest($1::uuid[], $2::int[]) as one (job_id, kind)
join unnest($3::text[]) with ordinality as kind (labels, n) on kind.n = one.kind
cross join lateral unnest(string_to_array(kind.labels, E'\\x1f')) as label
on conflict do nothing
"""
# A job that comes late to the record is past the horizon already: the sweep will not see it.
OPEN_LATE = """
insert into job_open (job_id, queue, type)
select job_id, queue, type from job where job_id = any($1) and job_id < $2 on conflict do nothing
"""
AWAIT = """
insert into placement (job_id) select unnest($1::uuid[])
on conflict (job_id) do update set sequence = null, at = now()
"""
PLACE = """
update placement set sequence = new.sequence
from unnest($1::uuid[], $2::bigint[]) as new (job_id, sequence)
where placement.job_id = new.job_id and placement.job_id = any($1)
"""
MOVED = """
insert into placement (job_id, sequence) select * from unnest($1::uuid[], $2::bigint[])
on conflict (job_id) do update set sequence = excluded.sequence
"""
UNPUBLISHED = """
select job_id, at from placement where sequence is null and at < now() - make_interval(secs => $1)
order by at limit $2
"""
SOURCE = """
select j.job_id, j.envelope, coalesce(s.run, 1) as run, s.priority, coalesce(s.due_at, j.due_at) as due_at,
    coalesce(s.moves, 0) as moves,
    1 + coalesce((
        select max(a.attempt) from attempt a
        where a.job_id = j.job_id and a.run = coalesce(s.run, 1) and a.outcome = 2
    ), 0) as attempt
from job j left join steering s on s.job_id = j.job_id
where j.job_id = any($1)
    and not exists (select from job_final f where f.job_id = j.job_id and f.run = coalesce(s.run, 1))
    and not exists (select from blocked b where b.job_id = j.job_id)
order by j.job_id
"""
TAKE_KEY = """
insert into unique_key (name, job_id, until) values ($1, $2, $3)
on conflict (name) where not released do nothing returning job_id
"""
LAPSE = "update unique_key set released = true where name = $1 and not released and until <= $2"
HOLDER = "select job_id from unique_key where name = $1 and not released"
RELEASE = "update unique_key set released = true where job_id = any($1) and not released and until is null"
GIVE_WAY = "update unique_key set released = true where job_id = $1 and not released"
KNOWN = "select job_id from job where job_id = any($1)"
UNFINISHED = """
select j.job_id, f.state from job j left join steering s on s.job_id = j.job_id
left join job_final f on f.job_id = j.job_id and f.run = coalesce(s.run, 1)
where j.job_id = any($1) and (f.state is null or f.state <> $2)
"""


async def add(tx: AnyTx, jobs: NewJobs, late_before: UUID) -> set[UUID]:
    """Writes those whose id is free; returns their ids. Ids below `late_before` are past the horizon."""
    if not jobs.job_ids:
        return set()
    rows = await fetch(
        tx,
        ADD,
        jobs.job_ids,
        jobs.of_kind,
        jobs.keys,
        jobs.due_at,
        jobs.expire_at,
        jobs.sequences,
        jobs.envelopes,
        *(list(column) for column in zip(*jobs.kinds, strict=True)),
    )
    new = set(jobs.job_ids)
    if rows:
        new -= {row["job_id"] for row in rows}
    await _label(tx, jobs, new)
    floor = late_before.bytes
    if late := [job_id for job_id in new if job_id.bytes < floor]:
        await execute(tx, OPEN_LATE, late, late_before)
    return new


async def _label(tx: AnyTx, jobs: NewJobs, new: Collection[UUID]) -> None:
    """Most jobs have no labels, and cost nothing here."""
    labels = [kind.labels for kind in jobs.kinds]
    if any(labels):
        rows = zip(jobs.job_ids, jobs.of_kind, strict=True)
        labelled = {job_id: kind for job_id, kind in rows if labels[kind - 1] and job_id in new}
        await execute(tx, LABEL, list(labelled), list(labelled.values()), labels)


async def await_publication(tx: AnyTx, jobs: Collection[UUID]) -> None:
    """From the commit on, somebody publishes them."""
    if jobs:
        await execute(tx, AWAIT, sorted(jobs))


async def place(db: Database, jobs: Sequence[UUID], sequences: Sequence[int]) -> None:
    """They were published."""
    await db.execute(PLACE, list(jobs), list(sequences))


async def moved(tx: AnyTx, places: Sequence[tuple[UUID, int]]) -> None:
    """They stand elsewhere in the stream now."""
    latest = sorted(dict(places).items())
    await execute(tx, MOVED, [job for job, _ in latest], [sequence for _, sequence in latest])


async def unpublished(db: Database, older_s: float, limit: int) -> list[UUID]:
    """Those that were to be published for some time, oldest first."""
    return [row["job_id"] for row in await db.fetch(UNPUBLISHED, older_s, limit)]


async def sources(db: Database, jobs: Sequence[UUID]) -> Sequence[Any]:
    """What their messages are made of. Of those that have ended or are blocked there is none."""
    return await db.fetch(SOURCE, list(jobs))


async def take_key(tx: AnyTx, name: str, job_id: UUID, until: datetime | None, now: datetime) -> UUID | None:
    """Takes a unique key until then, or until the job has ended. Returns who holds it instead, if anyone."""
    while True:
        await execute(tx, LAPSE, name, now)
        if await fetch(tx, TAKE_KEY, name, job_id, until):
            return None
        if holders := await fetch(tx, HOLDER, name):
            holder: UUID = holders[0]["job_id"]
            return None if holder == job_id else holder


async def give_way(tx: AnyTx, job_id: UUID) -> None:
    """Frees the unique keys of a job, whatever their window."""
    await execute(tx, GIVE_WAY, job_id)


async def release_keys(tx: AnyTx, jobs: Sequence[UUID]) -> None:
    """Frees the unique keys of jobs that have ended."""
    await execute(tx, RELEASE, list(jobs))


async def known(tx: AnyTx, jobs: Collection[UUID]) -> set[UUID]:
    """Those that there are."""
    return {row["job_id"] for row in await fetch(tx, KNOWN, list(jobs))}
