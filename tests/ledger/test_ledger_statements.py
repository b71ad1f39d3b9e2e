"""Balances at any time by either clock, statements, files, trial balance, months."""

import csv
import io
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import grpc.aio
import pytest

from services.chassis.testing import reason
from services.ledger.domain.statement import NAMESPACE
from tests.ledger.books import ASSET, Books, transfer
from weft.ledger.v1 import account_pb2, statement_pb2 as pb

START = datetime(2026, 1, 1, tzinfo=UTC)
SEED = 20261121


async def scattered(books: Books, count: int) -> tuple[str, list[tuple[datetime, int]]]:
    """An account with so many movements, recorded in another order than that in which they happened."""
    chance = random.Random(SEED)
    account, other = await books.account(kind=ASSET), await books.account()
    told = []
    for _ in range(count):
        at = START + timedelta(minutes=chance.randrange(60 * 24 * 40))
        minor = chance.choice([1, -1]) * chance.randrange(1, 1000)
        told.append((at, minor))
    news = [transfer(*((account, other) if m > 0 else (other, account)), abs(m), at=at) for at, m in told]
    await books.batch(news)
    return account, told


def asked(kind: Any, account_id: str, start: datetime, end: datetime, **fields: Any) -> Any:
    request = kind(account_id=account_id, **fields)
    request.start_time.FromDatetime(start)
    request.end_time.FromDatetime(end)
    return request


async def test_a_balance_is_what_had_happened_by_then(books: Books) -> None:
    account, told = await scattered(books, 120)
    moments = [told[0][0], told[60][0], START, START + timedelta(days=10), START + timedelta(days=90)]
    for at in moments:
        request = account_pb2.GetBalanceRequest(account_id=account)
        request.effective_at.FromDatetime(at)
        found = await books.accounts.GetBalance(request, metadata=books.who)
        assert found.balance_minor == sum(minor for when, minor in told if when <= at)


async def test_a_balance_is_what_the_ledger_knew_by_then(books: Books) -> None:
    a, b = await books.account(kind=ASSET), await books.account()
    long_ago = START - timedelta(days=900)
    made = [await books.move(a, b, minor, at=long_ago) for minor in (5, 7, 11)]
    held = await books.move(a, b, 100, pending=True)
    await books.post(held.transfer_id, 13)
    for known, balance in ((made[0], 5), (made[1], 12), (made[2], 23)):
        request = account_pb2.GetBalanceRequest(account_id=a, recorded_at=known.record_time)
        assert (await books.accounts.GetBalance(request, metadata=books.who)).balance_minor == balance
    request = account_pb2.GetBalanceRequest(account_id=a)
    assert (await books.accounts.GetBalance(request, metadata=books.who)).balance_minor == 36


async def test_a_statement_leads_from_its_opening_to_its_closing_over_all_pages(books: Books) -> None:
    account, told = await scattered(books, 90)
    start, end = START + timedelta(days=8), START + timedelta(days=30)
    request = asked(pb.GetStatementRequest, account, start, end, page_size=17)
    movements: list[pb.Movement] = []
    while True:
        page = await books.statements.GetStatement(request, metadata=books.who)
        movements += page.movements
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    inside = sorted((at, minor) for at, minor in told if start <= at < end)
    assert sorted((m.effective_time.ToDatetime(UTC), m.debit_minor) for m in movements) == inside
    assert [m.effective_time.ToDatetime(UTC) for m in movements] == [at for at, _ in inside]
    assert page.opening_minor == sum(minor for at, minor in told if at < start)
    balance = page.opening_minor
    for movement in movements:
        balance += movement.debit_minor
        assert movement.balance_after_minor == balance
    assert balance == page.closing_minor


async def test_a_page_token_opens_no_other_statement(books: Books) -> None:
    account, _ = await scattered(books, 5)
    other, _ = await scattered(books, 5)
    end = START + timedelta(days=60)
    request = asked(pb.GetStatementRequest, account, START, end, page_size=1)
    token = (await books.statements.GetStatement(request, metadata=books.who)).next_page_token
    for name in (other, account):
        for bad in (token if name == other else f"{token[:-4]}AAAA", "x", "ä"):
            request = asked(pb.GetStatementRequest, name, START, end, page_token=bad)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await books.statements.GetStatement(request, metadata=books.who)
            assert reason(error.value) == "BAD_PAGE_TOKEN"


