"""Invoices: what may become of them, what never changes, and what pays them."""

import asyncio
from itertools import product
from uuid import uuid4

import asyncpg
import grpc.aio
import pytest

from services.billing.domain.invoice import NEXT, Invoice, InvoiceState, InvoiceTransitionRefused
from services.chassis.testing import broken_fields, reason
from tests.billing.world import START, World, stamp, state
from weft.billing.v1 import invoice_messages_pb2 as pb
from weft.billing.v1.statement_pb2 import GetStatementRequest, StatementEntryKind

ALLOWED = {
    ("DRAFT", "OPEN"),
    ("OPEN", "PAID"),
    ("OPEN", "VOID"),
    ("OPEN", "UNCOLLECTIBLE"),
    ("PAID", "OPEN"),
    ("UNCOLLECTIBLE", "PAID"),
    ("UNCOLLECTIBLE", "VOID"),
}
PAIRS = sorted(product(InvoiceState, InvoiceState))


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_an_invoice_becomes_only_what_it_may(before: InvoiceState, after: InvoiceState) -> None:
    row = Invoice(invoice_id=uuid4(), state=before)
    if (before, after) in ALLOWED:
        row.become(after, START)
        assert row.state == after
    else:
        with pytest.raises(InvoiceTransitionRefused):
            row.become(after, START)
    assert (after in NEXT[before]) == ((before, after) in ALLOWED)


async def refused(call: object) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call  # type: ignore[misc]
    return reason(raised.value)


