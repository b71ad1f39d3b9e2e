"""Events of the business become transfers, each once, and the customer's account ends at zero."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

from google.protobuf.message import Message

from services.chassis.events import announcement
from services.chassis.sealing import Seal, derived
from services.chassis.testing import until
from services.ledger.domain.chart import NAMESPACE, account_of, receivables
from services.ledger.events import Postings
from services.ledger.journal import Journal
from tests.ledger.books import Books, ledger
from tests.servers import Shared
from weft.billing.v1 import events_pb2 as billing
from weft.ledger.v1 import statement_pb2, transfer_pb2 as pb
from weft.money.v1.money_pb2 import Money
from weft.order.v1 import events_pb2 as order
from weft.payment.v1 import events_pb2 as payment

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
            billing.CreditGranted(credit_id="d", amount=eur(999), source="CREDIT_NOTE"),
            billing.InvoiceWrittenOff(invoice_id="a", amount=eur(200)),
        )
        assert await balances(books) == {
            "assets:clearing:bank:EUR": 5000,
            "assets:receivables:EUR": 0,
            "expenses:bad-debts:EUR": 200,
            "expenses:goodwill:EUR": 61,
            "income:credit-notes:EUR": 100,
            "income:invoices:EUR": -2000,
            "liabilities:vat:EUR": -361,
            "liabilities:wallets:EUR": -3000,
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
        of = announcement(event, uuid4(), LONG_AGO)
        postings = Postings(Journal(db, Seal(derived(b"any", "any"))))
        for _ in range(3):
            async with db.transaction() as tx:
                await postings.order_confirmed(event, of, tx)
        assert await balances(books) == {"assets:receivables:EUR": 10, "income:sales:EUR": -10}
        assert await db.fetchval("select count(*) from entry") == 1


def test_ids_of_the_houses_accounts_are_the_same_for_ever() -> None:
    assert str(NAMESPACE) == "5b1e8c0a-8a53-4d3e-9a35-2f6c7d1b4e60"
    assert str(account_of(receivables("EUR"))) == "615e21aa-b807-50fa-bba3-ec92da0aacd8"
