"""Rows as messages of the wire."""

from collections.abc import Sequence

from services.chassis.money import Money, money_to_pb
from services.payment.announcing import stamp
from services.payment.domain.intent import Asked, Intent, Kind, Operation, Outcome, State
from services.payment.domain.method import Method
from services.payment.gateways.bank import Bank
from weft.payment.v1 import intent_pb2 as pb, method_pb2

STATES = {state: pb.IntentState.Value(f"INTENT_STATE_{state}") for state in State}
KINDS = {kind: pb.MethodKind.Value(f"METHOD_KIND_{kind}") for kind in Kind if kind} | {
    Kind.NONE: pb.METHOD_KIND_UNSPECIFIED
}
OUTCOMES = {outcome: pb.OperationState.Value(f"OPERATION_STATE_{outcome}") for outcome in Outcome}


def intent(row: Intent, operations: Sequence[Operation] = (), bank: Bank | None = None) -> pb.Intent:
    """`bank` says where to transfer to."""
    packed = pb.Intent(
        intent_id=str(row.intent_id),
        reference=row.reference,
        customer_id=str(row.customer_id),
        amount=money_to_pb(row.owed),
        kind=KINDS[Kind(row.kind)],
        method_id=str(row.method_id or ""),
        capture=pb.CAPTURE_MODE_AUTOMATIC if row.capture else pb.CAPTURE_MODE_MANUAL,
        state=STATES[State(row.state)],
        authorised=money_to_pb(row.money(row.authorised)),
        captured=money_to_pb(row.money(row.captured)),
        refunded=money_to_pb(row.money(row.refunded)),
        disputed=money_to_pb(row.money(row.disputed)),
        next_action=_next_action(row, bank),
        cancel_reason=row.cancel_reason,
        gateway=row.gateway,
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        expire_time=stamp(row.expire_at),
        top_up=row.top_up,
        captures=[capture(each) for each in operations if each.kind == Asked.CAPTURE],
        refunds=[refund(each) for each in operations if each.kind == Asked.REFUND],
    )
    if row.state == State.FAILED:
        packed.decline.CopyFrom(pb.Decline(code=row.decline_code, message=row.decline_message))
    return packed


def _next_action(row: Intent, bank: Bank | None) -> pb.NextAction | None:
    if bank is not None and row.gateway == bank.name and row.state in bank.awaiting:
        transfer = pb.TransferInstructions(
            payee=bank.payee,
            iban=bank.iban,
            bic=bank.bic,
            reference=row.gateway_ref,
            amount=money_to_pb(row.money(row.amount - row.captured)),
        )
        return pb.NextAction(transfer=transfer)
    return pb.NextAction(redirect_url=row.redirect_url) if row.redirect_url else None


def capture(row: Operation) -> pb.Capture:
    return pb.Capture(
        capture_id=str(row.operation_id),
        amount=money_to_pb(row.money),
        state=OUTCOMES[Outcome(row.state)],
        decline=_decline(row),
        effective_time=stamp(row.effective_at),
    )


def refund(row: Operation) -> pb.Refund:
    return pb.Refund(
        refund_id=str(row.operation_id),
        intent_id=str(row.intent_id),
        amount=money_to_pb(row.money),
        state=OUTCOMES[Outcome(row.state)],
        reason=row.reason,
        decline=_decline(row),
        create_time=stamp(row.created_at),
        effective_time=stamp(row.effective_at),
    )


def _decline(row: Operation) -> pb.Decline | None:
    if row.state != Outcome.FAILED:
        return None
    return pb.Decline(code=row.decline_code, message=row.decline_message)


def method(row: Method) -> method_pb2.Method:
    packed = method_pb2.Method(
        method_id=str(row.method_id),
        customer_id=str(row.customer_id),
        kind=KINDS[Kind(row.kind)],
        default=row.preferred,
        brand=row.brand,
        last4=row.last4,
        expiry=row.expiry,
        country=row.country,
        create_time=stamp(row.created_at),
        detach_time=stamp(row.detached_at),
    )
    if row.currency:
        packed.credit_limit.CopyFrom(money_to_pb(Money(row.credit_limit, row.currency)))
    return packed
