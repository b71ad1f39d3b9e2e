"""The order of changes, and what watchers are told of them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import DateTime, func, select

from services.chassis.db import Database, Tx
from services.registry.domain.instance import CHANGES_KEPT, Change, RevisionOutOfRange
from services.registry.domain.row import State

CHANGES_READ_MAX = 500  # Of one look; each is about 300 bytes.
NOW = "select clock_timestamp()"
REVISION = "select revision from registry_state"
# Dense or not: what is forgotten is below `trimmed_to`, whoever looks while it is being forgotten.
TRIM = """
with trimmed as (
    update registry_state set trimmed_to = revision - $1::bigint
    where trimmed_to < revision - 2 * $1::bigint
    returning trimmed_to
)
delete from instance_change using trimmed where instance_change.revision <= trimmed.trimmed_to
"""


async def locked(tx: Tx) -> State:
    """Nobody else changes what clients see until `tx` ends. Taken before any other row's lock."""
    return (await tx.scalars(select(State).with_for_update())).one()


async def clock(tx: Tx) -> datetime:
    """The database's, now."""
    return (await tx.scalars(select(func.clock_timestamp(type_=DateTime(timezone=True))))).one()


async def revision(db: Database) -> int:
    """The last change that is committed."""
    return int(await db.fetchval(REVISION))


async def now(db: Database) -> datetime:
    """The database's clock."""
    at: datetime = await db.fetchval(NOW)
    return at


async def changes(tx: Tx, after: int, service: str) -> tuple[Sequence[Change], int]:
    """Some of the changes after a revision, in order, and up to which revision they are all.

    Raises RevisionOutOfRange.
    """
    state = (await tx.scalars(select(State))).one()
    if not state.trimmed_to <= after <= state.revision:
        raise RevisionOutOfRange(after=after)
    wanted = select(Change).where(Change.revision > after, Change.revision <= state.revision)
    if service:
        wanted = wanted.where(Change.service == service)
    rows = (await tx.scalars(wanted.order_by(Change.revision).limit(CHANGES_READ_MAX))).all()
    return rows, rows[-1].revision if len(rows) == CHANGES_READ_MAX else state.revision


async def trim(db: Database) -> None:
    """Forgets changes that are older than the newest CHANGES_KEPT, a whole lot of them at a time."""
    await db.execute(TRIM, CHANGES_KEPT)


def tell(tx: Tx, revision: int, service: str, body: bytes, *, gone: bool = False) -> None:
    """Writes down what watchers are told."""
    tx.add(Change(revision=revision, service=service, gone=gone, body=body))


async def at(tx: Tx) -> int:
    """The revision that `tx` sees."""
    return (await tx.scalars(select(State))).one().revision
