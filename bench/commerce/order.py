"""Checkouts through the edge, and searches among a million orders."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from uuid import uuid4

import asyncpg
import grpc.aio
import uvloop

from bench import mesh, people
from bench.machine import Meter
from bench.mesh import HOST, Mesh
from bench.report import Report
from services.chassis.caller import OPERATOR
from services.chassis.config import Settings
from services.chassis.jobs.surroundings import Surroundings, surrounding
from weft.catalog.v1 import (
    product_messages_pb2 as catalog,
    product_pb2,  # noqa: F401 - its service, which the stub looks up
)
from weft.catalog.v1.content_pb2 import ListPrice, ProductContent, VariantContent
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub
from weft.inventory.v1 import location_pb2, movement_pb2, stock_pb2
from weft.inventory.v1.location_pb2_grpc import LocationServiceStub
from weft.inventory.v1.stock_pb2_grpc import StockServiceStub
from weft.money.v1.money_pb2 import UnitPrice
from weft.order.v1 import order_lists_pb2 as lists, order_pb2 as pb, resource_pb2 as resource
from weft.order.v1.order_pb2_grpc import OrderServiceStub

SELLING = ("catalog", "inventory", "pricing", "order", "payment", "billing", "ledger")
SKUS, UNITS, LINES = 200, 900_000_000, 3
BUYERS = (1, 16, 64)
ORDERS = 1_000_000
CUSTOMERS = 50_000
PARTS = ("edge", "order", "pricing", "catalog", "inventory", "payment", "postgres", "nats")
# Of a million: one in 20 is open, a few words are in a tenth of all, most in some hundreds, some in one.
FILL = f"""
insert into order_summary
select id, ('00000000-0000-4000-8000-' || lpad((n % {CUSTOMERS})::text, 12, '0'))::uuid, 'R' || n, 'EUR',
    (array['DE', 'FR', 'GB', 'PL'])[1 + n % 4],
    case when n % 20 = 0 then (array['PENDING', 'CONFIRMED', 'SHIPPED'])[1 + n % 3]
        when n % 15 = 0 then 'CANCELLED' else 'COMPLETED' end,
    3, (100 + 10000 * power(random(), 8))::bigint * 10, 0, false, at, at
from (
    select n, gen_random_uuid() as id, now() - n * interval '20 s' as at from generate_series(1, {ORDERS}) n
) rows;
insert into order_detail (order_id, request_mac, customer_id, created_at, titles, words)
select order_id, ''::bytea, customer_id, created_at, '{{}}', array_to_tsvector(array_remove(array[
    lower(reference), 'sku' || n % 7919, 'title' || n % 5003, 'colour' || n % 10, 'name' || n % 20011,
    'city' || n % 997, 'wool'], ''))
