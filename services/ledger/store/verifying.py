"""Computes the chain, and the balances with it, anew."""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from services.chassis.db import Connection, Database
from services.ledger.domain.entry import FIRST_PREVIOUS, Entry, Kind
from services.ledger.store.writing import COLUMNS, entry

BATCH = 2_000  # Entries in hand while the chain is walked: about 2 MB.
NEXT = f"select {COLUMNS} from entry where sequence > $1 order by sequence limit {BATCH}"
HASH = "select hash from entry where sequence = $1"
HEAD = "select sequence, hash from head where ledger = 'ledger'"
SUMS = """
select account_id, debits_posted, credits_posted, debits_pending, credits_pending from account
"""
TURNED = """
select account_id, sum(debits)::bigint as debits, sum(credits)::bigint as credits from turnover group by 1
"""


@dataclass
class Verdict:
    """What was found."""

    entries: int = 0
    last_sequence: int = 0
    last_hash: bytes = FIRST_PREVIOUS
    broken_sequence: int = 0
    finding: str = ""


class Replay:
    """Sums of what has been seen: debits and credits, posted and pending."""

    def __init__(self) -> None:
        self.debits: Counter[UUID] = Counter()
        self.credits: Counter[UUID] = Counter()
        self.debits_pending: Counter[UUID] = Counter()
        self.credits_pending: Counter[UUID] = Counter()
        self._pending: dict[UUID, int] = {}

    def take(self, each: Entry) -> None:
        if each.kind in (Kind.POSTED, Kind.POST):
            self.debits[each.debit_account_id] += each.amount_minor
            self.credits[each.credit_account_id] += each.amount_minor
        if each.kind == Kind.PENDING:
            self._pending[each.transfer_id] = each.amount_minor
        held = each.amount_minor if each.kind == Kind.PENDING else 0
        if each.pending_id:
            held = -self._pending.pop(each.pending_id, 0)
        self.debits_pending[each.debit_account_id] += held
        self.credits_pending[each.credit_account_id] += held

    def sums(self, account_id: UUID) -> tuple[int, int, int, int]:
        each = (self.debits, self.credits, self.debits_pending, self.credits_pending)
        return each[0][account_id], each[1][account_id], each[2][account_id], each[3][account_id]


async def verify(db: Database, first: int, noted: tuple[int, bytes]) -> Verdict:
    """Looks at all that one snapshot shows from `first` on; the writers go on meanwhile."""
    connection = await db.dedicated(statement_timeout="0", idle_in_transaction_session_timeout="0")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _verify(connection, max(first, 1), noted)
    finally:
        await connection.close()


async def _verify(tx: Connection, first: int, noted: tuple[int, bytes]) -> Verdict:
    verdict, replay = Verdict(last_sequence=first - 1), Replay()
    previous = await tx.fetchval(HASH, first - 1) if first > 1 else FIRST_PREVIOUS
    verdict.last_hash = previous or b""
    while rows := await tx.fetch(NEXT, verdict.last_sequence):
        for row in rows:
            each = entry(row)
            if problem := _problem(each, verdict, noted):
                verdict.broken_sequence, verdict.finding = verdict.last_sequence + 1, problem
                return verdict
            replay.take(each)
            verdict.entries, verdict.last_sequence = verdict.entries + 1, each.sequence
            verdict.last_hash = each.hash
    await _compare_end(tx, verdict, noted)
    if first == 1 and not verdict.finding:
        await _compare_sums(tx, verdict, replay)
    return verdict


def _problem(each: Entry, verdict: Verdict, noted: tuple[int, bytes]) -> str:
    """What is wrong with the next entry; empty: nothing."""
    if each.sequence != verdict.last_sequence + 1:
        return "the entry is missing"
    if each.sealed(verdict.last_hash) != each.hash:
        return "the entry, or the hash before it, is not what was written"
    if each.sequence == noted[0] and each.hash != noted[1]:
        return "the entry has not the hash that was noted"
    return ""


async def _compare_end(tx: Connection, verdict: Verdict, noted: tuple[int, bytes]) -> None:
    head = await tx.fetchrow(HEAD)
    if (head["sequence"], head["hash"]) != (verdict.last_sequence, verdict.last_hash):
        verdict.broken_sequence = verdict.last_sequence + 1
        verdict.finding = "the ledger was longer than it is"
    elif noted[0] > verdict.last_sequence:
        verdict.broken_sequence = verdict.last_sequence + 1
        verdict.finding = "the noted entry is gone"


async def _compare_sums(tx: Connection, verdict: Verdict, replay: Replay) -> None:
    turned = {row["account_id"]: (row["debits"], row["credits"]) for row in await tx.fetch(TURNED)}
    for row in await tx.fetch(SUMS):
        account_id, *stored = row.values()
        sums = replay.sums(account_id)
        if tuple(stored) != sums:
            verdict.finding = f"account {account_id} is not what its entries sum to"
            return
        if turned.get(account_id, (0, 0)) != sums[:2]:
            verdict.finding = f"days of account {account_id} are not what its entries sum to"
            return
