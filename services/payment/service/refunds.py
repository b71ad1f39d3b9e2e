"""weft.payment.v1.RefundService."""

from datetime import UTC
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import MixedCurrencies, money_from_pb
from services.payment import announcing, purse
from services.payment.domain.intent import (
    REFUNDS_MAX,
    Asked,
    Intent,
    MoreThanCaptured,
    Operation,
    RefundIdReused,
    TooManyRefunds,
    positive,
)
from services.payment.domain.settling import refundable
from services.payment.domain.wallet import Change, Reason, entry_of
from services.payment.service import pack
from services.payment.service.shared import Shared
from services.payment.store import intent as store
from weft.payment.v1 import movement_pb2, refund_pb2 as pb
from weft.payment.v1.refund_pb2_grpc import RefundServiceServicer


class Refunds(RefundServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock, self._payer = shared, shared.db, shared.clock, shared.payer

    async def CreateRefund(self, request: pb.CreateRefundRequest, call: Call) -> pb.CreateRefundResponse:
        refund_id, intent_id = UUID(request.refund_id), UUID(request.intent_id)
        async with self._db.transaction() as tx:
            intent = await store.get(tx, intent_id, lock=True)
            begun = await self._begin(tx, intent, request)
        known = await self._payer.perform(intent, begun) if begun else None
        if known is None:
            return pb.CreateRefundResponse(refund=await self._seen(refund_id))
        made = next(each for each in known.operations if each.operation_id == refund_id)
        return pb.CreateRefundResponse(refund=pack.refund(made))

    async def GetRefund(self, request: pb.GetRefundRequest, call: Call) -> pb.GetRefundResponse:
        return pb.GetRefundResponse(refund=await self._seen(UUID(request.refund_id)))

    async def ListRefunds(self, request: pb.ListRefundsRequest, call: Call) -> pb.ListRefundsResponse:
        page = store.REFUNDS.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.refund_page(tx, page)
        return pb.ListRefundsResponse(refunds=map(pack.refund, rows), next_page_token=token)

    async def _begin(self, tx: Tx, intent: Intent, request: pb.CreateRefundRequest) -> Operation | None:
        """Writes the refund; None: it was before. The payment's row is locked, and so is its sum."""
        asked, refund_id = _asked(intent, request), UUID(request.refund_id)
        found = await store.operation(tx, Asked.REFUND, refund_id)
        if found is not None:
            if (found.intent_id, found.asked, found.reason) != (intent.intent_id, asked, request.reason):
                raise RefundIdReused(refund_id=refund_id)
            return None
        others = await store.operations(tx, intent.intent_id)
        if sum(each.kind == Asked.REFUND for each in others) >= REFUNDS_MAX:
            raise TooManyRefunds(intent_id=intent.intent_id, max=REFUNDS_MAX)
        left = max(0, refundable(intent, others))
        amount = left if asked is None else asked
        if not 0 < amount <= left:
            wanted = "more" if asked is None else intent.money(amount)
            raise MoreThanCaptured(intent_id=intent.intent_id, left=intent.money(left), wanted=wanted)
        refund = intent.ask(Asked.REFUND, amount, self._clock.now(), refund_id)
        refund.asked, refund.reason, refund.attempts = asked, request.reason, 1
        refund.due_at = self._payer.lease()
        if request.HasField("effective_time"):
            refund.effective_at = request.effective_time.ToDatetime(UTC)
        await self._write(tx, intent, refund)
        return refund

    async def _write(self, tx: Tx, intent: Intent, refund: Operation) -> None:
        """Raises AmountNotChargeable, WalletTooLow."""
        if gateway := self._shared.means.gateways.get(intent.gateway):
            gateway.check(refund.money)
        tx.add(refund)
        await tx.flush()
        await emit(tx, announcing.refund_created(intent, refund))
        if intent.top_up:
            paid_out = Change(
                entry_id=entry_of(refund.key),
                customer_id=intent.customer_id,
                amount=-refund.money,
                reason=Reason.PAID_OUT,
                reference=f"intent:{intent.intent_id}",
            )
            await purse.change(tx, paid_out, self._clock.now())

    async def _seen(self, refund_id: UUID) -> movement_pb2.Refund:
        async with self._db.transaction() as tx:
            return pack.refund(await store.refund(tx, refund_id))


def _asked(intent: Intent, request: pb.CreateRefundRequest) -> int | None:
    """Minor units; None: all. Raises MixedCurrencies, AmountNotPositive."""
    if not request.HasField("amount"):
        return None
    amount = positive(money_from_pb(request.amount), "amount")
    if amount.currency != intent.currency:
        raise MixedCurrencies(first=amount.currency, second=intent.currency)
    return amount.minor
