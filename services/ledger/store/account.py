"""Accounts: made, found, closed, and what they were at some time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.ledger.domain.account import Account, AccountCodeTaken, AccountIdReused, Kind, UnknownAccount
from services.ledger.domain.entry import HeadRow, day

SETTINGS = ("code", "currency", "kind", "limit_kind", "overdraft_minor", "owner_id")
FIELDS = {
    "code": Field(Account.code),
    "create_time": Field(Account.created_at),
    "currency": Field(Account.currency, order=False),
    "kind": Field(Account.kind, order=False, values={kind.value: kind.value for kind in Kind}),
    "owner_id": Field(Account.owner_id, order=False),
    "closed": Field(Account.closed, order=False),
    "account_id": Field(Account.account_id, order=False),
}
ACCOUNTS = Listing(FIELDS, "code", "account_id")
GET = "select * from account where account_id = $1"
# Posted kinds are 1 (at once) and 3 (of a pending one).
EFFECTIVE = """
select
    coalesce((select sum(debits) from turnover where account_id = $1 and day < $2), 0)::bigint
    + coalesce((select sum(amount_minor) from entry where debit_account_id = $1 and kind in (1, 3)
        and effective_at >= $3 and effective_at <= $4), 0)::bigint as debits,
    coalesce((select sum(credits) from turnover where account_id = $1 and day < $2), 0)::bigint
    + coalesce((select sum(amount_minor) from entry where credit_account_id = $1 and kind in (1, 3)
        and effective_at >= $3 and effective_at <= $4), 0)::bigint as credits
"""
LAST_BY = (
    "select sequence from entry where recorded_at <= $1 order by recorded_at desc, sequence desc limit 1"
)
LATER = """
select
    coalesce((select sum(amount_minor) from entry
        where debit_account_id = $1 and sequence > $2 and kind in (1, 3)), 0)::bigint as debits,
    coalesce((select sum(amount_minor) from entry
        where credit_account_id = $1 and sequence > $2 and kind in (1, 3)), 0)::bigint as credits
"""


@dataclass(frozen=True, slots=True)
class Posted:
    """An account's posted sums at some time."""

    currency: str
    kind: str
    debits: int
    credits: int


async def create(tx: Tx, rows: Sequence[Account]) -> list[Account]:
    """Those that are new. Raises AccountIdReused, AccountCodeTaken."""
    new = []
    for row in rows:
        fields = {column.key: getattr(row, column.key) for column in Account.__table__.columns}
        made = insert(Account).values(fields).on_conflict_do_nothing().returning(Account.account_id)
        if (await tx.execute(made)).first() is not None:
            new.append(row)
            continue
        there = await tx.get(Account, row.account_id)
        if there is None:
            raise AccountCodeTaken(code=row.code)
        if any(getattr(there, name) != getattr(row, name) for name in SETTINGS):
            raise AccountIdReused(account_id=row.account_id)
    return new


async def many(tx: Tx, account_ids: Sequence[UUID]) -> dict[UUID, Account]:
    rows = await tx.scalars(select(Account).where(Account.account_id.in_(account_ids)))
    return {row.account_id: row for row in rows}


async def held(tx: Tx, account_id: UUID) -> Account:
    """While nobody books. Raises UnknownAccount."""
    await tx.get_one(HeadRow, "ledger", with_for_update=True)
    row = await tx.get(Account, account_id, populate_existing=True)
    if row is None:
        raise UnknownAccount(account_id=account_id)
    return row


async def get(db: Database, account_id: UUID) -> Any:
    """Raises UnknownAccount."""
    row = await db.fetchrow(GET, account_id)
    if row is None:
        raise UnknownAccount(account_id=account_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[Account], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Account)))).all())


async def effective(db: Database, account_id: UUID, at: datetime) -> Posted:
    """What had happened by `at`, that included. Raises UnknownAccount."""
    row = await get(db, account_id)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    sums = await db.fetchrow(EFFECTIVE, account_id, day(at), midnight, at)
    return Posted(row["currency"], row["kind"], sums["debits"], sums["credits"])


async def recorded(db: Database, account_id: UUID, at: datetime) -> Posted:
    """What the ledger knew at `at`: what it knows, less what came later. Raises UnknownAccount."""
    async with db.fast() as tx:
        await tx.execute("set transaction isolation level repeatable read")
        row = await tx.fetchrow(GET, account_id)
        if row is None:
            raise UnknownAccount(account_id=account_id)
        last = await tx.fetchval(LAST_BY, at) or 0
        later = await tx.fetchrow(LATER, account_id, last)
    debits, credits = row["debits_posted"] - later["debits"], row["credits_posted"] - later["credits"]
    return Posted(row["currency"], row["kind"], debits, credits)


async def before(db: Database, account_id: UUID, at: datetime) -> int:
    """Posted debits less credits of what happened before `at`."""
    posted = await effective(db, account_id, at - timedelta(microseconds=1))
    return posted.debits - posted.credits
