"""Statements of our bank account: read in every version, taken in once, matched to what they are for."""

import tarfile
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.api.httpbody_pb2 import HttpBody
from hypothesis import given, settings, strategies as st

from services.chassis.testing import until
from services.payment.domain import camt
from services.payment.domain.intent import bank_reference
from services.payment.domain.statement import (
    ENTRIES_MAX,
    FILE_BYTES_MAX,
    ReadStatement,
    StatementTooLarge,
    StatementUnreadable,
)
from tests.data import shared
from tests.payment.till import Till, money, outcome_of, refused, state_of, till
from tests.servers import Shared
from weft.identity.v1.events_pb2 import UserDeleted
from weft.payment.v1 import intent_pb2 as pb, method_pb2, statement_pb2, wallet_pb2
from weft.payment.v1.method_pb2_grpc import MethodServiceStub
from weft.payment.v1.statement_pb2_grpc import StatementServiceStub
from weft.payment.v1.wallet_pb2_grpc import WalletServiceStub

OURS = "DE89370400440532013000"
THEIRS = "NL91ABNA0417164300"
BARE = (
    "<Ntry><Amt Ccy='EUR'>{}</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts>BOOK</Sts>"
    "<ValDt><Dt>2026-01-01</Dt></ValDt>{}</Ntry>"
)
TRANSFER = {"kind": pb.METHOD_KIND_BANK_TRANSFER}
# What the samples hold, as people counted them: statements, booked entries, and their sum by currency.
SAMPLES = {
    "camt053.v2.all-balance-types.xml": (1, 1, {"EUR": 885}),
    "camt053.v2.five.decimals.xml": (1, 1, {"EUR": 885}),
    "camt053.v2.minimal.ultimate.xml": (1, 1, {"EUR": 885}),
    "camt053.v2.minimal.xml": (1, 1, {"EUR": 885}),
    "camt053.v2.multi.statement.xml": (2, 2, {"EUR": 185}),
    "camt053.v2.with-account-name.xml": (1, 1, {"EUR": 885}),
    "camt053.v2.with-party-ids.xml": (1, 1, {"EUR": 885}),
    "camt053.v2.wrong.xml": None,
    "camt053.v3.xml": (1, 1, {"EUR": 885}),
    "camt053.v4.xml": (1, 1, {"EUR": 885}),
    "camt053.v8.xml": (1, 1, {"EUR": 885}),
    "camt53.only-Dt-with-DtTm.xml": (1, 0, {}),
}


def samples() -> dict[str, bytes]:
    with tarfile.open(shared("10_ledger/camt_samples.tar.gz")) as archive:
        files = [each for each in archive if each.isfile()]
        return {each.name.rpartition("/")[2]: archive.extractfile(each).read() for each in files}  # type: ignore[union-attr]


class Books:
    """Our account, and who looks after it."""

    def __init__(self, made: Till) -> None:
        self.till, self.stub = made, StatementServiceStub(made.lab.channel)

    async def take(self, data: bytes) -> statement_pb2.ImportStatementsResponse:
        request = statement_pb2.ImportStatementsRequest(file=HttpBody(data=data))
        answer: statement_pb2.ImportStatementsResponse = await self.till.ask(
            self.stub.ImportStatements, request
        )
        return answer

    async def entries(self, statement_id: str) -> list[statement_pb2.BankEntry]:
        request = statement_pb2.ListBankEntriesRequest(filter=f"statement_id = {statement_id}")
        return list((await self.till.ask(self.stub.ListBankEntries, request)).entries)

    async def one(self, *entries: str) -> statement_pb2.BankEntry:
        """The first entry of a statement with these."""
        taken = await self.take(statement(*entries))
        found = await self.entries(taken.statements[0].statement_id)
        return found[0]

    async def resolve(self, entry_id: str, **how: str) -> statement_pb2.BankEntry:
        request = statement_pb2.ResolveBankEntryRequest(entry_id=entry_id, **how)
        made: statement_pb2.BankEntry = (await self.till.ask(self.stub.ResolveBankEntry, request)).entry
        return made


@pytest.fixture(scope="module")
async def books(servers: Shared) -> Any:
    async with till(servers, bank_iban=OURS, bank_payee="Weft GmbH") as made:
        yield Books(made)


def statement(*entries: str, bank_id: str = "", account: str = OURS) -> bytes:
    return f"""<?xml version="1.0"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08">
    <BkToCstmrStmt><Stmt><Id>{bank_id or uuid4()}</Id><CreDtTm>2026-03-10T18:43:50+00:00</CreDtTm>
    <Acct><Id><IBAN>{account}</IBAN></Id></Acct>{"".join(entries)}</Stmt></BkToCstmrStmt></Document>""".encode()


