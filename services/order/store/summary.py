"""Orders as lists show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import cast, func, select
from sqlalchemy.dialects.postgresql import TSQUERY

from services.chassis.db import AnyTx, Database, execute, insert_many
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.order.domain.rows import Detail, Summary
from services.order.domain.states import OrderState

STATES = {each.value: each.value for each in OrderState}
FILTERS = {
    "customer_id": Field(Summary.customer_id, nullable=True, order=False),
    "state": Field(Summary.state, order=False, values=STATES),
    "currency": Field(Summary.currency, order=False),
    "country": Field(Summary.country, order=False),
    "reference": Field(Summary.reference, order=False),
    "imported": Field(Summary.imported, order=False),
    "update_time": Field(Summary.updated_at, order=False),
}
ORDERS = Listing(
    {
        **FILTERS,
        "create_time": Field(Summary.created_at),
        "gross_minor": Field(Summary.gross_minor),
        "order_id": Field(Summary.order_id, order=False),
    },
    "create_time desc",
    "order_id",
)
# By the details' own time and id, so that one index gives their words in order.
FOUND = Listing(
    {
        **FILTERS,
        "gross_minor": Field(Summary.gross_minor, order=False),
        "create_time": Field(Detail.created_at),
        "order_id": Field(Detail.order_id, order=False),
    },
    "create_time desc",
    "order_id",
)
COLUMNS = (
    ("order_id", "uuid"),
    ("customer_id", "uuid"),
    ("reference", "text"),
    ("currency", "text"),
    ("country", "text"),
    ("state", "text"),
    ("lines", "int"),
    ("gross_minor", "bigint"),
    ("refunded_minor", "bigint"),
    ("imported", "boolean"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
)
CHANGE = """
update order_summary set state = coalesce(new.state, order_summary.state),
    refunded_minor = refunded_minor + new.refunded, updated_at = new.at
from unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[]) as new (order_id, state, refunded, at)
where order_summary.order_id = new.order_id
"""


@dataclass
class Changed:
    """What events of one transaction say of an order that was there before."""

    at: datetime
    state: str | None = None
    refunded: int = 0


async def add(tx: AnyTx, rows: Sequence[Sequence[Any]]) -> None:
    """New orders; each row has COLUMNS."""
    if rows:
        await insert_many(tx, "order_summary", COLUMNS, rows)


async def change(tx: AnyTx, changes: Mapping[UUID, Changed]) -> None:
    if changes:
        each = list(changes.values())
        columns = [one.state for one in each], [one.refunded for one in each], [one.at for one in each]
        await execute(tx, CHANGE, list(changes), *columns)


async def page(db: Database, page: Page, customer_id: UUID | None) -> tuple[Sequence[Any], str]:
    """Orders of a customer, or of anybody, and the next page's token."""
    wanted = select(Summary.__table__)
    if customer_id:
        wanted = wanted.where(Summary.customer_id == customer_id)
    sql, args = page.sql(wanted)
    return page.cut(await db.search(sql, *args))


async def found(db: Database, page: Page, query: str) -> tuple[Sequence[Any], str]:
    """Orders that have the words of a tsquery."""
    wanted = (
        select(Summary.__table__)
        .join(Detail, Detail.order_id == Summary.order_id)
        .where(Detail.words.op("@@")(cast(query, TSQUERY)))
    )
    sql, args = page.sql(wanted)
    return page.cut(await db.search(sql, *args))


async def count(db: Database) -> int:
    """About how many there are."""
    return int(await db.fetchval(str(select(func.count()).select_from(Summary))))
