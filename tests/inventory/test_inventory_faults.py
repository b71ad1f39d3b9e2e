"""Connections and processes die at any line: counters stay what they count, each request has one effect.

Clients do what clients of a shop do, at once and in any order, and repeat what they got no answer to.
"""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest

from services.chassis.testing import BASE, Lab, laboratory, reason
from services.inventory.app import build
from tests import databases
from tests.inventory.test_transfers import Lorry
from tests.inventory.warehouse import COMMITTED, HELD, RELEASED, Warehouse, new_id
from tests.servers import Shared, free_port

ROOT = Path(__file__).parent.parent.parent
OWN = ROOT / "services" / "inventory" / "migrations"
SKUS, CLIENTS = 4, 64
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED}
VICTIMS = """
select pid from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
"""
BALANCE = """
select s.sku, s.on_hand, s.reserved, coalesce(sum(m.units), 0)::bigint as moved
from stock s left join movement m using (sku, location_id) group by s.sku, s.location_id
having s.on_hand <> coalesce(sum(m.units), 0) or s.reserved < 0 or s.on_hand < 0
"""


@dataclass
class Shop:
    """Clients of one warehouse, and what they were told."""

    warehouse: Warehouse
    names: list[str]
    chance: random.Random
    ended: Counter[str] = field(default_factory=Counter)  # Units that left, by SKU, as clients know it.
    states: dict[str, int] = field(default_factory=dict)

    async def patiently(self, call: Callable[[], Awaitable[Any]]) -> tuple[str, Any]:
        """The reason of its refusal, or OK and its answer; whoever gets none asks again."""
        for _ in range(200):
            try:
                return "OK", await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN:
                    return reason(error), None
                await asyncio.sleep(self.chance.uniform(0.001, 0.05))
        raise AssertionError("no answer, ever")

    async def client(self, rounds: int) -> None:
        for _ in range(rounds):
            await self.chance.choice((self.buy, self.buy, self.buy, self.ship))()

    async def buy(self) -> None:
        one = new_id()
        lines = [(self.chance.choice(self.names), self.chance.randint(1, 3)) for _ in range(2)]
        told, made = await self.patiently(lambda: self.warehouse.reserve(*lines, reservation_id=one))
        if told == "OUT_OF_STOCK":
            return
        assert (told, made.state) == ("OK", HELD)
        end = self.chance.choice(("commit", "release", "part", "leave"))
        if end == "part":
            part, name = new_id(), made.lines[0].sku
            told, made = await self.patiently(
                lambda: self.warehouse.commit(one, (name, 1), operation_id=part)
            )
            assert told == "OK"
            end = "release"
        if end != "leave":
            told, made = await self.patiently(lambda: getattr(self.warehouse, end)(one))
            assert told == "OK"
        self.states[one] = made.state
        for line in made.lines:
            self.ended[line.sku] += line.committed

    async def ship(self) -> None:
        """To another place and back."""
        name, there = self.chance.choice(self.names), self.warehouse.location_id
        lorry = Lorry(self.warehouse, there_and_back[there])
        told, _ = await self.patiently(lambda: lorry.start((name, 1)))
        if told == "OK":
            told, _ = await self.patiently(lorry.cancel)
            assert told == "OK"
        else:
            assert told == "NOT_ENOUGH_FREE"


there_and_back: dict[str, str] = {}


async def judge(shop: Shop, received: int) -> None:
    """What the tables say is what the clients were told."""
    warehouse = shop.warehouse
    assert await warehouse.wrong() == []
    assert await warehouse.lab.db("inventory").fetch(BALANCE) == []
    for name in shop.names:
        assert (await warehouse.level(name)).on_hand == received - shop.ended[name]
    for one, state in shop.states.items():
        assert (await warehouse.get(one)).state == state
    assert {COMMITTED, RELEASED, HELD} == set(shop.states.values())


async def stocked(lab: Lab, received: int) -> Shop:
    warehouse = await Warehouse.of(lab)
    there_and_back[warehouse.location_id] = await warehouse.open(not_for_sale=True)
    names = [await warehouse.receive(received) for _ in range(SKUS)]
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - to be repeated
    return Shop(warehouse, names, random.Random(seed))


async def cut(url: str, chance: random.Random) -> None:
    """Ends connections of the service that are in the middle of something, over and over."""
    connection = await asyncpg.connect(url)
    try:
        while True:
            await asyncio.sleep(chance.uniform(0.02, 0.1))
            for row in await connection.fetch(VICTIMS):
                if chance.random() < 0.5:
                    await connection.execute("select pg_terminate_backend($1)", row["pid"])
    finally:
        await connection.close()


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_connections_that_are_cut_leave_nothing_half_done(servers: Shared, rounds: int) -> None:
    made = laboratory({"inventory": build}, postgres_url=servers.postgres(), nats_url=servers.account())
    async with made as lab:
        shop = await stocked(lab, received=40 * rounds)
        cutting = asyncio.create_task(cut(lab.db("inventory").url, shop.chance))
        await asyncio.gather(*(shop.client(rounds) for _ in range(CLIENTS)))
        cutting.cancel()
        await asyncio.wait([cutting])
        _, _ = await shop.patiently(lambda: shop.warehouse.level(shop.names[0]))
        await judge(shop, 40 * rounds)


@asynccontextmanager
async def replica(environment: dict[str, str], address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services",
        "inventory",
        cwd=ROOT,
        env={**os.environ, **environment, "WEFT_ADDRESS": address},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_processes_that_are_killed_leave_nothing_half_done(
    servers: Shared, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats, address = servers.account(), f"127.0.0.1:{free_port()}"
    async with databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        environment = {
            "WEFT_DATABASE_URL_INVENTORY": url,
            "WEFT_NATS_URL": nats,
            "WEFT_DEVELOPMENT": "1",
            "WEFT_MESH_KEY": BASE.mesh_key,
            "WEFT_MESH_ADDRESS": address,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        }
        builds = {"inventory": build}
        monkeypatch.setenv("WEFT_DATABASE_URL_INVENTORY", url)
        async with laboratory(builds, postgres_url=postgres, nats_url=nats) as lab:
            lab.channel = grpc.aio.insecure_channel(address)
            async with replica(environment, address):
                await until_there(lab.channel)
                shop = await stocked(lab, received=4_000)
            clients = asyncio.gather(*(shop.client(60) for _ in range(CLIENTS)))
            for _ in range(4):
                async with replica(environment, address) as process:
                    await until_there(lab.channel)
                    await asyncio.sleep(shop.chance.uniform(0.5, 1.5))
                    process.send_signal(signal.SIGKILL)
            async with replica(environment, address):
                await clients
                await judge(shop, 4_000)
            await lab.channel.close()


async def until_there(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(90):
        await channel.channel_ready()