def entry(
    minor: int, text: str = "", *, currency: str = "EUR", iban: str = THEIRS, rest: str = "", own: str = ""
) -> str:
    way, side = ("CRDT", "Dbtr") if minor >= 0 else ("DBIT", "Cdtr")
    amount = Decimal(abs(minor)).scaleb(-2)
    return f"""<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{way}</CdtDbtInd>{rest}
    <Sts><Cd>BOOK</Cd></Sts><ValDt><Dt>2026-03-09</Dt></ValDt><AcctSvcrRef>{own}</AcctSvcrRef>
    <NtryDtls><TxDtls><RltdPties><{side}><Pty><Nm>Ada L.</Nm></Pty></{side}>
    <{side}Acct><Id><IBAN>{iban}</IBAN></Id></{side}Acct></RltdPties>
    <RmtInf><Ustrd>{text}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"""


def total(read: list[ReadStatement]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for each in (entry for found in read for entry in found.entries):
        sums[each.amount.currency] = sums.get(each.amount.currency, 0) + each.amount.minor
    return sums


def test_every_sample_of_a_statement_is_read_and_of_anything_else_refused() -> None:
    for name, data in samples().items():
        wanted = SAMPLES.get(name)
        if wanted is None:
            with pytest.raises(StatementUnreadable):
                camt.read(data)
            continue
        read = camt.read(data)
        assert (len(read), sum(len(each.entries) for each in read), total(read)) == wanted, name
    assert sum(1 for name in SAMPLES if name in samples()) == len(SAMPLES)


def test_what_a_sample_says_of_its_entry_is_kept() -> None:
    [read] = camt.read(samples()["camt053.v8.xml"])
    [found] = read.entries
    assert (read.account, read.format) == ("NL26VAYB8060476890", "camt.053.001.08")
    assert (found.party, found.party_account) == ("NAME NAME", "NL56AGDH9619008421")
    assert found.value_at == datetime(2015, 1, 2, tzinfo=UTC)
    assert {"MUELL/FINP/RA12345", "4654654654654654"} <= set(found.text.splitlines())


def test_a_batch_is_taken_apart_where_its_parts_add_up() -> None:
    part = "<TxDtls><Amt Ccy='EUR'>{}</Amt><RmtInf><Ustrd>{}</Ustrd></RmtInf></TxDtls>"
    parts = part.format("1.00", "a") + part.format("2.00", "b")
    whole = BARE.format("3.00", f"<NtryDtls>{parts}</NtryDtls>")
    [read] = camt.read(statement(whole))
    assert [(each.amount.minor, each.text) for each in read.entries] == [(100, "a"), (200, "b")]
    [read] = camt.read(statement(whole.replace("2.00", "1.50")))
    assert [each.amount.minor for each in read.entries] == [300]


BOMB = b"""<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>"""
OUTSIDE = b"""<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>"""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not xml",
        b"<a/>",
        statement(entry(1))[:-20],
        BOMB + statement(entry(1, "&c;")).partition(b"?>")[2],
        OUTSIDE + statement(entry(1, "&b;")).partition(b"?>")[2],
        statement(entry(1).replace("0.01", "0.001")),
        statement(entry(1).replace("0.01", "-1")),
        statement(entry(1).replace("0.01", "1e3")),
        statement(entry(1).replace('"EUR"', '"XAU"')),
        statement(entry(1).replace("CRDT", "BOTH")),
        statement(entry(1).replace("2026-03-09", "yesterday")),
        statement(entry(1)).replace(b"camt.053", b"camt.054"),
        statement(entry(1)).replace(b"<IBAN>" + OURS.encode(), b"<IBAN>"),
    ],
    ids=range(14),
)
def test_a_file_that_breaks_a_rule_is_refused_whole(data: bytes) -> None:
    with pytest.raises(StatementUnreadable):
        camt.read(data)


