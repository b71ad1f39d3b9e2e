"""Transfers: two-phase, linked, idempotent, never beyond what an account may do."""

import asyncio
from decimal import Decimal
from uuid import uuid4

import grpc.aio
import pytest

from services.chassis.clock import FakeClock
from services.chassis.testing import broken_fields, reason, until
from tests.ledger.books import PURSE, TILL, Books, ledger, transfer
from tests.servers import Shared
from weft.ledger.v1 import account_pb2, transfer_pb2 as pb
from weft.ledger.v1.events_pb2 import TransfersRecorded
from weft.money.v1.money_pb2 import Money


async def refused(call: object) -> str:
    """The reason."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return reason(error.value)


async def test_what_leaves_one_account_arrives_at_the_other(books: Books) -> None:
    a, b = await books.account(), await books.account()
    made = await books.move(a, b, 1234, code="sale", reference="order:1")
    assert await books.sums(a) == (1234, 0, 0, 0)
    assert await books.sums(b) == (0, 1234, 0, 0)
    assert (await books.get(b)).balance_minor == 1234
    asked = pb.GetTransferRequest(transfer_id=made.transfer_id)
    assert (await books.transfers.GetTransfer(asked, metadata=books.who)).transfer == made


async def test_a_pending_transfer_posts_in_part_and_gives_the_rest_back(books: Books) -> None:
    a, b = await books.account(), await books.account()
    held = await books.move(a, b, 123, pending=True)
    assert await books.sums(a) == (0, 0, 123, 0)
    posted = await books.post(held.transfer_id, 100)
    assert posted.amount.amount_minor == 100
    assert await books.sums(a) == (100, 0, 0, 0)
    assert await books.sums(b) == (0, 100, 0, 0)


async def test_a_pending_transfer_is_resolved_once(books: Books) -> None:
    a, b = await books.account(), await books.account()
    posted, voided = [await books.move(a, b, 5, pending=True) for _ in range(2)]
    await books.post(posted.transfer_id)
    await books.void(voided.transfer_id)
    assert await refused(books.post(posted.transfer_id)) == "PENDING_ALREADY_POSTED"
    assert await refused(books.void(posted.transfer_id)) == "PENDING_ALREADY_POSTED"
    assert await refused(books.post(voided.transfer_id)) == "PENDING_ALREADY_VOIDED"
    plain = await books.move(a, b, 5)
    assert await refused(books.void(plain.transfer_id)) == "NOT_PENDING"
    assert await refused(books.void(str(uuid4()))) == "UNKNOWN_TRANSFER"
    assert await books.sums(a) == (10, 0, 0, 0)


async def test_more_than_what_is_pending_cannot_be_posted(books: Books) -> None:
    a, b = await books.account(), await books.account()
    held = await books.move(a, b, 100, pending=True)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await books.post(held.transfer_id, 101)
    assert reason(error.value) == "EXCEEDS_PENDING"
    assert "amount_minor" in broken_fields(error.value)
    assert await books.sums(a) == (0, 0, 100, 0)


async def test_a_timeout_gives_back_what_was_pending(servers: Shared) -> None:
    clock = FakeClock()
    async with ledger(servers, clock) as books:
        a, b = await books.account(), await books.account()
        new = transfer(a, b, 70, pending=True)
        new.timeout.FromSeconds(60)
        held = await books.book(new)
        clock.advance(61)
        assert await refused(books.post(held.transfer_id)) == "PENDING_EXPIRED"

        async def given_back() -> bool:
            clock.advance(1)
            return await books.sums(a) == (0, 0, 0, 0)

        await until(given_back)
        asked = pb.GetTransferRequest(transfer_id=held.transfer_id)
        found = (await books.transfers.GetTransfer(asked, metadata=books.who)).transfer
        assert found.resolved_by_id
        assert await refused(books.void(held.transfer_id)) == "PENDING_EXPIRED"


async def test_pending_debits_count_against_a_purse(books: Books) -> None:
    purse, other = await books.account(limit=PURSE), await books.account()
    await books.move(other, purse, 100)
    await books.move(purse, other, 70)
    assert await refused(books.move(purse, other, 50, pending=True)) == "EXCEEDS_CREDITS"
    await books.move(purse, other, 30, pending=True)
    assert await refused(books.move(purse, other, 1)) == "EXCEEDS_CREDITS"


async def test_a_till_pays_out_no_more_than_it_has_and_an_overdraft_is_as_agreed(books: Books) -> None:
    till, other = await books.account(limit=TILL, overdraft_minor=10), await books.account()
    await books.move(till, other, 20)
    await books.move(other, till, 30)
    assert await refused(books.move(other, till, 1)) == "EXCEEDS_DEBITS"


async def test_linked_transfers_stand_or_fall_together(books: Books) -> None:
    purse, other = await books.account(limit=PURSE), await books.account()
    await books.move(other, purse, 100)
    news = [
        transfer(purse, other, 60, linked=True),
        transfer(purse, other, 60),
        transfer(purse, other, 40),
        transfer(purse, other, 60, linked=True),
        transfer(other, purse, 60),
    ]
    results = await books.batch(news)
    outcomes = [each.WhichOneof("outcome") for each in results]
    assert outcomes == ["refusal", "refusal", "transfer", "transfer", "transfer"]
    assert "linked to one that was refused" in results[0].refusal.message
    assert await books.sums(purse) == (100, 160, 0, 0)
    assert [each.transfer.sequence for each in results[2:]] == list(
        range(results[2].transfer.sequence, results[2].transfer.sequence + 3)
    )


async def test_a_chain_that_does_not_end_is_refused(books: Books) -> None:
    a, b = await books.account(), await books.account()
    results = await books.batch([transfer(a, b, 1), transfer(a, b, 1, linked=True)])
    assert [each.WhichOneof("outcome") for each in results] == ["transfer", "refusal"]
    assert await books.sums(a) == (1, 0, 0, 0)


async def test_a_repeat_answers_what_was_booked_and_another_body_is_refused(books: Books) -> None:
    a, b = await books.account(), await books.account()
    new = transfer(a, b, 7, memo="for Ann", memo_owner_id="ann")
    first = await books.book(new)
    assert await books.book(new) == first
    assert first.memo == "for Ann"
    for field, value in (("reference", "other"), ("memo", "for Bob"), ("credit_account_id", a)):
        changed = pb.NewTransfer.FromString(new.SerializeToString())
        setattr(changed, field, value)
        assert await refused(books.book(changed)) == "TRANSFER_ID_REUSED"
    held = await books.move(a, b, 5, pending=True)
    posting = str(uuid4())
    assert await books.post(held.transfer_id, 5, posting) == await books.post(held.transfer_id, 5, posting)
    assert await refused(books.post(held.transfer_id, 4, posting)) == "TRANSFER_ID_REUSED"
    assert await books.sums(a) == (12, 0, 0, 0)


async def test_the_same_id_in_64_calls_at_once_books_once(books: Books) -> None:
    a, b = await books.account(), await books.account()
    new = transfer(a, b, 3)
    made = await asyncio.gather(*(books.book(new) for _ in range(64)))
    assert len({each.sequence for each in made}) == 1
    assert await books.sums(a) == (3, 0, 0, 0)


async def test_64_buyers_cannot_overdraw_a_purse(books: Books) -> None:
    purse, other = await books.account(limit=PURSE), await books.account()
    await books.move(other, purse, 100)
    calls = (books.move(purse, other, 3) for _ in range(64))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, pb.Transfer) for each in outcomes) == 33
    assert await books.sums(purse) == (99, 100, 0, 0)


async def test_callers_who_come_together_are_all_written(books: Books) -> None:
    a, b = await books.account(), await books.account()
    batches = [[transfer(a, b, 1) for _ in range(600)] for _ in range(4)]
    results = await asyncio.gather(*map(books.batch, batches))
    for news, made in zip(batches, results, strict=True):
        assert [each.transfer.transfer_id for each in made] == [new.transfer_id for new in news]
    assert await books.sums(a) == (2400, 0, 0, 0)


async def test_ends_that_cannot_be_are_refused(books: Books) -> None:
    a, yen = await books.account(), await books.account("JPY")
    b = await books.account()
    assert await refused(books.move(a, a, 1)) == "SAME_ACCOUNT"
    assert await refused(books.move(a, yen, 1)) == "OTHER_CURRENCY"
    assert await refused(books.move(a, str(uuid4()), 1)) == "UNKNOWN_ACCOUNT"
    assert await refused(books.move(a, b, 1, currency="XAU")) == "UNKNOWN_CURRENCY"
    assert await refused(books.account("XAU")) == "UNKNOWN_CURRENCY"


@pytest.mark.parametrize("minor", [0, -1, 10**15 + 1])
async def test_an_amount_that_is_none_is_refused_by_name(books: Books, minor: int) -> None:
    a, b = await books.account(), await books.account()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await books.move(a, b, minor)
    assert any(name.startswith("transfer.amount") for name in broken_fields(error.value))


async def test_an_account_is_closed_when_it_is_settled_and_then_takes_nothing(books: Books) -> None:
    a, b = await books.account(), await books.account()
    close = account_pb2.CloseAccountRequest(account_id=a)
    await books.move(a, b, 1)
    assert await refused(books.accounts.CloseAccount(close, metadata=books.who)) == "ACCOUNT_NOT_SETTLED"
    await books.move(b, a, 1)
    for _ in range(2):
        closed = await books.accounts.CloseAccount(close, metadata=books.who)
        assert closed.account.closed
    assert await refused(books.move(b, a, 1)) == "ACCOUNT_CLOSED"


async def test_an_accounts_id_and_code_are_its_own(books: Books) -> None:
    new = account_pb2.NewAccount(
        account_id=str(uuid4()), code=f"own:{uuid4()}", currency="EUR", kind=account_pb2.ACCOUNT_KIND_ASSET
    )

    async def make(**changes: str) -> account_pb2.Account:
        asked = account_pb2.NewAccount.FromString(new.SerializeToString())
        asked.MergeFrom(account_pb2.NewAccount(**changes))  # type: ignore[arg-type]
        request = account_pb2.CreateAccountsRequest(accounts=[asked])
        return (await books.accounts.CreateAccounts(request, metadata=books.who)).accounts[0]

    assert await make() == await make()
    assert await refused(make(owner_id="bob")) == "ACCOUNT_ID_REUSED"
    assert await refused(make(account_id=str(uuid4()))) == "ACCOUNT_CODE_TAKEN"


async def test_dollars_are_exchanged_into_rupees_with_the_fee_as_a_line_of_its_own(books: Books) -> None:
    dollars, rupees = await books.account("USD"), await books.account("INR")
    fees = await books.account("USD")
    request = pb.CreateExchangeRequest(
        exchange_id=str(uuid4()),
        sell_account_id=dollars,
        buy_account_id=rupees,
        amount=Money(amount_minor=10000, currency="USD"),
        rate=str(Decimal("82.42135")),
        fee_minor=150,
        fee_account_id=fees,
    )
    made = await books.transfers.CreateExchange(request, metadata=books.who)
    again = await books.transfers.CreateExchange(request, metadata=books.who)
    assert made == again
    assert made.bought == Money(amount_minor=824214, currency="INR")
    assert await books.sums(dollars) == (10150, 0, 0, 0)
    assert await books.sums(rupees) == (0, 824214, 0, 0)
    assert await books.sums(fees) == (0, 150, 0, 0)


async def test_an_exchange_that_buys_nothing_is_refused(books: Books) -> None:
    yen, bitcoin = await books.account("JPY"), await books.account("USD")
    request = pb.CreateExchangeRequest(
        exchange_id=str(uuid4()),
        sell_account_id=yen,
        buy_account_id=bitcoin,
        amount=Money(amount_minor=1, currency="JPY"),
        rate="0.004",
    )
    assert await refused(books.transfers.CreateExchange(request, metadata=books.who)) == "NOTHING_BOUGHT"


async def test_transfers_are_found_by_what_they_are_about(books: Books) -> None:
    a, b = await books.account(), await books.account()
    reference = f"order:{uuid4()}"
    made = [await books.move(a, b, n, reference=reference) for n in (1, 2, 3)]
    await books.move(a, b, 9)
    request = pb.ListTransfersRequest(page_size=2, filter=f'reference = "{reference}"')
    page = await books.transfers.ListTransfers(request, metadata=books.who)
    request.page_token = page.next_page_token
    rest = await books.transfers.ListTransfers(request, metadata=books.who)
    assert [*page.transfers, *rest.transfers] == made[::-1]
    assert not rest.next_page_token


async def test_each_caller_is_named_as_the_one_who_booked(books: Books) -> None:
    a, b = await books.account(), await books.account()
    callers = [str(uuid4()) for _ in range(8)]
    news = {caller: transfer(a, b, 1) for caller in callers}
    calls = (
        books.transfers.CreateTransfer(
            pb.CreateTransferRequest(transfer=new), metadata=books.lab.bearer(caller)
        )
        for caller, new in news.items()
    )
    await asyncio.gather(*calls)
    sql = "select actor, payload from event where type = $1 order by position desc limit 20"
    rows = await books.lab.db("ledger").fetch(sql, TransfersRecorded.DESCRIPTOR.full_name)
    told = {
        each.transfer_id: row["actor"]
        for row in rows
        for each in TransfersRecorded.FromString(row["payload"]).transfers
    }
    assert {new.transfer_id: f"user:{caller}" for caller, new in news.items()}.items() <= told.items()
