"""A ledger under test: its stubs, and accounts and transfers made in a line each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import grpc.aio

from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.testing import Lab, laboratory
from services.ledger.app import build
from tests.servers import Shared
from weft.ledger.v1 import account_pb2, transfer_pb2 as pb
from weft.ledger.v1.account_pb2_grpc import AccountServiceStub
from weft.ledger.v1.chain_pb2_grpc import ChainServiceStub
from weft.ledger.v1.statement_pb2_grpc import StatementServiceStub
from weft.ledger.v1.transfer_pb2_grpc import TransferServiceStub
from weft.money.v1.money_pb2 import Money

ASSET, LIABILITY = account_pb2.ACCOUNT_KIND_ASSET, account_pb2.ACCOUNT_KIND_LIABILITY
PURSE = account_pb2.ACCOUNT_LIMIT_DEBITS_NOT_ABOVE_CREDITS
TILL = account_pb2.ACCOUNT_LIMIT_CREDITS_NOT_ABOVE_DEBITS
PRODUCERS = ("order", "payment", "billing", "identity")


class Books:
    """Calls as somebody who may do everything."""

    def __init__(self, lab: Lab, channel: grpc.aio.Channel | None = None) -> None:
        self.lab, self.who = lab, lab.bearer()
        channel = channel or lab.channel
        self.accounts = AccountServiceStub(channel)
        self.transfers = TransferServiceStub(channel)
        self.statements = StatementServiceStub(channel)
        self.chain = ChainServiceStub(channel)

    async def account(self, currency: str = "EUR", **fields: Any) -> str:
        """A new account's id."""
        new = account_pb2.NewAccount(
            account_id=str(uuid4()), code=f"test:{uuid4().hex}", currency=currency, kind=LIABILITY
        )
        new.MergeFrom(account_pb2.NewAccount(**fields))
        request = account_pb2.CreateAccountsRequest(accounts=[new])
        made = await self.accounts.CreateAccounts(request, metadata=self.who)
        return made.accounts[0].account_id

    async def get(self, account_id: str) -> account_pb2.Account:
        request = account_pb2.GetAccountRequest(account_id=account_id)
        return (await self.accounts.GetAccount(request, metadata=self.who)).account

    async def sums(self, account_id: str) -> tuple[int, int, int, int]:
        """Debits and credits posted, debits and credits pending."""
        of = await self.get(account_id)
        posted = of.debits_posted_minor, of.credits_posted_minor
        return (*posted, of.debits_pending_minor, of.credits_pending_minor)

    async def book(self, new: pb.NewTransfer) -> pb.Transfer:
        request = pb.CreateTransferRequest(transfer=new)
        return (await self.transfers.CreateTransfer(request, metadata=self.who)).transfer

    async def move(self, debit: str, credit: str, minor: int, **fields: Any) -> pb.Transfer:
        return await self.book(transfer(debit, credit, minor, **fields))

    async def batch(self, news: Sequence[pb.NewTransfer]) -> Sequence[pb.TransferResult]:
        request = pb.CreateTransfersRequest(transfers=news)
        return (await self.transfers.CreateTransfers(request, metadata=self.who)).results

    async def post(self, pending_id: str, minor: int = 0, transfer_id: str = "") -> pb.Transfer:
        request = pb.PostTransferRequest(
            pending_id=pending_id, transfer_id=transfer_id or str(uuid4()), amount_minor=minor
        )
        return (await self.transfers.PostTransfer(request, metadata=self.who)).transfer

    async def void(self, pending_id: str, transfer_id: str = "") -> pb.Transfer:
        request = pb.VoidTransferRequest(pending_id=pending_id, transfer_id=transfer_id or str(uuid4()))
        return (await self.transfers.VoidTransfer(request, metadata=self.who)).transfer


def transfer(debit: str, credit: str, minor: int, currency: str = "EUR", **fields: Any) -> pb.NewTransfer:
    at: datetime | None = fields.pop("at", None)
    made = pb.NewTransfer(
        transfer_id=str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(amount_minor=minor, currency=currency),
    )
    made.MergeFrom(pb.NewTransfer(**fields))
    if at:
        made.effective_time.FromDatetime(at)
    return made


@asynccontextmanager
async def ledger(servers: Shared, clock: Clock | None = None) -> AsyncIterator[Books]:
    """The streams of those whose events it books are there first."""
    url = servers.account()
    bus = Bus(url)
    await bus.connect()
    for producer in PRODUCERS:
        await bus.ensure_stream(producer)
    await bus.close()
    made = laboratory({"ledger": build}, postgres_url=servers.postgres(), nats_url=url, clock=clock)
    async with made as lab:
        yield Books(lab)
