"""A cart as it stands now: what pricing and inventory say of it, if they can be asked."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar
from uuid import UUID

from services.chassis.errors import CallFailed, Relayed
from services.chassis.mesh import Mesh
from weft.cart.v1 import resource_pb2 as pb
from weft.inventory.v1 import availability_pb2 as stock
from weft.inventory.v1.availability_pb2_grpc import AvailabilityServiceStub
from weft.pricing.v1 import quote_pb2 as pricing
from weft.pricing.v1.quote_pb2_grpc import QuoteServiceStub

T = TypeVar("T")

ASK_S_MAX = 3.0  # A cart without prices now is worth more than one with prices later.
OUT_OF_STOCK = "OUT_OF_STOCK"

log = logging.getLogger("weft.cart")


class Showing:
    """Asks for prices and availability."""

    def __init__(self, mesh: Mesh) -> None:
        self._quotes, self._stock = QuoteServiceStub(mesh), AvailabilityServiceStub(mesh)

    async def price(self, sku: str, currency: str, customer_id: UUID | None) -> None:
        """Nothing, if it has one. Raises what pricing refuses with; pricing may be away."""
        request = pricing.QuoteRequest(currency=currency, customer_id=str(customer_id or ""), transient=True)
        request.lines.add(line_id=sku, sku=sku, units=1)
        try:
            await self._quotes.Quote(request, timeout=ASK_S_MAX)
        except CallFailed as failed:
            if failed.code not in Relayed.CODES:
                raise Relayed(failed) from failed
            log.warning("a line is taken unpriced: %s", failed)

    async def show(self, shown: pb.Cart) -> None:
        """Adds to a bare cart what it costs and what can be had of it."""
        if not shown.lines:
            return
        quote, available = await asyncio.gather(
            _if_there(self._quote(shown)), _if_there(self._available(shown))
        )
        if available is not None:
            _stocked(shown, available)
        if quote is not None:
            _priced(shown, quote)
            shown.quote.CopyFrom(_without_skipped(quote))

    async def _quote(self, shown: pb.Cart) -> pricing.Quote | None:
        request = pricing.QuoteRequest(
            currency=shown.currency,
            customer_id=shown.customer_id,
            country=shown.country,
            coupon_codes=shown.coupon_codes,
            transient=True,
            without_refused_coupons=True,
            without_refused_lines=True,
        )
        for line in shown.lines:
            if not line.saved_for_later:
                request.lines.add(line_id=line.sku, sku=line.sku, units=line.units)
        if not request.lines:
            return None
        return (await self._quotes.Quote(request, timeout=ASK_S_MAX)).quote

    async def _available(self, shown: pb.Cart) -> dict[str, int]:
        request = stock.BatchGetAvailabilityRequest(skus=[line.sku for line in shown.lines])
        answer = await self._stock.BatchGetAvailability(request, timeout=ASK_S_MAX)
        return {each.sku: each.available for each in answer.availabilities}


async def _if_there(asking: Awaitable[T]) -> T | None:
    """None: it cannot be asked now."""
    try:
        return await asking
    except CallFailed as failed:
        log.warning("a cart is shown without: %s", failed)
        return None


def _priced(shown: pb.Cart, quote: pricing.Quote) -> None:
    priced = {line.line_id: line for line in quote.lines}
    refused = {line.line_id: line.why for line in quote.refused_lines}
    for line in shown.lines:
        if found := priced.get(line.sku):
            line.title = found.title
            line.gross.CopyFrom(found.gross)
            if not found.shippable:  # Nobody counts what is not goods.
                line.ClearField("available")
                line.problem = ""
        line.problem = refused.get(line.sku, line.problem)


def _without_skipped(quote: pricing.Quote) -> pricing.Quote:
    """Promotions that did not apply may be for other customers, and no business of this one."""
    told = [step for step in quote.explanation if step.kind != "skipped"]
    del quote.explanation[:]
    quote.explanation.extend(told)
    return quote


def _stocked(shown: pb.Cart, available: dict[str, int]) -> None:
    for line in shown.lines:
        line.available = available.get(line.sku, 0)
        if line.available < line.units:
            line.problem = OUT_OF_STOCK
