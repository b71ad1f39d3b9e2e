"""Sagas under random faults, calls off and killed replicas: each ends as a whole, each effect once."""

import asyncio
import os
import random
from contextlib import suppress
from uuid import uuid4

import pytest

from services.chassis import saga_runner, saga_store
from services.chassis.clock import Clock
from services.chassis.db import Conflict, Database, DatabaseAway, DatabaseBusy
from services.chassis.saga_runner import Sagas
from tests.chassis.journeys import TABLES, World, complete, faults

SEED = "WEFT_SAGA_SEED"
REFUSALS = ("", "", "", "reserve", "pay", "made", "tell")
SHORT, LONG = 60, 3_000
WITHIN_S = 40.0
NEVER = "select $1::text, $2::uuid, $3::bigint"  # Who is killed lets go of nothing.


async def replica(db: Database, worlds: list[World], chance: random.Random, over: asyncio.Event) -> None:
    """Processes, one after another, each killed after a while."""
    while not over.is_set():
        sagas = Sagas(db, Clock(), [world.saga(step_s=0.05) for world in worlds], "lab", margin_s=0.1)
        life = asyncio.create_task(sagas.run())
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), chance.uniform(0.05, 0.6))
        life.cancel()
        with suppress(asyncio.CancelledError, DatabaseAway, DatabaseBusy):
            await life


async def simulate(db: Database, seed: int, count: int, within_s: float) -> None:
    chance = random.Random(seed)
    await db.execute(TABLES)
    worlds = {refuses: World(db, refuses, faults(chance)) for refuses in REFUSALS}
    sagas = Sagas(db, Clock(), [world.saga() for world in worlds.values()], "lab", room=0)
    started = {uuid4(): worlds[chance.choice(REFUSALS)] for _ in range(count)}
    for saga_id, world in started.items():
        await world.begin(sagas, saga_id)
    over = asyncio.Event()
    replicas = [asyncio.create_task(replica(db, list(worlds.values()), chance, over)) for _ in range(3)]
    for saga_id, world in started.items():
        if chance.random() < 0.15:
            with suppress(Conflict):
                async with db.fast() as tx:
                    await sagas.call_off(tx, world.kind, saga_id, "NOT_WANTED")
        await asyncio.sleep(0)
    async with asyncio.timeout(within_s):
        while await db.fetchval("select count(*) from saga where ended_at is null"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    over.set()
    await asyncio.gather(*replicas)
    states = set()
    for saga_id, world in started.items():
        row = await saga_store.find(db, world.kind, saga_id)
        states.add(row.state)
        assert complete(row.state, await world.seen(saga_id), await world.own(saga_id)), (world.kind, row)
        assert not (row.state == "DONE" and world.refuses), row
    assert states == {"DONE", "UNDONE"}


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get(SEED) or random.randrange(1_000_000))
    print(f"{SEED}={chosen}")  # noqa: T201
    return chosen


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saga_runner, "RETRY_S", 0.005)
    monkeypatch.setattr(saga_runner, "RETRY_S_MAX", 0.1)
    monkeypatch.setattr(saga_runner, "POLL_S", 0.05)
    monkeypatch.setattr(saga_store, "RELEASE", NEVER)


async def test_sagas_under_random_faults_end_as_a_whole(db: Database, seed: int) -> None:
    await simulate(db, seed, SHORT, WITHIN_S)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_thousands_of_sagas_under_random_faults_end_as_a_whole(db: Database, seed: int) -> None:
    await simulate(db, seed, LONG, 800.0)