def test_files_are_bounded() -> None:
    with pytest.raises(StatementTooLarge):
        camt.read(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(StatementTooLarge):
        camt.read(statement(BARE.format("1", "") * (ENTRIES_MAX + 1)))


@given(st.integers(0, 3000), st.binary(max_size=3))
@settings(max_examples=150, deadline=None)
def test_a_file_that_was_damaged_anywhere_is_read_or_refused(at: int, damage: bytes) -> None:
    whole = statement(entry(1234, "RF18 5390 0754"), entry(-5))
    at %= len(whole)
    try:
        camt.read(whole[:at] + damage + whole[at + len(damage) :])
    except StatementUnreadable:
        return


async def test_a_transfer_with_its_reference_pays(books: Books) -> None:
    wanted = await books.till.pay(**TRANSFER)
    to = wanted.next_action.transfer
    assert (state_of(wanted), to.iban, to.payee) == ("REQUIRES_ACTION", OURS, "Weft GmbH")
    spaced = " ".join(to.reference[n : n + 4] for n in range(0, len(to.reference), 4))
    found = await books.one(entry(1000, f"Thank you, {spaced}"))
    assert (found.state, found.intent_id, found.party) == (2, wanted.intent_id, "Ada L.")
    paid = await books.till.get(wanted.intent_id)
    assert (state_of(paid), paid.captured.amount_minor) == ("SUCCEEDED", 1000)
    assert paid.captures[0].effective_time.ToDatetime(UTC) == datetime(2026, 3, 9, tzinfo=UTC)
    told = ["IntentCreated", "PaymentStarted", "PaymentActionRequired", "PaymentCaptured"]
    assert await books.till.events(wanted.intent_id) == told


async def test_transfers_of_parts_add_up_and_too_much_is_kept_for_people(books: Books) -> None:
    wanted = await books.till.pay(**TRANSFER)
    reference = wanted.next_action.transfer.reference
    await books.one(entry(400, reference))
    part = await books.till.get(wanted.intent_id)
    assert (state_of(part), part.next_action.transfer.amount.amount_minor) == ("REQUIRES_ACTION", 600)
    found = await books.one(entry(601, reference))
    assert (found.state, found.problem) == (1, "too_much")
    await books.one(entry(600, reference))
    assert state_of(await books.till.get(wanted.intent_id)) == "SUCCEEDED"
    again = await books.one(entry(600, reference))
    assert again.problem == "too_much"


async def test_a_file_that_comes_twice_pays_once(books: Books) -> None:
    wanted = await books.till.pay(**TRANSFER)
    data = statement(entry(300, wanted.next_action.transfer.reference), bank_id=str(uuid4()))
    first, again = await books.take(data), await books.take(data)
    assert (first.new_entries, again.new_entries) == (1, 0)
    assert first.statements == again.statements
    assert (await books.till.get(wanted.intent_id)).captured.amount_minor == 300
    changed = data.replace(b">3.00<", b">3.01<").replace(b">3<", b">4<")
    assert changed != data
    assert await refused(books.take(changed)) == "STATEMENT_ID_REUSED"


async def test_one_movement_in_two_statements_pays_once(books: Books) -> None:
    wanted, own = await books.till.pay(**TRANSFER), uuid4().hex
    reference = wanted.next_action.transfer.reference
    await books.one(entry(300, reference, own=own))
    found = await books.one(entry(300, reference, own=own))
    assert (found.state, found.problem) == (1, "repeated")
    assert (await books.till.get(wanted.intent_id)).captured.amount_minor == 300


async def test_money_that_comes_after_it_was_given_up_is_given_back(books: Books) -> None:
    wanted = await books.till.pay(**TRANSFER)
    reference = wanted.next_action.transfer.reference
    await books.till.cancel(wanted.intent_id)
    await books.one(entry(1000, reference))
    late = await books.till.get(wanted.intent_id)
    [refund] = late.refunds
    assert (state_of(late), refund.reason, outcome_of(refund)) == ("CANCELLED", "late", "PENDING")
    left = await books.one(entry(-1000, f"Refund {refund.refund_id.replace('-', '')}"))
    assert (left.state, left.intent_id) == (2, wanted.intent_id)
    done = await books.till.get(wanted.intent_id)
    assert (outcome_of(done.refunds[0]), done.refunded.amount_minor) == ("SUCCEEDED", 1000)
    assert (await books.till.events(wanted.intent_id))[-1] == "PaymentRefunded"


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (entry(1000), "no_reference"),
        (entry(1000, bank_reference(UUID(int=7))), "unknown_reference"),
        (entry(-1000, "bank fee"), "no_reference"),
        (entry(-1000, f"Refund {'0' * 32}"), "no_reference"),
        (entry(1000, rest="<RvslInd>true</RvslInd>"), "reversal"),
    ],
    ids=["nothing", "unknown", "fee", "unknown refund", "reversal"],
)
async def test_what_matches_nothing_is_kept_for_people_with_the_reason(
    books: Books, made: str, problem: str
) -> None:
    found = await books.one(made)
    assert (found.state, found.problem) == (1, problem)


async def test_another_currency_and_another_account_are_kept_for_people(books: Books) -> None:
    wanted = await books.till.pay(**TRANSFER)
    reference = wanted.next_action.transfer.reference
    assert (await books.one(entry(1000, reference, currency="USD"))).problem == "other_currency"
    taken = await books.take(statement(entry(1000, reference), account=THEIRS))
    assert (await books.entries(taken.statements[0].statement_id))[0].problem == "not_ours"
    assert (await books.till.get(wanted.intent_id)).captured.amount_minor == 0


