"""The queries that are more than one `tx.get`."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert

from services.audit.domain import CHAIN, Anchor, Entry, Head, UnknownEntry
from services.chassis.db import Tx

BATCH_MAX = 500  # Rows in hand while the chain is walked or exported.


async def append(tx: Tx, entries: Sequence[Entry]) -> None:
    """Puts those that are not there yet at the end of the chain; the next append waits until `tx` ends."""
    head = await tx.get_one(Head, CHAIN, with_for_update=True, populate_existing=True)
    ids = [entry.event_id for entry in entries]
    known = set(await tx.scalars(select(Entry.event_id).where(Entry.event_id.in_(ids))))
    fresh = [entry for entry in entries if entry.event_id not in known]
    for entry in fresh:
        head.append(entry)
    if fresh:
        columns = [column.key for column in Entry.__table__.columns]
        rows = [{column: getattr(entry, column) for column in columns} for entry in fresh]
        await tx.execute(insert(Entry), rows)


async def head(tx: Tx) -> Head:
    return await tx.get_one(Head, CHAIN, populate_existing=True)


async def found(tx: Tx, sequence: int, subject_id: str) -> Entry:
    """Raises UnknownEntry, also when the entry is about another person than `subject_id`."""
    entry = await tx.get(Entry, sequence)
    if entry is None or subject_id not in ("", entry.subject_id):
        raise UnknownEntry(sequence=sequence)
    return entry


async def after(
    tx: Tx, sequence: int, *conditions: ColumnElement[bool], last: int | None = None
) -> Sequence[Entry]:
    """The next entries, oldest first, up to `last`."""
    wanted = select(Entry).where(Entry.sequence > sequence, *conditions)
    if last is not None:
        wanted = wanted.where(Entry.sequence <= last)
    return (await tx.scalars(wanted.order_by(Entry.sequence).limit(BATCH_MAX))).all()


async def anchors(tx: Tx, first: int) -> Sequence[Anchor]:
    """Those that cover `first` or later, oldest first."""
    wanted = select(Anchor).where(Anchor.sequence >= first).order_by(Anchor.sequence)
    return (await tx.scalars(wanted)).all()


async def last_anchored(tx: Tx) -> int:
    """Sequence of the newest anchor; 0 when there is none."""
    return await tx.scalar(select(func.coalesce(func.max(Anchor.sequence), 0))) or 0


async def keep(tx: Tx, anchor: Anchor) -> bool:
    """False when another process anchored this entry."""
    fields = {column.key: getattr(anchor, column.key) for column in Anchor.__table__.columns}
    new = insert(Anchor).values(fields).on_conflict_do_nothing(index_elements=["sequence"])
    return (await tx.execute(new.returning(Anchor.sequence))).first() is not None
