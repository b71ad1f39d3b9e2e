"""64 writers while the ledger is killed: it balances in every snapshot, and what was acknowledged stands."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import grpc.aio
import pytest

from services.chassis.caller import OPERATOR, SERVICE_HEADER, Signer
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.testing import BASE, until
from services.ledger.store.verifying import verify
from tests import databases
from tests.ledger.books import ASSET, transfer
from tests.servers import Shared, free_port
from weft.ledger.v1 import account_pb2, transfer_pb2 as pb
from weft.ledger.v1.account_pb2_grpc import AccountServiceStub
from weft.ledger.v1.transfer_pb2_grpc import TransferServiceStub

ROOT = Path(__file__).parent.parent.parent
OWN = ROOT / "services" / "ledger" / "migrations"
ACCOUNTS, WRITERS = 20, 64
START_S_MAX = 60.0  # A process starts in 3 s, on a machine that is busy with other tests in twenty.
SUMS = """
select currency, sum(debits_posted) - sum(credits_posted) as posted,
    sum(debits_pending) - sum(credits_pending) as pending
from account group by currency
"""
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@asynccontextmanager
async def process(environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "ledger", cwd=ROOT, env={**os.environ, **environment}
    )
    try:
        yield made
    finally:
        if made.returncode is None:
            made.send_signal(signal.SIGKILL)
        await made.wait()


class Writers:
    """Who moves money, and remembers what was acknowledged."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.transfers = TransferServiceStub(self.channel)
        self.accounts = [str(uuid4()) for _ in range(ACCOUNTS)]
        self.acknowledged: list[str] = []
        self.stopped = False

    def who(self) -> tuple[tuple[str, str], ...]:
        return ((SERVICE_HEADER, Signer(OPERATOR, BASE.mesh_key, Clock()).token()),)

    async def open(self) -> None:
        """Once the service answers."""
        news = [
            account_pb2.NewAccount(account_id=each, code=each, currency="EUR", kind=ASSET)
            for each in self.accounts
        ]
        request = account_pb2.CreateAccountsRequest(accounts=news)
        stub = AccountServiceStub(self.channel)
        await stub.CreateAccounts(request, metadata=self.who(), wait_for_ready=True, timeout=START_S_MAX)

    async def write(self, seed: int) -> None:
        """Until stopped. What got no answer is asked again with the same id, as a caller would."""
        chance = random.Random(seed)
        while not self.stopped:
            debit, credit = chance.sample(self.accounts, 2)
            new = transfer(debit, credit, chance.randrange(1, 100), pending=chance.random() < 0.3)
            if await self._answered(pb.CreateTransferRequest(transfer=new)):
                self.acknowledged.append(new.transfer_id)
                if new.pending:
                    await self._resolve(new.transfer_id, chance)

    async def _resolve(self, pending_id: str, chance: random.Random) -> None:
        kind = chance.choice([pb.PostTransferRequest, pb.VoidTransferRequest])
        request = kind(pending_id=pending_id, transfer_id=str(uuid4()))
        if await self._answered(request):
            self.acknowledged.append(request.transfer_id)

    async def _answered(self, request: object) -> bool:
        call = {
            pb.CreateTransferRequest: self.transfers.CreateTransfer,
            pb.PostTransferRequest: self.transfers.PostTransfer,
            pb.VoidTransferRequest: self.transfers.VoidTransfer,
        }[type(request)]
        while not self.stopped:
            try:
                await call(request, metadata=self.who(), timeout=10.0)  # type: ignore[operator]
            except grpc.aio.AioRpcError as error:
                if error.code() not in AWAY:
                    raise
                await asyncio.sleep(0.05)
            else:
                return True
        return False


async def watch(url: str, writers: Writers) -> int:
    """Looks at snapshots until stopped. Returns how many; both sides were equal in each."""
    connection, looks = await asyncpg.connect(url), 0
    try:
        while not writers.stopped:
            for row in await connection.fetch(SUMS):
                assert (row["posted"], row["pending"]) == (0, 0)
            looks += 1
            await asyncio.sleep(0.02)
    finally:
        await connection.close()
    return looks


async def soak(servers: Shared, postgres: str, *, kills: int, life_s: float) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        environment = {
            "WEFT_DATABASE_URL_LEDGER": url,
            "WEFT_NATS_URL": servers.account(),
            "PYTHONPATH": str(ROOT / "gen"),
            "WEFT_DEVELOPMENT": "1",
            "WEFT_ADDRESS": address,
            "WEFT_MESH_KEY": BASE.mesh_key,
        }
        writers = Writers(address)
        working: asyncio.Future[list[None]] | None = None
        watching: asyncio.Task[int] | None = None
        for _ in range(kills):
            async with process(environment):
                if working is None or watching is None:
                    await writers.open()
                    working = asyncio.gather(*(writers.write(seed) for seed in range(WRITERS)))
                    watching = asyncio.create_task(watch(url, writers))
                await go_on(writers, life_s)
        async with process(environment):
            await go_on(writers, life_s)
            writers.stopped = True
            assert working
            assert watching
            await working
            assert await watching > 10
        await writers.channel.close()
        await judge(url, writers)


async def go_on(writers: Writers, life_s: float) -> None:
    """Lets the process work so long, once it answers."""
    before = len(writers.acknowledged)

    async def answers() -> bool:
        return len(writers.acknowledged) >= before + WRITERS

    await until(answers, START_S_MAX)
    await asyncio.sleep(life_s)


async def judge(url: str, writers: Writers) -> None:
    db = Database(replace(BASE, database_url=url).database_url)
    verdict = await verify(db, 1, (0, b""))
    assert verdict.finding == ""
    there = await db.fetch("select transfer_id from entry")
    await db.close()
    assert {UUID(each) for each in writers.acknowledged} <= {row["transfer_id"] for row in there}
    assert len(writers.acknowledged) > WRITERS


@pytest.mark.timeout(240)
async def test_a_ledger_that_is_killed_balances_in_every_snapshot(servers: Shared, postgres: str) -> None:
    await soak(servers, postgres, kills=1, life_s=0.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_thirty_seconds_of_writers_and_kills(servers: Shared, postgres: str) -> None:
    await soak(servers, postgres, kills=9, life_s=3.0)
