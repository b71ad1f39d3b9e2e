"""Rows of processes: who holds one, where it stands, what became of each step (see saga.py)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch
from services.chassis.errors import FailedPrecondition, NotFound

MESSAGE_CHARS_MAX = 500  # Of a refusal's sentence; the rest is in the callee's log.
FORGOTTEN_MAX = 1_000  # Processes deleted by one statement.


class UnknownProcess(NotFound):
    """There is no {kind} process {process_id}."""


class ProcessEnded(FailedPrecondition):
    """The {kind} process {process_id} is {state}; nothing is left to be done."""


class State(StrEnum):
    RUNNING = "RUNNING"  # Forward; it may rest until `due_at`.
    UNDOING = "UNDOING"  # Backward, likewise.
    STUCK = "STUCK"  # A person has to look at it.
    DONE = "DONE"
    UNDONE = "UNDONE"


class Outcome(StrEnum):
    """Of an attempt at a step."""

    DONE = "DONE"
    WAITS = "WAITS"
    RETRIED = "RETRIED"
    REFUSED = "REFUSED"
    CALLED_OFF = "CALLED_OFF"
    UNDONE = "UNDONE"
    STUCK = "STUCK"


COLUMNS = """kind, saga_id, subject, state, step, attempts, data, actor, trace, reason, failed_step, message,
    called_off, wakes, fence, due_at, deadline_at, created_at"""

START = f"""
insert into saga (kind, saga_id, subject, state, step, data, actor, trace, fence, held_until, due_at,
    deadline_at, created_at, holder)
values ($1, $2, $3, 'RUNNING', $4, $5, $6, $7, 1,
    case when $8::float8 > 0 then clock_timestamp() + make_interval(secs => $8) end, $9, $10, $9, $11)
on conflict do nothing returning {COLUMNS}
"""
# A holder that has a name holds a lock on it while its connection lives: who was killed is known at once.
CLAIM = f"""
with living as (
    select (classid::bigint << 32) | objid::bigint as key from pg_locks
    where locktype = 'advisory' and objsubid = 1 and granted
        and database = (select oid from pg_database where datname = current_database())
)
update saga set fence = fence + 1, attempts = attempts + (held_until is not null)::int,
    held_until = clock_timestamp() + make_interval(secs => $3), holder = $5
where (kind, saga_id) in (
    select kind, saga_id from saga
    where due_at <= $1 and kind = any($4) and (
        held_until is null or held_until < clock_timestamp()
        or holder <> '' and hashtextextended(holder, 0) not in (select key from living)
    )
    order by due_at limit $2 for update skip locked
)
returning {COLUMNS}
"""
# One statement writes down how a step ended and, by `step`, that the next one may have begun. The fence is
# another after it: of a record whose commit was not heard of, no second one is made. Whoever was called off
# meanwhile is not done.
MOVE = f"""
with moved as (
    update saga set
        state = case when $4 = 'DONE' and called_off is not null then 'RUNNING' else $4 end,
        step = $5, attempts = $6, data = $7,
        due_at = case
            when $4 = 'DONE' and called_off is not null or $8::timestamptz > $9 and wakes > $10 then $9
            else $8::timestamptz
        end,
        held_until = case when $11::float8 > 0 then clock_timestamp() + make_interval(secs => $11) end,
        deadline_at = $12, reason = $13, failed_step = $14, message = $15,
        ended_at = case when $4 = 'UNDONE' or $4 = 'DONE' and called_off is null then $9::timestamptz end,
        fence = fence + 1
    where kind = $1 and saga_id = $2 and fence = $3
    returning {COLUMNS}
), logged as (
    insert into saga_step (kind, saga_id, step, outcome, detail, at)
    select $1, $2, $16, $17, $18, $9 from moved
)
select * from moved
"""
RELEASE = """
update saga set held_until = null, attempts = attempts + 1
where kind = $1 and saga_id = $2 and fence = $3 and held_until is not null
"""
WAKE = """
update saga set wakes = wakes + 1, due_at = least(due_at, $3)
where kind = $1 and saga_id = $2 and state in ('RUNNING', 'UNDOING')
"""
CALL_OFF = """
update saga set called_off = coalesce(called_off, $3), wakes = wakes + 1, ended_at = null,
    state = 'RUNNING', due_at = $4
where kind = $1 and saga_id = $2 and state in ('RUNNING', 'DONE') returning saga_id
"""
RETRY = f"""
update saga set state = case when reason = '' then 'RUNNING' else 'UNDOING' end,
    attempts = 1, due_at = $3, wakes = wakes + 1
