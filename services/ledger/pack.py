"""Between the wire and the domain."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.money import money_from_pb
from services.ledger.domain import memo
from services.ledger.domain.account import Account, Kind as AccountKind
from services.ledger.domain.book import Wanted
from services.ledger.domain.entry import Entry, Kind
from weft.ledger.v1 import account_pb2, chain_pb2, transfer_pb2
from weft.ledger.v1.events_pb2 import TransfersRecorded
from weft.money.v1.money_pb2 import Money

LIMITS = {
    account_pb2.ACCOUNT_LIMIT_UNSPECIFIED: "NONE",
    account_pb2.ACCOUNT_LIMIT_DEBITS_NOT_ABOVE_CREDITS: "DEBITS_NOT_ABOVE_CREDITS",
    account_pb2.ACCOUNT_LIMIT_CREDITS_NOT_ABOVE_DEBITS: "CREDITS_NOT_ABOVE_DEBITS",
}
LIMIT_OF = {name: value for value, name in LIMITS.items()}


def account_from_pb(new: account_pb2.NewAccount, now: datetime) -> Account:
    return Account(
        account_id=UUID(new.account_id),
        code=new.code,
        currency=new.currency,
        kind=account_pb2.AccountKind.Name(new.kind).removeprefix("ACCOUNT_KIND_"),
        limit_kind=LIMITS[new.limit],
        overdraft_minor=new.overdraft_minor,
        owner_id=new.owner_id,
        debits_posted=0,
        credits_posted=0,
        debits_pending=0,
        credits_pending=0,
        closed=False,
        created_at=now,
    )


def account_to_pb(row: Any) -> account_pb2.Account:
    return account_pb2.Account(
        account_id=str(row.account_id),
        code=row.code,
        currency=row.currency,
        kind=account_pb2.AccountKind.Value(f"ACCOUNT_KIND_{row.kind}"),
        limit=LIMIT_OF[row.limit_kind],
        overdraft_minor=row.overdraft_minor,
        owner_id=row.owner_id,
        debits_posted_minor=row.debits_posted,
        credits_posted_minor=row.credits_posted,
        debits_pending_minor=row.debits_pending,
        credits_pending_minor=row.credits_pending,
        balance_minor=balance(row.kind, row.debits_posted, row.credits_posted),
        closed=row.closed,
        create_time=row.created_at,
    )


def balance(kind: str, debits: int, credits: int) -> int:
    """On the side on which the account's kind grows."""
    return debits - credits if AccountKind(kind).grows_by_debits else credits - debits


def wanted(new: transfer_pb2.NewTransfer, now: datetime) -> Wanted:
    """Raises what the amount's currency breaks."""
    money_from_pb(new.amount)
    expires = now + new.timeout.ToTimedelta() if new.HasField("timeout") else None
    return Wanted(
        transfer_id=UUID(new.transfer_id),
        kind=Kind.PENDING if new.pending else Kind.POSTED,
        asked=_digest(new, "memo"),
        debit_account_id=UUID(new.debit_account_id),
        credit_account_id=UUID(new.credit_account_id),
        amount_minor=new.amount.amount_minor,
        currency=new.amount.currency,
        expire_at=expires,
        linked=new.linked,
        code=new.code,
        reference=new.reference,
        memo=new.memo,
        memo_owner_id=new.memo_owner_id,
        effective_at=moment(new, "effective_time"),
    )


def posting(request: transfer_pb2.PostTransferRequest) -> Wanted:
    return Wanted(
        transfer_id=UUID(request.transfer_id),
        kind=Kind.POST,
        asked=_digest(request),
        pending_id=UUID(request.pending_id),
        amount_minor=request.amount_minor,
        effective_at=moment(request, "effective_time"),
    )


def voiding(request: transfer_pb2.VoidTransferRequest) -> Wanted:
    return Wanted(
        transfer_id=UUID(request.transfer_id),
        kind=Kind.VOID,
        asked=_digest(request),
        pending_id=UUID(request.pending_id),
    )


def _digest(request: Message, *without: str) -> bytes:
    """Of what a caller asked for."""
    if any(getattr(request, name) for name in without):
        asked, request = request, type(request)()
        request.CopyFrom(asked)
        for name in without:
            request.ClearField(name)
    kind = request.DESCRIPTOR.name.encode()
    return sha256(kind + request.SerializeToString(deterministic=True)).digest()


def moment(message: Message, field: str) -> datetime | None:
    """A timestamp's value; None where there is none."""
    if not message.HasField(field):
        return None
    at: Timestamp = getattr(message, field)
    return at.ToDatetime(UTC)


def entry(
    of: Entry, keys: Mapping[str, bytes], resolved: Mapping[UUID, UUID] | None = None
) -> transfer_pb2.Transfer:
    """`keys` open memos; `resolved` says by what pending ones were resolved."""
    made = transfer_pb2.Transfer(
        transfer_id=str(of.transfer_id),
        sequence=of.sequence,
        kind=of.kind,  # type: ignore[arg-type] # the numbers are the contract's
        debit_account_id=str(of.debit_account_id),
        credit_account_id=str(of.credit_account_id),
        amount=Money(amount_minor=of.amount_minor, currency=of.currency),
        pending_id=str(of.pending_id or ""),
        code=of.code,
        reference=of.reference,
        memo=memo.opened(keys.get(of.memo_owner_id), of.memo, of.transfer_id),
        memo_owner_id=of.memo_owner_id,
        hash=of.hash,
    )
    made.effective_time.FromDatetime(of.effective_at)
    made.record_time.FromDatetime(of.recorded_at)
    if of.expire_at:
        made.expire_time.FromDatetime(of.expire_at)
    if resolved and of.transfer_id in resolved:
        made.resolved_by_id = str(resolved[of.transfer_id])
    return made


def recorded(entries: Sequence[Entry]) -> TransfersRecorded:
    """What is announced of them."""
    return TransfersRecorded(
        ledger="ledger",
        transfers=[
            chain_pb2.RecordedTransfer(
                transfer_id=str(each.transfer_id),
                kind=each.kind,  # type: ignore[arg-type] # the numbers are the contract's
                debit_account_id=str(each.debit_account_id),
                credit_account_id=str(each.credit_account_id),
                amount_minor=each.amount_minor,
                currency=each.currency,
                pending_id=str(each.pending_id or ""),
                reference=each.reference,
            )
            for each in entries
        ],
        last_sequence=entries[-1].sequence,
        last_hash=entries[-1].hash,
    )
