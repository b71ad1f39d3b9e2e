"""Stands for payment: money is held, taken and given back, once each by its id."""

from collections.abc import Mapping
from typing import Any

from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.method import Call
from tests.order.world import Part, World
from weft.payment.v1 import (
    events_pb2 as paid,
    intent_pb2 as payment,
    movement_pb2 as movement,
    refund_pb2 as refunds,
)
from weft.payment.v1.intent_pb2_grpc import IntentServiceServicer, add_IntentServiceServicer_to_server
from weft.payment.v1.refund_pb2_grpc import RefundServiceServicer, add_RefundServiceServicer_to_server


def till(world: World) -> Mapping[Any, object]:
    return {
        add_IntentServiceServicer_to_server: Intents(world),
        add_RefundServiceServicer_to_server: Refunds(world),
    }


class MoreThanCaptured(FailedPrecondition):
    """More than there is."""


class UnknownIntent(NotFound):
    """There is no payment."""


class IntentStateRefused(FailedPrecondition):
    """The payment is {state}."""


class Intents(Part, IntentServiceServicer):
    async def CreateIntent(self, request: Any, call: Call) -> Any:
        def create() -> Any:
            intent = self.world.intents.get(request.intent_id)
            if intent is None:
                intent = payment.Intent(intent_id=request.intent_id, reference=request.reference)
                intent.amount.CopyFrom(request.amount)
                intent.customer_id, intent.capture = request.customer_id, request.capture
                intent.kind = request.kind or payment.METHOD_KIND_CARD
                self.world.intents[request.intent_id] = intent
                default = payment.INTENT_STATE_AUTHORISED
                if request.kind == payment.METHOD_KIND_BANK_TRANSFER:
                    default = payment.INTENT_STATE_REQUIRES_ACTION
                self.lead(intent, self.world.gateway.get(request.card_token, default))
            return payment.CreateIntentResponse(intent=intent)

        return await self._around("create intent", create)

    def lead(self, intent: payment.Intent, state: int) -> None:
        intent.state = state  # type: ignore[assignment]
        if state == payment.INTENT_STATE_AUTHORISED:
            intent.authorised.CopyFrom(intent.amount)
        elif state == payment.INTENT_STATE_SUCCEEDED:
            intent.captured.CopyFrom(intent.amount)
            self.world.charged += intent.amount.amount_minor
        elif state == payment.INTENT_STATE_FAILED:
            intent.decline.code = "insufficient_funds"
        elif state == payment.INTENT_STATE_REQUIRES_ACTION:
            intent.next_action.redirect_url = "https://bank.test/authenticate"

    async def ConfirmIntent(self, request: Any, call: Call) -> Any:
        return payment.ConfirmIntentResponse(intent=self.world.intents[request.intent_id])

    async def GetIntent(self, request: Any, call: Call) -> Any:
        if request.intent_id not in self.world.intents:
            raise UnknownIntent
        return payment.GetIntentResponse(intent=self.world.intents[request.intent_id])

    async def CaptureIntent(self, request: Any, call: Call) -> Any:
        def capture() -> Any:
            intent = self.world.intents[request.intent_id]
            known = next((each for each in intent.captures if each.capture_id == request.capture_id), None)
            if known is None:
                known = intent.captures.add(capture_id=request.capture_id, amount=request.amount)
                known.state = movement.OPERATION_STATE_FAILED
                known.decline.code = self.world.captures_fail
                if not self.world.captures_fail:
                    self._take(intent, known)
            return payment.CaptureIntentResponse(intent=intent, capture=known)

        return await self._around("capture", capture)

    def _take(self, intent: payment.Intent, capture: movement.Capture) -> None:
        if intent.kind == payment.METHOD_KIND_INVOICE:
            capture.state = movement.OPERATION_STATE_PENDING
            return
        capture.state = movement.OPERATION_STATE_SUCCEEDED
        intent.captured.currency = intent.amount.currency
        intent.captured.amount_minor += capture.amount.amount_minor
        self.world.charged += capture.amount.amount_minor
        if intent.captured.amount_minor >= intent.amount.amount_minor:
            intent.state = payment.INTENT_STATE_SUCCEEDED

    async def CancelIntent(self, request: Any, call: Call) -> Any:
        def cancel() -> Any:
            intent = self.world.intents.get(request.intent_id)
            if intent is None:
                raise UnknownIntent
            if intent.state in (payment.INTENT_STATE_SUCCEEDED, payment.INTENT_STATE_FAILED):
                raise IntentStateRefused(state=intent.state)
            taken = intent.captured.amount_minor
            intent.state = payment.INTENT_STATE_SUCCEEDED if taken else payment.INTENT_STATE_CANCELLED
            return payment.CancelIntentResponse(intent=intent)

        return await self._around("cancel intent", cancel)


class Refunds(Part, RefundServiceServicer):
    async def CreateRefund(self, request: Any, call: Call) -> Any:
        def refund() -> Any:
            intent = self.world.intents[request.intent_id]
            known = next((each for each in intent.refunds if each.refund_id == request.refund_id), None)
            if known is None:
                left = intent.captured.amount_minor - intent.refunded.amount_minor
                amount = request.amount.amount_minor if request.HasField("amount") else left
                if amount > left:
                    raise MoreThanCaptured
                known = intent.refunds.add(refund_id=request.refund_id)
                known.state = movement.OPERATION_STATE_FAILED
                known.decline.code = self.world.refunds_fail
                if not self.world.refunds_fail:
                    known.state = movement.OPERATION_STATE_SUCCEEDED
                    intent.refunded.amount_minor += amount
                    self.world.charged -= amount
            return refunds.CreateRefundResponse(refund=known)

        return await self._around("refund", refund)


def captured(intent: payment.Intent) -> paid.PaymentCaptured:
    """What payment announces when money has come."""
    return paid.PaymentCaptured(
        intent_id=intent.intent_id,
        capture_id=intent.intent_id,
        reference=intent.reference,
        customer_id=intent.customer_id,
        amount=intent.captured,
        captured=intent.captured,
    )
