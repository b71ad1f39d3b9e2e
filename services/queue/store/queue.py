"""Queues and routing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from services.chassis.db import AnyTx, Tx, execute
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.queue.domain.queue import (
    QUEUES_MAX,
    Kind,
    Openness,
    Queue,
    TooManyQueues,
    UnknownQueue,
)

LISTING = Listing(
    {
        "queue": Field(Queue.queue),
        "kind": Field(Queue.kind, order=False, values={kind.name: int(kind) for kind in Kind}),
        "state": Field(Queue.state, order=False, values={state.name: int(state) for state in Openness}),
    },
    order="queue",
    unique="queue",
)
ROUTING = "select rules, revision, update_time from routing"
ROUTE = """
update routing set rules = cast(:rules as jsonb), revision = revision + 1, update_time = :now
returning rules, revision, update_time
"""


PURGED = "update queue set purged_sequence = greatest(purged_sequence, $2) where queue = $1"


async def purged(tx: AnyTx, queue: str, up_to: int) -> None:
    """Messages up to that sequence may be of jobs that were purged."""
    await execute(tx, PURGED, queue, up_to)


async def get(tx: Tx, queue: str, *, lock: bool = False) -> Queue:
    """With `lock`, nobody else changes it until `tx` ends. Raises UnknownQueue."""
    found = await tx.get(Queue, queue, with_for_update=lock)
    if found is None:
        raise UnknownQueue(queue=queue)
    return found


async def add(tx: Tx, new: Queue) -> bool:
    """Writes it if its name is free. Returns whether it was. Raises TooManyQueues."""
    if (await tx.scalar(select(func.count()).select_from(Queue)) or 0) >= QUEUES_MAX:
        raise TooManyQueues(max=QUEUES_MAX)
    values = {column.key: getattr(new, column.key) for column in Queue.__table__.columns}
    statement = insert(Queue).values(values).on_conflict_do_nothing()
    made = await tx.scalar(statement.returning(Queue.queue)) is not None
    await tx.execute(text("delete from retired_queue where queue = :queue"), {"queue": new.queue})
    return made


async def delete(tx: Tx, queue: Queue) -> None:
    """Its name is kept, for the record of its jobs."""
    await tx.delete(queue)
    keep = text("insert into retired_queue (queue) values (:queue) on conflict do nothing")
    await tx.execute(keep, {"queue": queue.queue})


async def rows(tx: Tx, page: Page) -> Sequence[Queue]:
    """Those of the page, and one more if another page follows."""
    return (await tx.scalars(page.select(select(Queue)))).all()


async def every(tx: Tx) -> Sequence[Queue]:
    return (await tx.scalars(select(Queue).order_by(Queue.queue))).all()


async def routing(tx: Tx, *, lock: bool = False) -> Any:
    """Rules (JSON), revision and time."""
    return (await tx.execute(text(f"{ROUTING} for update" if lock else ROUTING))).one()


async def replace_routing(tx: Tx, rules: str, now: datetime) -> Any:
    return (await tx.execute(text(ROUTE), {"rules": rules, "now": now})).one()
