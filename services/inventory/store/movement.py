"""Movements, and the requests that made them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from services.chassis.clock import uuid7
from services.chassis.db import AnyTx, Conflict, Tx, fetch, insert_many
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.inventory.domain.movement import Moved, Movement, OperationIdReused

COLUMNS = (
    ("movement_id", "uuid"),
    ("sku", "text"),
    ("location_id", "uuid"),
    ("kind", "text"),
    ("reason", "text"),
    ("units", "bigint"),
    ("on_hand", "bigint"),
    ("operation_id", "uuid"),
    ("reference", "text"),
    ("actor", "text"),
    ("effective_at", "timestamptz"),
    ("created_at", "timestamptz"),
)
BEGIN = """
insert into operation (operation_id, digest, at) values ($1, $2, $3)
on conflict do nothing returning operation_id
"""
FIND = "select operation_id, digest from operation where operation_id = any($1::uuid[])"
MOVEMENTS = Listing(
    {
        "sku": Field(Movement.sku, order=False),
        "location_id": Field(Movement.location_id, order=False),
        "kind": Field(Movement.kind, order=False),
        "reason": Field(Movement.reason, order=False),
        "reference": Field(Movement.reference, order=False),
        "operation_id": Field(Movement.operation_id, order=False),
        "actor": Field(Movement.actor, order=False),
        "units": Field(Movement.units, order=False),
        "effective_time": Field(Movement.effective_at),
        "create_time": Field(Movement.created_at),
        "movement_id": Field(Movement.movement_id, order=False),
    },
    "create_time desc",
    "movement_id",
)


async def add(tx: AnyTx, movements: Sequence[Moved], now: datetime) -> None:
    if movements:
        await insert_many(tx, "movement", COLUMNS, [_row(each, now) for each in movements])


def _row(moved: Moved, now: datetime) -> tuple[object, ...]:
    cause = moved.cause
    what = (uuid7(now), moved.sku, moved.location_id, cause.kind, cause.reason, moved.units, moved.on_hand)
    return (
        *what,
        cause.operation_id,
        cause.reference,
        cause.actor,
        cause.effective_at or now,
        now,
    )


async def page(tx: Tx, page: Page) -> tuple[Sequence[Movement], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Movement)))).all())


async def begin(tx: AnyTx, operation_id: UUID, digest: bytes, now: datetime) -> bool:
    """False: it was done before. Waits for a rival that is at it. Raises OperationIdReused."""
    if await fetch(tx, BEGIN, operation_id, digest, now):
        return True
    check((await done(tx, [operation_id]))[operation_id], operation_id, digest)
    return False


async def claim(tx: AnyTx, operation_id: UUID, digest: bytes, now: datetime) -> None:
    """Raises Conflict when another has taken the id since it was looked for."""
    if not await fetch(tx, BEGIN, operation_id, digest, now):
        raise Conflict


async def done(tx: AnyTx, operation_ids: Sequence[UUID]) -> Mapping[UUID, bytes]:
    """The digests of those that were done before."""
    if not operation_ids:
        return {}
    return {row["operation_id"]: row["digest"] for row in await fetch(tx, FIND, list(operation_ids))}


def check(before: bytes, operation_id: UUID, digest: bytes) -> None:
    """Raises OperationIdReused."""
    if before != digest:
        raise OperationIdReused(operation_id=operation_id)
