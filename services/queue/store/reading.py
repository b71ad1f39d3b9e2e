"""Jobs as they stand, put together from what was written once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, fetch
from services.queue.store.days import Days

# The laterals are one probe of an index each, and of a run that has ended only the first is made.
VIEW = """
select j.*, coalesce(s.run, 1) as run, s.priority as steered, s.due_at as steered_due, s.cancel_run,
    coalesce(s.moves, 0) as moves,
    f.state, f.reason, f.attempt as final_attempt, f.worker, f.start_at, f.end_at, f.report,
    a.attempt as last_attempt, a.start_at as last_start, a.outcome, a.next_at, a.report as last_report,
    b.policy, p.sequence as placed, p.job_id is not null as recorded
from job j
left join steering s on s.job_id = j.job_id
left join lateral (
    select * from job_final f where f.job_id = j.job_id and f.run = coalesce(s.run, 1)
) f on true
left join lateral (
    select * from attempt a
    where f.job_id is null and a.job_id = j.job_id and a.run = coalesce(s.run, 1)
    order by attempt desc, start_at desc limit 1
) a on true
left join lateral (
    select * from blocked b where f.job_id is null and b.job_id = j.job_id
) b on true
left join lateral (
    select * from placement p where f.job_id is null and p.job_id = j.job_id
) p on true
where j.job_id = any($1)
"""
VIEW_OF_DAY = re.sub(r"\b(job|job_final|attempt|placement) (j|f|a|p)\b", r"\1_%s \2", VIEW)
DEPENDENCIES = "select job_id, on_job_id from dependency where job_id = any($1)"
FINALS = "select * from job_final where job_id = $1 order by run desc limit $2"
ATTEMPTS = """
select * from attempt where job_id = $1 order by run desc, attempt desc, start_at desc limit $2
"""
LOCK = "select pg_advisory_xact_lock(hashtextextended($1::text, 1))"

# Of one partition (%s) each; a day's jobs in one index scan, backward, without a sort.
ALL = "select job_id from job_%s where job_id < $1 and job_id >= $2 order by job_id desc limit $3"
BY_QUEUE = """
select job_id from job_%s where queue = $4 and job_id < $1 and job_id >= $2 order by job_id desc limit $3
"""
BY_TYPE = """
select job_id from job_%s where type = $4 and job_id < $1 and job_id >= $2 order by job_id desc limit $3
"""
BY_KEY = """
select job_id from job_%s where key = $4 and key <> '' and job_id < $1 and job_id >= $2
order by job_id desc limit $3
"""
BY_GROUP = """
select job_id from job_%s where group_id = $4 and group_id is not null and job_id < $1 and job_id >= $2
order by job_id desc limit $3
"""
BY_LABEL = """
select job_id from job_label_%s where label = $4 and job_id < $1 and job_id >= $2
order by job_id desc limit $3
"""
# How many jobs of a span have each label, as far as that is worth counting.
COUNT_LABELS = """
select label, (select count(*) from (
    select from job_label l where l.label = asked.label and l.job_id < $2 and l.job_id >= $3 limit $4
) found) as jobs
from unnest($1::text[]) as asked (label) order by jobs, label
"""
# Of each state the first few: as many index scans as there are states, merged.
ENDED_BY_QUEUE = """
select distinct found.job_id from unnest($5::smallint[]) as wanted (state) cross join lateral (
    select job_id from job_final_%s f
    where f.queue = $4 and f.state = wanted.state and f.job_id < $1 and f.job_id >= $2
    order by job_id desc limit $3
) found order by job_id desc limit $3
"""
ENDED_BY_TYPE = ENDED_BY_QUEUE.replace("f.queue = $4", "f.type = $4")
ENDED = """
select distinct found.job_id
from unnest($4::smallint[]) as wanted (state)
cross join (select queue from queue union all select queue from retired_queue) as known
cross join lateral (
    select job_id from job_final_%s f
    where f.queue = known.queue and f.state = wanted.state and f.job_id < $1 and f.job_id >= $2
    order by job_id desc limit $3
) found order by job_id desc limit $3
"""
# Of candidates those that fit what their index did not decide.
NARROW = """
select job_id from job_%s where job_id = any($1) and ($2 = '' or queue = $2) and ($3 = '' or type = $3)
    and ($4 = '' or key = $4) and ($5::uuid is null or group_id = $5) and labels @> $6
order by job_id desc
"""
OPEN = "select job_id from job_open where job_id < $1 and job_id >= $2 order by job_id desc limit $3"
OPEN_BY_QUEUE = """
select job_id from job_open where queue = $4 and job_id < $1 and job_id >= $2
order by job_id desc limit $3
"""
OPEN_BY_TYPE = OPEN_BY_QUEUE.replace("queue = $4", "type = $4")
HORIZON = "select up_to from open_horizon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a list is asked for; the narrowest of it chooses the index, the rest is looked at row by row."""

    queue: str = ""
    type: str = ""
    key: str = ""
    group_id: UUID | None = None
    label: str = ""  # `name=value`; of several the rarest.
    states: frozenset[int] = frozenset()
    final: bool = False  # Whether the states are final ones.


