"""Products found by words, facets, category, price and stock, a page at a time; their facets, counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    MetaData,
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    cast,
    func,
    join,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from services.catalog.domain.rows import Product
from services.chassis.db import Database
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

PAGE_SIZE = 20  # What a shop shows at once.
FACET_VALUES_MAX = 50  # Of one facet: more are no choice any more.
RANK_SCALE = 1_000_000  # ts_rank lies between 0 and 1; a page's end is marked by a whole number.
READINGS_MAX = 5  # Words that a misspelled one is read as.
SPELLING_MIN = 0.3  # Similarity of trigrams; pg_trgm's own default.

# Words that no product has, whole or as a beginning, and what is spelled like them.
KNOWN = """
select asked from unnest($1::text[]) as asked
where exists (select from word where word >= asked and word < asked || U&'\\+10FFFF')
"""
ALIKE = f"""
select asked, found.word from unnest($1::text[]) as asked, lateral (
    select word, similarity(word, asked) as alike from word where word % asked
    order by alike desc, word limit {READINGS_MAX}
) as found
where alike >= {SPELLING_MIN} order by asked, alike desc, word
"""

_outside = MetaData()
STEP = Table(
    "price_step",
    _outside,
    Column("product_id", Uuid),
    Column("currency", Text),
    Column("valid_from", DateTime(timezone=True)),
    Column("valid_to", DateTime(timezone=True)),
    Column("amount", Numeric),
)
IN_STOCK = Table("in_stock", _outside, Column("product_id", Uuid))
ORDERS = ("relevance", "price", "title", "create_time")


@dataclass(frozen=True)
class Wanted:
    """What a search asks for."""

    at: datetime
    query: str = ""  # As PostgreSQL reads a tsquery; empty: any words.
    category_ids: Sequence[UUID] | None = None  # The category and all below it; None: any.
    terms: Mapping[str, Sequence[str]] = field(default_factory=dict)  # `facet=value`, by facet; all hold.
    currency: str = ""
    least: Decimal | None = None
    most: Decimal | None = None
    in_stock: bool = False
    by_price: bool = False

    @property
    def priced(self) -> bool:
        """Whether only products that have a price are found."""
        return self.by_price or self.least is not None or self.most is not None


def _conditions(wanted: Wanted, without: str = "") -> list[ColumnElement[bool]]:
    """Of rows of product, but for price; the facet `without` is left out."""
    made: list[ColumnElement[bool]] = [Product.state == "ACTIVE"]
    if wanted.query:
        made.append(Product.words.op("@@")(cast(literal(wanted.query), TSQUERY)))
    if wanted.category_ids is not None:
        made.append(Product.category_ids.op("&&")(literal(list(wanted.category_ids), ARRAY(Uuid))))
    for facet, terms in wanted.terms.items():
        if facet != without:
            made.append(Product.terms.op("&&")(literal(list(terms), ARRAY(Text))))
    if wanted.in_stock and without != "in_stock":
        made.append(Product.product_id.in_(select(IN_STOCK.c.product_id)))
    return made


def _price(wanted: Wanted) -> ColumnElement[bool]:
    """Of rows of price_step: those that hold now, within the range."""
    made: list[ColumnElement[bool]] = [
        STEP.c.currency == wanted.currency,
        STEP.c.valid_from <= wanted.at,
        STEP.c.valid_to > wanted.at,
    ]
    if wanted.least is not None:
        made.append(STEP.c.amount >= wanted.least)
    if wanted.most is not None:
        made.append(STEP.c.amount <= wanted.most)
    return and_(*made)


def _matching(wanted: Wanted, *columns: Any, without: str = "", beside: Any = None) -> Select[Any]:
    """`beside` is joined to each product."""
    rows: Any = Product
    if beside is not None:
        rows = join(rows, beside, true())
    if wanted.priced:
        rows = join(rows, STEP, and_(STEP.c.product_id == Product.product_id, _price(wanted)))
    return select(*columns).select_from(rows).where(*_conditions(wanted, without))


def _rank(wanted: Wanted) -> Any:
    """Half and more of it is the title's."""
    rank = func.ts_rank(Product.words, cast(literal(wanted.query), TSQUERY))
    return cast(rank * RANK_SCALE, BigInteger).label("relevance")


