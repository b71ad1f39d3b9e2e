"""What cannot do its work says so, where operators and the edge look; and again when it can."""

import os
import random
import signal

import pytest

from tests.chaos.faults import PARTS, back, eventually, freeze, healthy, readiness, thaw, unhealthy
from tests.chaos.load import Load, load
from tests.chaos.verdict import judge
from tests.meshes import Mesh

SERVICES = ("audit", "identity", "notification")


@pytest.mark.timeout(240)
async def test_readiness_follows_a_pause_and_nothing_is_lost_by_it(mesh: Mesh, seed: int) -> None:
    async with load(mesh, seed) as callers:
        async with callers.calling():
            for part in ("nats", "identity"):
                await pause(callers, part, dies=False)
            await callers.progress()
        await judge(callers)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_readiness_follows_every_pause_whether_it_ends_in_death_or_not(mesh: Mesh, seed: int) -> None:
    chance = random.Random(seed)
    pauses = [(part, dies) for part in PARTS for dies in (False, True)]
    async with load(mesh, seed) as callers:
        async with callers.calling():
            for part, dies in chance.sample(pauses, len(pauses)):
                await pause(callers, part, dies=dies)
                await callers.progress()
        await judge(callers)


async def pause(load: Load, part: str, *, dies: bool) -> None:
    """Until all who should tell of it have done so, and again until they tell that it is over."""
    mesh, pid = load.mesh, load.mesh.parts()[part]["pid"]
    load.ledger.struck = frozenset({part})
    paused = freeze(mesh, part)
    if part in ("nats", "postgres"):
        await all_are(mesh, "NOT_SERVING")
    await unhealthy(mesh)
    if dies:
        os.kill(pid, signal.SIGKILL)
    thaw(paused)
    if dies:
        await back(mesh, part, pid)
    await all_are(mesh, "SERVING")
    await healthy(mesh)


async def all_are(mesh: Mesh, status: str) -> None:
    """Until every service says so of itself by grpc.health."""

    async def they_say() -> bool:
        return {await readiness(mesh, part) for part in SERVICES} == {status}

    await eventually(f"all are {status}", they_say)