async def views(db: Database, days: Days, jobs: Sequence[UUID]) -> dict[UUID, Any]:
    by_suffix: dict[str, list[UUID]] = {}
    for job_id in jobs:
        by_suffix.setdefault(days.suffix(job_id), []).append(job_id)
    found: dict[UUID, Any] = {}
    for suffix, ids in by_suffix.items():
        rows = await db.fetch(VIEW_OF_DAY.replace("%s", suffix), ids)
        found |= {row["job_id"]: row for row in rows}
    return found


async def rows(tx: AnyTx, jobs: Sequence[UUID]) -> Sequence[Any]:
    return await fetch(tx, VIEW, list(jobs))


async def locked(tx: AnyTx, job_id: UUID) -> Any:
    """One job; nobody else steers it until `tx` ends. None: there is no such job."""
    await fetch(tx, LOCK, str(job_id))
    rows = await fetch(tx, VIEW, [job_id])
    return rows[0] if rows else None


async def dependencies(db: Database, jobs: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """What each of them waits for."""
    found: dict[UUID, list[UUID]] = {}
    for row in await db.fetch(DEPENDENCIES, list(jobs)):
        found.setdefault(row["job_id"], []).append(row["on_job_id"])
    return found


async def attempts(db: Database, job_id: UUID, limit: int) -> tuple[Sequence[Any], Sequence[Any]]:
    """The last attempts, and the last ends of runs, latest first."""
    return await db.fetch(ATTEMPTS, job_id, limit), await db.fetch(FINALS, job_id, limit)


async def horizon(db: Database) -> UUID:
    """Open jobs with lower ids are in `job_open`."""
    up_to: UUID = await db.fetchval(HORIZON)
    return up_to


async def candidates(
    source: tuple[Database, Days], wanted: Wanted, before: UUID, least: UUID, limit: int
) -> tuple[list[UUID], UUID]:
    """Ids from `before` (excluded) down to `least`, and where to go on; that is `least` at the end."""
    db, _ = source
    if not wanted.states or wanted.final or wanted.key or wanted.group_id or wanted.label:
        return await _of_days(source, _query(wanted), (before, least), limit)
    # Young open jobs are among all the young ones; the older ones have a table of their own.
    edge = max(await horizon(db), least)
    if before > edge:
        return await _of_days(source, (ALL, []), (before, edge), limit)
    sql, values = OPEN, list[Any]()
    if wanted.type:
        sql, values = OPEN_BY_TYPE, [wanted.type]
    elif wanted.queue:
        sql, values = OPEN_BY_QUEUE, [wanted.queue]
    found = [row["job_id"] for row in await db.fetch(sql, before, least, limit, *values)]
    return found, found[-1] if len(found) == limit else least


async def rarest(db: Database, labels: Sequence[str], before: UUID, least: UUID, most: int) -> str:
    """Of labels that jobs must all have: the one that fewest have, counted no further than `most`."""
    if len(labels) < 2:
        return "".join(labels)
    label: str = (await db.fetch(COUNT_LABELS, list(labels), before, least, most))[0]["label"]
    return label


async def narrow(
    source: tuple[Database, Days], wanted: Wanted, labels: Sequence[str], jobs: Sequence[UUID]
) -> list[UUID]:
    """Of these, in descending order, those that a list is about; their states are not looked at."""
    db, days = source
    by_suffix: dict[str, list[UUID]] = {}
    for job_id in jobs:
        by_suffix.setdefault(days.suffix(job_id), []).append(job_id)
    asked = (wanted.queue, wanted.type, wanted.key, wanted.group_id, list(labels))
    found: list[UUID] = []
    for suffix, ids in by_suffix.items():
        found += [row["job_id"] for row in await db.fetch(NARROW.replace("%s", suffix), ids, *asked)]
    return sorted(found, reverse=True)


async def _of_days(
    source: tuple[Database, Days], query: tuple[str, list[Any]], ids: tuple[UUID, UUID], limit: int
) -> tuple[list[UUID], UUID]:
    """Day by day, the newest first, until there are enough."""
    (db, days), (sql, values), (before, least) = source, query, ids
    found: list[UUID] = []
    for segment in days.segments(before, least):
        asked = sql.replace("%s", segment.suffix)
        rows = await db.fetch(asked, segment.high, segment.low, limit - len(found), *values)
        found += [row["job_id"] for row in rows]
        if len(found) == limit:
            return found, found[-1]
    return found, least


def _query(wanted: Wanted) -> tuple[str, list[Any]]:
    """The most selective query, and its further arguments."""
    if wanted.key:
        return BY_KEY, [wanted.key]
    if wanted.group_id:
        return BY_GROUP, [wanted.group_id]
    if wanted.label:
        return BY_LABEL, [wanted.label]
    states = sorted(wanted.states)
    if wanted.type:
        return (ENDED_BY_TYPE, [wanted.type, states]) if states else (BY_TYPE, [wanted.type])
    if wanted.queue:
        return (ENDED_BY_QUEUE, [wanted.queue, states]) if states else (BY_QUEUE, [wanted.queue])
    return (ENDED, [states]) if states else (ALL, [])