from (select *, row_number() over () as n from order_summary) rows
on conflict do nothing;
"""
LOADED = f"select count(*) >= {ORDERS} from order_detail"
Ask = Callable[[OrderServiceStub, random.Random], Awaitable[object]]


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up("identity", "notification", *SELLING)
    report = Report("Orders (`bench commerce.order`)")
    rows, strangers = [], []
    skus = uvloop.run(_open(found))
    for buyers in BUYERS:
        for _ in range(repeats):
            with Meter(found.only(*PARTS)) as meter:
                times, refused = uvloop.run(_checkouts(found, seconds, skus, buyers))
            strangers.append(meter.strangers)
            used = [meter.seconds[part] * 1e3 / max(1, len(times)) for part in ("order", "postgres")]
            rows.append([buyers, len(times) / meter.wall, *_percentiles(times), *used, refused])
    report.table(
        ["buyers", "orders a second", "p50 ms", "p95 ms", "p99 ms", "order ms", "PostgreSQL ms", "refused"],
        sorted(rows, key=lambda row: row[:2]),
    )
    report.disturbance(strangers)
    asyncio.run(_fill(found))
    with Meter(found.only("order", "postgres")) as meter:
        searched = uvloop.run(_searches(found, seconds))
    report.say(f"Lists and searches among {ORDERS:,} orders, 8 callers, 50 orders a page:")
    report.table(["", "p50 ms", "p95 ms", "p99 ms"], searched)
    report.disturbance([meter.strangers])
    return report


def _percentiles(times: Sequence[float]) -> list[float]:
    ordered = sorted(times) or [0.0]
    return [ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000 for part in (0.5, 0.95, 0.99)]


@asynccontextmanager
async def _inside(found: Mesh) -> AsyncIterator[Surroundings]:
    settings = Settings(
        development=True,
        mesh_address=f"{HOST}:{found.ports['mesh']}",
        mesh_key=found.secrets["mesh_key"],
    )
    async with surrounding(settings, OPERATOR) as around:
        yield around


async def _open(found: Mesh) -> list[str]:
    """Goods on sale, more than can be sold."""
    mark, location_id = uuid4().hex[:8], str(uuid4())
    skus = [f"{mark}-{n}" for n in range(SKUS)]
    async with _inside(found) as around:
        products = ProductServiceStub(around.mesh)
        for sku in skus:
            variant = catalog.NewVariant(content=VariantContent(sku=sku, shippable=True))
            variant.prices.append(ListPrice(price=UnitPrice(amount="10.00", currency="EUR")))
            product_id = str(uuid4())
            content = ProductContent(title=f"Thing {sku}")
            made = catalog.CreateProductRequest(product_id=product_id, content=content, variants=[variant])
            await products.CreateProduct(made)
            await products.PublishProduct(catalog.PublishProductRequest(product_id=product_id))
        settings = location_pb2.LocationSettings(name="Bench")
        location = location_pb2.CreateLocationRequest(location_id=location_id, settings=settings)
        await LocationServiceStub(around.mesh).CreateLocation(location)
        receive = stock_pb2.ReceiveStockRequest(
            receipt_id=str(uuid4()),
            location_id=location_id,
            lines=[stock_pb2.Receipt(sku=sku, units=UNITS) for sku in skus],
            reason=movement_pb2.MOVEMENT_REASON_PURCHASE,
        )
        await StockServiceStub(around.mesh).ReceiveStock(receive)
    return skus


async def _checkouts(
    found: Mesh, seconds: float, skus: Sequence[str], buyers: int
) -> tuple[list[float], int]:
    """How long each confirmed order took, in seconds, and how many were not confirmed."""
    times: list[float] = []
    refused = 0
    token = tuple(people.administrator(found).bearer.items())
    async with grpc.aio.insecure_channel(f"{HOST}:{found.ports['plain']}") as channel:
        stub, until = OrderServiceStub(channel), perf_counter() + seconds

        async def buyer(seed: int) -> None:
            nonlocal refused
            chance = random.Random(seed)
            while perf_counter() < until:
                request = _order(chance, skus)
                began = perf_counter()
                answer = await stub.CreateOrder(request, metadata=token)
                if answer.order.state == resource.ORDER_STATE_CONFIRMED:
                    times.append(perf_counter() - began)
                else:
                    refused += 1

        await asyncio.gather(*map(buyer, range(buyers)))
    return times, refused


def _order(chance: random.Random, skus: Sequence[str]) -> pb.CreateOrderRequest:
    lines = [pb.NewLine(line_id=str(n), sku=sku, units=1) for n, sku in enumerate(chance.sample(skus, LINES))]
    request = pb.CreateOrderRequest(order_id=str(uuid4()), currency="EUR", country="DE", lines=lines)
    request.payment.token = "pm_card_visa"
    return request


async def _fill(found: Mesh) -> None:
    """A million orders, past the service: what is measured is how they are found."""
    admin = await asyncpg.connect(found.database("order", superuser=True))
    try:
        if not await admin.fetchval(LOADED):
            await admin.execute("set statement_timeout = 0")
            await admin.execute(FILL)
            await admin.execute("vacuum analyze order_summary")
            await admin.execute("vacuum analyze order_detail")
    finally:
        await admin.close()


def _listed(**asked: object) -> Ask:
    async def ask(stub: OrderServiceStub, chance: random.Random) -> object:
        return await stub.ListOrders(lists.ListOrdersRequest(**asked))  # type: ignore[arg-type]

    return ask


async def _of_customer(stub: OrderServiceStub, chance: random.Random) -> object:
    customer_id = f"00000000-0000-4000-8000-{chance.randrange(CUSTOMERS):012}"
    return await stub.ListOrders(lists.ListOrdersRequest(customer_id=customer_id))


def _searched(word: Callable[[random.Random], str], **asked: object) -> Ask:
    async def ask(stub: OrderServiceStub, chance: random.Random) -> object:
        return await stub.SearchOrders(lists.SearchOrdersRequest(text=word(chance), **asked))  # type: ignore[arg-type]

    return ask


WAYS: dict[str, Ask] = {
    "the newest": _listed(),
    "of a customer": _of_customer,
    "open ones (1 in 60)": _listed(filter="state = CONFIRMED"),
    "cancelled ones": _listed(filter="state = CANCELLED"),
    "of a time, above an amount": _listed(
        filter='create_time < "2026-09-01T00:00:00Z" AND gross_minor >= 50000'
    ),
    "the largest": _listed(order_by="gross_minor desc"),
    "larger than nearly all": _listed(filter="gross_minor >= 100500"),
    "by reference": _searched(lambda chance: f"r{chance.randrange(ORDERS)}"),
    "a word of every order": _searched(lambda chance: "wool"),
    "a word of every tenth": _searched(lambda chance: f"colour{chance.randrange(10)}"),
    "a word of a thousand": _searched(lambda chance: f"city{chance.randrange(997)}"),
    "a word of 126": _searched(lambda chance: f"sku{chance.randrange(7919)}"),
    "a name and a town": _searched(
        lambda chance: f"name{chance.randrange(20011)} city{chance.randrange(997)}"
    ),
    "a beginning": _searched(lambda chance: f"r{chance.randrange(10_000, 99_999)}*"),
    "a word, cancelled": _searched(
        lambda chance: f"title{chance.randrange(5003)}", filter="state = CANCELLED"
    ),
}


async def _searches(found: Mesh, seconds: float) -> list[list[object]]:
    table: list[list[object]] = []
    async with _inside(found) as around:
        stub = OrderServiceStub(around.mesh)
        for name, ask in WAYS.items():
            times: list[float] = []
            until = perf_counter() + max(1.0, seconds / 3)

            callers = (_caller(stub, ask, random.Random(seed), until, times) for seed in range(8))
            await asyncio.gather(*callers)
            table.append([name, *_percentiles(times)])
    return table


async def _caller(
    stub: OrderServiceStub, ask: Ask, chance: random.Random, until: float, times: list[float]
) -> None:
    while perf_counter() < until:
        began = perf_counter()
        await ask(stub, chance)
        times.append(perf_counter() - began)
