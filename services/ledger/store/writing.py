"""Reads what a batch touches, and writes what it became. Whoever holds the head writes alone."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, execute, fetch
from services.ledger.domain.account import Sums
from services.ledger.domain.book import Book, Wanted
from services.ledger.domain.entry import Entry, Kind

TYPES = {
    "sequence": "bigint",
    "transfer_id": "uuid",
    "kind": "smallint",
    "debit_account_id": "uuid",
    "credit_account_id": "uuid",
    "amount_minor": "bigint",
    "currency": "text",
    "pending_id": "uuid",
    "code": "text",
    "reference": "text",
    "memo": "bytea",
    "memo_owner_id": "text",
    "effective_at": "timestamptz",
    "recorded_at": "timestamptz",
    "expire_at": "timestamptz",
    "body": "bytea",
    "debit_balance_after": "bigint",
    "credit_balance_after": "bigint",
    "hash": "bytea",
}  # In the order of Entry's fields.
COLUMNS = ", ".join(TYPES)
VALUES = attrgetter(*TYPES)
HEAD = "select sequence, hash, recorded_at from head where ledger = 'ledger' for update"
KNOWN = f"select {COLUMNS} from entry where transfer_id = any($1::uuid[])"
RESOLVED = f"select {COLUMNS} from entry where pending_id = any($1::uuid[])"
SUMS = """
select account_id, currency, limit_kind, overdraft_minor, closed, debits_posted, credits_posted,
    debits_pending, credits_pending
from account where account_id = any($1::uuid[])
"""
ARRAYS = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(TYPES.values(), 1))
WRITE = f"insert into entry ({COLUMNS}) select * from unnest({ARRAYS})"
CHANGE = """
update account set debits_posted = new.dp, credits_posted = new.cp, debits_pending = new.dr,
    credits_pending = new.cr
from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) as new (id, dp, cp, dr, cr)
where account_id = new.id
"""
TURN = """
insert into turnover (account_id, day, debits, credits)
select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[])
on conflict (account_id, day) do update
set debits = turnover.debits + excluded.debits, credits = turnover.credits + excluded.credits
"""
RESERVE = "insert into open_pending select * from unnest($1::uuid[], $2::timestamptz[])"
RELEASE = "delete from open_pending where transfer_id = any($1::uuid[])"
ADVANCE = "update head set sequence = $1, hash = $2, recorded_at = $3 where ledger = 'ledger'"
DUE = """
select transfer_id from open_pending where expire_at <= $1 order by expire_at limit $2
"""


async def hold(tx: AnyTx) -> None:
    """Nobody else writes until `tx` ends."""
    await fetch(tx, HEAD)


async def opened(tx: AnyTx, wanted: Sequence[Wanted], now: datetime) -> tuple[Book, datetime]:
    """The book for these, and the time by which it writes. Other writers wait until `tx` ends."""
    head = (await fetch(tx, HEAD))[0]
    pending = [each.pending_id for each in wanted if each.pending_id]
    ids = [each.transfer_id for each in wanted]
    known = {row["transfer_id"]: entry(row) for row in await fetch(tx, KNOWN, ids + pending)}
    resolved = {}
    if pending:
        resolved = {row["pending_id"]: entry(row) for row in await fetch(tx, RESOLVED, pending)}
    accounts = await sums(tx, _accounts(wanted, known))
    book = Book(head["sequence"], head["hash"], accounts, known, resolved)
    return book, max(now, head["recorded_at"])


def _accounts(wanted: Sequence[Wanted], known: dict[UUID, Entry]) -> set[UUID]:
    ends = {end for each in wanted for end in (each.debit_account_id, each.credit_account_id) if end}
    for each in wanted:
        if each.pending_id and (pending := known.get(each.pending_id)):
            ends |= {pending.debit_account_id, pending.credit_account_id}
    return ends


async def sums(tx: AnyTx, account_ids: Iterable[UUID]) -> dict[UUID, Sums]:
    return {row["account_id"]: Sums(*row.values()) for row in await fetch(tx, SUMS, list(account_ids))}


async def write(tx: AnyTx, book: Book, now: datetime) -> None:
    """What the book has written since it was opened."""
    if not book.written:
        return
    await execute(tx, WRITE, *_columns([VALUES(each) for each in book.written]))
    changed = [(each.account_id, *each.state()) for each in book.changed()]
    await execute(tx, CHANGE, *_columns(changed))
    if turnovers := book.turnovers():
        rows = [(*key, *sums) for key, sums in sorted(turnovers.items())]
        await execute(tx, TURN, *_columns(rows))
    reserved = [(e.transfer_id, e.expire_at) for e in book.written if e.kind == Kind.PENDING]
    if reserved:
        await execute(tx, RESERVE, *_columns(reserved))
    if released := [e.pending_id for e in book.written if e.pending_id]:
        await execute(tx, RELEASE, released)
    await execute(tx, ADVANCE, book.sequence, book.hash, now)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def entry(row: Any) -> Entry:
    """From a row with COLUMNS."""
    return Entry(*row.values())


async def due(tx: AnyTx, now: datetime, most: int) -> list[UUID]:
    """Pending transfers whose timeout has passed, oldest first."""
    return [row["transfer_id"] for row in await fetch(tx, DUE, now, most)]
