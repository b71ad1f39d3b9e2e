"""Entries, read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select

from services.chassis.db import AnyTx, Database, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.ledger.domain.distribution import POSTINGS_MAX
from services.ledger.domain.entry import Entry, EntryRow, Kind, UnknownTransfer
from services.ledger.store.writing import COLUMNS, entry

FIELDS = {
    "sequence": Field(EntryRow.sequence),
    "transfer_id": Field(EntryRow.transfer_id, order=False),
    "reference": Field(EntryRow.reference, order=False),
    "code": Field(EntryRow.code, order=False),
    "kind": Field(EntryRow.kind, order=False, values={kind.name: kind.value for kind in Kind}),
    "currency": Field(EntryRow.currency, order=False),
    "pending_id": Field(EntryRow.pending_id, nullable=True, order=False),
    "owner_id": Field(EntryRow.memo_owner_id, order=False),
    "effective_time": Field(EntryRow.effective_at, order=False),
    "record_time": Field(EntryRow.recorded_at, order=False),
    "amount_minor": Field(EntryRow.amount_minor, order=False),
    "debit_account_id": Field(EntryRow.debit_account_id, order=False),
    "credit_account_id": Field(EntryRow.credit_account_id, order=False),
}
TRANSFERS = Listing(FIELDS, "sequence desc", "sequence")
GET = f"select {COLUMNS} from entry where transfer_id = $1"
PLACES = f"select {COLUMNS} from entry where transfer_id = any($1::uuid[]) order by sequence"
RESOLUTIONS = "select pending_id, transfer_id from entry where pending_id = any($1::uuid[])"
AFTER = f"select {COLUMNS} from entry where sequence > $1 order by sequence limit $2"
MOVEMENTS = """
select * from (
    (select transfer_id, credit_account_id as other, amount_minor as debit, code, reference, effective_at,
        recorded_at, sequence
    from entry where debit_account_id = $1 and kind in (1, 3) and effective_at < $5
        and (effective_at, sequence) > ($2, $3)
    order by effective_at, sequence limit $4)
    union all
    (select transfer_id, debit_account_id, -amount_minor, code, reference, effective_at, recorded_at, sequence
    from entry where credit_account_id = $1 and kind in (1, 3) and effective_at < $5
        and (effective_at, sequence) > ($2, $3)
    order by effective_at, sequence limit $4)
) as movement order by effective_at, sequence limit $4
"""


async def get(db: Database, transfer_id: UUID) -> tuple[Entry, dict[UUID, UUID]]:
    """The entry, and what resolved it. Raises UnknownTransfer."""
    row = await db.fetchrow(GET, transfer_id)
    if row is None:
        raise UnknownTransfer(transfer_id=transfer_id)
    found = entry(row)
    return found, await _resolutions(db, [found])


async def of_distribution(tx: AnyTx, distribution_id: UUID) -> list[Entry]:
    """What it booked, in order; nothing if it never was."""
    if not await fetch(tx, GET, uuid5(distribution_id, "0")):
        return []
    ids = [uuid5(distribution_id, str(place)) for place in range(POSTINGS_MAX)]
    return [entry(row) for row in await fetch(tx, PLACES, ids)]


async def page(db: Database, page: Page) -> tuple[list[Entry], dict[UUID, UUID], str]:
    """Entries, what resolved the pending ones among them, and the next page's token."""
    columns = [getattr(EntryRow, name) for name in COLUMNS.split(", ")]
    sql, values = page.sql(select(*columns))
    rows, token = page.cut(await db.fetch(sql, *values))
    entries = [entry(row) for row in rows]
    return entries, await _resolutions(db, entries), token


async def _resolutions(db: Database, entries: Sequence[Entry]) -> dict[UUID, UUID]:
    pending = [each.transfer_id for each in entries if each.kind == Kind.PENDING]
    if not pending:
        return {}
    return {row["pending_id"]: row["transfer_id"] for row in await db.fetch(RESOLUTIONS, pending)}


async def after(db: Database, sequence: int, most: int) -> list[Entry]:
    """The next entries of the ledger, in order."""
    return [entry(row) for row in await db.fetch(AFTER, sequence, most)]


async def movements(
    db: Database, account_id: UUID, after: tuple[datetime, int], end: datetime, most: int
) -> Sequence[Any]:
    """Posted movements of an account behind a place (effective time, sequence) and before `end`."""
    rows: Sequence[Any] = await db.fetch(MOVEMENTS, account_id, *after, most, end)
    return rows
