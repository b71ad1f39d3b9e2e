"""Parts are killed under load: nothing acknowledged is lost, nothing is done twice, nobody hangs."""

import asyncio
import random

import pytest

from tests.chaos.faults import PARTS, back, freeze, healthy, kill, thaw
from tests.chaos.load import Load, load
from tests.chaos.verdict import judge
from tests.meshes import Mesh

ROUNDS = 40  # About ten minutes.
FROZEN_S_MAX = 8.0  # Beyond every keep-alive and lease of the test's settings.


async def strike(load: Load, *parts: str) -> dict[str, int]:
    """Kills parts at once, and waits until all callers are served again. Returns the dead's pids."""
    load.ledger.struck = frozenset(parts)
    dead = kill(load.mesh, *parts)
    await load.progress()
    return dead


async def all_back(mesh: Mesh, dead: dict[str, int]) -> None:
    for part, pid in dead.items():
        await back(mesh, part, pid)


@pytest.mark.timeout(240)
async def test_what_was_acknowledged_outlives_the_death_of_each_part(mesh: Mesh, seed: int) -> None:
    """Three at a time, so that they also meet each other's absence."""
    order = random.Random(seed).sample(PARTS, len(PARTS))
    async with load(mesh, seed) as callers:
        async with callers.calling():
            await callers.progress()
            dead = await strike(callers, *order[:3]) | await strike(callers, *order[3:])
            await all_back(mesh, dead)
        await healthy(mesh)
        await judge(callers)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_what_was_acknowledged_outlives_many_deaths_and_pauses(mesh: Mesh, seed: int) -> None:
    """Any parts, at any time, dead or only paused."""
    chance = random.Random(seed)
    async with load(mesh, seed) as callers:
        async with callers.calling():
            for _ in range(ROUNDS):
                await asyncio.sleep(chance.uniform(0, 2))
                parts = chance.sample(PARTS, chance.randint(1, 3))
                if chance.random() < 0.7:
                    await all_back(mesh, await strike(callers, *parts))
                else:
                    await pause(callers, chance.uniform(1, FROZEN_S_MAX), *parts)
        await healthy(mesh)
        await judge(callers)


async def pause(load: Load, seconds: float, *parts: str) -> None:
    """Stops parts for a while, and waits until all callers are served again."""
    load.ledger.struck = frozenset(parts)
    frozen = [process for part in parts for process in freeze(load.mesh, part)]
    await asyncio.sleep(seconds)
    thaw(frozen)
    await load.progress()
