"""Reservations with their lines; locked before levels are, by id."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.inventory.domain.reservation import (
    Line,
    Reservation,
    ReservationLineRow,
    ReservationRow,
    UnknownReservation,
)

COLUMNS = "reservation_id, state, digest, expire_at, created_at, updated_at"
ADD = f"""
with new as (
    insert into reservation ({COLUMNS})
    select id, 'HELD', digest, expire_at, $4, $4
    from unnest($1::uuid[], $2::bytea[], $3::timestamptz[]) as r (id, digest, expire_at) order by id
    on conflict do nothing returning reservation_id
), lines as (
    insert into reservation_line (reservation_id, sku, location_id, held, committed, released)
    select reservation_id, sku, location_id, held, 0, 0
    from unnest($5::uuid[], $6::text[], $7::uuid[], $8::bigint[])
        as l (reservation_id, sku, location_id, held)
    join new using (reservation_id)
)
select reservation_id from new
"""
BURY = f"""
insert into reservation ({COLUMNS})
select id, 'RELEASED', '', $2, $2, $2 from unnest($1::uuid[]) as r (id) order by id
on conflict do nothing returning reservation_id
"""
GET = f"select {COLUMNS} from reservation where reservation_id = any($1::uuid[])"
LOCK = f"{GET} order by reservation_id for update"
DUE = f"""
select {COLUMNS} from reservation where state = 'HELD' and expire_at <= $1
order by expire_at limit $2 for update skip locked
"""
LINES = """
select reservation_id, sku, location_id, held, committed, released from reservation_line
where reservation_id = any($1::uuid[]) order by sku, location_id
"""
END = """
with heads as (
    update reservation r set state = n.state, expire_at = n.expire_at, updated_at = $4
    from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as n (reservation_id, state, expire_at)
    where r.reservation_id = n.reservation_id
)
update reservation_line l set held = n.held, committed = n.committed, released = n.released
from unnest($5::uuid[], $6::text[], $7::uuid[], $8::bigint[], $9::bigint[], $10::bigint[])
    as n (reservation_id, sku, location_id, held, committed, released)
where (l.reservation_id, l.sku, l.location_id) = (n.reservation_id, n.sku, n.location_id)
"""
NEXT_DUE = "select min(expire_at) as at from reservation where state = 'HELD'"
RESERVATIONS = Listing(
    {
        "create_time": Field(ReservationRow.created_at),
        "expire_time": Field(ReservationRow.expire_at),
        "state": Field(ReservationRow.state, order=False),
        "reservation_id": Field(ReservationRow.reservation_id, order=False),
    },
    "create_time desc",
    "reservation_id",
)


async def add(tx: AnyTx, reservations: Sequence[Reservation], now: datetime) -> set[UUID]:
    """Returns the ids of those that were new; the others are left as they were."""
    if not reservations:
        return set()
    heads = [(each.reservation_id, each.digest, each.expire_at) for each in reservations]
    lines = [
        (each.reservation_id, line.sku, line.location_id, line.held)
        for each in reservations
        for line in each.lines
    ]
    columns = [list(column) for column in zip(*heads, strict=True)]
    of_lines = [list(column) for column in zip(*lines, strict=True)]
    return {row["reservation_id"] for row in await fetch(tx, ADD, *columns, now, *of_lines)}


async def bury(tx: AnyTx, reservation_ids: Collection[UUID], now: datetime) -> set[UUID]:
    """Notes that these ids hold nothing, ever. Returns those that were new."""
    return {row["reservation_id"] for row in await fetch(tx, BURY, list(reservation_ids), now)}


async def lock(tx: AnyTx, reservation_ids: Collection[UUID]) -> dict[UUID, Reservation]:
    return await _whole(tx, await fetch(tx, LOCK, list(reservation_ids)))


async def many(tx: AnyTx, reservation_ids: Collection[UUID]) -> dict[UUID, Reservation]:
    """Without a lock."""
    return await _whole(tx, await fetch(tx, GET, list(reservation_ids)))


async def get(tx: AnyTx, reservation_id: UUID) -> Reservation:
    """Without a lock. Raises UnknownReservation."""
    found = await many(tx, [reservation_id])
    if not found:
        raise UnknownReservation(reservation_id=reservation_id)
    return found[reservation_id]


async def lock_due(tx: AnyTx, now: datetime, most: int) -> dict[UUID, Reservation]:
    """Of those whose time has run out the first, but for those that somebody has in hand."""
    return await _whole(tx, await fetch(tx, DUE, now, most))


async def next_due(tx: AnyTx) -> datetime | None:
    at: datetime | None = (await fetch(tx, NEXT_DUE))[0]["at"]
    return at


async def _whole(tx: AnyTx, rows: Sequence[Any]) -> dict[UUID, Reservation]:
    made = {row["reservation_id"]: Reservation(*row.values()) for row in rows}
    if made:
        for row in await fetch(tx, LINES, list(made)):
            reservation_id, *values = row.values()
            made[reservation_id].lines.append(Line(*values))
    return made


async def write(tx: AnyTx, reservations: Sequence[Reservation], now: datetime) -> None:
    """These are locked, and have lines."""
    heads = [(each.reservation_id, each.state, each.expire_at) for each in reservations]
    lines = [
        (each.reservation_id, line.sku, line.location_id, line.held, line.committed, line.released)
        for each in reservations
        for line in each.lines
    ]
    columns = [list(column) for column in zip(*heads, strict=True)]
    await execute(tx, END, *columns, now, *(list(column) for column in zip(*lines, strict=True)))


async def page(tx: Tx, page: Page, sku: str) -> tuple[list[Reservation], str]:
    """Reservations, and the next page's token. With a SKU those that hold some of it."""
    wanted = select(ReservationRow)
    if sku:
        holding = (ReservationLineRow.sku == sku, ReservationLineRow.held > 0)
        holders = select(ReservationLineRow.reservation_id).where(*holding)
        wanted = wanted.where(ReservationRow.reservation_id.in_(holders))
    rows, token = page.cut((await tx.scalars(page.select(wanted))).all())
    found: Mapping[UUID, Reservation] = await many(tx, [row.reservation_id for row in rows]) if rows else {}
    return [found[row.reservation_id] for row in rows if row.reservation_id in found], token
