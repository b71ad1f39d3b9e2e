"""Events of the business become transfers, each once, and the customer's account ends at zero."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

from google.protobuf.message import Message

from services.chassis.events import Provenance, announcement
from services.chassis.inbox import Heard
from services.chassis.sealing import Seal, derived
from services.chassis.testing import until
from services.ledger.domain.chart import NAMESPACE, account_of, receivables
from services.ledger.events import Postings
from services.ledger.journal import Journal
from services.ledger.store.writing import hold
from tests.ledger.books import Books, ledger
from tests.servers import Shared
from weft.billing.v1 import events_pb2 as billing
from weft.ledger.v1 import statement_pb2, transfer_pb2 as pb
from weft.money.v1.money_pb2 import Money
from weft.order.v1 import events_pb2 as order
from weft.payment.v1 import events_pb2 as payment

CALLERS = [Provenance("service:one"), Provenance("service:two")]
LONG_AGO = datetime(2011, 5, 3, 12, 0, tzinfo=UTC)


def eur(minor: int) -> Money:
    return Money(amount_minor=minor, currency="EUR")


async def balances(books: Books) -> Mapping[str, int]:
    """Debits less credits by code."""
    request = statement_pb2.GetTrialBalanceRequest(currency="EUR")
    found = await books.statements.GetTrialBalance(request, metadata=books.who)
    assert found.debits_minor == found.credits_minor
    return {each.code: each.debits_minor - each.credits_minor for each in found.accounts}


async def told(books: Books, *events: Message) -> None:
    """Announced one after the other, and booked."""
    for event in events:
        event_id: UUID = await books.lab.announce(event)
        await until(partial(noted, books, event_id))


async def noted(books: Books, event_id: UUID) -> bool:
    found = await books.lab.db("ledger").fetchval("select 1 from inbox where event_id = $1", event_id)
    return bool(found)


async def test_a_sale_paid_and_partly_returned_leaves_nothing_owed(servers: Shared) -> None:
    order_id, at = str(uuid4()), LONG_AGO
    confirmed = order.OrderConfirmed(
        order_id=order_id, net_total=eur(1000), tax_total=eur(190), gross_total=eur(1190)
    )
    confirmed.effective_time.FromDatetime(at)
    refunded = order.OrderRefunded(
        order_id=order_id, refund_id=str(uuid4()), net=eur(500), tax=eur(95), gross=eur(595)
    )
    reference = f"order:{order_id}"
    async with ledger(servers) as books:
        await told(
            books,
            confirmed,
            payment.PaymentCaptured(intent_id="i", reference=reference, amount=eur(1190), gateway="stripe"),
            refunded,
            payment.PaymentRefunded(intent_id="i", reference=reference, amount=eur(595), gateway="stripe"),
        )
        assert await balances(books) == {
            "assets:clearing:stripe:EUR": 595,
            "assets:receivables:EUR": 0,
            "income:returns:EUR": 500,
            "income:sales:EUR": -1000,
            "liabilities:vat:EUR": -95,
        }
        listed = pb.ListTransfersRequest(filter=f'reference = "{reference}" AND code = "sale"')
        found = (await books.transfers.ListTransfers(listed, metadata=books.who)).transfers
        assert [each.effective_time.ToDatetime(UTC) for each in found] == [at]


async def test_an_invoice_is_booked_credited_written_off_and_paid_by_wallet(servers: Shared) -> None:
    async with ledger(servers) as books:
        await told(
            books,
            payment.PaymentCaptured(intent_id="t", amount=eur(5000), gateway="bank", top_up=True),
            billing.InvoiceFinalised(invoice_id="a", net=eur(2000), tax=eur(380), gross=eur(2380)),
            payment.PaymentCaptured(intent_id="p", amount=eur(2000), gateway="wallet"),
            billing.CreditNoteIssued(invoice_id="a", net=eur(100), tax=eur(19), gross=eur(119)),
            billing.CreditGranted(credit_id="c", amount=eur(61), source="GRANT"),
            billing.InvoiceWrittenOff(invoice_id="a", amount=eur(261)),
            billing.InvoiceRecovered(invoice_id="a", amount=eur(61)),
            billing.InvoicePaymentRecorded(invoice_id="a", payment_id="h", amount=eur(61)),
        )
        assert await balances(books) == {
            "assets:clearing:bank:EUR": 5000,
            "assets:clearing:by-hand:EUR": 61,
            "assets:receivables:EUR": 0,
            "expenses:bad-debts:EUR": 200,
            "income:credit-notes:EUR": 100,
            "income:invoices:EUR": -2000,
            "liabilities:vat:EUR": -361,
            "liabilities:wallets:EUR": -3000,
        }


async def test_credit_is_owed_to_the_customer_until_it_is_used_or_goes_back(servers: Shared) -> None:
    def granted(minor: int, source: str) -> billing.CreditGranted:
        return billing.CreditGranted(credit_id=str(uuid4()), amount=eur(minor), source=source)

    async with ledger(servers) as books:
        await told(
            books,
            billing.InvoiceFinalised(invoice_id="a", net=eur(1000), tax=eur(0), gross=eur(1000)),
            payment.PaymentCaptured(intent_id="p", reference="invoice:a", amount=eur(1000), gateway="stripe"),
            payment.PaymentCaptured(intent_id="q", reference="invoice:a", amount=eur(1000), gateway="stripe"),
            granted(1000, "OVERPAYMENT"),
            billing.CreditNoteIssued(invoice_id="a", net=eur(300), tax=eur(0), gross=eur(300)),
            granted(300, "CREDIT_NOTE"),
            granted(50, "GRANT"),
        )
        kept = await balances(books)
        assert (kept["assets:receivables:EUR"], kept["liabilities:credits:EUR"]) == (0, -1300)
        used = billing.InvoiceFinalised(
            invoice_id="b", net=eur(850), tax=eur(0), gross=eur(850), credited=eur(850), granted=eur(50)
        )
        await told(
            books,
            used,
            billing.InvoiceVoided(invoice_id="b", net=eur(850), tax=eur(0), gross=eur(850)),
            granted(850, "VOID"),
            payment.PaymentRefunded(intent_id="q", reference="invoice:a", amount=eur(350), gateway="stripe"),
            billing.CreditWithdrawn(customer_id="x", invoice_id="a", amount=eur(350)),
        )
        assert await balances(books) == {
            "assets:clearing:stripe:EUR": 1650,
            "assets:receivables:EUR": 0,
            "expenses:goodwill:EUR": 50,
            "income:credit-notes:EUR": 300 + 850,
            "income:invoices:EUR": -1850,
            "liabilities:credits:EUR": -1000,
        }


async def test_a_lost_dispute_is_a_debt_again_or_out_of_the_wallet_or_a_loss(servers: Shared) -> None:
    def opened(reference: str, minor: int) -> payment.DisputeOpened:
        return payment.DisputeOpened(intent_id="i", reference=reference, amount=eur(minor), gateway="stripe")

    def lost(reference: str, minor: int, **rest: bool) -> payment.DisputeLost:
        made = payment.DisputeLost(intent_id="i", reference=reference, amount=eur(minor), gateway="stripe")
        made.top_up = rest.get("top_up", False)
        return made

    gone = payment.WalletChanged(customer_id="a", amount=eur(-700), reason="CHARGED_BACK")
    async with ledger(servers) as books:
        await told(
            books,
            payment.PaymentCaptured(intent_id="t", amount=eur(700), gateway="stripe", top_up=True),
            opened("wallet:a", 700),
            lost("wallet:a", 700, top_up=True),
            gone,
            opened("invoice:a", 400),
            lost("invoice:a", 400),
            opened("order:o", 50),
            lost("order:o", 50),
        )
        assert await balances(books) == {
            "assets:clearing:stripe:EUR": 700 - 700 - 400 - 50,
            "assets:disputed:EUR": 0,
            "assets:receivables:EUR": 400,
            "expenses:chargebacks:EUR": 50,
            "liabilities:wallets:EUR": 0,
        }


async def test_a_dispute_takes_its_fee_and_gives_back_or_keeps_the_rest(servers: Shared) -> None:
    captured = payment.PaymentCaptured(intent_id="i", amount=eur(5000), gateway="stripe")
    won = payment.DisputeOpened(
        intent_id="i", dispute_id="w", amount=eur(1000), fee=eur(15), gateway="stripe"
    )
    lost = payment.DisputeOpened(intent_id="i", dispute_id="l", amount=eur(300), gateway="stripe")
    async with ledger(servers) as books:
        await told(books, captured, won, lost)
        open_now = await balances(books)
        assert open_now["assets:disputed:EUR"] == 1300
        assert open_now["assets:clearing:stripe:EUR"] == 5000 - 1315
        ends = [payment.DisputeWon(), payment.DisputeLost()]
        for opened, ended in zip((won, lost), ends, strict=True):
            ended.MergeFromString(opened.SerializeToString())
        await told(books, *ends)
        assert await balances(books) == {
            "assets:clearing:stripe:EUR": 4685,
            "assets:disputed:EUR": 0,
            "assets:receivables:EUR": -5000,
            "expenses:chargebacks:EUR": 300,
            "expenses:dispute-fees:EUR": 15,
        }


async def test_a_wallets_money_is_the_customers_wherever_it_came_from(servers: Shared) -> None:
    def changed(minor: int, reason: str, reference: str = "") -> payment.WalletChanged:
        return payment.WalletChanged(customer_id="a", amount=eur(minor), reason=reason, reference=reference)

    top_up = payment.PaymentCaptured(intent_id="t", amount=eur(5000), gateway="stripe", top_up=True)
    paid_out = payment.PaymentRefunded(intent_id="t", amount=eur(2000), gateway="stripe")
    async with ledger(servers) as books:
        await told(
            books,
            top_up,
            changed(5000, "TOP_UP"),
            changed(700, "CREDIT"),
            changed(-100, "DEBIT"),
            changed(40, "TRANSFER"),
            changed(-2000, "PAID_OUT"),
            paid_out,
            changed(-500, "PAID_OUT"),
            changed(500, "GIVEN_BACK", "intent:t"),
            payment.PaymentCaptured(intent_id="o", amount=eur(60), gateway="wallet"),
            changed(-60, "SPENT"),
            payment.PaymentRefunded(intent_id="o", amount=eur(60), gateway="wallet"),
            changed(60, "GIVEN_BACK", "order:o"),
        )
        assert await balances(books) == {
            "assets:clearing:bank:EUR": 40,
            "assets:clearing:stripe:EUR": 3000,
            "assets:receivables:EUR": 0,
            "expenses:goodwill:EUR": 600,
            "liabilities:wallets:EUR": -(5000 + 700 - 100 + 40 - 2000),
        }


async def test_an_event_that_comes_again_books_nothing_again(servers: Shared) -> None:
    event = order.OrderConfirmed(order_id=str(uuid4()), net_total=eur(10), tax_total=eur(0))
    async with ledger(servers) as books:
        db = books.lab.db("ledger")
        heard = [Heard(event, announcement(event, uuid4(), LONG_AGO), by) for by in CALLERS]
        postings = Postings(Journal(db, Seal(derived(b"any", "any"))))
        for _ in range(3):
            async with db.transaction() as tx:
                await postings.book(heard, tx)
        assert await balances(books) == {"assets:receivables:EUR": 20, "income:sales:EUR": -20}
        assert await db.fetchval("select count(*) from entry") == 2
        told_by = "select actor from event where type like '%TransfersRecorded' order by position"
        assert [row["actor"] for row in await db.fetch(told_by)] == [by.actor for by in CALLERS]


async def test_many_events_are_booked_in_few_turns_each_once_and_one_that_cannot_be_alone_fails(
    servers: Shared,
) -> None:
    good = [
        order.OrderConfirmed(order_id=str(uuid4()), net_total=eur(n + 1), tax_total=eur(0)) for n in range(60)
    ]
    bad = order.OrderConfirmed(order_id=str(uuid4()), tax_total=eur(0))
    bad.net_total.CopyFrom(Money(amount_minor=1, currency="EURO"))
    async with ledger(servers) as books:
        async with books.lab.db("ledger").fast() as tx:
            await hold(tx)  # Until all of them wait.
            ids = [await books.lab.announce(event) for event in (*good[:30], bad, *good[30:])]

        async def booked() -> bool:
            noted = "select count(*) from inbox where event_id = any($1)"
            return bool(await books.lab.db("ledger").fetchval(noted, ids) == len(good))

        await until(booked)
        found = await balances(books)
        assert found == {"assets:receivables:EUR": 1830, "income:sales:EUR": -1830}
        turns = await books.lab.db("ledger").fetchval("select count(distinct recorded_at) from entry")
        assert turns < len(good) / 2


def test_ids_of_the_houses_accounts_are_the_same_for_ever() -> None:
    assert str(NAMESPACE) == "5b1e8c0a-8a53-4d3e-9a35-2f6c7d1b4e60"
    assert str(account_of(receivables("EUR"))) == "615e21aa-b807-50fa-bba3-ec92da0aacd8"
