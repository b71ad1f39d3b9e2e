"""What tests of pricing have in common: a lab whose catalog and billing say what they are told."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

import grpc.aio
from google.protobuf.json_format import ParseDict

from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition, Unavailable
from services.chassis.host import Parts, Tools
from services.chassis.method import Call
from services.chassis.testing import Lab, laboratory, reason
from services.pricing.app import build
from tests.servers import Shared
from weft.billing.v1 import tax_pb2 as tax
from weft.billing.v1.tax_pb2_grpc import TaxServiceServicer, add_TaxServiceServicer_to_server
from weft.catalog.v1 import (
    content_pb2 as content,
    product_messages_pb2 as catalog,
    product_pb2,  # noqa: F401 - its service, which the stub looks up
)
from weft.catalog.v1.product_pb2_grpc import ProductServiceServicer, add_ProductServiceServicer_to_server
from weft.money.v1.money_pb2 import UnitPrice
from weft.pricing.v1 import (
    coupon_pb2,
    price_list_pb2,
    promotion_pb2,
    quote_pb2,
    redemption_pb2,
    segment_pb2,
)
from weft.pricing.v1.coupon_pb2_grpc import CouponServiceStub
from weft.pricing.v1.price_list_pb2_grpc import PriceListServiceStub
from weft.pricing.v1.promotion_pb2_grpc import PromotionServiceStub
from weft.pricing.v1.quote_pb2_grpc import QuoteServiceStub
from weft.pricing.v1.redemption_pb2_grpc import RedemptionServiceStub
from weft.pricing.v1.segment_pb2_grpc import SegmentServiceStub

RATES = {1: "20", 2: "10", 3: "4", 4: "0", 5: "0"}
CODES = {1: "S", 2: "S", 3: "S", 4: "Z", 5: "E"}
SALE = catalog.PRODUCT_STATE_ACTIVE


class Away(Unavailable):
    """It is away."""


class NoTaxRate(FailedPrecondition):
    """There is no rate."""


class Catalog(ProductServiceServicer):
    """Stands for the catalog."""

    def __init__(self) -> None:
        self.variants: dict[str, catalog.Variant] = {}
        self.asked: list[str] = []
        self.away = False
        self.meanwhile: Callable[[], Awaitable[None]] | None = None  # Between reading and the next answer.

    def build(self, tools: Tools) -> Parts:
        return Parts(servicers={add_ProductServiceServicer_to_server: self})

    def sell(self, sku: str, price: str = "10", currency: str = "EUR", **rest: Any) -> str:
        """A variant that is for sale. Returns its sku."""
        fields = {"product_id": f"product of {sku}", "title": sku, "state": SALE, "shippable": True, **rest}
        made = catalog.Variant(sku=sku, **{"tax_category": content.TAX_CATEGORY_STANDARD, **fields})
        made.prices.add(price=UnitPrice(amount=price, currency=currency))
        self.variants[sku] = made
        return sku

    async def BatchGetVariants(
        self, request: catalog.BatchGetVariantsRequest, call: Call
    ) -> catalog.BatchGetVariantsResponse:
        self.asked += request.skus
        if self.away:
            raise Away
        assert call.caller.kind == "service", "what is kept for all is asked for by nobody in particular"
        found = [self.variants[sku] for sku in request.skus if sku in self.variants]
        answer = catalog.BatchGetVariantsResponse(variants=found)
        if self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return answer


class Billing(TaxServiceServicer):
    """Stands for billing: 20, 10, 4, 0 and 0 % by category, nothing in NO, reverse charge by a number."""

    def __init__(self) -> None:
        self.asked: list[tax.DetermineTaxRequest] = []
        self.away = False

    def build(self, tools: Tools) -> Parts:
        return Parts(servicers={add_TaxServiceServicer_to_server: self})

    async def BatchDetermineTax(
        self, request: tax.BatchDetermineTaxRequest, call: Call
    ) -> tax.BatchDetermineTaxResponse:
        self.asked += request.sales
        if self.away:
            raise Away
        return tax.BatchDetermineTaxResponse(taxes=map(self._one, request.sales))

    def _one(self, sale: tax.DetermineTaxRequest) -> tax.TaxDetermination:
        if sale.buyer_country == "NO":
            return tax.TaxDetermination(rate="0", category_code="G", legal_note="Export")
        if sale.vat_number:
            return tax.TaxDetermination(rate="0", category_code="AE", reverse_charge=True)
        return tax.TaxDetermination(rate=RATES[sale.tax_category], category_code=CODES[sale.tax_category])


class World:
    """Pricing, and whom it asks."""

    def __init__(self, lab: Lab, catalog: Catalog, billing: Billing) -> None:
        self.lab, self.catalog, self.billing = lab, catalog, billing
        self.quotes = QuoteServiceStub(lab.channel)
        self.redemptions = RedemptionServiceStub(lab.channel)
        self.lists = PriceListServiceStub(lab.channel)
        self.promotions = PromotionServiceStub(lab.channel)
        self.coupons = CouponServiceStub(lab.channel)
        self.segments = SegmentServiceStub(lab.channel)
        self._made: list[str] = []
        self._lists: list[str] = []

    @property
    def me(self) -> tuple[tuple[str, str], ...]:
        return self.lab.bearer()

    @property
    def shop(self) -> tuple[tuple[str, str], ...]:
        return self.lab.as_service("order")

    async def quote(self, *lines: Any, **rest: Any) -> quote_pb2.Quote:
        """Of lines `sku`, `(sku, units)` or messages."""
        answer = await patiently(self.quotes.Quote, asked(*lines, **rest), self.shop)
        made: quote_pb2.Quote = answer.quote
        return made

    async def preview(
        self, *lines: Any, promotion_ids: Iterable[str] = (), alone: bool = False, **rest: Any
    ) -> quote_pb2.Quote:
        request = quote_pb2.PreviewQuoteRequest(
            request=asked(*lines, **rest), promotion_ids=promotion_ids, alone=alone
        )
        made: quote_pb2.Quote = (await self.quotes.PreviewQuote(request, metadata=self.me)).quote
        return made

    async def promote(self, *, draft: bool = False, **settings: Any) -> str:
        """Makes a promotion, and activates it. Returns its id."""
        promotion_id = str(uuid4())
        request = promotion_pb2.CreatePromotionRequest(promotion_id=promotion_id)
        ParseDict({"name": "sale", **settings}, request.settings)
        await self.promotions.CreatePromotion(request, metadata=self.me)
        self._made.append(promotion_id)
        if not draft:
            activate = promotion_pb2.ActivatePromotionRequest(promotion_id=promotion_id)
            await self.promotions.ActivatePromotion(activate, metadata=self.me)
        return promotion_id

    async def coupon(self, promotion_id: str, code: str, **rest: Any) -> coupon_pb2.Coupon:
        request = coupon_pb2.CreateCouponRequest(promotion_id=promotion_id, code=code, **rest)
        made: coupon_pb2.Coupon = (await self.coupons.CreateCoupon(request, metadata=self.me)).coupon
        return made

    async def price_list(
        self, prices: Mapping[str, str | Mapping[int, str]], **settings: Any
    ) -> price_list_pb2.PriceList:
        """A list with prices, or tiers of them, by sku."""
        request = price_list_pb2.CreatePriceListRequest(price_list_id=str(uuid4()))
        ParseDict({"name": "list", "currency": "EUR", **settings}, request.settings)
        made = (await self.lists.CreatePriceList(request, metadata=self.me)).price_list
        self._lists.append(made.price_list_id)
        setting = price_list_pb2.SetPricesRequest(price_list_id=made.price_list_id)
        for sku, price in prices.items():
            tiers = {1: price} if isinstance(price, str) else price
            listed = setting.prices.add(sku=sku)
            for low, each in tiers.items():
                listed.tiers.add(min_units=low, unit_price=each)
        await self.lists.SetPrices(setting, metadata=self.me)
        return made  # type: ignore[no-any-return]

    async def join(self, customer_id: str, segment: str) -> None:
        request = segment_pb2.AddSegmentMemberRequest(customer_id=customer_id, segment=segment)
        await self.segments.AddSegmentMember(request, metadata=self.me)

    async def redeem(
        self, quote: quote_pb2.Quote, redemption_id: str = "", customer_id: str = ""
    ) -> redemption_pb2.Redemption:
        request = redemption_pb2.RedeemRequest(
            redemption_id=redemption_id or str(uuid4()), quote_id=quote.quote_id, customer_id=customer_id
        )
        made: redemption_pb2.Redemption = (
            await patiently(self.redemptions.Redeem, request, self.shop)
        ).redemption
        return made

    async def release(self, redemption_id: str) -> redemption_pb2.Redemption:
        request = redemption_pb2.ReleaseRequest(redemption_id=redemption_id)
        made: redemption_pb2.Redemption = (
            await patiently(self.redemptions.Release, request, self.shop)
        ).redemption
        return made

    async def promotion(self, promotion_id: str) -> promotion_pb2.Promotion:
        request = promotion_pb2.GetPromotionRequest(promotion_id=promotion_id)
        found: promotion_pb2.Promotion = (
            await self.promotions.GetPromotion(request, metadata=self.me)
        ).promotion
        return found

    async def clear(self) -> None:
        """No promotion and no price list is left for the next test."""
        for promotion_id in self._made:
            archive = promotion_pb2.ArchivePromotionRequest(promotion_id=promotion_id)
            await self.promotions.ArchivePromotion(archive, metadata=self.me)
        for price_list_id in self._lists:
            delete = price_list_pb2.DeletePriceListRequest(price_list_id=price_list_id)
            await self.lists.DeletePriceList(delete, metadata=self.me)
        self._made.clear()
        self._lists.clear()
        self.catalog.away = self.billing.away = False


async def patiently(rpc: Any, request: Any, metadata: Any) -> Any:
    """As a client calls: what a busy database had no room for is asked again."""
    while True:
        try:
            return await rpc(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if reason(error) != "DATABASE_BUSY":
                raise


def asked(
    *lines: Any, currency: str = "EUR", at: datetime | None = None, **rest: Any
) -> quote_pb2.QuoteRequest:
    request = quote_pb2.QuoteRequest(currency=currency, **rest)
    if at is not None:
        request.at.FromDatetime(at)
    for n, line in enumerate(lines):
        if isinstance(line, quote_pb2.LineToQuote):
            request.lines.append(line)
        else:
            sku, units = (line, 1) if isinstance(line, str) else line
            request.lines.add(line_id=str(n), sku=sku, units=units)
    return request


def shipping(sku: str) -> quote_pb2.LineToQuote:
    return quote_pb2.LineToQuote(line_id="shipping", sku=sku, units=1, kind=quote_pb2.LINE_KIND_SHIPPING)


def amounts(quote: quote_pb2.Quote) -> tuple[int, int, int]:
    """Net, tax and gross in minor units."""
    totals = (quote.net_total, quote.tax_total, quote.gross_total)
    net, tax_total, gross = (each.amount_minor for each in totals)
    return net, tax_total, gross


def off(quote: quote_pb2.Quote) -> list[int]:
    """What is taken off each line."""
    return [sum(each.amount.amount_minor for each in line.discounts) for line in quote.lines]


def skipped(quote: quote_pb2.Quote) -> Sequence[str]:
    return [step.text for step in quote.explanation if step.kind == "skipped"]


@asynccontextmanager
async def world(servers: Shared, clock: Clock | None = None, **environ: str) -> AsyncIterator[World]:
    catalog, billing = Catalog(), Billing()
    builds = {
        "pricing": partial(build, environ=environ),
        "catalog": catalog.build,
        "billing": billing.build,
    }
    async with laboratory(
        builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=clock
    ) as lab:
        yield World(lab, catalog, billing)
