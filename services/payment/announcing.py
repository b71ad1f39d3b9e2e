"""What happened to a payment, as the events that tell of it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.money import Money, money_to_pb
from services.payment.domain.dispute import Dispute
from services.payment.domain.intent import Asked, Intent, Operation, Outcome, State
from services.payment.domain.remote import DisputeState
from services.payment.domain.settling import Captured, Ended, Fact, Moved, Opened, Released
from weft.payment.v1 import events_pb2 as pb

MOVES: dict[State, Callable[[Intent], Message | None]] = {
    State.REQUIRES_ACTION: lambda intent: pb.PaymentActionRequired(**about(intent)),
    State.AUTHORISED: lambda intent: pb.PaymentAuthorised(
        amount=money_to_pb(intent.money(intent.authorised)), **about(intent)
    ),
    State.FAILED: lambda intent: pb.PaymentFailed(reason=intent.decline_code, **about(intent)),
    State.CANCELLED: lambda intent: cancelled(intent),
}


def about(intent: Intent) -> dict[str, Any]:
    """What every event of a payment carries."""
    return {
        "intent_id": str(intent.intent_id),
        "reference": intent.reference,
        "customer_id": str(intent.customer_id),
    }


def created(intent: Intent) -> Message:
    return pb.IntentCreated(amount=money_to_pb(intent.owed), **about(intent))


def started(intent: Intent) -> Message:
    return pb.PaymentStarted(gateway=intent.gateway, **about(intent))


def cancelled(intent: Intent) -> Message:
    return pb.PaymentCancelled(reason=intent.cancel_reason, **about(intent))


def of_facts(intent: Intent, facts: Sequence[Fact]) -> list[Message]:
    """In the order in which they came about."""
    made = [_of(intent, fact) for fact in facts]
    return [each for each in made if each is not None]


def _of(intent: Intent, fact: Fact) -> Message | None:
    if isinstance(fact, Moved):
        told = MOVES.get(fact.state)
        return told(intent) if told else None
    if isinstance(fact, Captured):
        return _captured(intent, fact)
    if isinstance(fact, Released):
        return cancelled(intent)
    if isinstance(fact, Opened):
        return refund_created(intent, fact.operation)
    return _ended(intent, fact)


def _captured(intent: Intent, fact: Captured) -> Message:
    return pb.PaymentCaptured(
        capture_id=str(fact.capture.operation_id),
        amount=money_to_pb(fact.capture.money),
        gateway=intent.gateway,
        effective_time=stamp(fact.capture.effective_at),
        captured=money_to_pb(intent.money(fact.total)),
        top_up=intent.top_up and not fact.late,
        **about(intent),
    )


def refund_created(intent: Intent, refund: Operation) -> Message:
    return pb.RefundCreated(
        refund_id=str(refund.operation_id),
        amount=money_to_pb(refund.money),
        reason=refund.reason,
        **about(intent),
    )


def _ended(intent: Intent, fact: Ended) -> Message:
    operation = fact.operation
    amount = money_to_pb(operation.money)
    if operation.kind == Asked.CAPTURE:
        return pb.CaptureFailed(
            capture_id=str(operation.operation_id),
            amount=amount,
            reason=operation.decline_code,
            **about(intent),
        )
    refund_id = str(operation.operation_id)
    if operation.state == Outcome.FAILED:
        reason = operation.decline_code
        return pb.RefundFailed(refund_id=refund_id, amount=amount, reason=reason, **about(intent))
    return pb.PaymentRefunded(
        refund_id=refund_id,
        amount=amount,
        gateway=intent.gateway,
        effective_time=stamp(operation.effective_at),
        reason=operation.reason,
        **about(intent),
    )


def dispute(intent: Intent, row: Dispute, state: DisputeState) -> Message:
    """That it was opened, won or lost."""
    told: dict[str, Any] = {
        "dispute_id": str(row.dispute_id),
        "amount": money_to_pb(Money(row.amount, row.currency)),
        "fee": money_to_pb(Money(row.fee, row.currency)),
        "gateway": row.gateway,
        **about(intent),
    }
    if state is DisputeState.LOST:
        return pb.DisputeLost(top_up=intent.top_up_kept, **told)
    return pb.DisputeOpened(**told) if state is DisputeState.OPEN else pb.DisputeWon(**told)


def stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed
