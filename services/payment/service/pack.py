"""Rows as messages of the wire."""

from collections.abc import Mapping, Sequence

from services.chassis.money import Money, money_to_pb
from services.payment.announcing import stamp
from services.payment.domain.dispute import Dispute
from services.payment.domain.intent import Asked, Intent, Kind, Operation, Outcome, State
from services.payment.domain.method import Method
from services.payment.domain.remote import DisputeState
from services.payment.domain.statement import BankEntry, EntryState, Statement
from services.payment.domain.wallet import Reason, Wallet, WalletEntry
from services.payment.gateways.bank import Bank
from weft.payment.v1 import dispute_pb2, intent_pb2 as pb, method_pb2, movement_pb2, statement_pb2, wallet_pb2

STATES = {state: pb.IntentState.Value(f"INTENT_STATE_{state}") for state in State}
KINDS = {kind: pb.MethodKind.Value(f"METHOD_KIND_{kind}") for kind in Kind if kind} | {
    Kind.NONE: pb.METHOD_KIND_UNSPECIFIED
}
OUTCOMES = {outcome: movement_pb2.OperationState.Value(f"OPERATION_STATE_{outcome}") for outcome in Outcome}

DISPUTES = {each: dispute_pb2.DisputeState.Value(f"DISPUTE_STATE_{each}") for each in DisputeState}
ENTRIES = {each: statement_pb2.BankEntryState.Value(f"BANK_ENTRY_STATE_{each}") for each in EntryState}
REASONS = {each: wallet_pb2.WalletReason.Value(f"WALLET_REASON_{each}") for each in Reason}


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
        packed.decline.CopyFrom(movement_pb2.Decline(code=row.decline_code, message=row.decline_message))
    return packed


def _next_action(row: Intent, bank: Bank | None) -> movement_pb2.NextAction | None:
    if bank is not None and row.gateway == bank.name and row.state in bank.awaiting:
        transfer = movement_pb2.TransferInstructions(
            payee=bank.payee,
            iban=bank.iban,
            bic=bank.bic,
            reference=row.gateway_ref,
            amount=money_to_pb(row.money(row.amount - row.captured)),
        )
        return movement_pb2.NextAction(transfer=transfer)
    return movement_pb2.NextAction(redirect_url=row.redirect_url) if row.redirect_url else None


def capture(row: Operation) -> movement_pb2.Capture:
    return movement_pb2.Capture(
        capture_id=str(row.operation_id),
        amount=money_to_pb(row.money),
        state=OUTCOMES[Outcome(row.state)],
        decline=_decline(row),
        effective_time=stamp(row.effective_at),
    )


def refund(row: Operation) -> movement_pb2.Refund:
    return movement_pb2.Refund(
        refund_id=str(row.operation_id),
        intent_id=str(row.intent_id),
        amount=money_to_pb(row.money),
        state=OUTCOMES[Outcome(row.state)],
        reason=row.reason,
        decline=_decline(row),
        create_time=stamp(row.created_at),
        effective_time=stamp(row.effective_at),
    )


def _decline(row: Operation) -> movement_pb2.Decline | None:
    if row.state != Outcome.FAILED:
        return None
    return movement_pb2.Decline(code=row.decline_code, message=row.decline_message)


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


def dispute(row: Dispute) -> dispute_pb2.Dispute:
    return dispute_pb2.Dispute(
        dispute_id=str(row.dispute_id),
        intent_id=str(row.intent_id),
        gateway=row.gateway,
        gateway_ref=row.gateway_ref,
        amount=money_to_pb(Money(row.amount, row.currency)),
        fee=money_to_pb(Money(row.fee, row.currency)),
        reason=row.reason,
        state=DISPUTES[DisputeState(row.state)],
        respond_by=stamp(row.respond_by),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
    )


def wallet(row: Wallet) -> wallet_pb2.Wallet:
    return wallet_pb2.Wallet(
        customer_id=str(row.customer_id),
        balance=money_to_pb(Money(row.balance, row.currency)),
        held=money_to_pb(Money(row.held, row.currency)),
        available=money_to_pb(Money(row.balance - row.held, row.currency)),
    )


def wallet_entry(row: WalletEntry) -> wallet_pb2.WalletEntry:
    return wallet_pb2.WalletEntry(
        entry_id=str(row.entry_id),
        amount=money_to_pb(Money(row.amount, row.currency)),
        balance=money_to_pb(Money(row.balance, row.currency)),
        reason=REASONS[Reason(row.reason)],
        reference=row.reference,
        create_time=stamp(row.created_at),
    )


def statement(row: Statement, unmatched: int) -> statement_pb2.Statement:
    return statement_pb2.Statement(
        statement_id=str(row.statement_id),
        bank_id=row.bank_id,
        account=row.account,
        format=row.format,
        made_time=stamp(row.made_at),
        import_time=stamp(row.imported_at),
        entries=row.entries,
        unmatched=unmatched,
    )


def bank_entry(row: BankEntry, words: Mapping[str, str]) -> statement_pb2.BankEntry:
    return statement_pb2.BankEntry(
        entry_id=str(row.entry_id),
        statement_id=str(row.statement_id),
        amount=money_to_pb(row.money),
        value_time=stamp(row.value_at),
        state=ENTRIES[EntryState(row.state)],
        problem=row.problem,
        intent_id=str(row.intent_id or ""),
        party=words["party"],
        party_account=words["account"],
        remittance=words["text"],
    )
