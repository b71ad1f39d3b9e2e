"""What billing announces, booked as the ledger books it: both always say the same of what is owed."""

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.json_format import ParseDict

from services.ledger.rules import RULES
from tests.billing.test_dunning import becomes, chase, done, owing
from tests.billing.world import World, state
from weft.billing.v1 import credit_pb2, invoice_messages_pb2

KINDS = {kind.DESCRIPTOR.full_name: kind for kind in RULES}
HEARD = ("PaymentCaptured", "PaymentRefunded", "DisputeLost")
OWED = """
select coalesce(sum(gross - credit_applied - credited_due - amount_paid), 0) from invoice where state = 'OPEN'
"""
CREDIT = "select coalesce(sum(remaining), 0) from credit where source <> 'GRANT'"


class Books:
    """The sums that the ledger would have, of all that was announced so far."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def sums(self) -> Counter[str]:
        """Debits less credits by account."""
        sums: Counter[str] = Counter()
        for service in ("till", "billing"):
            for row in await self.world.lab.db(service).fetch("select type, payload from event"):
                if kind := KINDS.get(row["type"]):
                    for each in RULES[kind](kind.FromString(row["payload"])).postings:
                        sums[each.debit.code] += each.amount.minor
                        sums[each.credit.code] -= each.amount.minor
        return sums

    async def heard(self) -> None:
        """Waits until billing has heard all that the till told."""
        sql = "select id from event where type = any($1)"
        types = [f"weft.payment.v1.{name}" for name in HEARD]
        ids = [row["id"] for row in await self.world.lab.db("till").fetch(sql, types)]

        async def there() -> bool:
            noted = "select count(*) from inbox where event_id = any($1)"
            return bool(await self.world.db.fetchval(noted, ids) == len(ids))

        await self.world.settles(there)

    async def agree(self) -> Counter[str]:
        await self.heard()
        sums = await self.sums()
        assert sums["assets:receivables:EUR"] == await self.world.db.fetchval(OWED)
        assert sums["liabilities:credits:EUR"] == -await self.world.db.fetchval(CREDIT)
        return sums


@pytest.fixture
def books(billing_world: World) -> Books:
    billing_world.payment.decline, billing_world.payment.pays = "", True
    return Books(billing_world)


async def grant(world: World, customer_id: str, minor: int) -> None:
    request = ParseDict(
        {
            "creditId": str(uuid4()),
            "customerId": customer_id,
            "amount": {"amountMinor": minor, "currency": "EUR"},
        },
        credit_pb2.GrantCreditRequest(),
    )
    await world.credits.GrantCredit(request, metadata=world.staff)


async def void(world: World, invoice_id: str) -> None:
    request = invoice_messages_pb2.VoidInvoiceRequest(invoice_id=invoice_id)
    await world.invoices.VoidInvoice(request, metadata=world.staff)


async def write_off(world: World, invoice_id: str) -> None:
    request = invoice_messages_pb2.WriteOffInvoiceRequest(invoice_id=invoice_id)
    await world.invoices.WriteOffInvoice(request, metadata=world.staff)


async def paid(world: World, **terms: Any) -> tuple[invoice_messages_pb2.Invoice, str]:
    """An invoice that a card paid, and the payment."""
    invoice = await owing(world, **terms)
    await done(world, invoice.invoice_id, ("ATTEMPT", "DONE"))
    return invoice, (await chase(world, invoice.invoice_id)).actions[0].action_id


async def test_an_invoice_that_is_paid_twice_leaves_nothing_owed_and_the_customers_money_a_liability(
    books: Books,
) -> None:
    world = books.world
    before = await books.agree()
    invoice, intent_id = await paid(world, taxExempt=False)
    await world.payment.capture(intent_id)
    after = await books.agree()
    assert after["assets:receivables:EUR"] == before["assets:receivables:EUR"]
    assert after["liabilities:credits:EUR"] == before["liabilities:credits:EUR"] - 1190
    following = await world.finalise(await world.draft(invoice.customer_id, {"price": "10"}))
    assert state(following) == "PAID"
    assert (await books.agree())["liabilities:credits:EUR"] == before["liabilities:credits:EUR"]


async def test_credit_notes_refunds_gifts_and_voids_are_booked_by_their_source(books: Books) -> None:
    world = books.world
    invoice, intent_id = await paid(world, taxExempt=False)
    await world.credit(invoice.invoice_id, {1: 400})
    await books.agree()
    await world.payment.refund(intent_id, 476)
    await books.agree()
    await grant(world, invoice.customer_id, 5000)
    await world.credit(invoice.invoice_id, {1: 100})
    gift = await books.agree()
    following = await world.finalise(await world.draft(invoice.customer_id, {"price": "20"}))
    assert following.credit_applied.amount_minor == 2380
    used = await books.agree()
    assert used["expenses:goodwill:EUR"] - gift["expenses:goodwill:EUR"] == 2380 - 119
    other = await world.open_invoice("7")
    await grant(world, other.customer_id, 50)
    await world.credit(other.invoice_id, {1: 200})
    partly = await world.finalise(await world.draft(other.customer_id, {"price": "3"}))
    await void(world, partly.invoice_id)
    await books.agree()


async def test_what_was_written_off_and_comes_all_the_same_is_no_loss(books: Books) -> None:
    world = books.world
    invoices = [await world.open_invoice("10") for _ in range(4)]
    before = await books.agree()
    for each in invoices:
        await write_off(world, each.invoice_id)
    lost = await books.agree()
    assert lost["expenses:bad-debts:EUR"] - before["expenses:bad-debts:EUR"] == 4000
    await world.pay(invoices[0].invoice_id, 1200)
    await world.credit(invoices[1].invoice_id, {1: 300})
    await void(world, invoices[2].invoice_id)
    found = await books.agree()
    assert found["expenses:bad-debts:EUR"] - before["expenses:bad-debts:EUR"] == 4000 - 1000 - 300 - 1000
    assert found["assets:clearing:by-hand:EUR"] - before["assets:clearing:by-hand:EUR"] == 1200


async def test_a_lost_dispute_is_a_debt_again_and_a_loss_only_once_it_is_written_off(books: Books) -> None:
    world = books.world
    before = await books.agree()
    invoice, intent_id = await paid(world)
    await world.payment.capture(intent_id, 400)
    await books.agree()
    await world.payment.lose(intent_id, 600)
    await becomes(world, invoice.invoice_id, "OPEN")
    owed = await books.agree()
    assert owed["assets:receivables:EUR"] - before["assets:receivables:EUR"] == 200
    assert owed["expenses:chargebacks:EUR"] == before["expenses:chargebacks:EUR"]
    await write_off(world, invoice.invoice_id)
    await world.payment.lose(intent_id, 300)
    await books.heard()
    lost = await books.agree()
    assert lost["expenses:bad-debts:EUR"] - before["expenses:bad-debts:EUR"] == 500