where kind = $1 and saga_id = $2 and state in ('RUNNING', 'UNDOING', 'STUCK') returning {COLUMNS}
"""
FIND = f"select {COLUMNS} from saga where kind = $1 and saga_id = $2"
OF_SUBJECT = f"""
select {COLUMNS} from saga where subject = $1 and ($2 = '' or state = $2)
order by created_at desc, saga_id limit $3
"""
UNSETTLED = f"""
select {COLUMNS} from saga where state in ('RUNNING', 'UNDOING', 'STUCK') and ($1 = '' or state = $1)
order by created_at desc, saga_id limit $2
"""
STEPS = """
select s.kind, s.step, s.outcome, s.detail, s.at, saga.actor
from saga join saga_step s using (kind, saga_id) where saga.subject = $1 order by s.number
"""
NEXT = "select min(due_at) from saga where due_at > $1 and kind = any($2)"
STUCK = "select kind, count(*) as stuck from saga where state = 'STUCK' group by kind"
FORGET = f"""
with gone as (
    delete from saga where (kind, saga_id) in (
        select kind, saga_id from saga where ended_at < $1 order by ended_at limit {FORGOTTEN_MAX}
    ) returning kind, saga_id
)
delete from saga_step using gone where saga_step.kind = gone.kind and saga_step.saga_id = gone.saga_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A process as it stands."""

    kind: str
    saga_id: UUID
    subject: str  # What it is about, such as an order's id.
    state: State
    step: int
    data: Mapping[str, Any]
    actor: str
    trace: str
    due_at: datetime | None
    deadline_at: datetime | None
    created_at: datetime
    attempts: int = 0  # At this step, that came to no end.
    reason: str = ""  # Why it is undone; empty: it is not.
    failed_step: str = ""
    message: str = ""
    called_off: str | None = None
    wakes: int = 0
    fence: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """How an attempt at a step ended."""

    step: str
    outcome: Outcome
    detail: str = ""


def row_of(record: Any) -> Row:
    values = {name: record[name] for name in Row.__slots__}
    return Row(**{**values, "state": State(values["state"]), "data": json.loads(values["data"])})


async def start(tx: AnyTx, new: Row, held_s: float, holder: str) -> Row | None:
    """Writes a new process, held for `held_s`; 0: by nobody. None: there is one with this id."""
    about = (new.kind, new.saga_id, new.subject, new.step, json.dumps(dict(new.data)), new.actor, new.trace)
    made = await fetch(tx, START, *about, held_s, new.created_at, new.deadline_at, holder)
    return row_of(made[0]) if made else None


async def find(source: Database | AnyTx, kind: str, saga_id: UUID) -> Row:
    """Raises UnknownProcess."""
    found = await _fetch(source, FIND, kind, saga_id)
    if not found:
        raise UnknownProcess(kind=kind, process_id=saga_id)
    return row_of(found[0])


async def of_subject(source: Database | AnyTx, subject: str, count: int, state: str = "") -> list[Row]:
    """Newest first."""
    return [row_of(record) for record in await _fetch(source, OF_SUBJECT, subject, state, count)]


async def unsettled(source: Database | AnyTx, count: int, state: str = "") -> list[Row]:
    """Those that have not ended, newest first."""
    return [row_of(record) for record in await _fetch(source, UNSETTLED, state, count)]


async def steps_of(source: Database | AnyTx, subject: str) -> Sequence[Any]:
    """What became of the steps of all processes about `subject`: kind, step, outcome, detail, at, actor."""
    return await _fetch(source, STEPS, subject)


async def _fetch(source: Database | AnyTx, sql: str, *args: Any) -> Sequence[Any]:
    return await source.fetch(sql, *args) if isinstance(source, Database) else await fetch(source, sql, *args)


async def call_off(tx: AnyTx, kind: str, saga_id: UUID, reason: str, now: datetime) -> bool:
    """False: it is turned back already, or there is none."""
    return bool(await fetch(tx, CALL_OFF, kind, saga_id, reason, now))


async def retry(tx: AnyTx, kind: str, saga_id: UUID, now: datetime) -> Row:
    """Lets it go on at once. Raises UnknownProcess, ProcessEnded."""
    retried = await fetch(tx, RETRY, kind, saga_id, now)
    if retried:
        return row_of(retried[0])
    row = await find(tx, kind, saga_id)
    raise ProcessEnded(kind=kind, process_id=saga_id, state=row.state)


async def move(tx: AnyTx, row: Row, logged: Logged, now: datetime, held_s: float) -> Row | None:
    """Writes `row` where its holder has brought it; None when it is held by another now.

    Its wakes are those that the holder knew when the step began: one that came since makes it due at once.
    """
    about = (row.kind, row.saga_id, row.fence, row.state, row.step, row.attempts, json.dumps(dict(row.data)))
    when = (row.due_at, now, row.wakes, held_s, row.deadline_at)
    why = (row.reason, row.failed_step, row.message[:MESSAGE_CHARS_MAX])
    moved = await fetch(tx, MOVE, *about, *when, *why, logged.step, logged.outcome, logged.detail)
    return row_of(moved[0]) if moved else None


async def forget(db: Database, before: datetime) -> None:
    await db.execute(FORGET, before)


async def wake(tx: AnyTx, kind: str, saga_id: UUID, now: datetime) -> None:
    await execute(tx, WAKE, kind, saga_id, now)
