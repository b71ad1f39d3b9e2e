"""A billing run of 100,000 subscriptions: their first month, and a second one with usage.

One biller in this process, as in life: one replica runs. Beside it the floor: PostgreSQL copying the rows
that the second month left into empty tables with the same indexes, by one statement each.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import uvloop

from bench import mesh
from bench.machine import Meter
from bench.mesh import Mesh
from bench.report import Report
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
from services.chassis.clock import FakeClock
from services.chassis.db import Database, insert_many

SUBSCRIPTIONS, PLANS, AT_ONCE = 100_000, 20, 5_000
NAME = "bench_billing"
START = datetime(2026, 1, 1, tzinfo=UTC)
NEXT = START + timedelta(days=31)
SERVICES = Path(__file__).parent.parent.parent / "services"
COPIED = ("invoice", "invoice_line", "invoice_tax", "invoice_party", "dunning", "event", "subscription")
EVENTS_OF_EACH = 3  # Of usage, for each subscription.
USAGE = f"""
insert into usage_event select subscription_id, n::text, 'calls', 7, '', $1, $1, $1
from subscription, generate_series(1, {EVENTS_OF_EACH}) as n
"""
PROFILES = """
with made as (
    insert into billing_profile select gen_random_uuid(), 'DE', 'Europe/Berlin', null, 'AUTOMATIC', 14, 'INV',
        null, false, 'GOOD', 1, $1, $1 from generate_series(1, $2::int) returning customer_id
)
insert into billing_party
select customer_id, 'Somebody', '{}', '10115', 'Berlin', '', 'a@example.com', 'de', '' from made
"""


def run(seconds: float, repeats: int) -> Report:
    """`seconds` says nothing here: a run is as long as it is."""
    found = mesh.up("identity", "billing")
    report = Report("Billing run (`bench commerce.billing`)")
    rows: dict[str, list[tuple[float, ...]]] = {}
    strangers: list[float] = []
    for _ in range(repeats):
        for name, figures in uvloop.run(_month_by_month(found, strangers)).items():
            rows.setdefault(name, []).append(figures)
    report.say(f"{SUBSCRIPTIONS:,} subscriptions of {PLANS} plans, a customer each, in batches of 500.")
    table = []
    for name, runs in rows.items():
        middle = [median(column) for column in zip(*runs, strict=True)]
        table.append([name, *middle])
    headings = ["what", "seconds", "invoices/s", "biller us each", "PostgreSQL us each"]
    report.table(headings, table)
    report.disturbance(strangers)
    return report


async def _month_by_month(found: Mesh, strangers: list[float]) -> dict[str, tuple[float, ...]]:
    await _fresh(found)
    clock = FakeClock(START)
    db = Database(found.database(NAME, superuser=True), pool_max=8, clock=clock)
    await db.open()
    await db.migrate(SERVICES / "chassis" / "migrations", SERVICES / "billing" / "migrations")
    await _subscribe(db)
    taxes = Taxes(clock, "DE", TaxSettings(vies_url=""))
    biller = Biller(db, clock, TermsOf(), Issuer(taxes))
    figures = {"first month": await _bill(found, db, biller, START, strangers)}
    await _patiently(db, USAGE, START + timedelta(days=3))
    await _patiently(db, "analyze")
    clock.advance((NEXT - START).total_seconds())
    figures["second month, with usage"] = await _bill(found, db, biller, NEXT, strangers)
    figures["floor: the second month's rows copied"] = await _floor(found, db)
    await db.close()
    return figures


async def _fresh(found: Mesh) -> None:
    admin = await asyncpg.connect(found.database("postgres", superuser=True))
    await admin.execute(f"drop database if exists {NAME} with (force)")
    await admin.execute(f"create database {NAME}")
    await admin.close()


async def _subscribe(db: Database) -> None:
    plans = [await _plan(db, Decimal(10 + n)) for n in range(PLANS)]
    await _patiently(db, PROFILES, START, SUBSCRIPTIONS)
    people = [row["customer_id"] for row in await db.fetch("select customer_id from billing_profile")]
    for begin in range(0, SUBSCRIPTIONS, AT_ONCE):
        subs = [_sub(each, plans[n % PLANS]) for n, each in enumerate(people[begin : begin + AT_ONCE])]
        async with db.fast() as tx:
            await store.insert_all(tx, subs)
    await _patiently(db, "analyze")


async def _patiently(db: Database, sql: str, *args: Any) -> None:
    """A statement that may take as long as it does."""
    connection = await db.dedicated(statement_timeout="0")
    await connection.execute(sql, *args)
    await connection.close()


async def _plan(db: Database, price: Decimal) -> UUID:
    seats = {"basis": Basis.SEATS, "in_advance": True, "unit_price": price}
    charges: list[dict[str, Any]] = [
        {"code": "base", "title": "Base", "basis": Basis.FLAT, "in_advance": True, "unit_price": price},
        {"code": "seat", "title": "Seat", **seats},
        {"code": "calls", "title": "Calls", "basis": Basis.USAGE, "meter": "calls", "unit_price": price},
    ]
    terms = Terms(currency="EUR", unit=Unit.MONTH, charges=tuple(Charge(**each) for each in charges))
    plan_id = uuid4()
    await db.execute(
        "insert into plan values ($1, $2, 'Plan', 'EUR', 1, null, $3, $3)", plan_id, str(plan_id), START
    )
    kept = msgspec.json.encode(to_json(terms)).decode()
    async with db.fast() as tx:
        columns = (
            ("plan_id", "uuid"),
            ("version", "integer"),
            ("terms", "jsonb"),
            ("created_at", "timestamptz"),
        )
        await insert_many(tx, "plan_version", columns, [(plan_id, 1, kept, START)])
    return plan_id


def _sub(customer_id: UUID, plan_id: UUID) -> Running:
    return Running(
        subscription_id=uuid4(),
        customer_id=customer_id,
        plan_id=plan_id,
        plan_version=1,
        quantity=3,
        state=State.SCHEDULED,
        currency="EUR",
        time_zone="Europe/Berlin",
        billing_day=None,
        trial_days=None,
        start_at=START,
        next_bill_at=START,
        created_at=START,
        updated_at=START,
    )


async def _bill(
    found: Mesh, db: Database, biller: Biller, as_of: datetime, strangers: list[float]
) -> tuple[float, ...]:
    """Seconds, invoices a second, and processor time of each side for an invoice."""
    made, own = 0, process_time()
    with Meter(found.only("postgres")) as meter:
        while done := await biller.batch(as_of):
            if not done.subscriptions:
                break
            made += len(done.invoices)
    own = process_time() - own
    strangers.append(meter.strangers)
    assert made == SUBSCRIPTIONS
    numbers = await db.fetchrow("select count(distinct number) as n, max(number) as top from invoice")
    assert numbers["n"] == numbers["top"], "no number is missing"
    return meter.wall, made / meter.wall, own * 1e6 / made, meter.seconds["postgres"] * 1e6 / made


async def _floor(found: Mesh, db: Database) -> tuple[float, ...]:
    """The same, for rows that are only copied."""
    for table in COPIED:
        await db.execute(f"create table floor_{table} (like {table} including indexes including generated)")
    began = perf_counter()
    with Meter(found.only("postgres")) as meter:
        for table in COPIED:
            await _copy(db, table)
    wall = perf_counter() - began
    return wall, SUBSCRIPTIONS / wall, 0.0, meter.seconds["postgres"] * 1e6 / SUBSCRIPTIONS


async def _copy(db: Database, table: str) -> None:
    of_month = {
        "invoice": "where issued_at >= $1",
        "event": "where at >= $1",
        "dunning": "where started_at >= $1",
        "subscription": "where updated_at >= $1",
    }.get(table, "where invoice_id in (select invoice_id from invoice where issued_at >= $1)")
    await _patiently(db, f"insert into floor_{table} select * from {table} {of_month}", NEXT)
