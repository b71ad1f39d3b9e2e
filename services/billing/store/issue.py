"""What invoices of one batch are made from, and how they are written: a statement for each table."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.billing.domain.coupon import Discount
from services.billing.domain.credit import PAYING_ORDER, Balance
from services.chassis.db import AnyTx, execute, fetch, insert_many

CUSTOMERS = """
select p.*, coalesce(name, '') as name, coalesce(lines, '{}') as lines, coalesce(city, '') as city,
    coalesce(postal_code, '') as postal_code, coalesce(region, '') as region, coalesce(email, '') as email,
    coalesce(locale, '') as locale, coalesce(vat_number, '') as vat_number, a.customer_id is not null as known
from billing_profile p left join billing_party a using (customer_id)
where customer_id = any($1) order by customer_id for update of p
"""
DISCOUNTS = """
select redemption_id, customer_id, subscription_id, "left", percent, amount, currency, plan_ids
from coupon_redemption join coupon using (coupon_id)
where customer_id = any($1) and ended_at is null order by redeemed_at, redemption_id
"""
BALANCES = f"""
select credit_id, customer_id, currency, remaining, source <> 'GRANT' as own from credit
where customer_id = any($1) and remaining > 0 and (expires_at is null or expires_at > $2)
order by {PAYING_ORDER}
"""
SPEND = """
update credit set remaining = new.remaining from unnest($1::uuid[], $2::bigint[]) as new (id, remaining)
where credit_id = id
"""
USE = """
update coupon_redemption set "left" = new.left, ended_at = case when new.left = 0 then $3::timestamptz end
from unnest($1::uuid[], $2::integer[]) as new (id, "left") where redemption_id = id
"""
INVOICE = (
    ("invoice_id", "uuid"),
    ("customer_id", "uuid"),
    ("kind", "text"),
    ("state", "text"),
    ("series", "text"),
    ("number", "bigint"),
    ("number_text", "text"),
    ("currency", "text"),
    ("country", "text"),
    ("net", "bigint"),
    ("discount", "bigint"),
    ("tax", "bigint"),
    ("gross", "bigint"),
    ("credit_applied", "bigint"),
    ("amount_paid", "bigint"),
    ("credited", "bigint"),
    ("credited_due", "bigint"),
    ("memo", "text"),
    ("collection", "text"),
    ("net_days", "integer"),
    ("digest", "bytea"),
    ("run_id", "uuid"),
    ("created_at", "timestamptz"),
    ("issued_at", "timestamptz"),
    ("due_at", "timestamptz"),
    ("paid_at", "timestamptz"),
)
LINE = (
    ("invoice_id", "uuid"),
    ("position", "integer"),
    ("line_id", "uuid"),
    ("subscription_id", "uuid"),
    ("charge", "text"),
    ("sku", "text"),
    ("description", "text"),
    ("units", "numeric"),
    ("unit_price", "numeric"),
    ("amount", "bigint"),
    ("discount", "bigint"),
    ("net", "bigint"),
    ("tax_category", "text"),
    ("supply", "text"),
    ("tax_code", "text"),
    ("tax_rate", "numeric"),
    ("service_start", "timestamptz"),
    ("service_end", "timestamptz"),
)
TAX = (
    ("invoice_id", "uuid"),
    ("tax_code", "text"),
    ("tax_rate", "numeric"),
    ("taxable", "bigint"),
    ("tax", "bigint"),
    ("note", "text"),
)
CREDIT = (("invoice_id", "uuid"), ("credit_id", "uuid"), ("amount", "bigint"))
DUNNING = (
    ("invoice_id", "uuid"),
    ("customer_id", "uuid"),
    ("policy_id", "uuid"),
    ("step", "integer"),
    ("next_at", "timestamptz"),
    ("standing", "text"),
    ("attempts", "integer"),
    ("started_at", "timestamptz"),
)
PARTIES = """
insert into invoice_party
    (invoice_id, name, lines, postal_code, city, region, email, locale, vat_number)
