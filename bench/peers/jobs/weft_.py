"""Weft, the whole of it: fast enqueues, the worker with its deadlines, reports and live states, the record.

Beside the verbs of all: `settle`, which ends when the record has every job and every acknowledgement is
confirmed, and prints when that was.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nats
import uvloop

from bench.peers.jobs import verbs
from services.chassis.caller import OPERATOR
from services.chassis.config import Settings, load
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.context import Job
from services.chassis.jobs.enqueue import Enqueuer, spec
from services.chassis.jobs.handlers import job
from services.chassis.jobs.queues import Queues
from services.chassis.jobs.subjects import HISTORY, STREAM
from services.chassis.jobs.surroundings import Surroundings, surrounding
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1 import job_pb2  # noqa: F401 - its stub names messages only, and forgets the contract
from weft.queue.v1.job_messages_pb2 import (
    EnqueueBatchRequest,
    EnqueueJobRequest,
    GetJobRequest,
    ListJobsRequest,
)
from weft.queue.v1.job_pb2_grpc import JobServiceStub
from weft.queue.v1.queue_pb2 import CreateQueueRequest, PurgeQueueRequest
from weft.queue.v1.queue_pb2_grpc import QueueServiceStub
from weft.queue.v1.settings_pb2 import Concurrency, QueueKind, QueueSettings
from weft.queue.v1.spec_pb2 import JobSpec

QUEUE = os.environ.get("WEFT_BENCH_QUEUE", "bench")
KEYS = int(os.environ.get("WEFT_BENCH_KEYS", "0"))  # Of a FIFO queue; 0: jobs have none.
PADDING = "x" * int(os.environ.get("WEFT_BENCH_PADDING", "0"))  # Of each payload.
AT_ONCE = int(os.environ.get("WEFT_BENCH_AT_ONCE", "0"))  # Limit of the queue; 0: none.
POLL_S = 0.02
BATCH = 10_000
HOLD_S = 60.0  # Longer than a takeover is waited for.


@dataclass(frozen=True)
class Noop:
    index: int
    sent: float
    padding: str = ""


@job("bench.noop")
async def noop(job: Job, payload: Noop) -> None:
    verbs.noop(payload.index, payload.sent)


@job("bench.hold")
async def hold(job: Job, payload: Noop) -> None:
    """Says that it was started, and is at work until its worker is killed."""
    verbs.noop(payload.index, payload.sent)
    await asyncio.sleep(HOLD_S)


def made(index: int, sent: float, kind: str = "bench.noop") -> JobSpec:
    key = f"key{index % KEYS}" if KEYS else ""
    return spec(kind, Noop(index, sent, PADDING), queue=QUEUE, key=key)


@asynccontextmanager
async def enqueuing() -> AsyncIterator[tuple[Surroundings, Enqueuer]]:
    async with surrounding(load(Settings), OPERATOR) as around:
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
            """Straight into JetStream, ten thousand at once."""
            jobs = verbs.jobs(count)
            for start in range(0, count, BATCH):
                await enqueuer.enqueue_all([made(*each) for each in jobs[start : start + BATCH]])

        async def recorded(count: int) -> None:
            """By the queue's rpc, ten thousand at once: written down before they are published."""
            jobs = verbs.jobs(count)
            for start in range(0, count, BATCH):
                specs = [made(*each) for each in jobs[start : start + BATCH]]
                await stub.EnqueueBatch(EnqueueBatchRequest(jobs=specs))

        async def by_rpc(index: int, sent: float) -> None:
            await stub.EnqueueJob(EnqueueJobRequest(job=made(index, sent)))

        async def unique(index: int, sent: float) -> None:
            """Ten callers at once want the same job; one of them makes it."""
            job = made(index, sent)
            job.unique.key = f"unique{index // 10}"
            await stub.EnqueueJob(EnqueueJobRequest(job=job))

        async def held(index: int, sent: float) -> None:
            await enqueuer.enqueue(made(index, sent, "bench.hold"))

        ways: dict[str, Any] = {"rpc": by_rpc, "unique": unique, "hold": held}
        one = ways.get(verb, lambda index, sent: enqueuer.enqueue(made(index, sent)))
        many = recorded if verb == "recorded" else bulk
        await verbs.fed("bulk" if verb == "recorded" else verb, count, one, many)


async def setup() -> None:
    async with surrounding(load(Settings), OPERATOR) as around:
        stub = QueueServiceStub(around.mesh)
        settings = QueueSettings(concurrency=Concurrency(queue=AT_ONCE))
        kind = QueueKind.QUEUE_KIND_FIFO if KEYS else QueueKind.QUEUE_KIND_REAL_TIME
        await stub.CreateQueue(CreateQueueRequest(queue=QUEUE, kind=kind, settings=settings))
        while (await stub.PurgeQueue(PurgeQueueRequest(queue=QUEUE))).more:
            pass
    await settle()


async def settle() -> None:
    """Until nothing waits, nothing is unacknowledged, and the record has read all."""
    client = await nats.connect(os.environ["WEFT_NATS_URL"])
    stream = client.jetstream()
    found = [name for name in await _consumers(client) if name.startswith(f"{QUEUE}_")]
    while True:
        infos = [await stream.consumer_info(STREAM, name) for name in (HISTORY, *found)]
        if not any((info.num_pending or 0) + (info.num_ack_pending or 0) for info in infos):
            break
        await asyncio.sleep(POLL_S)
    sys.stdout.write(f"{time.monotonic()}\n")
    await client.close()


async def _consumers(client: Any) -> list[str]:
    names: list[str] = []
    while True:
        ask = json.dumps({"offset": len(names)}).encode()
        page = json.loads((await client.request(f"$JS.API.CONSUMER.NAMES.{STREAM}", ask)).data)
        names += page["consumers"] or []
        if not page["consumers"] or len(names) >= page["total"]:
            return names


async def read(count: int) -> None:
    """A job by its id, and a filtered page, again and again; prints their times in ms as JSON."""
    async with surrounding(load(Settings), OPERATOR) as around:
        stub = JobServiceStub(around.mesh)
        request = ListJobsRequest(queue=QUEUE, states=[JobState.JOB_STATE_FAILED], page_size=50)
        waiting = ListJobsRequest(queue=QUEUE, states=[JobState.JOB_STATE_QUEUED], page_size=50)
        pages = [await stub.ListJobs(each) for each in (request, waiting)]
        ids = [each.envelope.job_id for page in pages for each in page.jobs]
        ways: dict[str, Callable[[int], Awaitable[Any]]] = {
            "status by id": lambda n: stub.GetJob(GetJobRequest(job_id=ids[n % len(ids)])),
            "page of failed": lambda n: stub.ListJobs(request),
            "page of waiting": lambda n: stub.ListJobs(waiting),
        }
        times: dict[str, list[float]] = {}
        for name, ask in ways.items():
            for n in range(count):
                began = time.perf_counter()
                await ask(n)
                times.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        sys.stdout.write(json.dumps({name: sorted(each) for name, each in times.items()}) + "\n")


if __name__ == "__main__":
    verb, count = verbs.words()
    if verb == "work":
        flags = ["--queue", QUEUE, "--slots", os.environ.get("WEFT_BENCH_SLOTS", str(verbs.SLOTS))]
        os.execv(sys.executable, [sys.executable, "-m", "services.worker", "bench.peers.jobs.weft_", *flags])
    alone: dict[str, Any] = {"setup": setup, "settle": settle, "read": lambda: read(count)}
    uvloop.run(alone[verb]() if verb in alone else feed(verb, count))
