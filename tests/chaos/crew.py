"""Workers that are killed and replaced, and an enqueuer that does not give up: the jobs' side of chaos."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from services.chassis.caller import OPERATOR
from services.chassis.config import Settings, load
from services.chassis.db import Database
from services.chassis.errors import CallFailed, Refusal
from services.chassis.host import SERVICES
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.enqueue import Enqueuer, spec
from services.chassis.jobs.queues import Queues
from services.chassis.jobs.surroundings import Surroundings, surrounding
from tests.chaos.effects import TABLES, URL, Effect
from tests.meshes import ROOT, Mesh
from weft.queue.v1.queue_pb2 import CreateQueueRequest
from weft.queue.v1.queue_pb2_grpc import QueueServiceStub
from weft.queue.v1.settings_pb2 import QueueKind
from weft.queue.v1.spec_pb2 import JobSpec

HOST = "127.0.0.1"
LOOSE, ORDERED = "loose", "ordered"  # A queue of each kind.
BATCH = 200
FINALS = "select state, count(*) from job_final where queue = any($1) group by state"
AGAIN_S = 0.2


@dataclass
class Crew:
    """What a test of jobs under chaos holds."""

    mesh: Mesh
    environ: dict[str, str]
    effects: Database
    around: Surroundings
    enqueuer: Enqueuer
    workers: list[subprocess.Popen[bytes]]

    def start_worker(self) -> None:
        words = ["-m", "services.worker", "tests.chaos.effects", "--queue", LOOSE, "--queue", ORDERED]
        with (self.mesh.home / "logs" / "chaos-worker.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=self.environ, stderr=log)
        self.workers.append(process)

    def kill_worker(self) -> None:
        """The oldest dies; a new one comes."""
        self.workers[0].kill()
        self.workers.pop(0).wait()
        self.start_worker()

    async def enqueue(self, jobs: Sequence[JobSpec]) -> None:
        """Until all are acknowledged: again and again with the same ids, as a caller would."""
        for start in range(0, len(jobs), BATCH):
            while True:
                try:
                    await self.enqueuer.enqueue_all(jobs[start : start + BATCH])
                except (Refusal, CallFailed):
                    await asyncio.sleep(AGAIN_S)
                else:
                    break

    async def done(self) -> int:
        """Effects that are there."""
        try:
            return int(await self.effects.fetchval("select count(*) from effect"))
        except (Refusal, OSError):
            return -1  # PostgreSQL was struck.


def jobs(queue: str, count: int, keys: int) -> list[JobSpec]:
    """`count` jobs dealt to `keys` keys, numbered within each."""
    return [
        spec("chaos.effect", Effect(f"k{n % keys}", n // keys), queue=queue, key=f"k{n % keys}")
        for n in range(count)
    ]


@asynccontextmanager
async def crew(mesh: Mesh, secrets: dict[str, str], workers: int) -> AsyncIterator[Crew]:
    """Two queues, a database for effects, and workers."""
    environ = {
        "WEFT_NATS_URL": f"nats://weft:{secrets['nats']}@{HOST}:{mesh.ports['nats']}",
        "WEFT_MESH_KEY": secrets["mesh_key"],
        "WEFT_MESH_ADDRESS": f"{HOST}:{mesh.ports['mesh']}",
        "WEFT_METRICS_ADDRESS": "",
        URL: f"postgresql://postgres:{secrets['postgres']}@{HOST}:{mesh.ports['postgres']}/effects",
    }
    effects = await _database(environ[URL])
    whole = {**os.environ, **environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
    async with surrounding(load(Settings, environ), OPERATOR) as around, _enqueuer(around) as enqueuer:
        for queue, kind in ((LOOSE, QueueKind.QUEUE_KIND_REAL_TIME), (ORDERED, QueueKind.QUEUE_KIND_FIFO)):
            await QueueServiceStub(around.mesh).CreateQueue(CreateQueueRequest(queue=queue, kind=kind))
        made = Crew(mesh, whole, effects, around, enqueuer, [])
        try:
            for _ in range(workers):
                made.start_worker()
            yield made
        finally:
            for process in made.workers:
                process.kill()
                process.wait()
            await effects.close()


async def _database(url: str) -> Database:
    """Made anew, with the chassis's own tables and ours."""
    admin = await asyncpg.connect(url.replace("/effects", "/postgres"))
    await admin.execute("drop database if exists effects with (force)")
    await admin.execute("create database effects")
    await admin.close()
    effects = Database(url)
    await effects.migrate(SERVICES / "chassis" / "migrations")
    await effects.execute(TABLES)
    return effects


@asynccontextmanager
async def _enqueuer(around: Surroundings) -> AsyncIterator[Enqueuer]:
    connection, queues = Connection(Options.of(around.settings.nats_url)), Queues(around.mesh)
    await connection.open()
    following = asyncio.create_task(queues.run())
    try:
        yield Enqueuer(connection, queues, around.clock)
    finally:
        following.cancel()
        await connection.close()


async def recorded(mesh: Mesh, secrets: dict[str, str]) -> list[tuple[int, int]]:
    """State and count of the jobs that have ended, read past the queue's service."""
    url = f"postgresql://postgres:{secrets['postgres']}@{HOST}:{mesh.ports['postgres']}/queue"
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(FINALS, [LOOSE, ORDERED])
    finally:
        await connection.close()
    return [(row["state"], row["count"]) for row in rows]