select id, name, lines, postal_code, city, region, email, locale, vat_number
from unnest($1::uuid[], $2::uuid[]) as new (id, customer) join billing_party on customer_id = customer
"""
FINALISE = f"""
update invoice set {", ".join(f"{name} = ${n}" for n, (name, _) in enumerate(INVOICE[1:], 2))}
where invoice_id = $1 and state = 'DRAFT'
"""
Rows = Sequence[Sequence[Any]]


async def customers(tx: AnyTx, customer_ids: Collection[UUID]) -> Mapping[UUID, Any]:
    """Profiles with their parties, locked: coupons and credit of a customer are spent by one at a time."""
    rows = await fetch(tx, CUSTOMERS, list(customer_ids))
    return {row["customer_id"]: row for row in rows}


async def discounts(tx: AnyTx, customer_ids: Collection[UUID]) -> Mapping[UUID, list[Discount]]:
    """Coupons that customers have, in the order in which they were redeemed. The customers are locked."""
    found: dict[UUID, list[Discount]] = defaultdict(list)
    for row in await fetch(tx, DISCOUNTS, list(customer_ids)):
        found[row["customer_id"]].append(
            Discount(
                redemption_id=row["redemption_id"],
                percent=row["percent"],
                amount=row["amount"],
                currency=row["currency"],
                plan_ids=row["plan_ids"],
                subscription_id=row["subscription_id"],
                left=row["left"],
            )
        )
    return found


async def balances(
    tx: AnyTx, customer_ids: Collection[UUID], now: datetime
) -> Mapping[tuple[UUID, str], list[Balance]]:
    """Credit by customer and currency, in the order in which it is spent. The customers are locked."""
    found: dict[tuple[UUID, str], list[Balance]] = defaultdict(list)
    for row in await fetch(tx, BALANCES, list(customer_ids), now):
        balance = Balance(row["credit_id"], row["remaining"], row["own"])
        found[row["customer_id"], row["currency"]].append(balance)
    return found


async def spend(tx: AnyTx, used: Sequence[Balance]) -> None:
    if used:
        await execute(tx, SPEND, [each.credit_id for each in used], [each.remaining for each in used])


async def use(tx: AnyTx, used: Sequence[Discount], now: datetime) -> None:
    if used:
        await execute(tx, USE, [each.redemption_id for each in used], [each.left for each in used], now)


async def parts(tx: AnyTx, lines: Rows, taxes: Rows, credits: Rows) -> None:
    """Written before the invoices that they belong to are final."""
    await insert_many(tx, "invoice_line", LINE, lines)
    await insert_many(tx, "invoice_tax", TAX, taxes)
    if credits:
        await insert_many(tx, "invoice_credit", CREDIT, credits)


async def invoices(tx: AnyTx, rows: Rows, dunning: Rows) -> None:
    await insert_many(tx, "invoice", INVOICE, rows)
    await _followed(tx, rows, dunning)


async def finalise(tx: AnyTx, row: Sequence[Any], dunning: Rows) -> None:
    """As `invoices`, of one that was a draft."""
    await execute(tx, FINALISE, *row)
    await _followed(tx, [row], dunning)


async def _followed(tx: AnyTx, rows: Rows, dunning: Rows) -> None:
    await execute(tx, PARTIES, [row[0] for row in rows], [row[1] for row in rows])
    if dunning:
        await insert_many(tx, "dunning", DUNNING, dunning)


async def policies(tx: AnyTx, policy_ids: Collection[UUID]) -> Mapping[UUID, str]:
    """Settings as JSON, by id."""
    if not policy_ids:
        return {}
    sql = "select policy_id, settings::text as settings from dunning_policy where policy_id = any($1)"
    return {row["policy_id"]: row["settings"] for row in await fetch(tx, sql, list(policy_ids))}
