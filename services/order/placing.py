"""What is asked before an order is made: what its goods are, and what they cost."""

import asyncio
from dataclasses import dataclass

from google.rpc import error_details_pb2

from services.chassis.clock import Clock
from services.chassis.errors import CallFailed, Refusal
from services.chassis.mesh import Mesh
from services.chassis.money import money_from_pb
from services.chassis.saga import AWAY
from services.order.domain.refusals import (
    CouponRefused,
    LineTwice,
    NoPrice,
    NotForSale,
    OrderTooLarge,
    PaymentMissing,
    PriceChanged,
    RefusedByCallee,
    UnknownSku,
)
from services.order.telling import stamp
from weft.catalog.v1.product_messages_pb2 import BatchGetVariantsRequest, ProductState, Variant
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub
from weft.order.v1 import events_pb2 as events
from weft.order.v1.event_line_pb2 import EventLine
from weft.order.v1.order_pb2 import CreateOrderRequest
from weft.pricing.v1.quote_pb2 import LineToQuote, Quote, QuotedLine, QuoteRequest
from weft.pricing.v1.quote_pb2_grpc import QuoteServiceStub

VARIANTS_MAX = 200  # Of one call to the catalog.
CREATED_BYTES_MAX = 60 * 1024  # An event has 64 kB; those that follow are smaller than the first.
# Refusals of pricing that our own callers know by the same names.
OURS: dict[str, type[Refusal]] = {
    "UNKNOWN_SKU": UnknownSku,
    "NO_PRICE": NoPrice,
    "NOT_FOR_SALE": NotForSale,
    "COUPON_REFUSED": CouponRefused,
}


@dataclass(frozen=True)
class Placed:
    """An order that may be made."""

    created: events.OrderCreated
    titles: dict[str, str]  # By line.
    redeems: bool


class Placing:
    """Asks catalog and pricing, both at once."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._products, self._quotes, self._clock = ProductServiceStub(mesh), QuoteServiceStub(mesh), clock

    async def place(self, request: CreateOrderRequest) -> Placed:
        """Raises what CreateOrder promises to refuse beforehand."""
        _once_each(request)
        variants, quote = await self._asked(request)
        for line in request.lines:
            _for_sale(line.sku, variants)
        expected = request.expected_total
        if request.HasField("expected_total") and expected != quote.gross_total:
            raise PriceChanged(actual=money_from_pb(quote.gross_total), expected=money_from_pb(expected))
        created = self._created(request, quote, variants)
        if created.ByteSize() > CREATED_BYTES_MAX:
            raise OrderTooLarge(order_id=request.order_id, field="lines")
        titles = {line.line_id: variants[line.sku].title for line in request.lines}
        return Placed(created, titles, bool(quote.discounts))

    async def _asked(self, request: CreateOrderRequest) -> tuple[dict[str, Variant], Quote]:
        """Raises what either refuses; of two refusals the price's, which says more."""
        skus = {line.sku for line in request.lines}
        asked = await asyncio.gather(self._variants(skus), self._quote(request), return_exceptions=True)
        for answer in reversed(asked):
            if isinstance(answer, BaseException):
                raise answer
        variants, quote = asked
        assert not isinstance(variants, BaseException)
        assert not isinstance(quote, BaseException)
        return variants, quote

    async def _variants(self, skus: set[str]) -> dict[str, Variant]:
        asked, found = sorted(skus), dict[str, Variant]()
        for start in range(0, len(asked), VARIANTS_MAX):
            request = BatchGetVariantsRequest(skus=asked[start : start + VARIANTS_MAX])
            answer = await self._products.BatchGetVariants(request)
            found |= {variant.sku: variant for variant in answer.variants}
        return found

    async def _quote(self, request: CreateOrderRequest) -> Quote:
        asked = QuoteRequest(
            currency=request.currency,
            customer_id=request.customer_id,
            segments=request.segments,
            country=country(request),
            lines=[LineToQuote(line_id=n.line_id, sku=n.sku, units=n.units) for n in request.lines],
            coupon_codes=request.coupon_codes,
        )
        try:
            return (await self._quotes.Quote(asked)).quote
        except CallFailed as failed:
            raise _ours(failed) from failed

    def _created(
        self, request: CreateOrderRequest, quote: Quote, variants: dict[str, Variant]
    ) -> events.OrderCreated:
        return events.OrderCreated(
            order_id=request.order_id,
            customer_id=request.customer_id,
            currency=request.currency,
            net_total=quote.net_total,
            tax_total=quote.tax_total,
            gross_total=quote.gross_total,
            lines=[_line(line, variants[line.sku]) for line in quote.lines],
            country=quote.country or country(request),
            reference=request.reference,
            cart_id=request.cart_id,
            coupon_codes=request.coupon_codes,
            auto_capture=request.auto_capture if request.HasField("auto_capture") else True,
            quote_id=quote.quote_id,
            effective_time=stamp(self._clock.now()),
        )


def country(request: CreateOrderRequest) -> str:
    """Where the goods go."""
    return request.country or request.contact.shipping.country or request.contact.billing.country


def require_payment(created: events.OrderCreated, request: CreateOrderRequest) -> int:
    """What is to be paid in money. Raises PaymentMissing."""
    due = created.gross_total.amount_minor - created.credit.amount_minor
    if due > 0 and not request.HasField("payment"):
        raise PaymentMissing(amount=money_from_pb(created.gross_total), field="payment")
    return due


def _line(line: QuotedLine, variant: Variant) -> EventLine:
    return EventLine(
        line_id=line.line_id,
        sku=line.sku,
        units=line.units,
        net_minor=line.net.amount_minor,
        tax_minor=line.tax.amount_minor,
        tax_rate=line.tax_rate,
        unit_price=line.unit_price.amount,
        base_minor=line.base.amount_minor,
        discount_minor=sum(each.amount.amount_minor for each in line.discounts),
        tax_category=line.tax_category,
        shippable=variant.shippable,
    )


def _once_each(request: CreateOrderRequest) -> None:
    seen = set[str]()
    for line in request.lines:
        if line.line_id in seen:
            raise LineTwice(line_id=line.line_id, field="lines")
        seen.add(line.line_id)


def _for_sale(sku: str, variants: dict[str, Variant]) -> None:
    if sku not in variants:
        raise UnknownSku(sku=sku)
    if variants[sku].state != ProductState.PRODUCT_STATE_ACTIVE:
        raise NotForSale(sku=sku)


def _ours(failed: CallFailed) -> Exception:
    """A refusal of pricing in our own words; what is away stays as it is."""
    if failed.code in AWAY:
        return failed
    known, info = OURS.get(failed.reason), error_details_pb2.ErrorInfo()
    if known is None or not any(detail.Unpack(info) for detail in failed.status.details):
        return RefusedByCallee(callee="pricing", reason=failed.reason, message=failed.status.message)
    return known(**info.metadata)
