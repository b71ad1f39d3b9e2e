"""Balances: never below nothing, whoever spends at once, and their entries always add up."""

import asyncio
import random
from uuid import uuid4

import pytest

from tests.payment.till import Till, money, outcome_of, refused, state_of
from weft.payment.v1 import events_pb2, intent_pb2 as pb, sandbox_pb2, wallet_pb2
from weft.payment.v1.sandbox_pb2_grpc import SandboxServiceStub
from weft.payment.v1.wallet_pb2_grpc import WalletServiceStub

WALLET = {"kind": pb.METHOD_KIND_WALLET}


class Purse:
    """A customer with a wallet."""

    def __init__(self, till: Till) -> None:
        self.till, self.customer_id = till, str(uuid4())
        self.stub = WalletServiceStub(till.lab.channel)
        self.me = till.lab.bearer(self.customer_id, scope="")

    async def adjust(self, minor: int, entry_id: str = "") -> wallet_pb2.WalletEntry:
        request = wallet_pb2.AdjustWalletRequest(
            entry_id=entry_id or str(uuid4()), customer_id=self.customer_id, amount=money(minor)
        )
        made: wallet_pb2.WalletEntry = (await self.till.ask(self.stub.AdjustWallet, request)).entry
        return made

    async def pay(self, minor: int, **rest: object) -> pb.Intent:
        made = await self.till.pay(minor=minor, customer_id=self.customer_id, **WALLET, **rest)
        return await self.till.settled(made)

    async def balance(self) -> tuple[int, int]:
        """The balance, and what is held of it."""
        request = wallet_pb2.GetWalletsRequest(customer_id=self.customer_id)
        found = (await self.stub.GetWallets(request, metadata=self.me)).wallets
        return (found[0].balance.amount_minor, found[0].held.amount_minor) if found else (0, 0)

    async def entries(self) -> list[int]:
        request = wallet_pb2.ListWalletEntriesRequest(customer_id=self.customer_id, page_size=200)
        found = (await self.stub.ListWalletEntries(request, metadata=self.me)).entries
        return [each.amount.amount_minor for each in found]


@pytest.fixture
def purse(shared_till: Till) -> Purse:
    return Purse(shared_till)


async def test_what_was_given_is_spent_and_not_more(purse: Purse) -> None:
    await purse.adjust(1000)
    assert state_of(await purse.pay(700)) == "SUCCEEDED"
    declined = await purse.pay(301)
    assert (state_of(declined), declined.decline.code) == ("FAILED", "insufficient_funds")
    assert await purse.balance() == (300, 0)


async def test_sixty_four_who_spend_the_same_balance_spend_it_once(purse: Purse) -> None:
    await purse.adjust(1000)
    paid = await asyncio.gather(*(purse.pay(100) for _ in range(64)))
    assert sum(state_of(each) == "SUCCEEDED" for each in paid) == 10
    assert await purse.balance() == (0, 0)
    assert sorted(await purse.entries()) == [-100] * 10 + [1000]


async def test_what_is_held_cannot_be_spent_and_comes_free_again(purse: Purse) -> None:
    await purse.adjust(1000)
    held = await purse.pay(800, capture=pb.CAPTURE_MODE_MANUAL)
    assert await purse.balance() == (1000, 800)
    assert state_of(await purse.pay(300)) == "FAILED"
    assert await refused(purse.adjust(-300)) == "WALLET_TOO_LOW"
    await purse.till.capture(held.intent_id, 500)
    assert await purse.balance() == (500, 300)
    await purse.till.cancel(held.intent_id)
    assert await purse.balance() == (500, 0)
    await purse.till.refund(held.intent_id, 200)
    assert await purse.balance() == (700, 0)


