"""Products as they are read: written by the projection, listed, fetched and exported."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.catalog.domain.rows import Document, Product
from services.chassis.db import AnyTx, Database, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

EXPORT_ROWS = 100  # Products of one message of an export.

TABLES = ("product", "document", "price_step", "word")
PAYLOADS = "select product_id, payload from document where product_id = any($1::uuid[])"
BY_SKUS = """
select product_id, payload from document
where product_id in (select product_id from sku where sku = any($1::text[]))
"""
BY_SLUG = "select payload from document where product_id = (select product_id from slug where slug = $1)"
PUT = """
insert into product (product_id, version, state, slug, title, brand, product_type_id, category_ids, skus,
    terms, words, create_time, update_time)
select product_id, version, state, slug, title, brand, product_type_id,
    array(select jsonb_array_elements_text(category_ids::jsonb)::uuid),
    array(select jsonb_array_elements_text(skus::jsonb)),
    array(select jsonb_array_elements_text(terms::jsonb)),
    words::tsvector, create_time, update_time
from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[])
    as new (product_id, version, state, slug, title, brand, product_type_id, category_ids, skus, terms, words,
        create_time, update_time)
on conflict (product_id) do update set version = excluded.version, state = excluded.state,
    slug = excluded.slug, title = excluded.title, brand = excluded.brand,
    product_type_id = excluded.product_type_id, category_ids = excluded.category_ids, skus = excluded.skus,
    terms = excluded.terms, words = excluded.words, update_time = excluded.update_time
"""
PUT_DOCUMENTS = """
insert into document (product_id, payload) select * from unnest($1::uuid[], $2::bytea[])
on conflict (product_id) do update set payload = excluded.payload
"""
REMOVE = "delete from product where product_id = any($1::uuid[])"
REMOVE_DOCUMENTS = "delete from document where product_id = any($1::uuid[])"
PUT_WORDS = "insert into word (word) select unnest($1::text[]) on conflict do nothing"
CLEAR_STEPS = "delete from price_step where product_id = any($1::uuid[])"
PUT_STEPS = """
insert into price_step (product_id, currency, valid_from, valid_to, amount)
select * from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::numeric[])
"""
EXPORT = f"""
select product_id, payload from product join document using (product_id)
where ($1::uuid is null or product_id > $1) and ($2::text = '' or state = $2)
    and ($3::uuid[] is null or category_ids && $3)
order by product_id limit {EXPORT_ROWS}
"""
USES_TYPE = "select exists (select from product where product_type_id = $1) as used"
USES_CATEGORY = "select exists (select from product where category_ids && array[$1::uuid]) as used"

LISTING = Listing(
    {
        "create_time": Field(Product.create_time),
        "update_time": Field(Product.update_time),
        "title": Field(Product.title),
        "brand": Field(Product.brand, order=False),
        "slug": Field(Product.slug, order=False),
        "state": Field(
            Product.state, order=False, values={each: each for each in ("DRAFT", "ACTIVE", "ARCHIVED")}
        ),
        "category_ids": Field(Product.category_ids, order=False),
        "product_type_id": Field(Product.product_type_id, order=False, nullable=True),
        "skus": Field(Product.skus, order=False),
        "product_id": Field(Product.product_id, order=False, filter=False),
    },
    order="create_time desc",
    unique="product_id",
)


@dataclass(frozen=True, slots=True)
class Read:
    """A product's row, in the order of PUT; lists are JSON, since arrays of arrays must be rectangular."""

    product_id: UUID
    version: int
    state: str
    slug: str
    title: str
    brand: str
    product_type_id: UUID | None
    category_ids: str
    skus: str
    terms: str
    words: str
    create_time: datetime
    update_time: datetime
    payload: bytes  # Of the document.


COLUMNS = tuple(field.name for field in fields(Read) if field.name != "payload")
Step = tuple[UUID, str, datetime, datetime, Decimal]  # Product, currency, from, to, amount.


def as_json(texts: Sequence[str]) -> str:
    """As a column of Read holds it."""
    return json.dumps(texts)


async def payloads(tx: AnyTx, product_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    rows = await fetch(tx, PAYLOADS, list(product_ids))
    return {row["product_id"]: row["payload"] for row in rows}


async def documents(db: Database, product_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """As `payloads`, outside any transaction."""
    return {row["product_id"]: row["payload"] for row in await db.fetch(PAYLOADS, list(product_ids))}


async def put(tx: AnyTx, reads: Sequence[Read], gone: Sequence[UUID]) -> None:
    """Writes rows over what is there, and removes those that are gone."""
    if gone:
        await execute(tx, REMOVE, list(gone))
        await execute(tx, REMOVE_DOCUMENTS, list(gone))
    if reads:
        ids, payloads = [read.product_id for read in reads], [read.payload for read in reads]
        await execute(tx, PUT_DOCUMENTS, ids, payloads)
        await execute(tx, PUT, *([getattr(read, name) for read in reads] for name in COLUMNS))


async def put_words(tx: AnyTx, words: Iterable[str]) -> None:
    """Sorted, so that two who add several do not wait for each other in a circle."""
    if ordered := sorted(words):
        await execute(tx, PUT_WORDS, ordered)


async def put_steps(tx: AnyTx, product_ids: Sequence[UUID], steps: Sequence[Step]) -> None:
    """The spans of the products, in place of those they had."""
    await execute(tx, CLEAR_STEPS, list(product_ids))
    if steps:
        await execute(tx, PUT_STEPS, *map(list, zip(*steps, strict=True)))


async def by_slug(db: Database, slug: str) -> bytes | None:
    payload: bytes | None = await db.fetchval(BY_SLUG, slug)
    return payload


async def by_skus(db: Database, skus: Sequence[str]) -> list[bytes]:
    return [row["payload"] for row in await db.fetch(BY_SKUS, list(skus))]


async def listed(db: Database, page: Page) -> Sequence[Any]:
    """Rows with `payload` and what may be ordered by."""
    ordering: list[Any] = [Product.create_time, Product.update_time, Product.title]
    wanted = select(Product.product_id, Document.payload, *ordering)
    sql, arguments = page.sql(wanted.join(Document, Document.product_id == Product.product_id))
    return await db.fetch(sql, *arguments)


async def export(
    db: Database, after: UUID | None, state: str, category_ids: Sequence[UUID] | None
) -> Sequence[Any]:
    """The next EXPORT_ROWS by id."""
    return await db.fetch(EXPORT, after, state, category_ids)


async def uses_type(tx: AnyTx, product_type_id: UUID) -> bool:
    return bool((await fetch(tx, USES_TYPE, product_type_id))[0]["used"])


async def uses_category(tx: AnyTx, category_id: UUID) -> bool:
    return bool((await fetch(tx, USES_CATEGORY, category_id))[0]["used"])