async def test_a_draft_is_taxed_and_numbered_as_it_is_finalised(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    lines = [{"price": "0.33", "units": "1"}] * 3
    invoice_id = await billing_world.draft(customer_id, *lines, memo="Thanks")
    draft = await billing_world.invoice(invoice_id)
    assert (state(draft), draft.number, draft.tax.amount_minor) == ("DRAFT", "", 0)
    done = await billing_world.finalise(invoice_id)
    assert (done.net.amount_minor, done.tax.amount_minor) == (99, 19), "19 % of the sum, rounded once"
    assert done.number.startswith("INV-")
    assert done == await billing_world.finalise(invoice_id)
    assert await billing_world.told("InvoiceFinalised", invoice_id) == 1


async def test_what_was_finalised_never_changes(billing_world: World) -> None:
    invoice = await billing_world.open_invoice()
    update = pb.UpdateInvoiceRequest(invoice_id=invoice.invoice_id)
    update.lines.add(line_id=str(uuid4()), description="x").unit_price.amount = "1"
    update.lines[0].unit_price.currency = "EUR"
    call = billing_world.invoices
    assert await refused(call.UpdateInvoice(update, metadata=billing_world.staff)) == "INVOICE_FINAL"
    delete = pb.DeleteInvoiceRequest(invoice_id=invoice.invoice_id)
    assert await refused(call.DeleteInvoice(delete, metadata=billing_world.staff)) == "INVOICE_FINAL"
    for sql in (
        "update invoice set net = net + 1, gross = gross + 1 where invoice_id = $1",
        "update invoice set issued_at = now() where invoice_id = $1",
        "update invoice set number = 999 where invoice_id = $1",
        "update invoice set state = 'DRAFT' where invoice_id = $1",
        "delete from invoice where invoice_id = $1",
        "update invoice_line set description = 'other' where invoice_id = $1",
        "delete from invoice_line where invoice_id = $1",
        "delete from invoice_tax where invoice_id = $1",
        """insert into invoice_tax (invoice_id, tax_code, tax_rate, taxable, tax, note)
            values ($1, 'Z', 0, 0, 0, '')""",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await billing_world.db.execute(sql, invoice.invoice_id)


async def test_a_draft_may_change_and_go(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    invoice_id = await billing_world.draft(customer_id, {"price": "10"}, {"price": "5"})
    update = pb.UpdateInvoiceRequest(invoice_id=invoice_id)
    update.lines.add(line_id=str(uuid4()), description="Other").unit_price.amount = "7"
    update.lines[0].unit_price.currency = "EUR"
    changed = await billing_world.invoices.UpdateInvoice(update, metadata=billing_world.staff)
    assert [line.amount.amount_minor for line in changed.invoice.lines] == [700]
    delete = pb.DeleteInvoiceRequest(invoice_id=invoice_id)
    await billing_world.invoices.DeleteInvoice(delete, metadata=billing_world.staff)
    assert await refused(billing_world.invoice(invoice_id)) == "UNKNOWN_INVOICE"


async def test_the_last_payment_pays_and_what_is_more_becomes_credit(billing_world: World) -> None:
    invoice = await billing_world.open_invoice("10")
    part = await billing_world.pay(invoice.invoice_id, 400, (first := str(uuid4())))
    assert (state(part), part.amount_due.amount_minor) == ("OPEN", 600)
    again = await billing_world.pay(invoice.invoice_id, 400, first)
    assert again.amount_due.amount_minor == 600, "a payment counts once"
    assert await refused(billing_world.pay(invoice.invoice_id, 401, first)) == "PAYMENT_ID_REUSED"
    assert await refused(billing_world.pay(invoice.invoice_id, 400, "", "USD")) == "WRONG_CURRENCY"
    whole = await billing_world.pay(invoice.invoice_id, 700)
    assert (state(whole), whole.amount_paid.amount_minor) == ("PAID", 1000)
    following = await billing_world.finalise(await billing_world.draft(invoice.customer_id, {"price": "3"}))
    assert (following.credit_applied.amount_minor, following.amount_due.amount_minor) == (100, 200)
    assert await refused(billing_world.pay(invoice.invoice_id, 1)) == "INVOICE_NOT_PAYABLE"
    assert await billing_world.told("InvoicePaid", invoice.invoice_id) == 1


async def test_64_payments_at_once_never_pay_more_than_is_due(billing_world: World) -> None:
    invoice = await billing_world.open_invoice("10")
    results = await asyncio.gather(
        *(billing_world.pay(invoice.invoice_id, 100) for _ in range(64)), return_exceptions=True
    )
    done = [each for each in results if not isinstance(each, BaseException)]
    assert len(done) == 10
    row = await billing_world.db.fetchrow("select * from invoice where invoice_id = $1", invoice.invoice_id)
    assert (row["state"], row["amount_paid"]) == ("PAID", 1000)
    assert await billing_world.told("InvoicePaid", invoice.invoice_id) == 1


async def test_void_gives_credit_back_and_an_invoice_paid_in_part_is_not_voided(billing_world: World) -> None:
    first = await billing_world.open_invoice("10")
    await billing_world.pay(first.invoice_id, 1500)
    second = await billing_world.finalise(await billing_world.draft(first.customer_id, {"price": "8"}))
    assert second.credit_applied.amount_minor == 500
    void = pb.VoidInvoiceRequest(invoice_id=second.invoice_id)
    voided = await billing_world.invoices.VoidInvoice(void, metadata=billing_world.staff)
    assert state(voided.invoice) == "VOID"
    third = await billing_world.finalise(await billing_world.draft(first.customer_id, {"price": "8"}))
    assert third.credit_applied.amount_minor == 500
    await billing_world.pay(third.invoice_id, 100)
    void = pb.VoidInvoiceRequest(invoice_id=third.invoice_id)
    call = billing_world.invoices.VoidInvoice
    assert await refused(call(void, metadata=billing_world.staff)) == "INVOICE_IS_PAID_IN_PART"
    void = pb.VoidInvoiceRequest(invoice_id=first.invoice_id)
    assert await refused(call(void, metadata=billing_world.staff)) == "INVOICE_TRANSITION_REFUSED"


async def test_what_was_written_off_may_still_be_paid(billing_world: World) -> None:
    invoice = await billing_world.open_invoice("10")
    off = pb.WriteOffInvoiceRequest(invoice_id=invoice.invoice_id)
    for _ in range(2):
        made = await billing_world.invoices.WriteOffInvoice(off, metadata=billing_world.staff)
        assert state(made.invoice) == "UNCOLLECTIBLE"
    assert state(await billing_world.pay(invoice.invoice_id, 1000)) == "PAID"
    assert await billing_world.told("DunningFinished", invoice.invoice_id) == 1


async def test_credit_notes_come_to_at_most_what_was_charged(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    lines = [{"price": "0.33"}, {"price": "0.33"}, {"price": "0.33"}]
    invoice = await billing_world.finalise(await billing_world.draft(customer_id, *lines))
    results = await asyncio.gather(
        *(billing_world.credit(invoice.invoice_id, {1: 11}) for _ in range(16)), return_exceptions=True
    )
    assert sum(not isinstance(each, BaseException) for each in results) == 3
    assert {reason(each) for each in results if isinstance(each, grpc.aio.AioRpcError)} == {
        "CREDIT_EXCEEDS_INVOICE"
    }
    rest = await billing_world.credit(invoice.invoice_id)
    assert rest.net.amount_minor == 66
    row = await billing_world.db.fetchrow(
        "select sum(net) as net, sum(tax) as tax from credit_note where invoice_id = $1", invoice.invoice_id
    )
    assert (row["net"], row["tax"]) == (99, 19), "their tax sums to the invoice's, to the last cent"
    assert state(await billing_world.invoice(invoice.invoice_id)) == "PAID", "nothing is due any more"
    assert await refused(billing_world.credit(invoice.invoice_id)) == "CREDIT_NOTE_REFUSED"


async def test_a_credit_note_lessens_what_is_due_and_the_rest_is_credit(billing_world: World) -> None:
    invoice = await billing_world.open_invoice("10")
    await billing_world.pay(invoice.invoice_id, 700)
    note = await billing_world.credit(invoice.invoice_id, note_id=(note_id := str(uuid4())))
    assert (note.gross.amount_minor, note.to_credit.amount_minor) == (1000, 700)
    assert note == await billing_world.credit(invoice.invoice_id, note_id=note_id)
    other = billing_world.credit(invoice.invoice_id, {1: 5}, note_id)
    assert await refused(other) == "CREDIT_NOTE_ID_REUSED"
    following = await billing_world.finalise(await billing_world.draft(invoice.customer_id, {"price": "9"}))
    assert following.credit_applied.amount_minor == 700


@pytest.mark.parametrize(
    ("line", "field", "rule"),
    [
        ({"price": "1", "currency": "USD"}, "lines[0].unit_price.currency", "INVOICE_REFUSED"),
        ({"price": "1.1234567"}, "lines[0].unit_price.amount", "MALFORMED"),
        ({"price": "1e9"}, "lines[0].unit_price.amount", "MALFORMED"),
        ({"price": "1", "units": "-1"}, "lines[0].units", "MALFORMED"),
        ({"price": "999999999", "units": "999999999"}, None, "AMOUNT_OUT_OF_RANGE"),
        ({"price": "1", "description": "x" * 501}, "lines[0].description", "MALFORMED"),
    ],
    ids=["currency", "decimals", "exponent", "negative-units", "overflow", "long"],
)
async def test_bad_amounts_are_refused_by_name(
    billing_world: World, line: dict[str, str], field: str | None, rule: str
) -> None:
    customer_id = await billing_world.customer()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await billing_world.draft(customer_id, line)
    assert reason(raised.value) == rule
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    if field:
        assert field in broken_fields(raised.value)


async def test_more_given_back_than_charged_is_no_invoice(billing_world: World) -> None:
    customer_id = await billing_world.customer()
    invoice_id = await billing_world.draft(customer_id, {"price": "10"}, {"price": "-11"})
    assert await refused(billing_world.finalise(invoice_id)) == "INVOICE_REFUSED"
    assert state(await billing_world.invoice(invoice_id)) == "DRAFT", "nothing is half done"


async def test_customers_see_their_own_and_nobody_elses(billing_world: World) -> None:
    mine, other = await billing_world.open_invoice(), await billing_world.open_invoice()
    me = billing_world.lab.bearer(mine.customer_id, scope="account")
    get = billing_world.invoices.GetInvoice
    own = pb.GetInvoiceRequest(invoice_id=mine.invoice_id, customer_id=mine.customer_id)
    assert (await get(own, metadata=me)).invoice.invoice_id == mine.invoice_id
    theirs = pb.GetInvoiceRequest(invoice_id=other.invoice_id, customer_id=mine.customer_id)
    assert await refused(get(theirs, metadata=me)) == "UNKNOWN_INVOICE"
    unasked = pb.GetInvoiceRequest(invoice_id=other.invoice_id)
    assert await refused(get(unasked, metadata=me)) == "NOT_PERMITTED"


async def test_a_statement_adds_up(billing_world: World) -> None:
    first = await billing_world.open_invoice("10")
    await billing_world.pay(first.invoice_id, 1200)
    second = await billing_world.finalise(await billing_world.draft(first.customer_id, {"price": "5"}))
    await billing_world.credit(second.invoice_id, {1: 100})
    third = await billing_world.finalise(await billing_world.draft(first.customer_id, {"price": "4"}))
    void = pb.VoidInvoiceRequest(invoice_id=third.invoice_id)
    await billing_world.invoices.VoidInvoice(void, metadata=billing_world.staff)
    await billing_world.pass_time(days=1)
    request = GetStatementRequest(customer_id=first.customer_id, currency="EUR", start_time=stamp(START))
    shown = await billing_world.statements.GetStatement(request, metadata=billing_world.staff)
    kinds = [
        StatementEntryKind.Name(each.kind).removeprefix("STATEMENT_ENTRY_KIND_") for each in shown.entries
    ]
    assert sorted(kinds) == sorted(
        ["INVOICE", "PAYMENT", "INVOICE", "CREDIT", "CREDIT_NOTE", "INVOICE", "VOID"]
    )
    assert sum(each.amount.amount_minor for each in shown.entries) == shown.closing_balance.amount_minor
    assert shown.closing_balance == (await billing_world.invoice(second.invoice_id)).amount_due
    request.start_time.CopyFrom(stamp(billing_world.clock.now()))
    later = await billing_world.statements.GetStatement(request, metadata=billing_world.staff)
    assert (later.opening_balance, list(later.entries)) == (shown.closing_balance, [])
    request.end_time.CopyFrom(stamp(START))
    call = billing_world.statements.GetStatement(request, metadata=billing_world.staff)
    assert await refused(call) == "STATEMENT_REFUSED"
