"""weft.pricing.v1.CouponService."""

import secrets
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.pricing import reading
from services.pricing.domain.coupon import (
    RANDOM_CHARS,
    BatchIdReused,
    CouponBatchRow,
    CouponCodeTaken,
    CouponRow,
    code_of,
    normal,
    prefix_of,
    readable,
)
from services.pricing.domain.promotion import PromotionArchived, State
from services.pricing.domain.validity import ValidityRefused
from services.pricing.service import pack
from services.pricing.service.shared import Shared
from services.pricing.store import coupon as store, promotion as promotions
from services.pricing.store.once import written
from weft.pricing.v1 import coupon_pb2 as pb
from weft.pricing.v1.coupon_pb2_grpc import CouponServiceServicer
from weft.pricing.v1.events_pb2 import CouponCreated, CouponRevoked, CouponsGenerated

CHUNK = 10_000  # Codes of one statement.


class Coupons(CouponServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._db, self._clock, self._page_key = shared.db, shared.clock, shared.page_key

    async def CreateCoupon(self, request: pb.CreateCouponRequest, call: Call) -> pb.CreateCouponResponse:
        until, now = reading.moment(request, "valid_to"), self._clock.now()
        new = CouponRow(
            code=code_of(request.code, "code"),
            promotion_id=UUID(request.promotion_id),
            batch_id=None,
            uses_max=request.uses_max or None,
            uses=0,
            valid_to=until,
            revoked=False,
            created_at=now,
        )
        async with self._db.transaction() as tx:
            await _check_promotion(tx, new.promotion_id)
            made = await written(tx, new)
            if made:
                self._check_end(request)
                await emit(tx, CouponCreated(promotion_id=request.promotion_id))
            row = await store.get(tx, new.code)
        same = (row.promotion_id, row.batch_id, row.uses_max, row.valid_to)
        if not made and same != (new.promotion_id, None, new.uses_max, until):
            raise CouponCodeTaken(field="code")
        return pb.CreateCouponResponse(coupon=pack.coupon(row))

    async def GenerateCoupons(
        self, request: pb.GenerateCouponsRequest, call: Call
    ) -> pb.GenerateCouponsResponse:
        prefix = prefix_of(request.prefix)
        wanted = pb.GenerateCouponsRequest()
        wanted.CopyFrom(request)
        wanted.ClearField("batch_id")
        new = CouponBatchRow(
            batch_id=UUID(request.batch_id),
            promotion_id=UUID(request.promotion_id),
            request=wanted.SerializeToString(deterministic=True),
            coupons=request.coupons,
            created_at=self._clock.now(),
        )
        async with self._db.transaction() as tx:
            await _check_promotion(tx, new.promotion_id)
            if await written(tx, new):
                self._check_end(request)
                await _generate(tx, new, prefix, request)
                await emit(tx, _generated(request))
            row = await store.batch(tx, new.batch_id)
        if row.request != new.request:
            raise BatchIdReused(batch_id=new.batch_id)
        return pb.GenerateCouponsResponse(batch_id=request.batch_id, coupons=row.coupons)

    def _check_end(self, request: pb.CreateCouponRequest | pb.GenerateCouponsRequest) -> None:
        """Raises ValidityRefused."""
        until, now = reading.moment(request, "valid_to"), self._clock.now()
        if until is not None and until <= now:
            raise ValidityRefused(valid_from=now, valid_to=until, field="valid_to")

    async def GetCoupon(self, request: pb.GetCouponRequest, call: Call) -> pb.GetCouponResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, normal(request.code))
        return pb.GetCouponResponse(coupon=pack.coupon(row))

    async def ListCoupons(self, request: pb.ListCouponsRequest, call: Call) -> pb.ListCouponsResponse:
        page = store.COUPONS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page, UUID(request.promotion_id))
        return pb.ListCouponsResponse(coupons=map(pack.coupon, rows), next_page_token=token)

    async def RevokeCoupon(self, request: pb.RevokeCouponRequest, call: Call) -> pb.RevokeCouponResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, normal(request.code), lock=True)
            if not row.revoked:
                row.revoked = True
                await emit(tx, CouponRevoked(promotion_id=str(row.promotion_id)))
        return pb.RevokeCouponResponse(coupon=pack.coupon(row))


async def _check_promotion(tx: Tx, promotion_id: UUID) -> None:
    """Raises UnknownPromotion, PromotionArchived."""
    if (await promotions.get(tx, promotion_id)).state == State.ARCHIVED.value:
        raise PromotionArchived(promotion_id=promotion_id)


async def _generate(tx: Tx, batch: CouponBatchRow, prefix: str, request: pb.GenerateCouponsRequest) -> None:
    """Until there are as many as wanted: a code that is there already is not made again."""
    until, missing = reading.moment(request, "valid_to"), batch.coupons
    while missing:
        size = min(missing, CHUNK)
        random = secrets.token_bytes(size * RANDOM_CHARS)
        starts = range(0, len(random), RANDOM_CHARS)
        codes = [readable(prefix, random[n : n + RANDOM_CHARS]) for n in starts]
        missing -= await store.add(tx, codes, batch, request.uses_max or 1, until)


def _generated(request: pb.GenerateCouponsRequest) -> CouponsGenerated:
    ids = {"promotion_id": request.promotion_id, "batch_id": request.batch_id}
    return CouponsGenerated(coupons=request.coupons, **ids)
