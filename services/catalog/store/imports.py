"""How far imports came, and the rows that they refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.catalog.domain.rows import RefusedRow
from services.chassis.db import AnyTx, Database, fetch, insert_many
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

REFUSED_MAX = 100_000  # Rows kept of one import; more tell nothing new, and are counted.

BEGIN = """
insert into catalog_import (import_id, kind, rows_done, created, updated, unchanged, refused, begin_time,
    update_time)
values ($1, $2, 0, 0, 0, 0, 0, $3, $3) on conflict do nothing
"""
GET = "select * from catalog_import where import_id = $1"
ADD = """
update catalog_import set rows_done = rows_done + $2, created = created + $3, updated = updated + $4,
    unchanged = unchanged + $5, refused = refused + $6, update_time = $7
where import_id = $1
"""
COLUMNS = (
    ("import_id", "uuid"),
    ("row", "bigint"),
    ("line", "bigint"),
    ("subject", "text"),
    ("reason", "text"),
    ("message", "text"),
)
LISTING = Listing({"row": Field(RefusedRow.row)}, order="row", unique="row")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a row was refused."""

    row: int
    line: int  # 0: it came from no file.
    subject: str
    reason: str
    message: str


async def begin(db: Database, import_id: UUID, kind: str, now: datetime) -> Any:
    """The import's row, made if there is none."""
    await db.execute(BEGIN, import_id, kind, now)
    return await db.fetchrow(GET, import_id)


async def get(db: Database, import_id: UUID) -> Any:
    """None when there was no such import."""
    return await db.fetchrow(GET, import_id)


async def lock(tx: AnyTx, import_id: UUID) -> Any:
    return (await fetch(tx, f"{GET} for update", import_id))[0]


async def add(
    tx: AnyTx, import_id: UUID, counts: Sequence[int], refused: Sequence[Refused], now: datetime
) -> None:
    """`counts`: rows done, created, updated, unchanged, refused."""
    await fetch(tx, ADD, import_id, *counts, now)
    if refused:
        rows = [(import_id, r.row, r.line, r.subject, r.reason, r.message) for r in refused]
        await insert_many(tx, "refused_row", COLUMNS, rows)


async def refused(db: Database, import_id: UUID, page: Page) -> Sequence[Any]:
    wanted = select(*RefusedRow.__table__.columns).where(RefusedRow.import_id == import_id)
    sql, arguments = page.sql(wanted)
    return await db.fetch(sql, *arguments)
