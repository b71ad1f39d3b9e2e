"""Two replicas of payment, killed again and again, at a gateway that fails: it takes what we say it took."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import grpc.aio
import pytest

from services.chassis.caller import OPERATOR, SERVICE_HEADER, Signer
from services.chassis.clock import Clock
from services.chassis.config import DEVELOPMENT_MESH_KEY
from services.chassis.testing import until
from services.payment.app import build
from tests import databases
from tests.payment.stripe_server import StripeServer, stripe_server
from tests.payment.till import money, request
from tests.servers import Shared, free_port
from weft.payment.v1 import events_pb2, intent_pb2 as pb, refund_pb2
from weft.payment.v1.intent_pb2_grpc import IntentServiceStub
from weft.payment.v1.refund_pb2_grpc import RefundServiceStub

ROOT = Path(build.__code__.co_filename).parent.parent.parent
OWN = ROOT / "services" / "payment" / "migrations"
CALLERS = 8
START_S_MAX = 90.0  # A process starts in 3 s, on a machine that is busy with other tests in twenty.
CALL_S = 5.0
ENDED = "select count(*) from intent where state in ('SUCCEEDED', 'CANCELLED', 'FAILED')"
PENDING = "select count(*) from operation where state = 'PENDING'"
SWIFT = {"ROUND_S": "0.1", "RETRY_FIRST_S": "0.1", "RETRY_MAX_S": "1", "LEASE_S": "2", "CALL_S": "1"}
FAULTS = ["", "", "", "", "", "cut", "deaf", "broken", "busy"]


class Shop:
    """Callers who take every answer that they do not get as a reason to ask again, elsewhere."""

    def __init__(self, ports: list[int], chance: random.Random) -> None:
        self.ports, self.chance = ports, chance
        self.signer = Signer(OPERATOR, DEVELOPMENT_MESH_KEY, Clock())
        self.stopping = False
        self.done: dict[str, int] = {}  # What a payment is to keep in the end, by its id.

    async def ask(self, stub: Any, method: str, wanted: Any) -> Any:
        """Until it is answered. Raises what is no outage."""
        while True:
            port = self.chance.choice(self.ports)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                metadata = ((SERVICE_HEADER, self.signer.token()),)
                try:
                    return await getattr(stub(channel), method)(wanted, metadata=metadata, timeout=CALL_S)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in AGAIN:
                        raise
            await asyncio.sleep(0.05)

    async def trade(self) -> None:
        """Payments of every kind, one after the other."""
        while not self.stopping:
            minor = self.chance.randrange(2, 1000)
            wanted = request(minor=minor, confirm=True, capture=self.chance.choice([1, 2]))
            made = (await self.ask(IntentServiceStub, "CreateIntent", wanted)).intent
            with suppress(grpc.aio.AioRpcError):  # It is still PROCESSING: left as it is.
                await self.go_on(made, minor)

    async def go_on(self, made: pb.Intent, minor: int) -> None:
        act = self.chance.choice(["leave", "cancel", "capture", "refund"])
        if act == "cancel":
            wanted = pb.CancelIntentRequest(intent_id=made.intent_id)
            await self.ask(IntentServiceStub, "CancelIntent", wanted)
        if act == "capture":
            capture = pb.CaptureIntentRequest(
                intent_id=made.intent_id, capture_id=str(uuid4()), amount=money(minor // 2), final=True
            )
            await self.ask(IntentServiceStub, "CaptureIntent", capture)
        if act == "refund":
            refund = refund_pb2.CreateRefundRequest(
                intent_id=made.intent_id, refund_id=str(uuid4()), amount=money(1)
            )
            await self.ask(RefundServiceStub, "CreateRefund", refund)


AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED}


@asynccontextmanager
async def replica(port: int, environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    own = {**os.environ, **environment, "WEFT_ADDRESS": f"127.0.0.1:{port}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "payment", cwd=ROOT, env=own
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def soak(servers: Shared, postgres: str, *, kills: int, payments: int) -> None:
    chance = random.Random(11)
    async with stripe_server() as gateway, databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        gateway.fault = lambda: chance.choice(FAULTS)
        environment = {
            "WEFT_DATABASE_URL_PAYMENT": url,
            "WEFT_NATS_URL": servers.account(),
            "WEFT_DEVELOPMENT": "1",
            "WEFT_MESH_ADDRESS": "127.0.0.1:1",
            "WEFT_PAYMENT_CARDS": "stripe",
            "WEFT_PAYMENT_STRIPE_API_BASE": gateway.url,
            "WEFT_PAYMENT_STRIPE_API_KEY": "sk_test_weft",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            **{f"WEFT_PAYMENT_{name}": value for name, value in SWIFT.items()},
        }
        ports = [free_port(), free_port()]
        shop = Shop(ports, chance)
        trading = [asyncio.create_task(shop.trade()) for _ in range(CALLERS)]
        try:
            await kill_again_and_again(ports, environment, url, kills, payments)
            shop.stopping = True
            gateway.fault = lambda: ""
            async with replica(ports[0], environment):
                await asyncio.wait_for(asyncio.gather(*trading), START_S_MAX)
                await until(lambda: none_pending(url), wait_s=START_S_MAX)
        finally:
            for each in trading:
                each.cancel()
            await asyncio.gather(*trading, return_exceptions=True)
        await judge(url, gateway)


async def kill_again_and_again(
    ports: list[int], environment: dict[str, str], url: str, kills: int, payments: int
) -> None:
    """Two run; each dies in its turn in the middle of its work, and another takes its place."""
    async with AsyncExitStack() as stack:
        pair = [await stack.enter_async_context(replica(port, environment)) for port in ports]
        for n in range(kills):
            await more(url, payments)
            pair[n % 2].send_signal(signal.SIGKILL)
            await pair[n % 2].wait()
            pair[n % 2] = await stack.enter_async_context(replica(ports[n % 2], environment))
        await more(url, payments)


async def more(url: str, payments: int) -> None:
    """Waits until so many payments more have ended."""
    before = await count(url, ENDED)

    async def there() -> bool:
        return await count(url, ENDED) >= before + payments

    await until(there, wait_s=START_S_MAX)


async def none_pending(url: str) -> bool:
    return await count(url, PENDING) == 0


async def count(url: str, sql: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()


async def judge(url: str, gateway: StripeServer) -> None:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select * from intent")
    events = await connection.fetch("select key, type, payload from event")
    await connection.close()
    assert max(gateway.charges.values()) == 1, "nobody is charged twice"
    told: dict[tuple[str, str], int] = {}
    for each in events:
        kind = each["type"].rpartition(".")[2]
        if kind in ("PaymentCaptured", "PaymentRefunded"):
            amount = getattr(events_pb2, kind).FromString(each["payload"]).amount.amount_minor
            told[each["key"], kind] = told.get((each["key"], kind), 0) + amount
    for row in rows:
        intent_id, there = str(row["intent_id"]), gateway.intents.get(row["gateway_ref"])
        captured = there["amount_received"] if there else 0
        back = [
            each["amount"]
            for each in gateway.refunds.values()
            if there and each["payment_intent"] == there["id"]
        ]
        assert (row["captured"], row["refunded"]) == (captured, sum(back)), dict(row)
        assert told.get((intent_id, "PaymentCaptured"), 0) == captured
        assert told.get((intent_id, "PaymentRefunded"), 0) == sum(back)
        if row["state"] in ("CANCELLED", "FAILED"):
            assert captured == sum(back), "what was given up keeps nothing"
            assert there is None or there["status"] in ("canceled", "succeeded", "requires_payment_method")
    assert gateway.taken == sum(row["captured"] - row["refunded"] for row in rows)
    assert {"SUCCEEDED", "CANCELLED"} <= {row["state"] for row in rows}


@pytest.mark.timeout(400)
async def test_replicas_that_are_killed_take_what_they_say_they_took(servers: Shared, postgres: str) -> None:
    await soak(servers, postgres, kills=1, payments=10)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_replicas_that_are_killed_for_long_take_what_they_say_they_took(
    servers: Shared, postgres: str
) -> None:
    await soak(servers, postgres, kills=20, payments=60)
