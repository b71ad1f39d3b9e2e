"""Tables that are a function of the service's own events, and can be made anew while they are in use.

A rebuild replays the event table into copies of the tables, side by side with live traffic. At the end it
stops the writers for as long as the last few events take, and puts the copies in place in one transaction.
The handler must be a pure function of events and tables: no clock, no ids of its own, and unqualified
table names. A handler of many events at once makes of them what it would make of each in turn. The tables
have neither foreign keys nor triggers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from services.chassis.db import AnyTx, Conflict, Database, DatabaseBusy, Tx, execute, fetch
from services.chassis.event_store import decode
from services.chassis.events import COLUMNS, Envelope, envelope, settle
from services.chassis.inbox import Handler

BATCH_MAX = 500  # Events replayed in one transaction.
TAIL_MAX = 200  # Events left to replay while the writers wait: some tens of milliseconds.
SWAP_ATTEMPTS_MAX = 10  # A swap gives way to a writer that it would deadlock with.
SWAP_RETRY_S = 0.2

PLACE = "insert into projection (name, rebuilt_to) values ($1, 0) on conflict do nothing"
REBUILT_TO = "select rebuilt_to from projection where name = $1"
NEXT = f"""
select {COLUMNS} from event
where position > $1 and (cardinality($2::text[]) = 0 or type = any($2)) order by position limit {BATCH_MAX}
"""
LAST = "select coalesce(max(position), 0) as position from event"
INDEXES = """
select indexname as name, regexp_replace(indexdef, ' INDEX .* ON [^ ]+ ', ' ') as definition
from pg_indexes where schemaname = $1 and tablename = $2 order by definition, name
"""

ManyHandler = Callable[[Sequence[tuple[Any, Envelope]], Any], Awaitable[None]]  # In either kind of Tx.

log = logging.getLogger("weft.projections")


@dataclass(frozen=True)
class Projection:
    """What keeps some tables up to date. `types` restricts the events; none means all of the service's."""

    name: str
    tables: Sequence[str]
    handler: Handler | None = None
    types: Sequence[type[Message]] = ()
    many: ManyHandler | None = None  # Stands in for `handler`: all events of a transaction at once.

    async def apply(self, event: Any, of: Envelope, tx: Tx) -> None:
        """Takes one event in. Call it after `emit`, or as the handler of a consumer of the own events."""
        await self.apply_all([(event, of)], tx)

    async def apply_all(self, events: Sequence[tuple[Any, Envelope]], tx: AnyTx) -> None:
        """As `apply`, for the events of one transaction in their order."""
        rebuilt = await fetch(tx, f"{REBUILT_TO} for share", self.name)
        if not rebuilt:
            await execute(tx, PLACE, self.name)
            rebuilt = await fetch(tx, f"{REBUILT_TO} for share", self.name)
        new = [each for each in events if each[1].position > rebuilt[0]["rebuilt_to"]]
        if new:
            await self.take(new, tx)

    async def take(self, events: Sequence[tuple[Any, Envelope]], tx: Any) -> None:
        """Hands the events to whichever handler there is."""
        if self.many:
            await self.many(events, tx)
            return
        assert self.handler, "a projection has a handler"
        for event, of in events:
            await self.handler(event, of, tx)

    @property
    def shadow(self) -> str:
        """The schema of the copies."""
        return f"rebuild_{self.name}"


async def rebuild(db: Database, projection: Projection) -> int:
    """Makes the tables anew. Returns up to which position. Raises Conflict when writers never let it."""
    async with db.leases.hold(f"rebuild.{projection.name}"):
        await _make_copies(db, projection)
        position = await _replay(db, projection)
        for attempt in range(1, SWAP_ATTEMPTS_MAX + 1):
            try:
                return await _finish(db, projection, position)
            except (Conflict, DatabaseBusy):
                if attempt == SWAP_ATTEMPTS_MAX:
                    raise
                log.info("the swap gives way", extra={"facts": {"projection": projection.name}})
                await asyncio.sleep(SWAP_RETRY_S)
    raise AssertionError("unreachable")


async def _make_copies(db: Database, projection: Projection) -> None:
    async with db.transaction() as tx:
        await execute(tx, PLACE, projection.name)
        await execute(tx, f"drop schema if exists {projection.shadow} cascade")
        await execute(tx, f"create schema {projection.shadow}")
        for table in projection.tables:
            copy = f"{projection.shadow}.{table}"
            await execute(tx, f"create table {copy} (like {table} including all)")


async def _replay(db: Database, projection: Projection) -> int:
    """Replays what no open transaction can come before, until little is left. Returns up to where."""
    position = 0
    while True:
        settled = await db.fetchval(LAST)
        await settle(db)
        if settled - position <= TAIL_MAX:
            return position
        while position < settled:
            async with db.transaction() as tx:
                position = await _replay_some(tx, projection, position, settled)


async def _replay_some(tx: Tx, projection: Projection, position: int, end: int) -> int:
    """Replays a batch into the copies. Returns up to where."""
    await execute(tx, f"set local search_path = {projection.shadow}, public")
    names = [kind.DESCRIPTOR.full_name for kind in projection.types]
    rows = [row for row in await fetch(tx, NEXT, position, names) if row["position"] <= end]
    events = [envelope(row) for row in rows]
    await projection.take([(decode(event), event) for event in events], tx)
    return rows[-1]["position"] if len(rows) == BATCH_MAX else end


async def _finish(db: Database, projection: Projection, position: int) -> int:
    """The last events and the swap, while nobody writes events."""
    async with db.transaction() as tx:
        await execute(tx, "lock table event in share row exclusive mode")
        await execute(tx, f"{REBUILT_TO} for update", projection.name)
        end: int = (await fetch(tx, LAST))[0]["position"]
        while position < end:
            position = await _replay_some(tx, projection, position, end)
        await execute(tx, "set local search_path = public")
        for table in projection.tables:
            await _swap(tx, projection.shadow, table)
        await execute(tx, f"drop schema {projection.shadow}")
        await execute(tx, "update projection set rebuilt_to = $2 where name = $1", projection.name, end)
    return end


async def _swap(tx: Tx, shadow: str, table: str) -> None:
    """Puts the copy in the table's place, its indexes under their old names."""
    old, new = await fetch(tx, INDEXES, "public", table), await fetch(tx, INDEXES, shadow, table)
    await execute(tx, f"drop table public.{table}")
    await execute(tx, f"alter table {shadow}.{table} set schema public")
    for before, now in zip(old, new, strict=True):
        if before["name"] != now["name"]:
            await execute(tx, f"alter index public.{now['name']} rename to {before['name']}")
