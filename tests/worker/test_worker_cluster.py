"""Queue and workers on three NATS servers, of which one is killed: every job ends, and none is lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.jobs.enqueue import spec
from services.chassis.testing import laboratory, until
from services.queue.app import build as queue
from tests.jetstream.brokers import Broker, cluster
from tests.servers import Shared
from tests.worker.handlers import Order
from tests.worker.workshop import Workshop
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1 import job_messages_pb2 as pb
from weft.queue.v1.queue_pb2 import CreateQueueRequest
from weft.queue.v1.queue_pb2_grpc import QueueServiceStub
from weft.queue.v1.settings_pb2 import QueueKind, QueueSettings

JOBS, KEYS = 3_000, 30
READY_S, WAIT_S = 60.0, 240.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def members(tmp_path: Path) -> list[Broker]:
    return cluster(tmp_path / "nats")


@pytest.fixture
async def shop(servers: Shared, members: list[Broker], tmp_path: Path) -> AsyncIterator[Workshop]:
    url = ",".join(member.url for member in members)
    async with laboratory(
        {"queue": queue}, postgres_url=servers.postgres(), nats_url=url, settings={"nats_replicas": 3}
    ) as lab:
        made = Workshop(lab, tmp_path)
        queues: Any = QueueServiceStub(lab.channel)  # type: ignore[no-untyped-call]
        fifo = CreateQueueRequest(
            queue="ledger", kind=QueueKind.QUEUE_KIND_FIFO, settings=QueueSettings(lanes=4)
        )
        await queues.CreateQueue(fifo, metadata=made.who)
        yield made
        await made.close()


async def test_a_member_that_is_killed_takes_no_job_along(shop: Workshop, members: list[Broker]) -> None:
    words = ("--queue", "default", "--queue", "ledger")
    await asyncio.gather(*(shop.worker(*words, WEFT_NATS_REPLICAS="3") for _ in range(2)))
    putting = asyncio.create_task(_put(shop))
    await until(lambda: _ended(shop, JOBS // 10), WAIT_S)
    members[0].kill()
    await putting
    await until(lambda: _ended(shop, 2 * JOBS), WAIT_S)
    members[0].start()
    good = await shop.lab.db("queue").fetchval("select count(*) from job_final where state = $1", SUCCEEDED)
    assert good == 2 * JOBS


SUCCEEDED = int(JobState.JOB_STATE_SUCCEEDED)


async def _put(shop: Workshop) -> None:
    """Half of them in order of their keys; each call is made again until it is answered."""
    for first in range(0, JOBS, 500):
        jobs = [
            spec("echo", Order(n), queue=name, key=f"key{n % KEYS}")
            for n in range(first, first + 500)
            for name in ("default", "ledger")
        ]
        await shop.jobs.EnqueueBatch(pb.EnqueueBatchRequest(jobs=jobs), metadata=shop.who)


async def _ended(shop: Workshop, count: int) -> bool:
    return bool(await shop.lab.db("queue").fetchval("select count(*) from job_final") >= count)
