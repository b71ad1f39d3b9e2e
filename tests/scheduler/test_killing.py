"""Two replicas, one of them killed again and again: no run comes twice, none is missed, workflows end."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc.aio
import pytest

from services.chassis.caller import OPERATOR, SERVICE_HEADER, Signer
from services.chassis.clock import Clock
from services.chassis.db import Tx
from services.chassis.events import Envelope, emit
from services.chassis.host import hosting
from services.chassis.testing import BASE, until
from services.scheduler.app import build
from tests import databases
from tests.scheduler.world import FAILED, SUCCEEDED, Queue, graph, undo, wanted
from tests.servers import Shared, free_port
from weft.jobs.v1.job_pb2 import EndReason
from weft.queue.v1 import job_messages_pb2 as jobs
from weft.queue.v1.events_pb2 import JobEnded, JobRequested
from weft.scheduler.v1 import schedule_pb2, workflow_pb2
from weft.scheduler.v1.schedule_pb2_grpc import ScheduleServiceStub
from weft.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub

ROOT = Path(__file__).parent.parent.parent
SCHEDULES = 8
START_S_MAX = 90.0  # A process starts in 3 s, on a machine that is busy with other tests in twenty.
OWN = ROOT / "services" / "scheduler" / "migrations"
RUNS = "select count(*) from schedule_run"
UNENDED = "select count(*) from workflow_run where state not in ('SUCCEEDED', 'COMPENSATED')"
ACTIVE = "select count(*) from schedule_run where state in ('WAITING', 'STARTED')"


class Swift(Queue):
    """Ends each job as soon as it comes; every third `c` fails."""

    def __init__(self) -> None:
        super().__init__()
        self.chance = random.Random(7)

    async def take(self, event: JobRequested, envelope: Envelope, tx: Tx) -> None:
        await super().take(event, envelope, tx)
        failed = event.job.labels["workflow.task"] == "c" and self.chance.random() < 0.3
        state = FAILED if failed else SUCCEEDED
        self.answers[event.job_id] = jobs.Job(state=state)
        ended = JobEnded(job_id=event.job_id, run=1, state=state, reason=EndReason.END_REASON_RETURNED)
        await emit(tx, ended)


@asynccontextmanager
async def replica(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "scheduler", cwd=ROOT, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def soak(servers: Shared, postgres: str, *, kills: int, pause_s: float) -> None:
    nats, address = servers.account(), f"127.0.0.1:{free_port()}"
    queue = Swift()
    async with (
        databases.fresh(postgres, databases.CHASSIS) as standin,
        databases.fresh(postgres, databases.CHASSIS, OWN) as url,
    ):
        settings = replace(BASE, nats_url=nats, database_url=standin, address=address, mesh_address=address)
        async with hosting({"standin": queue.build}, settings):
            environment = {
                "WEFT_DATABASE_URL_SCHEDULER": url,
                "WEFT_NATS_URL": nats,
                "WEFT_DEVELOPMENT": "1",
                "WEFT_ADDRESS": "127.0.0.1:0",
                "WEFT_MESH_ADDRESS": address,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            }
            await arrange(settings, url)
            await kill_again_and_again(environment, url, kills, pause_s)
            async with replica(environment):
                await pause_all(url)
                await all_ended(url)
        connection = await asyncpg.connect(url)
        try:
            await judge(connection, queue)
        finally:
            await connection.close()


async def arrange(settings: Any, url: str) -> None:
    """Schedules by the second, of jobs and of a workflow, made through the API."""
    own = replace(settings, database_url=url, address="127.0.0.1:0")
    async with hosting({"scheduler": build}, own) as hosted:
        me = ((SERVICE_HEADER, Signer(OPERATOR, own.mesh_key, Clock()).token()),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
            workflow_id = str(uuid4())
            tasks = (
                {"name": "a", "compensation": undo("a")},
                {"name": "b", "needs": ["a"], "compensation": undo("b")},
                {"name": "c", "needs": ["a", "b"]},
            )
            request = workflow_pb2.CreateWorkflowRequest(workflow_id=workflow_id, settings=graph(*tasks))
            await WorkflowServiceStub(channel).CreateWorkflow(request, metadata=me)
            for n in range(SCHEDULES):
                action = {"workflow": {"workflow_id": workflow_id}} if n % 4 == 0 else {}
                schedule = schedule_pb2.CreateScheduleRequest(
                    schedule_id=str(uuid4()), settings=wanted(timing={"every": "1s"}, **action)
                )
                await ScheduleServiceStub(channel).CreateSchedule(schedule, metadata=me)


async def kill_again_and_again(environment: dict[str, str], url: str, kills: int, pause_s: float) -> None:
    """Two run; the older one dies in the middle of its work, and another takes its place."""
    async with AsyncExitStack() as stack:
        pair = [await stack.enter_async_context(replica(environment)) for _ in range(2)]
        for _ in range(kills):
            await fired(url, SCHEDULES)
            await asyncio.sleep(random.uniform(0, pause_s))
            older = pair.pop(0)
            older.send_signal(signal.SIGKILL)
            await older.wait()
            await fired(url, SCHEDULES)
            pair.append(await stack.enter_async_context(replica(environment)))


async def fired(url: str, runs: int) -> None:
    """Waits until so many runs more are there."""
    before = await count(url, RUNS)

    async def there() -> bool:
        return await count(url, RUNS) >= before + runs

    await until(there, wait_s=START_S_MAX)


async def pause_all(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("update schedule set due_at = null")
    await connection.close()


async def count(url: str, sql: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()


async def all_ended(url: str) -> None:
    """Waits for what is left, as long as there is less of it every now and then."""
    left = await count(url, UNENDED) + await count(url, ACTIVE)
    while left:

        async def fewer(before: int = left) -> bool:
            return await count(url, UNENDED) + await count(url, ACTIVE) < before

        await until(fewer, wait_s=START_S_MAX)
        left = await count(url, UNENDED) + await count(url, ACTIVE)


async def judge(connection: Any, queue: Queue) -> None:
    runs = await connection.fetch("select * from schedule_run order by schedule_id, nominal_at")
    by_schedule: dict[UUID, list[Any]] = {}
    for run in runs:
        by_schedule.setdefault(run["schedule_id"], []).append(run)
    assert len(by_schedule) == SCHEDULES
    for of_one in by_schedule.values():
        nominals = [run["nominal_at"] for run in of_one]
        seconds = [(after - before).total_seconds() for before, after in pairwise(nominals)]
        assert set(seconds) == {1.0}, "none is missed, none is there twice"
    assert {run["state"] for run in runs} <= {"SUCCEEDED", "FAILED"}
    asked = Counter(queue.taken)
    assert set(asked.values()) == {1}, "each job is asked for once"
    assert {str(run["job_id"]) for run in runs if run["job_id"]} <= set(asked)
    tasks = await connection.fetch("select * from task_run")
    of_tasks = {str(task[name]) for task in tasks for name in ("job_id", "undo_job_id") if task[name]}
    of_runs = {str(run["job_id"]) for run in runs if run["job_id"]}
    assert set(asked) == of_tasks | of_runs, "no job is asked for that nobody waits for"
    undone = {task["run_id"] for task in tasks if task["undo_job_id"]}
    failed = await connection.fetch("select run_id from workflow_run where state = 'COMPENSATED'")
    assert undone == {row["run_id"] for row in failed}
    assert undone, "some failed, and were undone"


@pytest.mark.timeout(400)
async def test_replicas_that_are_killed_fire_every_run_once(servers: Shared, postgres: str) -> None:
    await soak(servers, postgres, kills=1, pause_s=0.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_replicas_that_are_killed_for_long_fire_every_run_once(servers: Shared, postgres: str) -> None:
    await soak(servers, postgres, kills=6, pause_s=2.0)
