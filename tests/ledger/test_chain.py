"""The chain: what was edited, deleted, swapped or cut off is found, and shredding a memo breaks nothing."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from services.chassis.testing import until
from tests.ledger.books import Books, ledger, transfer
from tests.servers import Shared
from weft.identity.v1.events_pb2 import UserDeleted
from weft.ledger.v1 import chain_pb2, transfer_pb2 as pb
from weft.ledger.v1.events_pb2 import TransfersRecorded

EVENT = "select payload from event where type = $1 order by position desc limit 1"
SECRET = "Ann's rent, paid by her mother"


@pytest.fixture
async def alone(servers: Shared) -> AsyncIterator[Books]:
    """A ledger of this test's own, with ten entries, the fourth with a memo."""
    async with ledger(servers) as books:
        a, b = await books.account(), await books.account()
        await books.batch(
            [
                transfer(a, b, n, **({"memo": SECRET, "memo_owner_id": "ann"} if n == 4 else {}))
                for n in range(1, 11)
            ]
        )
        yield books


async def verify(books: Books, **fields: object) -> chain_pb2.VerifyChainResponse:
    request = chain_pb2.VerifyChainRequest(**fields)  # type: ignore[arg-type]
    return await books.chain.VerifyChain(request, metadata=books.who)


async def tamper(books: Books, *statements: str) -> None:
    """As somebody would who can do everything in the database."""
    connection = await books.lab.db("ledger").dedicated()
    await connection.execute("alter table entry disable trigger all")
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def test_an_untouched_ledger_is_intact(alone: Books) -> None:
    verdict = await verify(alone)
    assert (verdict.intact, verdict.entries, verdict.last_sequence) == (True, 10, 10)
    part = await verify(alone, first_sequence=6)
    assert (part.intact, part.entries, part.last_hash) == (True, 5, verdict.last_hash)


async def test_what_was_pending_sums_to_its_entries(alone: Books) -> None:
    a, b = await alone.account(), await alone.account()
    held = [await alone.move(a, b, 50, pending=True) for _ in range(3)]
    await alone.post(held[0].transfer_id, 20)
    await alone.void(held[1].transfer_id)
    verdict = await verify(alone)
    assert (verdict.intact, verdict.entries, verdict.finding) == (True, 15, "")


@pytest.mark.parametrize(
    ("statement", "sequence"),
    [
        ("update entry set amount_minor = 99 where sequence = 5", 5),
        ("update entry set reference = 'x' where sequence = 2", 2),
        ("update entry set memo = 'x' where sequence = 4", 4),
        ("update entry set expire_at = now() where sequence = 3", 3),
        ("delete from entry where sequence = 7", 7),
        ("update entry set sequence = case sequence when 8 then 80 else 8 end where sequence in (8)", 8),
        ("delete from entry where sequence >= 9", 9),
    ],
    ids=["amount", "reference", "memo", "expiry", "deleted", "moved", "cut-off"],
)
async def test_what_was_changed_is_located(alone: Books, statement: str, sequence: int) -> None:
    await tamper(alone, statement)
    verdict = await verify(alone)
    assert (verdict.intact, verdict.broken_sequence) == (False, sequence)


async def test_a_balance_that_was_changed_is_found(alone: Books) -> None:
    await tamper(alone, "update account set credits_posted = credits_posted + 1 where credits_posted > 0")
    verdict = await verify(alone)
    assert not verdict.intact
    assert "sum to" in verdict.finding


async def test_a_ledger_that_was_cut_off_skilfully_is_found_by_what_was_announced(alone: Books) -> None:
    payload = await alone.lab.db("ledger").fetchval(EVENT, TransfersRecorded.DESCRIPTOR.full_name)
    told = TransfersRecorded.FromString(payload)
    assert told.last_sequence == 10
    cut = """
        delete from entry where sequence > 9;
        update head set sequence = 9, hash = (select hash from entry where sequence = 9);
        update account set debits_posted = 45 where debits_posted > 0;
        update account set credits_posted = 45 where credits_posted > 0;
        update turnover set debits = 45 where debits > 0; update turnover set credits = 45 where credits > 0
    """
    await tamper(alone, cut)
    assert (await verify(alone)).intact
    verdict = await verify(alone, noted_sequence=told.last_sequence, noted_hash=told.last_hash)
    assert (verdict.intact, verdict.broken_sequence) == (False, 10)


async def test_an_entry_cannot_be_changed_by_a_slip(alone: Books) -> None:
    for statement in ("update entry set code = 'x'", "delete from entry", "truncate entry"):
        with pytest.raises(Exception, match="append-only"):
            await alone.lab.db("ledger").execute(statement)


async def memo(books: Books) -> str:
    request = pb.ListTransfersRequest(filter='owner_id = "ann"')
    found = await books.transfers.ListTransfers(request, metadata=books.who)
    return found.transfers[0].memo


async def test_a_shredded_memo_is_gone_everywhere_and_the_chain_still_verifies(alone: Books) -> None:
    assert await memo(alone) == SECRET
    request = pb.ShredMemosRequest(memo_owner_id="ann")
    for _ in range(2):
        await alone.transfers.ShredMemos(request, metadata=alone.who)
    assert await memo(alone) == ""
    assert (await verify(alone)).intact
    tables = "select tablename from pg_tables where schemaname = 'public'"
    for row in await alone.lab.db("ledger").fetch(tables):
        text = f"select count(*) from {row['tablename']} as t where t::text like $1 or t::text like $2"
        found = await alone.lab.db("ledger").fetchval(text, f"%{SECRET}%", f"%{SECRET.encode().hex()}%")
        assert found == 0, row["tablename"]


async def test_a_deleted_user_takes_the_key_of_its_memos_along(alone: Books) -> None:
    user_id = str(uuid4())
    a, b = await alone.account(), await alone.account()
    made = await alone.move(a, b, 1, memo="about the user", memo_owner_id=user_id)
    await alone.lab.announce(UserDeleted(user_id=user_id))

    async def gone() -> bool:
        asked = pb.GetTransferRequest(transfer_id=made.transfer_id)
        found = await alone.transfers.GetTransfer(asked, metadata=alone.who)
        return not found.transfer.memo

    await until(gone)
    assert (await verify(alone)).intact
