"""Everything that carries jobs is killed while they run: all are done, none twice, each key in its order."""

import asyncio
import json
import random
import signal
from itertools import groupby

import pytest

from tests.chaos.crew import LOOSE, ORDERED, Crew, crew, jobs, recorded
from tests.chaos.faults import back, eventually, healthy, kill
from tests.meshes import Mesh
from weft.jobs.v1.job_pb2 import JobState

PARTS = ("queue", "worker", "nats", "postgres", "edge")
KEYS = 50
WORKERS = 2
SHORT, LONG = 2_000, 50_000  # Of each kind of queue.
BETWEEN_S = 2.0
FROZEN_S = 6.0  # Three times a worker's sign of life: it is taken for dead, and wakes up.
WAIT_S = 600.0


async def put_in(one: Crew, count: int) -> None:
    """Both queues at once, while parts die."""
    await asyncio.gather(*(one.enqueue(jobs(queue, count, KEYS)) for queue in (LOOSE, ORDERED)))


async def all_done(one: Crew, count: int, wait_s: float) -> None:
    try:
        async with asyncio.timeout(wait_s):
            while await one.done() < count:  # noqa: ASYNC110 - other processes are asked
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"{await one.done()} of {count} effects after {wait_s:g} s")


async def judge(one: Crew, secrets: dict[str, str], count: int) -> None:
    """Each effect once, each key of the ordered queue in order, and the record says so."""
    rows = await one.effects.fetch("select queue, key, n from effect order by queue, key, position")
    found = [(row["queue"], row["key"], row["n"]) for row in rows]
    assert len(found) == len(set(found)) == 2 * count
    for (queue, key), effects in groupby(found, lambda effect: effect[:2]):
        if queue == ORDERED:
            assert [n for _, _, n in effects] == list(range(count // KEYS)), f"{key} is out of order"

    async def told() -> bool:
        return await recorded(one.mesh, secrets) == [(JobState.JOB_STATE_SUCCEEDED, 2 * count)]

    await eventually("the record has every job as succeeded", told)


def known(mesh: Mesh) -> dict[str, str]:
    secrets: dict[str, str] = json.loads((mesh.home / "secrets.json").read_text())
    return secrets


@pytest.mark.timeout(300)
async def test_jobs_outlive_the_death_of_all_that_carries_them(mesh: Mesh, seed: int) -> None:
    chance, secrets = random.Random(seed), known(mesh)
    async with crew(mesh, secrets, WORKERS) as one:
        putting = asyncio.create_task(put_in(one, SHORT))
        for part in chance.sample(PARTS, len(PARTS)):
            one.kill_worker()
            for dead, pid in kill(mesh, part).items():
                await back(mesh, dead, pid)
        await putting
        await all_done(one, 2 * SHORT, WAIT_S / 4)
        await judge(one, secrets, SHORT)
        await healthy(mesh)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_a_hundred_thousand_jobs_outlive_many_deaths_and_a_worker_that_wakes_up(
    mesh: Mesh, seed: int
) -> None:
    chance, secrets = random.Random(seed), known(mesh)
    async with crew(mesh, secrets, WORKERS) as one:
        putting = asyncio.create_task(put_in(one, LONG))
        while not putting.done() or await one.done() < 2 * LONG * 0.9:
            await asyncio.sleep(chance.uniform(0, BETWEEN_S))
            if chance.random() < 0.4:
                one.kill_worker()
            elif chance.random() < 0.3:
                await sleepwalk(one)
            else:
                for dead, pid in kill(mesh, chance.choice(PARTS)).items():
                    await back(mesh, dead, pid)
        await putting
        await all_done(one, 2 * LONG, WAIT_S)
        await judge(one, secrets, LONG)
        await healthy(mesh)


async def sleepwalk(one: Crew) -> None:
    """A worker stands still past its lease, and goes on as if nothing had been."""
    one.workers[0].send_signal(signal.SIGSTOP)
    await asyncio.sleep(FROZEN_S)
    one.workers[0].send_signal(signal.SIGCONT)
