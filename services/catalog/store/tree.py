"""Categories and product types as they are read, and the lock that keeps the tree a tree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.catalog.domain.rows import Category, ProductType
from services.chassis.db import AnyTx, Database, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

CATEGORY_TABLES, TYPE_TABLES = ("category",), ("product_type",)

# Who changes the tree or the types has it alone; who names a category or a type shares it, so that what
# was found there stays until the transaction ends. It is taken before any other lock.
LOCK_TREE = "select pg_advisory_xact_lock(hashtextextended('catalog.tree', 2))"
SHARE_TREE = "select pg_advisory_xact_lock_shared(hashtextextended('catalog.tree', 2))"

NAMED = """
select category_id, ancestor_ids, product_type_id from category where category_id = any($1::uuid[])
union
select category_id, ancestor_ids, product_type_id from category where category_id in
    (select unnest(ancestor_ids) from category where category_id = any($1::uuid[]))
"""
TYPES = "select product_type_id, payload from product_type where product_type_id = any($1::uuid[])"
CATEGORIES = "select * from category where category_id = any($1::uuid[])"
BELOW = "select category_id from category where category_id = $1 or ancestor_ids @> array[$1::uuid]"
HAS_CHILDREN = "select exists (select from category where parent_id = $1) as used"
USES_TYPE = "select exists (select from category where product_type_id = $1) as used"
# The way to what hangs below `parent`. An append to null would make an array of one null.
ABOVE = """case when parent.category_id is null then array[]::uuid[]
    else parent.ancestor_ids || parent.category_id end"""
PUT_CATEGORY = f"""
insert into category (category_id, version, parent_id, ancestor_ids, depth, position, name, product_type_id,
    payload, create_time, update_time)
select $1::uuid, $2, $3::uuid, {ABOVE},
    coalesce(parent.depth + 1, 0), $4, $5, $6::uuid, $7, $8::timestamptz, $8
from (select) as one left join category as parent on parent.category_id = $3
on conflict (category_id) do update set version = excluded.version, position = excluded.position,
    name = excluded.name, product_type_id = excluded.product_type_id, payload = excluded.payload,
    update_time = excluded.update_time
"""
MOVE_CATEGORY = """
update category set parent_id = $2::uuid, version = $3, update_time = $4 where category_id = $1
"""
# The way to whatever hangs there: the new way to the category, then the old one from it on.
MOVE_BELOW = f"""
update category set
    ancestor_ids = moved.above || ancestor_ids[moved.old_depth + 1:],
    depth = depth - moved.old_depth + cardinality(moved.above)
from (
    select it.depth::int as old_depth, {ABOVE} as above
    from category as it left join category as parent on parent.category_id = $2 where it.category_id = $1
) as moved
where category_id = $1 or ancestor_ids @> array[$1::uuid]
"""
REMOVE_CATEGORY = "delete from category where category_id = $1"
PUT_TYPE = """
insert into product_type (product_type_id, version, name, payload, create_time, update_time)
values ($1, $2, $3, $4, $5, $5)
on conflict (product_type_id) do update set version = excluded.version, name = excluded.name,
    payload = excluded.payload, update_time = excluded.update_time
"""
REMOVE_TYPE = "delete from product_type where product_type_id = $1"

CATEGORY_LISTING = Listing(
    {
        "position": Field(Category.position),
        "name": Field(Category.name),
        "depth": Field(Category.depth),
        "create_time": Field(Category.create_time),
        "parent_id": Field(Category.parent_id, order=False, nullable=True),
        "ancestor_ids": Field(Category.ancestor_ids, order=False),
        "category_id": Field(Category.category_id, order=False, filter=False),
    },
    order="position, name",
    unique="category_id",
)
TYPE_LISTING = Listing(
    {
        "name": Field(ProductType.name),
        "product_type_id": Field(ProductType.product_type_id, order=False, filter=False),
    },
    order="name",
    unique="product_type_id",
)


@dataclass(frozen=True, slots=True)
class Named:
    """What a category means for products in it."""

    ancestor_ids: tuple[UUID, ...]
    product_type_id: UUID | None


@dataclass(frozen=True, slots=True)
class CategoryRead:
    """A category's row, but for its place in the tree, which the store knows."""

    category_id: UUID
    version: int
    parent_id: UUID | None
    position: int
    name: str
    product_type_id: UUID | None
    payload: bytes
    at: datetime


