"""Quotes by what they hold, and redemptions of promotions that everybody or nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

import uvloop

from bench import mesh
from bench.machine import Meter
from bench.mesh import HOST, Mesh
from bench.report import Report
from services.chassis.caller import OPERATOR
from services.chassis.config import Settings
from services.chassis.jobs.surroundings import surrounding
from weft.catalog.v1 import (
    product_messages_pb2 as catalog,
    product_pb2,  # noqa: F401 - its service, which the stub looks up
)
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub
from weft.pricing.v1 import promotion_pb2, quote_pb2, redemption_pb2
from weft.pricing.v1.promotion_pb2_grpc import PromotionServiceStub
from weft.pricing.v1.promotion_settings_pb2 import Percentage, PromotionSettings
from weft.pricing.v1.quote_pb2_grpc import QuoteServiceStub
from weft.pricing.v1.redemption_pb2_grpc import RedemptionServiceStub

SKUS, CALLERS = 200, 16
PROMOTIONS = 20  # Active beside a quote: each is looked at.
Doing = Callable[[], Awaitable[Any]]


@dataclass
class Bench:
    """Pricing, by its own door."""

    quotes: QuoteServiceStub
    redemptions: RedemptionServiceStub
    promotions: PromotionServiceStub
    skus: Sequence[str]
    at: int = 0

    def quote(self, lines: int, *, kept: bool) -> Doing:
        async def ask() -> Any:
            self.at += lines
            request = quote_pb2.QuoteRequest(currency="EUR", country="DE", transient=not kept)
            for n in range(lines):
                request.lines.add(line_id=str(n), sku=self.skus[(self.at + n) % SKUS], units=2)
            return (await self.quotes.Quote(request)).quote

        return ask

    def redeem(self, quote: quote_pb2.Quote) -> Doing:
        async def redeem() -> None:
            request = redemption_pb2.RedeemRequest(redemption_id=str(uuid4()), quote_id=quote.quote_id)
            await self.redemptions.Redeem(request)

        return redeem

    async def promote(self, percent: str, *, uses_max: int = 0) -> str:
        settings = PromotionSettings(name="bench", percentage=Percentage(percent=percent))
        settings.limits.uses_max = uses_max
        promotion_id = str(uuid4())
        made = promotion_pb2.CreatePromotionRequest(promotion_id=promotion_id, settings=settings)
        await self.promotions.CreatePromotion(made)
        await self.promotions.ActivatePromotion(
            promotion_pb2.ActivatePromotionRequest(promotion_id=promotion_id)
        )
        return promotion_id

    async def end(self, promotion_ids: Sequence[str]) -> None:
        for promotion_id in promotion_ids:
            await self.promotions.ArchivePromotion(
                promotion_pb2.ArchivePromotionRequest(promotion_id=promotion_id)
            )


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up("identity", "catalog", "pricing")
    report = Report("Pricing (`bench commerce.pricing`)")
    samples, strangers = [], list[float]()
    for _ in range(repeats):
        samples.append(uvloop.run(_sample(found, seconds / 2, strangers)))
    rows = [
        [case, *(median(column) for column in zip(*(sample[case] for sample in samples), strict=True))]
        for case in samples[0]
    ]
    report.say(f"{CALLERS} callers at pricing's own door; prices of a catalog of {SKUS} skus.")
    report.table(["", "a second", "p50 ms", "p99 ms", "pricing us", "PostgreSQL us"], rows)
    report.disturbance(strangers)
    return report


@asynccontextmanager
async def _bench(found: Mesh) -> AsyncIterator[Bench]:
    async with _door(found, "catalog", OPERATOR) as shelf:
        skus = await _stocked(ProductServiceStub(shelf))
    async with _door(found, "pricing", "order") as shop, _door(found, "pricing", OPERATOR) as staff:
        stubs = (QuoteServiceStub(shop), RedemptionServiceStub(shop), PromotionServiceStub(staff))
        yield Bench(*stubs, skus)


@asynccontextmanager
async def _door(found: Mesh, service: str, caller: str) -> AsyncIterator[Any]:
    address = f"{HOST}:{found.doors[service]}"
    settings = Settings(development=True, mesh_address=address, mesh_key=found.secrets["mesh_key"])
    async with surrounding(settings, caller) as around:
        yield around.mesh


async def _stocked(products: ProductServiceStub) -> list[str]:
    """A product of many variants, for sale."""
    product_id = str(uuid4())
    request = catalog.CreateProductRequest(product_id=product_id)
    request.content.title = f"Bench {product_id[:8]}"
    skus = [f"BENCH-{product_id[:8]}-{n}" for n in range(SKUS)]
    for n, sku in enumerate(skus):
        variant = request.variants.add()
        variant.content.sku, variant.content.shippable = sku, True
        price = variant.prices.add().price
        price.amount, price.currency = f"{n + 1}.95", "EUR"
    await products.CreateProduct(request)
    await products.PublishProduct(catalog.PublishProductRequest(product_id=product_id))
    return skus


async def _sample(found: Mesh, seconds: float, strangers: list[float]) -> dict[str, list[float]]:
    made: dict[str, list[float]] = {}
    async with _bench(found) as bench:
        groups = found.only("pricing", "postgres")

        async def measure(case: str, doing: Doing) -> None:
            await doing()
            with Meter(groups) as meter:
                times = sorted(await _load(doing, seconds))
            strangers.append(meter.strangers)
            cost = [meter.seconds[name] / len(times) * 1e6 for name in groups]
            middle, late = times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000
            made[case] = [len(times) / meter.wall, middle, late, *cost]

        await measure("quote of 5 lines, shown", bench.quote(5, kept=False))
        await measure("quote of 5 lines, kept", bench.quote(5, kept=True))
        await measure("quote of 100 lines, shown", bench.quote(100, kept=False))
        promotions = [await bench.promote("1") for _ in range(PROMOTIONS)]
        await measure(f"quote of 5 lines, {PROMOTIONS} promotions, shown", bench.quote(5, kept=False))
        await bench.end(promotions)
        for case, bound in (("of no limit", 0), ("of one limit that all wait for", 10**9)):
            promotion_id = await bench.promote("10", uses_max=bound)
            quote = await bench.quote(5, kept=True)()
            await measure(f"redemption {case}", bench.redeem(quote))
            await bench.end([promotion_id])
    return made


async def _load(doing: Doing, seconds: float) -> list[float]:
    """How long each call took, of callers that wait for nothing between theirs."""
    times: list[float] = []
    ends = perf_counter() + seconds

    async def one() -> None:
        while (began := perf_counter()) < ends:
            await doing()
            times.append(perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(CALLERS)))
    return times
