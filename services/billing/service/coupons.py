"""weft.billing.v1.CouponService."""

from decimal import Decimal
from uuid import UUID

from services.billing.domain.coupon import (
    Coupon,
    CouponCodeTaken,
    CouponIdReused,
    CouponLasts,
    CouponRedemption,
    CouponRefused,
    RedemptionIdReused,
    UnknownCoupon,
    redeemable,
)
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, moment, plain, stamp
from services.billing.service.terms import name_of
from services.billing.store import coupon as store, profile as profiles, subscription as subscriptions
from services.billing.store.once import written
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import exponent
from weft.billing.v1 import coupon_pb2 as pb
from weft.billing.v1.coupon_pb2_grpc import CouponServiceServicer
from weft.billing.v1.events_pb2 import CouponRedeemed
from weft.money.v1.money_pb2 import Money

# What two makings of one coupon must agree in.
SAME = (
    "code", "title", "percent", "amount", "currency", "lasts", "periods", "redeem_by", "redemptions_max",
    "per_customer_max", "plan_ids",
)  # fmt: skip


class Coupons(CouponServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateCoupon(self, request: pb.CreateCouponRequest, call: Call) -> pb.CreateCouponResponse:
        row = from_pb(request.coupon)
        row.created_at = self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            other = await store.with_code(tx, row.code)
            if other is not None and other.coupon_id != row.coupon_id:
                raise CouponCodeTaken(code=row.code)
            await written(tx, row)
            kept = await store.get(tx, row.coupon_id)
        if any(getattr(kept, name) != getattr(row, name) for name in SAME):
            raise CouponIdReused(coupon_id=row.coupon_id)
        return pb.CreateCouponResponse(coupon=to_pb(kept))

    async def ArchiveCoupon(self, request: pb.ArchiveCouponRequest, call: Call) -> pb.ArchiveCouponResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.coupon_id), lock=True)
            row.archived_at = row.archived_at or self._shared.clock.now()
        return pb.ArchiveCouponResponse(coupon=to_pb(row))

    async def GetCoupon(self, request: pb.GetCouponRequest, call: Call) -> pb.GetCouponResponse:
        async with self._shared.db.transaction() as tx:
            return pb.GetCouponResponse(coupon=to_pb(await store.get(tx, UUID(request.coupon_id))))

    async def ListCoupons(self, request: pb.ListCouponsRequest, call: Call) -> pb.ListCouponsResponse:
        page = store.COUPONS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListCouponsResponse(coupons=map(to_pb, rows), next_page_token=token)

    async def RedeemCoupon(self, request: pb.RedeemCouponRequest, call: Call) -> pb.RedeemCouponResponse:
        redemption_id, customer_id = UUID(request.redemption_id), UUID(request.customer_id)
        async with self._shared.db.transaction() as tx:
            await profiles.get(tx, customer_id)
            if request.subscription_id:
                await subscriptions.get(tx, UUID(request.subscription_id), customer_id)
            coupon = await store.with_code(tx, request.code, lock=True)
            if coupon is None:
                raise UnknownCoupon(coupon_id=request.code)
            known = await store.redemption(tx, redemption_id)
            if known is None:
                known = await self._redeem(tx, coupon, request)
        mine = (coupon.coupon_id, customer_id, maybe_id(request.subscription_id))
        if (known.coupon_id, known.customer_id, known.subscription_id) != mine:
            raise RedemptionIdReused(redemption_id=redemption_id)
        return pb.RedeemCouponResponse(redemption=redemption_to_pb(known))

    async def _redeem(self, tx: Tx, coupon: Coupon, request: pb.RedeemCouponRequest) -> CouponRedemption:
        """The coupon is locked, so that limits hold."""
        now, customer_id = self._shared.clock.now(), UUID(request.customer_id)
        redeemable(coupon, now, await store.count(tx, coupon.coupon_id, customer_id))
        left = {CouponLasts.ONCE: 1, CouponLasts.REPEATING: coupon.periods}.get(CouponLasts(coupon.lasts))
        row = CouponRedemption(
            redemption_id=UUID(request.redemption_id),
            coupon_id=coupon.coupon_id,
            customer_id=customer_id,
            subscription_id=maybe_id(request.subscription_id),
            left=left,
            redeemed_at=now,
            ended_at=None,
        )
        if not await written(tx, row):
            raise RedemptionIdReused(redemption_id=row.redemption_id)
        coupon.redemptions += 1
        await tx.flush()
        redeemed = CouponRedeemed(
            coupon_id=str(coupon.coupon_id),
            redemption_id=request.redemption_id,
            customer_id=request.customer_id,
        )
        await emit(tx, redeemed)
        return row


def from_pb(coupon: pb.Coupon) -> Coupon:
    """Raises CouponRefused, UnknownCurrency."""
    lasts = CouponLasts(name_of(pb.CouponDuration, "COUPON_DURATION_", coupon.duration, CouponLasts.ONCE))
    if (lasts is CouponLasts.REPEATING) != bool(coupon.invoices):
        raise CouponRefused(problem="what repeats has a number of invoices", field="coupon.invoices")
    of_amount = coupon.HasField("amount")
    if of_amount:
        exponent(coupon.amount.currency)
        if coupon.amount.amount_minor <= 0:
            raise CouponRefused(problem="it takes something off", field="coupon.amount.amount_minor")
    elif not Decimal(coupon.percent):
        raise CouponRefused(problem="it takes something off", field="coupon.percent")
    return Coupon(
        coupon_id=UUID(coupon.coupon_id),
        code=coupon.code,
        title=coupon.title,
        percent=None if of_amount else Decimal(coupon.percent),
        amount=coupon.amount.amount_minor if of_amount else None,
        currency=coupon.amount.currency,
        lasts=lasts,
        periods=coupon.invoices,
        redeem_by=moment(coupon.redeem_by_time) if coupon.HasField("redeem_by_time") else None,
        redemptions_max=coupon.redemptions_max if coupon.HasField("redemptions_max") else None,
        per_customer_max=coupon.per_customer_max if coupon.HasField("per_customer_max") else None,
        plan_ids=sorted(UUID(plan_id) for plan_id in coupon.plan_ids),
        redemptions=0,
        archived_at=None,
    )


def to_pb(row: Coupon) -> pb.Coupon:
    made = pb.Coupon(
        coupon_id=str(row.coupon_id),
        code=row.code,
        title=row.title,
        duration=pb.CouponDuration.Value(f"COUPON_DURATION_{row.lasts}"),
        invoices=row.periods,
        redeem_by_time=stamp(row.redeem_by),
        redemptions_max=row.redemptions_max,
        per_customer_max=row.per_customer_max,
        plan_ids=map(str, row.plan_ids),
        redemptions=row.redemptions,
        create_time=stamp(row.created_at),
        archive_time=stamp(row.archived_at),
    )
    if row.amount is not None:
        made.amount.CopyFrom(Money(amount_minor=row.amount, currency=row.currency))
    else:
        made.percent = plain(row.percent or Decimal(0))
    return made


def redemption_to_pb(row: CouponRedemption) -> pb.CouponRedemption:
    return pb.CouponRedemption(
        redemption_id=str(row.redemption_id),
        coupon_id=str(row.coupon_id),
        customer_id=str(row.customer_id),
        subscription_id=str(row.subscription_id or ""),
        invoices_left=row.left,
        redeem_time=stamp(row.redeemed_at),
    )
