"""weft.pricing.v1.QuoteService."""

import hashlib
from datetime import UTC, timedelta
from uuid import UUID, uuid4

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.method import Call
from services.pricing.domain.quote import QuoteIdReused, UnknownQuote
from services.pricing.quoting import Quoter, Reckoned, Trial
from services.pricing.service.telling import quote as told
from services.pricing.store import quote as store
from weft.pricing.v1 import quote_pb2 as pb
from weft.pricing.v1.quote_pb2_grpc import QuoteServiceServicer


class Quotes(QuoteServiceServicer):
    def __init__(self, db: Database, clock: Clock, quoter: Quoter, quote_s: int) -> None:
        self._db, self._clock, self._quoter = db, clock, quoter
        self._lasts = timedelta(seconds=quote_s)

    async def Quote(self, request: pb.QuoteRequest, call: Call) -> pb.QuoteResponse:
        asked = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        if request.quote_id and (kept := await self._kept(UUID(request.quote_id), asked)):
            return pb.QuoteResponse(quote=kept)
        made = self._timed(await self._quoter.reckon(request))
        if not request.transient:
            made = await self._keep(made, UUID(request.quote_id) if request.quote_id else uuid4(), asked)
        return pb.QuoteResponse(quote=made)

    async def PreviewQuote(self, request: pb.PreviewQuoteRequest, call: Call) -> pb.PreviewQuoteResponse:
        trial = Trial(promotion_ids=tuple(map(UUID, request.promotion_ids)), alone=request.alone)
        return pb.PreviewQuoteResponse(quote=self._timed(await self._quoter.reckon(request.request, trial)))

    async def GetQuote(self, request: pb.GetQuoteRequest, call: Call) -> pb.GetQuoteResponse:
        row = await store.find(self._db, UUID(request.quote_id))
        whose = row["customer_id"] if row else None
        if row is None or (request.customer_id and str(whose) != request.customer_id):
            raise UnknownQuote(quote_id=request.quote_id)
        return pb.GetQuoteResponse(quote=pb.Quote.FromString(row["body"]))

    def _timed(self, reckoned: Reckoned) -> pb.Quote:
        made = told(reckoned)
        made.expire_time.FromDatetime(self._clock.now() + self._lasts)
        return made

    async def _kept(self, quote_id: UUID, asked: bytes) -> pb.Quote | None:
        """Raises QuoteIdReused."""
        row = await store.find(self._db, quote_id)
        if row is not None and row["request"] != asked:
            raise QuoteIdReused(quote_id=quote_id)
        return pb.Quote.FromString(row["body"]) if row else None

    async def _keep(self, made: pb.Quote, quote_id: UUID, asked: bytes) -> pb.Quote:
        """What is kept of this id in the end: a rival may have been first. Raises QuoteIdReused."""
        made.quote_id = str(quote_id)
        customer_id = UUID(made.customer_id) if made.customer_id else None
        kept = store.Kept(
            quote_id=quote_id,
            request=asked,
            customer_id=customer_id,
            body=made.SerializeToString(),
            expires_at=made.expire_time.ToDatetime(UTC),
            created_at=self._clock.now(),
        )
        if await store.add(self._db, kept):
            return made
        return await self._kept(quote_id, asked) or made
