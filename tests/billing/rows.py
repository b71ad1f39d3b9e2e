"""A billing without a host: subscriptions by the thousand, written as rows, billed by a biller of our own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import msgspec

from services.billing.billing import Biller
from services.billing.domain.charge import Basis, Charge
from services.billing.domain.cycle import Unit
from services.billing.domain.plan import Terms, to_json
from services.billing.domain.subscription import Running, State
from services.billing.issuing import Issuer
from services.billing.store import subscription as store
from services.billing.store.plan import TermsOf
from services.billing.tax.determining import Taxes
from services.billing.tax_settings import TaxSettings
from services.chassis.clock import Clock, FakeClock
from services.chassis.db import Database, insert_many
from tests import databases

OWN = Path(__file__).parent.parent.parent / "services" / "billing" / "migrations"
START = datetime(2026, 2, 1, tzinfo=UTC)
PROFILE = (
    ("customer_id", "uuid"), ("country", "text"), ("time_zone", "text"), ("collection", "text"),
    ("net_days", "integer"), ("series", "text"), ("tax_exempt", "boolean"), ("standing", "text"),
    ("revision", "integer"), ("created_at", "timestamptz"), ("updated_at", "timestamptz"),
)  # fmt: skip


@asynccontextmanager
async def billing_rows(postgres: str) -> AsyncIterator[Database]:
    """A database of billing."""
    async with databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        db = Database(url, pool_max=16, clock=FakeClock(START))
        await db.open()
        yield db
        await db.close()


def biller(db: Database, clock: Clock | None = None, hold: timedelta = timedelta()) -> Biller:
    """One of many that might run."""
    time = clock or FakeClock(START)
    taxes = Taxes(time, "DE", TaxSettings(vies_url=""))
    return Biller(db, time, TermsOf(), Issuer(taxes, hold))


async def until_none(one: Biller, run_id: UUID | None = None) -> int:
    """Bills until nothing is due. Returns how many invoices that made."""
    made = 0
    while (done := await one.batch(START, run_id)).subscriptions:
        made += len(done.invoices)
    return made


async def plan(db: Database, price: Decimal, **rest: object) -> UUID:
    """A monthly plan in EUR of one flat charge in advance, taxed."""
    charge = Charge(code="base", title="Base", basis=Basis.FLAT, in_advance=True, unit_price=price)
    terms = Terms(currency="EUR", unit=Unit.MONTH, charges=(charge,), **rest)  # type: ignore[arg-type]
    plan_id = uuid4()
    sql = """insert into plan (plan_id, code, title, currency, version, created_at, updated_at)
        values ($1, $2, 'Plan', 'EUR', 1, $3, $3)"""
    await db.execute(sql, plan_id, str(plan_id), START)
    kept = msgspec.json.encode(to_json(terms)).decode()
    await db.execute("insert into plan_version values ($1, 1, $2::jsonb, $3)", plan_id, kept, START)
    return plan_id


async def customers(db: Database, count: int, country: str = "DE") -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    rows = [(each, country, "UTC", "AUTOMATIC", 14, "INV", False, "GOOD", 1, START, START) for each in ids]
    async with db.fast() as tx:
        await insert_many(tx, "billing_profile", PROFILE, rows)
    return ids


async def subscribe(db: Database, pairs: Sequence[tuple[UUID, UUID]]) -> list[UUID]:
    """Subscriptions of (customer, plan) that begin with the month. Returns their ids."""
    subs = [
        Running(
            subscription_id=uuid4(),
            customer_id=customer_id,
            plan_id=plan_id,
            plan_version=1,
            quantity=1,
            state=State.SCHEDULED,
            currency="EUR",
            time_zone="UTC",
            billing_day=None,
            trial_days=None,
            start_at=START,
            next_bill_at=START,
            created_at=START,
            updated_at=START,
        )
        for customer_id, plan_id in pairs
    ]
    async with db.fast() as tx:
        await store.insert_all(tx, subs)
    return [sub.subscription_id for sub in subs]


async def judge(db: Database, invoices: int) -> None:
    """One invoice for each, numbers without gap, sums that are right, an event for each."""
    rows = await db.fetch("select * from invoice order by number")
    assert [row["number"] for row in rows] == list(range(1, invoices + 1))
    assert [row["issued_at"] for row in rows] == sorted(row["issued_at"] for row in rows)
    per_customer = await db.fetchval(
        "select max(n) from (select count(*) n from invoice group by customer_id)"
    )
    assert per_customer == 1
    wrong = """select count(*) from invoice i where
        net <> (select sum(net) from invoice_line l where l.invoice_id = i.invoice_id)
        or net <> (select sum(taxable) from invoice_tax t where t.invoice_id = i.invoice_id)
        or tax <> (select sum(tax) from invoice_tax t where t.invoice_id = i.invoice_id)
        or exists (select from invoice_tax t where t.invoice_id = i.invoice_id
            and t.tax <> round(t.taxable * t.tax_rate / 100))"""
    assert await db.fetchval(wrong) == 0
    events = await db.fetchval("select count(*) from event where type = 'weft.billing.v1.InvoiceFinalised'")
    assert events == invoices
    assert await db.fetchval("select count(*) from dunning") == invoices
