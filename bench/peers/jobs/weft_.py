"""Weft, the whole of it: fast enqueues, the worker with its deadlines, reports and live states, the record.

Beside the verbs of all: `settle`, which ends when the record has every job and every acknowledgement is
confirmed, and prints when that was.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nats
import uvloop

from bench.peers.jobs import verbs
from services.chassis.config import Settings, load
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.context import Job
from services.chassis.jobs.enqueue import Enqueuer, spec
from services.chassis.jobs.handlers import job
from services.chassis.jobs.queues import Queues
from services.chassis.jobs.subjects import STREAM
from services.chassis.jobs.surroundings import Surroundings, surrounding
from weft.queue.v1.job_messages_pb2 import EnqueueBatchRequest
from weft.queue.v1.job_pb2_grpc import JobServiceStub
from weft.queue.v1.queue_pb2 import CreateQueueRequest, PurgeQueueRequest
from weft.queue.v1.queue_pb2_grpc import QueueServiceStub
from weft.queue.v1.spec_pb2 import JobSpec

QUEUE = "bench"
POLL_S = 0.02
BATCH = 10_000


@dataclass(frozen=True)
class Noop:
    index: int
    sent: float


@job("bench.noop")
async def noop(job: Job, payload: Noop) -> None:
    verbs.noop(payload.index, payload.sent)


def made(index: int, sent: float) -> JobSpec:
    return spec("bench.noop", Noop(index, sent), queue=QUEUE)


@asynccontextmanager
async def enqueuing() -> AsyncIterator[tuple[Surroundings, Enqueuer]]:
    async with surrounding(load(Settings), "bench") as around:
        connection, queues = Connection(Options.of(around.settings.nats_url)), Queues(around.mesh)
        await connection.open()
        following = asyncio.create_task(queues.run())
        yield around, Enqueuer(connection, queues, around.clock)
        following.cancel()
        await connection.close()


async def feed(verb: str, count: int) -> None:
    async with enqueuing() as (around, enqueuer):
        stub = JobServiceStub(around.mesh)

        async def bulk(count: int) -> None:
            """By the queue's rpc, ten thousand at once: recorded before they are published."""
            all_of_them = verbs.jobs(count)
            for start in range(0, count, BATCH):
                jobs = [made(*arguments) for arguments in all_of_them[start : start + BATCH]]
                await stub.EnqueueBatch(EnqueueBatchRequest(jobs=jobs))

        await verbs.fed(verb, count, lambda index, sent: enqueuer.enqueue(made(index, sent)), bulk)


async def setup() -> None:
    async with surrounding(load(Settings), "bench") as around:
        stub = QueueServiceStub(around.mesh)
        await stub.CreateQueue(CreateQueueRequest(queue=QUEUE))
        await stub.PurgeQueue(PurgeQueueRequest(queue=QUEUE))
    await settle()  # The messages of what was purged are taken out one by one, which is not to be measured.


async def settle() -> None:
    """Until nothing waits, nothing is unacknowledged, and the history has read all."""
    client = await nats.connect(os.environ["WEFT_NATS_URL"])
    stream = client.jetstream()
    while True:
        infos = await stream.consumers_info(STREAM)
        if not any((info.num_pending or 0) + (info.num_ack_pending or 0) for info in infos):
            break
        await asyncio.sleep(POLL_S)
    sys.stdout.write(f"{time.monotonic()}\n")
    await client.close()


if __name__ == "__main__":
    verb, count = verbs.words()
    if verb == "work":
        flags = ["--queue", QUEUE, "--slots", str(verbs.SLOTS)]
        os.execv(sys.executable, [sys.executable, "-m", "services.worker", "bench.peers.jobs.weft_", *flags])
    uvloop.run(
        {"setup": setup, "settle": settle}[verb]() if verb in ("setup", "settle") else feed(verb, count)
    )