def listing(wanted: Wanted) -> Listing:
    """How results may be ordered."""
    fields = {
        "title": Field(Product.title, filter=False),
        "create_time": Field(Product.create_time, filter=False),
        "product_id": Field(Product.product_id, order=False, filter=False),
    }
    if wanted.query:
        fields["relevance"] = Field(_rank(wanted), filter=False)
    if wanted.currency:
        fields["price"] = Field(STEP.c.amount, filter=False)
    order = "relevance desc" if wanted.query else "create_time desc"
    return Listing(fields, order=order, unique="product_id", page_size=PAGE_SIZE)


async def found(db: Database, wanted: Wanted, page: Page) -> Sequence[Any]:
    """Rows with `product_id` and what they are ordered by."""
    columns: list[Any] = [Product.product_id, Product.title, Product.create_time]
    if wanted.query:
        columns.append(_rank(wanted))
    if wanted.priced:
        columns.append(STEP.c.amount)
    sql, arguments = page.sql(_matching(wanted, *columns))
    return await db.fetch(sql, *arguments)


def _text(statement: Select[Any]) -> tuple[str, list[Any]]:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    values = compiled.construct_params()
    return str(compiled), [values[name] for name in compiled.positiontup or ()]


async def total(db: Database, wanted: Wanted) -> int:
    sql, arguments = _text(_matching(wanted, func.count()))
    return int(await db.fetchval(sql, *arguments))


async def count_terms(
    db: Database, wanted: Wanted, facets: Sequence[str], without: str = ""
) -> Sequence[Any]:
    """Rows (term, products), of the terms of all that is found, the most frequent first."""
    term = func.unnest(Product.terms).table_valued("term", name="each").render_derived()
    wanted_ones = [term.c.term.op("^@")(literal(f"{facet}=", Text)) for facet in facets]
    columns = (term.c.term, func.count().label("products"))
    counted = (
        _matching(wanted, *columns, without=without, beside=term)
        .where(or_(*wanted_ones))
        .group_by(term.c.term)
        .order_by(func.count().desc(), term.c.term)
    )
    sql, arguments = _text(counted)
    return await db.fetch(sql, *arguments)


async def count_in_stock(db: Database, wanted: Wanted) -> Sequence[Any]:
    """Rows (in_stock, products)."""
    there = Product.product_id.in_(select(IN_STOCK.c.product_id)).label("in_stock")
    inner = _matching(wanted, there, without="in_stock").subquery()
    sql, arguments = _text(
        select(inner.c.in_stock, func.count().label("products")).group_by(inner.c.in_stock)
    )
    return await db.fetch(sql, *arguments)


async def prices(
    db: Database, currency: str, at: datetime, product_ids: Sequence[UUID]
) -> dict[UUID, Decimal]:
    """The lowest price of each, now."""
    wanted = Wanted(at=at, currency=currency)
    statement = select(STEP.c.product_id, STEP.c.amount).where(
        _price(wanted), STEP.c.product_id == any_(literal(list(product_ids), ARRAY(Uuid)))
    )
    sql, arguments = _text(statement)
    return {row["product_id"]: row["amount"] for row in await db.fetch(sql, *arguments)}


async def alike(db: Database, words: Sequence[str]) -> dict[str, list[str]]:
    """For each word that no product has: those that are spelled like it."""
    known = {row["asked"] for row in await db.fetch(KNOWN, list(words))}
    unknown = [word for word in words if word not in known]
    read_as: dict[str, list[str]] = {}
    if unknown:
        for row in await db.fetch(ALIKE, unknown):
            read_as.setdefault(row["asked"], []).append(row["word"])
    return read_as


_DIALECT = dialect()  # type: ignore[no-untyped-call]