async def lock(tx: AnyTx) -> None:
    await execute(tx, LOCK_TREE)


async def share(tx: AnyTx) -> None:
    await execute(tx, SHARE_TREE)


async def named(tx: AnyTx, category_ids: Iterable[UUID]) -> dict[UUID, Named]:
    """The categories and all above them."""
    rows = await fetch(tx, NAMED, list(category_ids))
    return {row["category_id"]: Named(tuple(row["ancestor_ids"]), row["product_type_id"]) for row in rows}


async def types(tx: AnyTx, product_type_ids: Iterable[UUID]) -> dict[UUID, bytes]:
    rows = await fetch(tx, TYPES, list(product_type_ids))
    return {row["product_type_id"]: row["payload"] for row in rows}


async def categories(source: Database, category_ids: Sequence[UUID]) -> dict[UUID, Any]:
    rows = await source.fetch(CATEGORIES, list(category_ids))
    return {row["category_id"]: row for row in rows}


async def ancestors(db: Database, category_ids: Iterable[UUID]) -> dict[UUID, Named]:
    """As `named`, outside any transaction."""
    rows = await db.fetch(NAMED, list(category_ids))
    return {row["category_id"]: Named(tuple(row["ancestor_ids"]), row["product_type_id"]) for row in rows}


async def below(db: Database, category_id: UUID) -> list[UUID]:
    """The category and all below it; nothing when there is no such."""
    return [row["category_id"] for row in await db.fetch(BELOW, category_id)]


async def has_children(tx: AnyTx, category_id: UUID) -> bool:
    return bool((await fetch(tx, HAS_CHILDREN, category_id))[0]["used"])


async def uses_type(tx: AnyTx, product_type_id: UUID) -> bool:
    return bool((await fetch(tx, USES_TYPE, product_type_id))[0]["used"])


async def put_category(tx: AnyTx, read: CategoryRead) -> None:
    """A new one below its parent; of one that is there, all but its place."""
    place = (read.category_id, read.version, read.parent_id, read.position)
    await execute(tx, PUT_CATEGORY, *place, read.name, read.product_type_id, read.payload, read.at)


async def move_category(
    tx: AnyTx, category_id: UUID, parent_id: UUID | None, version: int, at: datetime
) -> None:
    await execute(tx, MOVE_BELOW, category_id, parent_id)
    await execute(tx, MOVE_CATEGORY, category_id, parent_id, version, at)


async def remove_category(tx: AnyTx, category_id: UUID) -> None:
    await execute(tx, REMOVE_CATEGORY, category_id)


async def put_type(
    tx: AnyTx, product_type_id: UUID, version: int, name: str, payload: bytes, at: datetime
) -> None:
    await execute(tx, PUT_TYPE, product_type_id, version, name, payload, at)


async def remove_type(tx: AnyTx, product_type_id: UUID) -> None:
    await execute(tx, REMOVE_TYPE, product_type_id)


async def listed_categories(db: Database, page: Page, parent: str) -> Sequence[Any]:
    """Of one parent, of `root`, or (empty) all."""
    statement = select(*Category.__table__.columns)
    if parent == "root":
        statement = statement.where(Category.parent_id.is_(None))
    elif parent:
        statement = statement.where(Category.parent_id == UUID(parent))
    sql, arguments = page.sql(statement)
    return await db.fetch(sql, *arguments)


async def listed_types(db: Database, page: Page) -> Sequence[Any]:
    sql, arguments = page.sql(select(*ProductType.__table__.columns))
    return await db.fetch(sql, *arguments)
