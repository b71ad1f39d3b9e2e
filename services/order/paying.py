"""What order asks of payment: each call is idempotent by an id that follows from the order's own."""

from datetime import datetime

from google.rpc import code_pb2

from services.chassis.errors import CallFailed
from services.chassis.mesh import Mesh
from services.order.domain.ids import derived
from services.order.domain.order import Order
from services.order.domain.refusals import PaymentDeclined, RefundRefused
from services.order.telling import money, stamp
from weft.money.v1.money_pb2 import Money
from weft.order.v1.order_pb2 import Payment, PaymentKind
from weft.payment.v1 import intent_pb2 as intents, movement_pb2 as movements
from weft.payment.v1.intent_pb2_grpc import IntentServiceStub
from weft.payment.v1.refund_pb2 import CreateRefundRequest
from weft.payment.v1.refund_pb2_grpc import RefundServiceStub

KINDS = {
    PaymentKind.PAYMENT_KIND_BANK_TRANSFER: intents.METHOD_KIND_BANK_TRANSFER,
    PaymentKind.PAYMENT_KIND_INVOICE: intents.METHOD_KIND_INVOICE,
    PaymentKind.PAYMENT_KIND_WALLET: intents.METHOD_KIND_WALLET,
}
BY_BANK = (intents.METHOD_KIND_BANK_TRANSFER, intents.METHOD_KIND_INVOICE)
PAID = (intents.INTENT_STATE_AUTHORISED, intents.INTENT_STATE_SUCCEEDED)
OVER = (intents.INTENT_STATE_CANCELLED, intents.INTENT_STATE_FAILED)


class Paying:
    """The payment of orders."""

    def __init__(self, mesh: Mesh, return_url: str) -> None:
        self._intents, self._refunds = IntentServiceStub(mesh), RefundServiceStub(mesh)
        self._return_url = return_url

    async def authorise(
        self, order: Order, payment: Payment | None, expires: datetime | None, *, again: bool
    ) -> intents.Intent:
        """The order's intent as it stands, made if it is not there. Raises PaymentDeclined, CallFailed."""
        intent = await self.seen(derived(order.order_id, "intent")) if again else None
        if intent is None:
            if payment is None:
                raise PaymentDeclined(why="nothing says how it is paid")
            intent = await self._made(order, payment, expires)
        elif intent.state == intents.INTENT_STATE_REQUIRES_ACTION and intent.kind not in BY_BANK:
            request = intents.ConfirmIntentRequest(intent_id=intent.intent_id)
            intent = (await self._intents.ConfirmIntent(request)).intent
        if intent.state in OVER:
            raise PaymentDeclined(why=intent.decline.code or intent.cancel_reason or "cancelled")
        return intent

    async def _made(self, order: Order, payment: Payment, expires: datetime | None) -> intents.Intent:
        request = intents.CreateIntentRequest(
            intent_id=derived(order.order_id, "intent"),
            reference=f"order:{order.order_id}",
            customer_id=order.customer_id or order.order_id,  # A guest pays once, as this order.
            amount=money(order, order.due),
            capture=intents.CAPTURE_MODE_MANUAL,
            return_url=payment.return_url or self._return_url,
            expire_time=stamp(expires) if expires else None,
            confirm=True,
        )
        _source(request, payment)
        try:
            return (await self._intents.CreateIntent(request)).intent
        except CallFailed as failed:
            if failed.reason != "CAPTURE_MODE_REFUSED":
                raise
            request.capture = intents.CAPTURE_MODE_AUTOMATIC  # A transfer is both at once.
            return (await self._intents.CreateIntent(request)).intent

    async def seen(self, intent_id: str) -> intents.Intent | None:
        try:
            return (await self._intents.GetIntent(intents.GetIntentRequest(intent_id=intent_id))).intent
        except CallFailed as failed:
            if failed.code == code_pb2.NOT_FOUND:
                return None
            raise

    async def capture(
        self, order: Order, capture_id: str, amount: int, *, final: bool
    ) -> tuple[intents.Intent, bool]:
        """The intent, and whether all is settled. Raises PaymentDeclined, CallFailed."""
        request = intents.CaptureIntentRequest(
            intent_id=order.intent_id, capture_id=capture_id, amount=money(order, amount), final=final
        )
        answer = await self._intents.CaptureIntent(request)
        if answer.capture.state == movements.OPERATION_STATE_FAILED:
            raise PaymentDeclined(why=answer.capture.decline.code)
        # What comes by bank comes when it comes: nobody waits for it here.
        settled = answer.capture.state != movements.OPERATION_STATE_PENDING or answer.intent.kind in BY_BANK
        return answer.intent, settled

    async def void(self, order_id: str, refund_id: str = "") -> None:
        """Nothing is kept of the order's payment, however far it came. Raises RefundRefused, CallFailed."""
        intent_id = derived(order_id, "intent")
        request = intents.CancelIntentRequest(intent_id=intent_id, reason="order_cancelled")
        try:
            intent = (await self._intents.CancelIntent(request)).intent
        except CallFailed as failed:
            if failed.code not in (code_pb2.NOT_FOUND, code_pb2.FAILED_PRECONDITION):
                raise
            found = await self.seen(intent_id)
            if found is None:
                return
            intent = found
        if intent.captured.amount_minor > intent.refunded.amount_minor:
            await self.give_back(intent_id, refund_id or derived(order_id, "give back"), None)

    async def give_back(self, intent_id: str, refund_id: str, amount: Money | None) -> bool:
        """Whether it is settled; no amount: all that is left. Raises RefundRefused, CallFailed."""
        request = CreateRefundRequest(refund_id=refund_id, intent_id=intent_id, amount=amount)
        refund = (await self._refunds.CreateRefund(request)).refund
        if refund.state == movements.OPERATION_STATE_FAILED:
            raise RefundRefused(reason=refund.decline.code)
        return bool(refund.state == movements.OPERATION_STATE_SUCCEEDED)


def _source(request: intents.CreateIntentRequest, payment: Payment) -> None:
    if payment.HasField("method_id"):
        request.method_id = payment.method_id
    elif payment.HasField("token"):
        request.card_token = payment.token
    else:
        request.kind = KINDS[payment.kind]
        if payment.kind == PaymentKind.PAYMENT_KIND_BANK_TRANSFER:
            request.capture = intents.CAPTURE_MODE_AUTOMATIC
