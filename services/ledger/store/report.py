"""Sums over many accounts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.chassis.db import Database
from services.ledger.domain.entry import day

TURNOVERS_MAX = 10_000  # Rows of one report; 60 months of some 160 accounts.
TRIAL = """
select account_id, code, kind, debits_posted as debits, credits_posted as credits
from account where currency = $1 and (debits_posted > 0 or credits_posted > 0) order by code
"""
# The day of `at` is counted entry by entry, the days before by their sums.
TRIAL_AT = """
with posted as (
    select account_id, debits, credits from turnover where day < $2
    union all
    select debit_account_id, amount_minor, 0 from entry
    where kind in (1, 3) and effective_at >= $3 and effective_at <= $4
    union all
    select credit_account_id, 0, amount_minor from entry
    where kind in (1, 3) and effective_at >= $3 and effective_at <= $4
)
select account_id, code, kind, sum(debits)::bigint as debits, sum(credits)::bigint as credits
from posted join account using (account_id) where currency = $1
group by account_id, code, kind order by code
"""
TURNOVERS = f"""
select to_char(date '1970-01-01' + day::integer, 'YYYY-MM') as month, account_id, code,
    sum(debits)::bigint as debits, sum(credits)::bigint as credits
from turnover join account using (account_id)
where currency = $1 and day >= $2 and day < $3 and starts_with(code, $4)
group by 1, account_id, code order by 1, code limit {TURNOVERS_MAX}
"""


async def trial(db: Database, currency: str, at: datetime | None) -> Sequence[Any]:
    if at is None:
        rows: Sequence[Any] = await db.fetch(TRIAL, currency)
        return rows
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    rows = await db.fetch(TRIAL_AT, currency, day(at), midnight, at)
    return rows


async def turnovers(db: Database, currency: str, days: tuple[int, int], prefix: str) -> Sequence[Any]:
    rows: Sequence[Any] = await db.fetch(TURNOVERS, currency, *days, prefix)
    return rows