async def file(books: Books, account: str, form: Any) -> str:
    request = asked(pb.ExportStatementRequest, account, START, START + timedelta(days=60), format=form)
    pieces = books.statements.ExportStatement(request, metadata=books.who)
    return b"".join([piece.content async for piece in pieces]).decode()


async def test_a_statement_as_csv_has_a_line_for_each_movement(books: Books) -> None:
    account, told = await scattered(books, 1_000)
    other = await books.account()
    await books.move(account, other, 1, reference="=cmd()", at=START)
    rows = list(csv.DictReader(io.StringIO(await file(books, account, pb.STATEMENT_FORMAT_CSV))))
    assert len(rows) == len(told) + 1
    assert rows[0]["reference"] == "'=cmd()"
    assert rows[-1]["balance"] == f"{(sum(minor for _, minor in told) + 1) / 100:.2f}"
    assert {row["currency"] for row in rows} == {"EUR"}


async def test_a_statement_as_camt_sums_to_its_closing_balance(books: Books) -> None:
    account, told = await scattered(books, 40)
    root = ElementTree.fromstring(await file(books, account, pb.STATEMENT_FORMAT_CAMT053))
    inside = {"c": NAMESPACE}
    entries = root.findall(".//c:Ntry", inside)
    assert len(entries) == len(told)
    total = 0
    for entry in entries:
        amount = entry.findtext("c:Amt", "", inside).replace(".", "")
        total += int(amount) * (1 if entry.findtext("c:CdtDbtInd", "", inside) == "CRDT" else -1)
    assert total == sum(minor for _, minor in told)
    closing = root.findall(".//c:Bal", inside)[1]
    assert closing.findtext("c:Amt", "", inside).replace(".", "").lstrip("0") == str(abs(total))


async def test_a_period_that_ends_before_it_begins_is_refused(books: Books) -> None:
    account = await books.account()
    request = asked(pb.GetStatementRequest, account, START, START - timedelta(days=1))
    months = [("2026-01", "2025-12"), ("2026-13", "2027-01"), ("2020-01", "2026-12")]
    calls: list[Any] = [books.statements.GetStatement(request, metadata=books.who)]
    for first, last in months:
        asked_for = pb.ListTurnoversRequest(currency="EUR", from_month=first, to_month=last)
        calls.append(books.statements.ListTurnovers(asked_for, metadata=books.who))
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert reason(error.value) == "PERIOD_REFUSED"


async def test_both_sides_of_a_trial_balance_are_equal_now_and_then(books: Books) -> None:
    account, told = await scattered(books, 60)
    at = START + timedelta(days=11, hours=5)
    now, then = pb.GetTrialBalanceRequest(currency="EUR"), pb.GetTrialBalanceRequest(currency="EUR")
    then.at.FromDatetime(at)
    for request, expected in ((now, told), (then, [each for each in told if each[0] <= at])):
        balance = await books.statements.GetTrialBalance(request, metadata=books.who)
        assert balance.debits_minor == balance.credits_minor > 0
        own = next(total for total in balance.accounts if total.account_id == account)
        assert own.debits_minor - own.credits_minor == sum(minor for _, minor in expected)


async def test_months_of_an_account_sum_to_what_happened_in_them(books: Books) -> None:
    account, told = await scattered(books, 80)
    code = (await books.get(account)).code
    request = pb.ListTurnoversRequest(
        currency="EUR", from_month="2026-01", to_month="2026-02", code_prefix=code
    )
    found = await books.statements.ListTurnovers(request, metadata=books.who)
    months = {each.month: each.debits_minor - each.credits_minor for each in found.turnovers}
    for month in ("2026-01", "2026-02"):
        assert months[month] == sum(minor for at, minor in told if f"{at:%Y-%m}" == month)
