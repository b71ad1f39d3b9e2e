"""Products found by words, facets, category, price and stock, a page at a time; their facets, counted.

The conditions are written once, as SQL with named values. A page, whose order the caller chooses, is put
together by SQLAlchemy; what is counted is plain SQL, since composing a statement takes longer than to run it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Numeric, Text, Uuid, bindparam, select, text
from sqlalchemy.types import NullType

from services.chassis.db import Database
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

PAGE_SIZE = 20  # What a shop shows at once.
FACET_VALUES_MAX = 50  # Of one facet: more are no choice any more.
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
PRICES = """
select product_id, amount from price_step
where product_id = any($1::uuid[]) and currency = $2 and valid_from <= $3 and valid_to > $3
"""
STOCKED = "product.product_id in (select product_id from in_stock)"
NAMED = re.compile(r"(?<!:):([a-z_]+\d*)")  # A named value; `::` is a cast.

# What a page may be ordered by. The rank lies between 0 and 1; as a whole number it can mark a page's end.
ORDERS = {"product_id": Uuid(), "title": Text(), "create_time": DateTime(timezone=True)}
RANK = "(ts_rank(product.words, cast(:query as tsquery)) * 1000000)::bigint as relevance"


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


def _matching(wanted: Wanted, without: str = "") -> tuple[str, dict[str, Any]]:
    """`from … where …` with its values; a filter on the facet `without` is left out."""
    tables, where = "product", ["product.state = 'ACTIVE'"]
    values: dict[str, Any] = {}
    if wanted.query:
        where.append("product.words @@ cast(:query as tsquery)")
        values["query"] = wanted.query
    if wanted.category_ids is not None:
        where.append("product.category_ids && cast(:below as uuid[])")
        values["below"] = list(wanted.category_ids)
    for n, (facet, terms) in enumerate(wanted.terms.items()):
        if facet != without:
            where.append(f"product.terms && cast(:terms{n} as text[])")
            values[f"terms{n}"] = list(terms)
    if wanted.in_stock and without != "in_stock":
        where.append(STOCKED)
    if wanted.priced:
        tables += " join price_step using (product_id)"
        priced, bounds = _price(wanted)
        where += priced
        values |= bounds
    return f"{tables} where {' and '.join(where)}", values


def _price(wanted: Wanted) -> tuple[list[str], dict[str, Any]]:
    """Conditions on the span that holds now, with their values."""
    where = ["currency = cast(:currency as text)", "cast(:now as timestamptz) >= valid_from"]
    where.append("cast(:now as timestamptz) < valid_to")
    values: dict[str, Any] = {"currency": wanted.currency, "now": wanted.at}
    for name, sign, bound in (("least", ">=", wanted.least), ("most", "<=", wanted.most)):
        if bound is not None:
            where.append(f"amount {sign} cast(:{name} as numeric)")
            values[name] = bound
    return where, values


def _plain(sql: str, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """With values by number, as the driver has them."""
    names = list(values)
    return NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", sql), list(values.values())


class Results:
    """What a search finds, to be read by the page."""

    def __init__(self, wanted: Wanted) -> None:
        """A price may be ordered by where one is wanted, relevance where words are."""
        matching, values = _matching(wanted)
        kinds: dict[str, Any] = dict(ORDERS)
        columns = [f"product.{name}" for name in ORDERS]
        if wanted.query:
            kinds["relevance"] = BigInteger()
            columns.append(RANK)
        if wanted.priced:
            kinds["price"] = Numeric()
            columns.append("price_step.amount as price")
        statement = text(f"select {', '.join(columns)} from {matching}")
        bound = [bindparam(name, value, NullType()) for name, value in values.items()]
        self._found = statement.bindparams(*bound).columns(**kinds).subquery("found")
        fields = {
            name: Field(self._found.c[name], filter=False, order=name != "product_id") for name in kinds
        }
        order = "relevance desc" if wanted.query else "create_time desc"
        self.listing = Listing(fields, order=order, unique="product_id", page_size=PAGE_SIZE)

    async def rows(self, db: Database, page: Page) -> Sequence[Any]:
        """Rows with `product_id` and what they are ordered by."""
        sql, arguments = page.sql(select(*self._found.c))
        return await db.search(sql, *arguments)


async def total(db: Database, wanted: Wanted) -> int:
    matching, values = _matching(wanted)
    sql, arguments = _plain(f"select count(*) from {matching}", values)
    return int((await db.search(sql, *arguments))[0][0])


async def count_terms(
    db: Database, wanted: Wanted, facets: Sequence[str], without: str = ""
) -> Sequence[Any]:
    """Rows (term, products), of the terms of all that is found, the most frequent first."""
    matching, values = _matching(wanted, without)
    tables, where = matching.split(" where ", 1)
    asked = " or ".join(f"term ^@ :facet{n}" for n in range(len(facets)))
    values |= {f"facet{n}": f"{facet}=" for n, facet in enumerate(facets)}
    counted = f"""
        select term, count(*) as products from {tables}, unnest(product.terms) as term
        where {where} and ({asked}) group by term order by products desc, term
    """
    sql, arguments = _plain(counted, values)
    return await db.search(sql, *arguments)


async def count_in_stock(db: Database, wanted: Wanted) -> Sequence[Any]:
    """Rows (in_stock, products)."""
    matching, values = _matching(wanted, "in_stock")
    counted = f"select {STOCKED} as in_stock, count(*) as products from {matching} group by 1"
    sql, arguments = _plain(counted, values)
    return await db.search(sql, *arguments)


async def prices(
    db: Database, currency: str, at: datetime, product_ids: Sequence[UUID]
) -> dict[UUID, Decimal]:
    """The lowest price of each, now."""
    rows = await db.fetch(PRICES, list(product_ids), currency, at)
    return {row["product_id"]: row["amount"] for row in rows}


async def alike(db: Database, words: Sequence[str]) -> dict[str, list[str]]:
    """For each word that no product has: those that are spelled like it."""
    known = {row["asked"] for row in await db.fetch(KNOWN, list(words))} if words else set()
    unknown = [word for word in words if word not in known]
    read_as: dict[str, list[str]] = {}
    if unknown:
        for row in await db.fetch(ALIKE, unknown):
            read_as.setdefault(row["asked"], []).append(row["word"])
    return read_as
