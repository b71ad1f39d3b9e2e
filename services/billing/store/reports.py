"""Figures of reports, and what they are made of."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from services.billing.domain.report import EntryKind, Movement
from services.billing.domain.report_revenue import ByMonth
from services.chassis.db import AnyTx, Database, execute, fetch

PUT_REVENUE = """
insert into revenue_entry (kind, source_id, month, billed_month, currency, amount)
select $1, $2, month, $3, $4, amount from unnest($5::date[], $6::bigint[]) as new (month, amount)
on conflict do nothing
"""
PUT_TAX = """
insert into tax_entry (kind, source_id, code, rate, day, country, currency, taxable, tax)
select $1, $2, code, rate, $3, country, $4, taxable, tax
from unnest($5::text[], $6::numeric[], $7::text[], $8::bigint[], $9::bigint[])
    as new (code, rate, country, taxable, tax)
on conflict do nothing
"""
PUT_CHANGE = """
insert into recurring_change (event_id, subscription_id, customer_id, currency, at, delta)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing
"""
LOCK = "select pg_advisory_xact_lock(hashtextextended($1::text, 2))"
PUT_FACT = """
insert into revenue_fact (kind, source_id, invoice_id, at, currency, net, deferred)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
"""
FACTS = "select * from revenue_fact where invoice_id = $1 order by at, source_id"
FORGET_REVENUE = "delete from revenue_entry where source_id = any($1)"
FORGET_TAX = "delete from tax_entry where source_id = any($1)"
LINES = """
select line.net, service_start, service_end, coalesce(time_zone, 'UTC') as time_zone
from invoice_line as line join invoice using (invoice_id) left join billing_profile using (customer_id)
where invoice_id = $1
"""
TAXES = "select tax_code as code, tax_rate as rate, taxable, tax from invoice_tax where invoice_id = $1"
NOTE_TAXES = """
select tax_code as code, tax_rate as rate, taxable, tax from credit_note_tax where credit_note_id = $1
"""
COUNTRY = "select country from invoice where invoice_id = $1"
RECOGNISED = """
select month, sum(amount)::bigint as amount,
    coalesce(sum(amount) filter (where kind in ('INVOICE', 'CREDIT_NOTE', 'VOID')), 0)::bigint as of_invoices
from revenue_entry where currency = $1 and month between $2 and $3 group by month
"""
BILLED = """
select billed_month as month, sum(amount)::bigint as amount
from revenue_entry where currency = $1 and billed_month between $2 and $3 group by billed_month
"""
DEFERRED = """
select coalesce(sum(amount), 0)::bigint from revenue_entry
where currency = $1 and month >= $2 and billed_month < $2
"""
FIRST = "select min(month) from revenue_entry where currency = $1"
# Changes of one customer at one moment are one; a customer who has paid before is known.
MOVEMENTS = """
with change as (
    select customer_id, at, sum(delta) as delta from recurring_change
    where currency = $1 and at < $3 group by customer_id, at having sum(delta) <> 0
), running as (
    select *, sum(delta) over (partition by customer_id order by at) as after from change
), moved as (
    select date_trunc('month', at at time zone $2)::date as month, delta, after - delta as before, after,
        coalesce(max(after) over (
            partition by customer_id order by at rows between unbounded preceding and 1 preceding
        ), 0) > 0 as known
    from running
)
select month,
    coalesce(sum(delta) filter (where before <= 0 and after > 0 and not known), 0)::bigint as new,
    coalesce(sum(delta) filter (where before <= 0 and after > 0 and known), 0)::bigint as reactivation,
    coalesce(sum(delta) filter (where before > 0 and delta > 0), 0)::bigint as expansion,
    coalesce(-sum(delta) filter (where before > 0 and delta < 0 and after > 0), 0)::bigint as contraction,
    coalesce(-sum(delta) filter (where before > 0 and after <= 0), 0)::bigint as churn,
    count(*) filter (where before <= 0 and after > 0 and not known) as new_customers,
    count(*) filter (where before <= 0 and after > 0 and known) as reactivated_customers,
    count(*) filter (where before > 0 and after <= 0) as churned_customers
from moved group by month order by month
"""
AGING = """
select currency, bucket, sum(due)::bigint as amount, count(*) as invoices from (
    select currency, gross - credit_applied - credited_due - amount_paid as due,
        width_bucket(
            coalesce(($1::timestamptz at time zone $2)::date - (due_at at time zone $2)::date, 0), $3::int[]
        ) as bucket
    from invoice where state = 'OPEN' and ($4 = '' or currency = $4)
) as owed group by currency, bucket order by currency, bucket
"""
TAX = """
select country, currency, code, rate, sum(taxable)::bigint as taxable, sum(tax)::bigint as tax,
    count(*) as documents
