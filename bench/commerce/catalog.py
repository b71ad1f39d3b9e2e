"""The catalog: products taken in, found and made anew, and what the event store below it appends.

33,000 products of a made-up shop, four words of title each, five attributes, a price. Searches come one
after the other, as the aim (p95 below 30 ms) is about what one of them takes.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from statistics import median
from time import perf_counter
from uuid import UUID, uuid5

import asyncpg
import uvloop

from bench import mesh
from bench.machine import Meter
from bench.mesh import HOST, ROOT, Mesh
from bench.report import Report
from services.catalog import folding, projecting
from services.chassis.caller import OPERATOR
from services.chassis.config import Settings
from services.chassis.db import Database
from services.chassis.event_store import append, append_all
from services.chassis.jobs.surroundings import surrounding
from services.chassis.projections import rebuild
from weft.catalog.v1 import category_pb2, transfer_pb2
from weft.catalog.v1.category_pb2_grpc import CategoryServiceStub
from weft.catalog.v1.content_pb2 import Attribute, ListPrice, ProductContent, VariantContent
from weft.catalog.v1.definition_pb2 import AttributeDefinition, CategoryContent, ProductTypeContent
from weft.catalog.v1.events_pb2 import ProductCreated
from weft.catalog.v1.product_messages_pb2 import NewVariant, ProductState
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub
from weft.catalog.v1.product_type_pb2 import CreateProductTypeRequest
from weft.catalog.v1.product_type_pb2_grpc import ProductTypeServiceStub
from weft.catalog.v1.search_pb2 import FacetFilter, PriceRange, SearchProductsRequest
from weft.money.v1.money_pb2 import UnitPrice

PRODUCTS, CATEGORIES, ROWS = 33_000, 80, 500
APPENDS, TOGETHER = 4_000, 200  # Events of the store's own figures, and how many in one transaction.
SPACE = UUID("0c0ffee0-0000-5000-8000-000000000000")
DATABASE = "bench_catalog"
TYPE = str(uuid5(SPACE, "type"))
SYLLABLES = ["ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo"]
CHANCE = random.Random(11)
WORDS = ["".join(CHANCE.choice(SYLLABLES) for _ in range(3)) for _ in range(900)]
BRANDS = [word.title() for word in WORDS[:40]]
COLOURS = ["black", "blue", "green", "grey", "red", "white"]
TABLES = (
    *("event", "snapshot", "projection", "sku", "slug", "in_stock", "stock"),
    *(
        table
        for each in (projecting.PRODUCTS, projecting.CATEGORIES, projecting.TYPES)
        for table in each.tables
    ),
)
Ask = Callable[[random.Random], SearchProductsRequest]


def _category(n: int) -> str:
    return str(uuid5(SPACE, f"category {n}"))


def _row(n: int) -> transfer_pb2.ProductRow:
    chance = random.Random(n)
    title = " ".join(chance.choice(WORDS) for _ in range(4))
    content = ProductContent(
        title=title,
        description=" ".join(chance.choice(WORDS) for _ in range(30)),
        brand=chance.choice(BRANDS),
        product_type_id=TYPE,
        category_ids=[_category(chance.randrange(CATEGORIES))],
        attributes=[
            Attribute(key="colour", choice=chance.choice(COLOURS)),
            Attribute(key="size", number={"amount": str(chance.randint(1, 40)), "unit": "cm"}),
            Attribute(key="washable", boolean=chance.random() < 0.5),
        ],
    )
    price = ListPrice(price={"amount": f"{chance.randint(1, 500)}.95", "currency": "EUR"})
    variant = NewVariant(content=VariantContent(sku=f"BENCH-{n}", shippable=True), prices=[price])
    state = ProductState.PRODUCT_STATE_ACTIVE
    return transfer_pb2.ProductRow(
        product_id=str(uuid5(SPACE, f"product {n}")), content=content, variants=[variant], state=state
    )


FACETS = ["brand", "category", "colour", "in_stock"]
SEARCHES: dict[str, Ask] = {
    "a word": lambda chance: SearchProductsRequest(text=chance.choice(WORDS)),
    "a word, 4 facets": lambda chance: SearchProductsRequest(text=chance.choice(WORDS), facets=FACETS),
    "two words": lambda chance: SearchProductsRequest(text=" ".join(chance.sample(WORDS, 2))),
    "a misspelled word": lambda chance: SearchProductsRequest(text=chance.choice(WORDS)[:-1] + "x"),
    "the beginning of a word": lambda chance: SearchProductsRequest(text=chance.choice(WORDS)[:3]),
    "a category by price, 4 facets": lambda chance: SearchProductsRequest(
        category_id=_category(chance.randrange(CATEGORIES)), order_by="price", currency="EUR", facets=FACETS
    ),
    "brand and price range": lambda chance: SearchProductsRequest(
        filters=[FacetFilter(facet="brand", values=[chance.choice(BRANDS)])],
        price=PriceRange(
            min=UnitPrice(amount="50", currency="EUR"), max=UnitPrice(amount="90", currency="EUR")
        ),
    ),
    "all, newest first": lambda chance: SearchProductsRequest(),
    "all, 4 facets": lambda chance: SearchProductsRequest(facets=FACETS),
}


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up("identity", "catalog")
    report, strangers = Report("Catalog (`bench commerce.catalog`)"), []
    report.say(f"{PRODUCTS:,} products of one variant; us are processor time a row.")
    moved = []
    for again in (False, True):
        with _meter(found) as meter:
            uvloop.run(_take_in(found, fresh=not again))
        moved.append(
            ("once more, nothing new" if again else "new", PRODUCTS / meter.wall, *_each(meter, PRODUCTS))
        )
        strangers.append(meter.strangers)
    report.table(["ImportProducts", "rows/s", "catalog us", "PostgreSQL us"], moved)
    table = []
    for name, ask in SEARCHES.items():
        runs = []
        for _ in range(repeats):
            with _meter(found) as meter:
                times = uvloop.run(_search(found, seconds, ask))
            runs.append((*_percentiles(times), *_each(meter, len(times))))
            strangers.append(meter.strangers)
        table.append((name, *(median(column) for column in zip(*runs, strict=True))))
    report.table(["SearchProducts", "p50 ms", "p95 ms", "catalog us", "PostgreSQL us"], table)
    events = [
        median(column) for column in zip(*(uvloop.run(_store(found)) for _ in range(repeats)), strict=True)
    ]
    names = ("appended, one a transaction", f"appended, {TOGETHER} a transaction", "made anew")
    report.table(["Event store, one caller", "events/s"], zip(names, events, strict=True))
    report.disturbance(strangers)
    return report


def _meter(found: Mesh) -> Meter:
    return Meter(found.only("catalog", "postgres"))


def _each(meter: Meter, count: int) -> tuple[float, float]:
    return tuple(meter.seconds[name] * 1e6 / count for name in ("catalog", "postgres"))  # type: ignore[return-value]


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.95)] * 1000


def _settings(found: Mesh) -> Settings:
    return Settings(
        development=True, mesh_address=f"{HOST}:{found.doors['catalog']}", mesh_key=found.secrets["mesh_key"]
    )


async def _take_in(found: Mesh, *, fresh: bool) -> None:
    async def rows() -> AsyncIterator[transfer_pb2.ImportProductsRequest]:
        for start in range(0, PRODUCTS, ROWS):
            some = map(_row, range(start, min(start + ROWS, PRODUCTS)))
            yield transfer_pb2.ImportProductsRequest(rows=some)

    if fresh:
        await _empty(found)
    async with surrounding(_settings(found), OPERATOR) as around:
        if fresh:
            await _surround(around.mesh)
        report = (await ProductServiceStub(around.mesh).ImportProducts(rows())).report
    assert report.created + report.unchanged == PRODUCTS, report
    if fresh:
        admin = await asyncpg.connect(found.database("catalog"))
        await admin.execute("analyze")
        await admin.close()


async def _empty(found: Mesh) -> None:
    admin = await asyncpg.connect(found.database("catalog"))
    await admin.execute(f"truncate {', '.join(TABLES)}")
    await admin.close()


async def _surround(channel: object) -> None:
    """The type and the categories that the products name."""
    definition = AttributeDefinition
    attributes = [
        definition(key="colour", kind=definition.KIND_CHOICE, choices=COLOURS),
        definition(key="size", kind=definition.KIND_NUMBER, unit="cm"),
        definition(key="washable", kind=definition.KIND_BOOLEAN),
    ]
    content = ProductTypeContent(name="Bench", attributes=attributes)
    types, categories = ProductTypeServiceStub(channel), CategoryServiceStub(channel)
    await types.CreateProductType(CreateProductTypeRequest(product_type_id=TYPE, content=content))
    for n in range(CATEGORIES):
        request = category_pb2.CreateCategoryRequest(
            category_id=_category(n), content=CategoryContent(name=f"Category {n}")
        )
        await categories.CreateCategory(request)


async def _search(found: Mesh, seconds: float, ask: Ask) -> list[float]:
    """How long each took, in seconds."""
    async with surrounding(_settings(found), OPERATOR) as around:
        stub, chance, times = ProductServiceStub(around.mesh), random.Random(5), []
        until = perf_counter() + seconds
        while perf_counter() < until:
            request, began = ask(chance), perf_counter()
            await stub.SearchProducts(request)
            times.append(perf_counter() - began)
    return times


async def _store(found: Mesh) -> tuple[float, float, float]:
    """Events a second, straight from this process: appended singly, together, and projected anew."""
    async with _database(found) as db:
        keys = [str(uuid5(SPACE, f"aggregate {n}")) for n in range(2 * APPENDS)]
        began = perf_counter()
        for key in keys[:APPENDS]:
            async with db.fast() as tx:
                await append(tx, folding.PRODUCT, key, 0, [ProductCreated(product_id=key, version=1)])
        singly = APPENDS / (perf_counter() - began)
        began = perf_counter()
        for start in range(APPENDS, 2 * APPENDS, TOGETHER):
            some = keys[start : start + TOGETHER]
            changes = {key: (0, [ProductCreated(product_id=key, version=1)]) for key in some}
            async with db.fast() as tx:
                await append_all(tx, folding.PRODUCT, changes)
        together = APPENDS / (perf_counter() - began)
    db = Database(found.database("catalog"))
    await db.open()
    count = await db.fetchval("select count(*) from event where stream = $1", folding.PRODUCT)
    began = perf_counter()
    await rebuild(db, projecting.PRODUCTS)
    anew = count / (perf_counter() - began)
    await db.close()
    return singly, together, anew


@asynccontextmanager
async def _database(found: Mesh) -> AsyncIterator[Database]:
    """An empty one with the event store's tables, whose events nobody publishes."""
    admin = await asyncpg.connect(found.database("postgres", superuser=True))
    await admin.execute(f"drop database if exists {DATABASE} with (force)")
    await admin.execute(f"create database {DATABASE}")
    db = Database(found.database(DATABASE, superuser=True))
    try:
        await db.open()
        await db.migrate(ROOT / "services" / "chassis" / "migrations")
        yield db
    finally:
        await db.close()
        await admin.execute(f"drop database if exists {DATABASE} with (force)")
        await admin.close()
