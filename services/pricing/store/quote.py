"""Quotes that are kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, fetch

ADD = """
insert into quote (quote_id, request, customer_id, body, expires_at, created_at)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing returning true
"""
FIND = "select request, customer_id, body, expires_at from quote where quote_id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A row."""

    quote_id: UUID
    request: bytes
    customer_id: UUID | None
    body: bytes
    expires_at: datetime
    created_at: datetime


async def add(db: Database, kept: Kept) -> bool:
    """False: the id is taken."""
    return bool(await db.fetchval(ADD, *(getattr(kept, name) for name in Kept.__slots__)))


async def find(db: Database, quote_id: UUID) -> Any:
    """None: there is none."""
    return await db.fetchrow(FIND, quote_id)


async def found(tx: AnyTx, quote_id: UUID) -> Any:
    """As `find`, in a transaction."""
    rows = await fetch(tx, FIND, quote_id)
    return rows[0] if rows else None
