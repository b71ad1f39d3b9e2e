"""A change in the middle of a period waits for VIES as a period does, and is billed once it is known."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from services.billing.changing import Changing, Choice
from services.billing.crediting import Crediting
from services.billing.issuing import Issuer
from services.billing.store.plan import TermsOf
from services.billing.tax.determining import Taxes
from services.billing.tax_settings import TaxSettings
from services.chassis.clock import FakeClock
from services.chassis.db import Database
from tests.billing.rows import START, biller, billing_rows, customers, plan, subscribe, until_none
from tests.servers import Shared

HOLD = timedelta(days=3)
NUMBER = "FR40303265045"
CHANGE_AT = START + timedelta(days=5)
LINES = """
select i.kind, t.tax_code, i.net from invoice i join invoice_tax t using (invoice_id)
where i.customer_id = $1 order by i.number
"""


@pytest.fixture(scope="module")
async def rows(servers: Shared) -> AsyncIterator[Database]:
    async with billing_rows(servers.postgres()) as db:
        yield db


async def checked(db: Database, customer_id: UUID, state: str) -> None:
    """VIES has said so of the customer's number."""
    sql = "insert into vat_check values ($1, $2, $3, '', 'FR', $4, '', '', '', '', 1, $5, $5, null)"
    await db.execute(sql, uuid4(), customer_id, NUMBER, state, START)


async def french(db: Database) -> UUID:
    """A business whose number is not confirmed; the only one with it."""
    await db.execute("delete from vat_check")
    [customer_id] = await customers(db, 1, country="FR")
    party = "insert into billing_party values ($1, 'SARL', '{}', '75001', 'Paris', '', '', 'fr', $2)"
    await db.execute(party, customer_id, NUMBER)
    return customer_id


async def upgraded(db: Database, customer_id: UUID) -> UUID:
    """A subscription of 10 a month, billed without holding, that becomes one of 30. Returns its id."""
    cheap, dear = await plan(db, Decimal(10)), await plan(db, Decimal(30))
    [subscription_id] = await subscribe(db, [(customer_id, cheap)])
    assert await until_none(biller(db)) == 1
    changed = await change(db, subscription_id, CHANGE_AT, Choice(dear, None))
    assert changed is None
    return subscription_id


def changing(db: Database, at: datetime) -> Changing:
    clock, terms = FakeClock(at), TermsOf()
    issuer = Issuer(Taxes(clock, "DE", TaxSettings(vies_url="")), HOLD)
    return Changing(db, clock, terms, issuer, biller(db, clock, HOLD), Crediting())


async def change(db: Database, subscription_id: UUID, at: datetime, choice: Choice) -> UUID | None:
    by = changing(db, at)
    async with db.fast() as tx:
        sub = await by.take(tx, subscription_id, None)
        return (await by.change(tx, sub, choice, True, False)).invoice_id


async def bill(db: Database, at: datetime) -> int:
    return len((await biller(db, FakeClock(at), HOLD).batch(at)).invoices)


@pytest.mark.parametrize(("state", "code"), [("VALID", "AE"), ("UNCONFIRMED", "S")])
async def test_a_change_is_billed_once_vies_has_answered_or_has_not_for_three_days(
    rows: Database, state: str, code: str
) -> None:
    customer_id = await french(rows)
    subscription_id = await upgraded(rows, customer_id)
    kept = "select problem, held_at, retry_at, pending::text from subscription where subscription_id = $1"
    held = await rows.fetchrow(kept, subscription_id)
    assert (held["problem"], held["held_at"]) == ("TAX_UNCONFIRMED", CHANGE_AT)
    assert await bill(rows, CHANGE_AT + timedelta(minutes=59)) == 0
    assert await bill(rows, CHANGE_AT + timedelta(hours=2)) == 0
    later = CHANGE_AT + (timedelta(hours=4) if state == "VALID" else HOLD)
    if state == "VALID":
        await checked(rows, customer_id, state)
    assert await bill(rows, later) == 1
    first, second = await rows.fetch(LINES, customer_id)
    assert (first["kind"], first["tax_code"]) == ("SUBSCRIPTION", "S")
    assert (second["kind"], second["tax_code"], second["net"]) == ("CHANGE", code, 1643)
    after = await rows.fetchrow(kept, subscription_id)
    assert tuple(after) == ("", None, None, "[]")
    assert await bill(rows, later + timedelta(hours=2)) == 0


async def test_who_ends_at_once_is_billed_at_once_with_what_waited(rows: Database) -> None:
    customer_id = await french(rows)
    subscription_id = await upgraded(rows, customer_id)
    by = changing(rows, CHANGE_AT + timedelta(hours=1))
    async with rows.fast() as tx:
        sub = await by.take(tx, subscription_id, None)
        ended = await by.cancel(tx, sub, now=True, credit=False)
    assert ended.invoice_id
    assert [row["kind"] for row in await rows.fetch(LINES, customer_id)] == ["SUBSCRIPTION", "CHANGE"]
    assert await bill(rows, CHANGE_AT + HOLD) == 0