from tax_entry where day between $1 and $2 and ($3 = '' or country = $3)
group by country, currency, code, rate order by country, currency, code, rate desc
"""


class Source(NamedTuple):
    """The document that a figure comes from."""

    kind: EntryKind
    source_id: UUID
    currency: str
    day: date  # On which it counts.

    @property
    def month(self) -> date:
        return self.day.replace(day=1)


class Taxed(NamedTuple):
    """Tax of a document by category and rate."""

    code: str
    rate: Decimal
    country: str
    taxable: int
    tax: int


async def put(tx: AnyTx, source: Source, revenue: ByMonth, taxes: Sequence[Taxed]) -> None:
    """Writes what is not there yet; what came before stays."""
    months, amounts = list(revenue.keys()), list(revenue.values())
    told = (source.kind, source.source_id, source.month, source.currency)
    await execute(tx, PUT_REVENUE, *told, months, amounts)
    columns = [list(column) for column in zip(*taxes, strict=True)] if taxes else [[]] * 5
    await execute(tx, PUT_TAX, source.kind, source.source_id, source.day, source.currency, *columns)


async def put_change(tx: AnyTx, *change: Any) -> None:
    """Event, subscription, customer, currency, time, and what the subscription is worth more by."""
    await execute(tx, PUT_CHANGE, *change)


async def lines(tx: AnyTx, invoice_id: UUID) -> Sequence[Any]:
    return await fetch(tx, LINES, invoice_id)


async def country(tx: AnyTx, invoice_id: UUID) -> str:
    """The buyer's."""
    return str((await fetch(tx, COUNTRY, invoice_id))[0]["country"])


async def taxes(tx: AnyTx, invoice_id: UUID) -> Sequence[Any]:
    return await fetch(tx, TAXES, invoice_id)


async def note_taxes(tx: AnyTx, credit_note_id: UUID) -> Sequence[Any]:
    return await fetch(tx, NOTE_TAXES, credit_note_id)


async def facts(tx: AnyTx, *fact: Any) -> Sequence[Any]:
    """All of an invoice, with this new one; the invoice's figures are the caller's until `tx` ends.

    Kind, source, invoice, time, currency, net amount and what of it is deferred.
    """
    invoice_id = fact[2]
    await execute(tx, LOCK, str(invoice_id))
    await execute(tx, PUT_FACT, *fact)
    return await fetch(tx, FACTS, invoice_id)


async def forget(tx: AnyTx, sources: Sequence[UUID]) -> None:
    """Takes figures away that are made anew."""
    await execute(tx, FORGET_REVENUE, list(sources))
    await execute(tx, FORGET_TAX, list(sources))


class Revenue(NamedTuple):
    """Of one currency, by month; months without any are absent."""

    recognised: Mapping[date, int]
    of_invoices: Mapping[date, int]
    billed: Mapping[date, int]
    deferred_before: int


async def revenue(db: Database, currency: str, first: date, last: date) -> Revenue:
    async with db.transaction("REPEATABLE READ") as tx:
        earned = await fetch(tx, RECOGNISED, currency, first, last)
        billed = await fetch(tx, BILLED, currency, first, last)
        [waiting] = await fetch(tx, DEFERRED, currency, first)
    return Revenue(
        {row["month"]: row["amount"] for row in earned},
        {row["month"]: row["of_invoices"] for row in earned},
        {row["month"]: row["amount"] for row in billed},
        waiting["coalesce"],
    )


async def first_month(db: Database, currency: str) -> date | None:
    found: date | None = await db.fetchval(FIRST, currency)
    return found


async def movements(db: Database, currency: str, zone: str, end: datetime) -> list[Movement]:
    """All there were until `end`, by month; opening figures are not told."""
    return [Movement(**row) for row in map(dict, await db.fetch(MOVEMENTS, currency, zone, end))]


async def aging(
    db: Database, now: datetime, zone: str, starts: Sequence[int], currency: str
) -> Sequence[Any]:
    """Bucket 0 is not overdue; the others begin at `starts` days."""
    return await db.fetch(AGING, now, zone, list(starts), currency)


async def tax(db: Database, first: date, last: date, country: str) -> Sequence[Any]:
    return await db.fetch(TAX, first, last, country)