async def test_a_top_up_is_there_once_it_is_captured_and_goes_with_its_refund(purse: Purse) -> None:
    mine = {"customer_id": purse.customer_id, "top_up": True}
    held = await purse.till.hold(**mine)
    assert await purse.balance() == (0, 0)
    await purse.till.capture(held.intent_id)
    assert await purse.balance() == (1000, 0)
    await purse.pay(400)
    assert await refused(purse.till.refund(held.intent_id)) == "WALLET_TOO_LOW"
    await purse.till.refund(held.intent_id, 600)
    assert await purse.balance() == (0, 0)


async def test_an_adjustment_is_made_once_for_its_id(purse: Purse) -> None:
    entry_id = str(uuid4())
    first = await purse.adjust(500, entry_id)
    assert await purse.adjust(500, entry_id) == first
    assert await refused(purse.adjust(501, entry_id)) == "ENTRY_ID_REUSED"
    assert await refused(purse.adjust(0)) == "AMOUNT_NOT_POSITIVE"
    assert await refused(purse.adjust(-501)) == "WALLET_TOO_LOW"
    assert await purse.balance() == (500, 0)


async def test_a_balance_is_the_sum_of_its_entries_whatever_happens_at_once(purse: Purse) -> None:
    await purse.adjust(2000)
    chance = random.Random(5)

    async def something() -> None:
        try:
            paid = await purse.pay(chance.randrange(1, 300), capture=chance.choice([1, 2]))
            if state_of(paid) == "AUTHORISED":
                await purse.till.cancel(paid.intent_id)
            elif state_of(paid) == "SUCCEEDED":
                await purse.till.refund(paid.intent_id, chance.randrange(1, paid.amount.amount_minor + 1))
        finally:
            await purse.adjust(10)

    await asyncio.gather(*(something() for _ in range(24)))
    balance, held = await purse.balance()
    assert (sum(await purse.entries()), held) == (balance, 0)


async def lost(till: Till, intent_id: str) -> None:
    """A dispute of a payment is decided against us."""
    request = sandbox_pb2.SetDisputeRequest(intent_id=intent_id, dispute=sandbox_pb2.SANDBOX_DISPUTE_LOST)
    await till.ask(SandboxServiceStub(till.lab.channel).SetDispute, request)


async def test_a_top_up_that_is_charged_back_is_owed_before_anything_is_spent_again(purse: Purse) -> None:
    topped = await purse.till.settled(await purse.till.pay(customer_id=purse.customer_id, top_up=True))
    held = await purse.pay(300, capture=pb.CAPTURE_MODE_MANUAL)
    spent = await purse.pay(600)
    for _ in range(3):
        await lost(purse.till, topped.intent_id)
    assert await purse.balance() == (-600, 300)
    assert await purse.entries() == [-1000, -600, 1000]
    assert (await purse.pay(1)).decline.code == "insufficient_funds"
    assert state_of(await purse.pay(1, capture=pb.CAPTURE_MODE_MANUAL)) == "FAILED"
    assert await refused(purse.adjust(-1)) == "WALLET_TOO_LOW"
    assert outcome_of((await purse.till.capture(held.intent_id)).capture) == "FAILED"
    await purse.till.cancel(held.intent_id)
    assert await purse.balance() == (-600, 0)
    await purse.till.refund(spent.intent_id, 200)
    await purse.adjust(500)
    assert await purse.balance() == (100, 0)
    assert state_of(await purse.pay(100)) == "SUCCEEDED"
    sql = "select payload from event where key = $1 and type = 'weft.payment.v1.DisputeLost'"
    [row] = await purse.till.lab.db("payment").fetch(sql, topped.intent_id)
    assert events_pb2.DisputeLost.FromString(row["payload"]).top_up


async def test_what_was_charged_back_of_no_top_up_leaves_the_wallet_alone(purse: Purse) -> None:
    await purse.adjust(50)
    paid = await purse.till.settled(await purse.till.pay(customer_id=purse.customer_id))
    await lost(purse.till, paid.intent_id)
    assert await purse.balance() == (50, 0)