async def test_a_known_account_and_the_exact_amount_pay_when_just_one_payment_fits(books: Books) -> None:
    customer_id, iban = str(uuid4()), "GB33BUKB20201555555555"
    account = method_pb2.BankAccount(iban=iban, holder="Ada")
    attach = method_pb2.AttachMethodRequest(
        method_id=str(uuid4()), customer_id=customer_id, bank_account=account
    )
    await MethodServiceStub(books.till.lab.channel).AttachMethod(attach, metadata=books.till.me)
    mine = {"customer_id": customer_id, **TRANSFER}
    first = await books.till.pay(minor=777, **mine)
    assert (await books.one(entry(778, "hello", iban=iban))).problem == "no_reference"
    assert (await books.one(entry(777, "hello", iban=iban))).intent_id == first.intent_id
    await books.till.pay(minor=555, **mine)
    await books.till.pay(minor=555, **mine)
    assert (await books.one(entry(555, "hello", iban=iban))).problem == "ambiguous"


async def test_people_say_what_an_entry_is_for_and_cannot_say_it_twice(books: Books) -> None:
    wanted = await books.till.pay(**TRANSFER)
    found = await books.one(entry(1000, "no reference"))
    foreign = await books.till.pay()
    assert await refused(books.resolve(found.entry_id, intent_id=foreign.intent_id)) == "BANK_ENTRY_UNFIT"
    for _ in range(2):
        assert (await books.resolve(found.entry_id, intent_id=wanted.intent_id)).state == 2
    assert state_of(await books.till.get(wanted.intent_id)) == "SUCCEEDED"
    assert await refused(books.resolve(found.entry_id, dismissal="gift")) == "BANK_ENTRY_RESOLVED"
    fee = await books.one(entry(-50, "fee"))
    assert (await books.resolve(fee.entry_id, dismissal="bank_fee")).problem == "bank_fee"
    assert await refused(books.resolve(str(uuid4()), dismissal="x")) == "UNKNOWN_BANK_ENTRY"


async def test_what_is_for_nothing_else_goes_into_a_wallet_and_is_erased_with_its_owner(books: Books) -> None:
    customer_id = str(uuid4())
    found = await books.one(entry(2500, "for later"))
    for _ in range(2):
        await books.resolve(found.entry_id, customer_id=customer_id)
    wallets = WalletServiceStub(books.till.lab.channel)
    asked = wallet_pb2.GetWalletsRequest(customer_id=customer_id)
    [wallet] = (await books.till.ask(wallets.GetWallets, asked)).wallets
    assert wallet.balance == money(2500)
    await books.till.lab.announce(UserDeleted(user_id=customer_id))

    async def erased() -> bool:
        [left] = await books.entries(found.statement_id)
        return (left.party, left.party_account, left.remittance) == ("", "", "")

    await until(erased)


async def test_a_promised_invoice_is_paid_by_its_transfer(books: Books) -> None:
    customer_id = str(uuid4())
    grant = method_pb2.GrantInvoiceRequest(
        method_id=str(uuid4()), customer_id=customer_id, credit_limit=money(10_000)
    )
    await MethodServiceStub(books.till.lab.channel).GrantInvoice(grant, metadata=books.till.me)
    promised = await books.till.pay(customer_id=customer_id, kind=pb.METHOD_KIND_INVOICE)
    asked = await books.till.capture(promised.intent_id)
    assert (state_of(asked.intent), outcome_of(asked.capture)) == ("AUTHORISED", "PENDING")
    await books.one(entry(1000, promised.next_action.transfer.reference))
    paid = await books.till.get(promised.intent_id)
    assert (state_of(paid), paid.captured.amount_minor) == ("SUCCEEDED", 1000)
    assert outcome_of((await books.till.capture(promised.intent_id)).capture) == "SUCCEEDED"


async def test_nothing_of_a_file_is_taken_in_when_a_part_of_it_is_refused(books: Books) -> None:
    good, bank_id = statement(entry(1), bank_id="same"), "same"
    await books.take(good)
    both = good.replace(
        b"</BkToCstmrStmt>",
        statement(entry(2), bank_id="new of a file")
        .partition(b"<BkToCstmrStmt>")[2]
        .partition(b"</BkToCstmrStmt>")[0]
        + statement(entry(3), bank_id=bank_id)
        .partition(b"<BkToCstmrStmt>")[2]
        .partition(b"</BkToCstmrStmt>")[0]
        + b"</BkToCstmrStmt>",
    )
    assert await refused(books.take(both)) == "STATEMENT_ID_REUSED"
    count = "select count(*) from statement where bank_id = 'new of a file'"
    assert await books.till.lab.db("payment").fetchval(count) == 0
