"""weft.pricing.v1.RedemptionService."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import ATTEMPTS_MAX, Conflict, Connection, Database
from services.chassis.events import emit
from services.chassis.method import Call
from services.pricing.domain.quote import QuoteExpired, UnknownQuote
from services.pricing.domain.redemption import (
    RELEASED,
    RedemptionIdReused,
    RedemptionReleased as AlreadyReleased,
    UnknownRedemption,
    Use,
)
from services.pricing.service import pack
from services.pricing.store import quote as quotes, redemption as store
from weft.pricing.v1 import redemption_pb2 as pb
from weft.pricing.v1.events_pb2 import PromotionRedeemed, RedemptionReleased
from weft.pricing.v1.quote_pb2 import Quote
from weft.pricing.v1.redemption_pb2_grpc import RedemptionServiceServicer


class Redemptions(RedemptionServiceServicer):
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def Redeem(self, request: pb.RedeemRequest, call: Call) -> pb.RedeemResponse:
        for _ in range(ATTEMPTS_MAX):
            with suppress(Conflict):
                return await self._redeem(request)
        raise Conflict

    async def _redeem(self, request: pb.RedeemRequest) -> pb.RedeemResponse:
        """All of it in one transaction. Raises Conflict when another got in the way."""
        redemption_id, quote_id = UUID(request.redemption_id), UUID(request.quote_id)
        async with self._db.fast() as tx:
            row = await quotes.found(tx, quote_id)
            whose = row["customer_id"] if row else None
            customer_id = UUID(request.customer_id) if request.customer_id else whose
            if not await store.begin(tx, redemption_id, quote_id, customer_id, self._clock.now()):
                await _check_repeat(tx, redemption_id, quote_id, customer_id if row else None)
            elif row is None or (whose and whose != customer_id):
                raise UnknownQuote(quote_id=quote_id)
            elif row["expires_at"] <= self._clock.now():
                raise QuoteExpired(quote_id=quote_id, expire_time=row["expires_at"])
            else:
                await self._take(tx, redemption_id, customer_id, Quote.FromString(row["body"]))
            return pb.RedeemResponse(redemption=await _told(tx, redemption_id))

    async def _take(
        self, tx: Connection, redemption_id: UUID, customer_id: UUID | None, quote: Quote
    ) -> None:
        """Raises PromotionExhausted."""
        uses = [Use(UUID(d.promotion_id), d.code, d.amount.amount_minor) for d in quote.discounts]
        for use in sorted(uses, key=lambda use: use.promotion_id):
            await store.take(tx, use, customer_id)
        order = store.Order(redemption_id, quote.net_total.amount_minor, quote.currency, self._clock.now())
        await store.note(tx, order, uses)
        await emit(tx, *_redeemed(redemption_id, customer_id, quote))

    async def Release(self, request: pb.ReleaseRequest, call: Call) -> pb.ReleaseResponse:
        redemption_id, now = UUID(request.redemption_id), self._clock.now()
        async with self._db.fast() as tx:
            if not await store.bury(tx, redemption_id, now):
                changed, customer_id = await store.release(tx, redemption_id, now)
                if changed:
                    whose = str(customer_id or "")
                    await emit(tx, RedemptionReleased(redemption_id=request.redemption_id, customer_id=whose))
            return pb.ReleaseResponse(redemption=await _told(tx, redemption_id))

    async def GetRedemption(self, request: pb.GetRedemptionRequest, call: Call) -> pb.GetRedemptionResponse:
        async with self._db.fast() as tx:
            return pb.GetRedemptionResponse(redemption=await _told(tx, UUID(request.redemption_id)))


async def _check_repeat(
    tx: Connection, redemption_id: UUID, quote_id: UUID, customer_id: UUID | None
) -> None:
    """Raises RedemptionReleased, RedemptionIdReused. `customer_id` None: the quote is forgotten by now."""
    row = await store.get(tx, redemption_id)
    if row["state"] == RELEASED:
        raise AlreadyReleased(redemption_id=redemption_id)
    if row["quote_id"] != quote_id or (customer_id and row["customer_id"] != customer_id):
        raise RedemptionIdReused(redemption_id=redemption_id)


async def _told(tx: Connection, redemption_id: UUID) -> pb.Redemption:
    """Raises UnknownRedemption."""
    row: Any = await store.get(tx, redemption_id)
    if row is None:
        raise UnknownRedemption(redemption_id=redemption_id)
    return pack.redemption(row, await store.uses(tx, redemption_id))


def _redeemed(redemption_id: UUID, customer_id: UUID | None, quote: Quote) -> Sequence[PromotionRedeemed]:
    return [
        PromotionRedeemed(
            redemption_id=str(redemption_id),
            promotion_id=each.promotion_id,
            customer_id=str(customer_id or ""),
            amount=each.amount,
        )
        for each in quote.discounts
    ]
