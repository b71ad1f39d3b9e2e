"""Decides what is booked: accounts and the end of the chain in hand, one transfer after the other.

Pure: it is given what the database has, and tells what the database should have then. A refused transfer,
or a refused chain of linked ones, leaves no trace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.chassis.errors import Refusal
from services.ledger.domain.account import Sums, UnknownAccount
from services.ledger.domain.entry import (
    Entry,
    ExceedsPending,
    Kind,
    LinkedTransferFailed,
    NotPending,
    OpenLink,
    OtherCurrency,
    PendingAlreadyPosted,
    PendingAlreadyVoided,
    PendingExpired,
    SameAccount,
    TransferIdReused,
    UnknownTransfer,
    day,
)


@dataclass(slots=True)
class Wanted:
    """What somebody asks to be booked. A resolution has a `pending_id`; its `amount_minor` 0 means all."""

    transfer_id: UUID
    kind: int
    asked: bytes  # Digest of the request, without the memo.
    debit_account_id: UUID | None = None
    credit_account_id: UUID | None = None
    amount_minor: int = 0
    currency: str = ""
    pending_id: UUID | None = None
    expire_at: datetime | None = None
    linked: bool = False
    code: str = ""
    reference: str = ""
    memo: str = ""
    memo_owner_id: str = ""
    sealed_memo: bytes | None = None
    effective_at: datetime | None = None
    body: bytes = b""  # Digest of all of it: the same id with another body is refused.


Outcome = Entry | Refusal


@dataclass
class Book:
    """The part of the ledger that a batch touches."""

    sequence: int
    hash: bytes
    accounts: Mapping[UUID, Sums]
    known: dict[UUID, Entry]  # Entries that have the id of a wanted one, or are to be resolved.
    resolved: dict[UUID, Entry]  # By pending transfer: what resolved it.
    written: list[Entry] = field(default_factory=list)

    def book(self, wanted: Sequence[Wanted], now: datetime) -> list[Outcome]:
        """One outcome for each, in order; what stands is in `written`."""
        outcomes: list[Outcome] = []
        chain: list[Wanted] = []
        for each in wanted:
            chain.append(each)
            if not each.linked:
                outcomes += self._chain(chain, now)
                chain = []
        return outcomes + [OpenLink() for _ in chain]

    def _chain(self, chain: Sequence[Wanted], now: datetime) -> list[Outcome]:
        """All of it, or nothing."""
        before = self._mark(chain)
        outcomes: list[Outcome] = []
        for position, each in enumerate(chain):
            try:
                outcomes.append(self._one(each, now))
            except Refusal as refusal:
                self._undo(before)
                failed: list[Outcome] = [
                    LinkedTransferFailed(transfer_id=other.transfer_id) for other in chain
                ]
                failed[position] = refusal
                return failed
        return outcomes

    def _mark(self, chain: Sequence[Wanted]) -> tuple[int, int, bytes, dict[UUID, tuple[int, int, int, int]]]:
        """What `_undo` needs; a single transfer checks all before it changes anything."""
        if len(chain) == 1:
            return len(self.written), self.sequence, self.hash, {}
        sums = {}
        for each in chain:
            for account_id in self._ends(each):
                if account := self.accounts.get(account_id):
                    sums[account_id] = account.state()
        return len(self.written), self.sequence, self.hash, sums

    def _ends(self, wanted: Wanted) -> tuple[UUID, ...]:
        pending = self.known.get(wanted.pending_id) if wanted.pending_id else None
        if pending:
            return pending.debit_account_id, pending.credit_account_id
        ends = (wanted.debit_account_id, wanted.credit_account_id)
        return tuple(end for end in ends if end is not None)

    def _undo(self, mark: tuple[int, int, bytes, dict[UUID, tuple[int, int, int, int]]]) -> None:
        length, self.sequence, self.hash, sums = mark
        for entry in self.written[length:]:
            del self.known[entry.transfer_id]
            if entry.pending_id:
                del self.resolved[entry.pending_id]
        del self.written[length:]
        for account_id, state in sums.items():
            self.accounts[account_id].restore(state)

    def _one(self, wanted: Wanted, now: datetime) -> Entry:
        if there := self.known.get(wanted.transfer_id):
            if there.body != wanted.body:
                raise TransferIdReused(transfer_id=wanted.transfer_id)
            return there
        if wanted.kind in (Kind.POSTED, Kind.PENDING):
            return self._new(wanted, now)
        return self._resolve(wanted, now)

    def _new(self, wanted: Wanted, now: datetime) -> Entry:
        assert wanted.debit_account_id
        assert wanted.credit_account_id
        debit = self._account(wanted.debit_account_id, wanted.currency)
        credit = self._account(wanted.credit_account_id, wanted.currency)
        if debit is credit:
            raise SameAccount(transfer_id=wanted.transfer_id, account_id=debit.account_id)
        minor = wanted.amount_minor
        debit.may_be_debited(minor)
        credit.may_be_credited(minor)
        if wanted.kind == Kind.PENDING:
            debit.debits_pending += minor
            credit.credits_pending += minor
        else:
            debit.debits_posted += minor
            credit.credits_posted += minor
        return self._write(wanted, minor, debit, credit, now)

    def _account(self, account_id: UUID, currency: str) -> Sums:
        account = self.accounts.get(account_id)
        if account is None:
            raise UnknownAccount(account_id=account_id)
        if account.currency != currency:
            raise OtherCurrency(account_id=account_id, currency=account.currency, asked=currency)
        return account

    def _resolve(self, wanted: Wanted, now: datetime) -> Entry:
        pending = self._open(wanted, now)
        debit = self.accounts[pending.debit_account_id]
        credit = self.accounts[pending.credit_account_id]
        minor = wanted.amount_minor or pending.amount_minor
        if minor > pending.amount_minor:
            raise ExceedsPending(
                pending_id=pending.transfer_id,
                amount_minor=minor,
                pending_minor=pending.amount_minor,
                field="amount_minor",
            )
        debit.debits_pending -= pending.amount_minor
        credit.credits_pending -= pending.amount_minor
        if wanted.kind == Kind.POST:
            debit.debits_posted += minor
            credit.credits_posted += minor
        wanted.currency, wanted.code, wanted.reference = pending.currency, pending.code, pending.reference
        entry = self._write(wanted, minor, debit, credit, now)
        self.resolved[pending.transfer_id] = entry
        return entry

    def _open(self, wanted: Wanted, now: datetime) -> Entry:
        """The pending transfer, which nothing has resolved."""
        assert wanted.pending_id
        pending = self.known.get(wanted.pending_id)
        if pending is None:
            raise UnknownTransfer(transfer_id=wanted.pending_id)
        if pending.kind != Kind.PENDING:
            raise NotPending(pending_id=wanted.pending_id)
        if done := self.resolved.get(wanted.pending_id):
            raise _already(done)
        late = pending.expire_at is not None and pending.expire_at <= now
        if late and wanted.kind != Kind.EXPIRY:
            raise PendingExpired(pending_id=wanted.pending_id)
        return pending

    def _write(self, wanted: Wanted, minor: int, debit: Sums, credit: Sums, now: datetime) -> Entry:
        self.sequence += 1
        entry = Entry(
            sequence=self.sequence,
            transfer_id=wanted.transfer_id,
            kind=wanted.kind,
            debit_account_id=debit.account_id,
            credit_account_id=credit.account_id,
            amount_minor=minor,
            currency=wanted.currency,
            pending_id=wanted.pending_id,
            code=wanted.code,
            reference=wanted.reference,
            memo=wanted.sealed_memo,
            memo_owner_id=wanted.memo_owner_id,
            effective_at=wanted.effective_at or now,
            recorded_at=now,
            expire_at=wanted.expire_at,
            body=wanted.body,
            debit_balance_after=debit.balance,
            credit_balance_after=credit.balance,
            hash=b"",
        )
        self.hash = entry.hash = entry.sealed(self.hash)
        self.known[entry.transfer_id] = entry
        self.written.append(entry)
        return entry

    def changed(self) -> list[Sums]:
        """Accounts that what is written touches."""
        ids = {end for entry in self.written for end in (entry.debit_account_id, entry.credit_account_id)}
        return [self.accounts[account_id] for account_id in sorted(ids)]

    def turnovers(self) -> dict[tuple[UUID, int], list[int]]:
        """Debits and credits by account and day, of what is posted."""
        sums: dict[tuple[UUID, int], list[int]] = {}
        for entry in self.written:
            if entry.kind in (Kind.POSTED, Kind.POST):
                on = day(entry.effective_at)
                sums.setdefault((entry.debit_account_id, on), [0, 0])[0] += entry.amount_minor
                sums.setdefault((entry.credit_account_id, on), [0, 0])[1] += entry.amount_minor
        return sums


def _already(done: Entry) -> Refusal:
    """Why a pending transfer cannot be resolved again."""
    if done.kind == Kind.POST:
        return PendingAlreadyPosted(pending_id=done.pending_id, transfer_id=done.transfer_id)
    if done.kind == Kind.VOID:
        return PendingAlreadyVoided(pending_id=done.pending_id, transfer_id=done.transfer_id)
    return PendingExpired(pending_id=done.pending_id)
