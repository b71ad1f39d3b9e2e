"""A FIFO queue with its real service: workers are killed and frozen, and every key keeps its order."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.jobs.enqueue import spec
from services.chassis.testing import until
from tests.servers import Shared
from tests.worker.handlers import Order
from tests.worker.workshop import Workshop, workshop
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1 import job_messages_pb2 as pb
from weft.queue.v1.queue_pb2 import CreateQueueRequest
from weft.queue.v1.queue_pb2_grpc import QueueServiceStub
from weft.queue.v1.settings_pb2 import QueueKind, QueueSettings

KEYS, EACH = 30, 20


@pytest.fixture
async def shop(servers: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workshop]:
    monkeypatch.setenv("WEFT_QUEUE_LEASE_S", "3")  # So long a frozen worker keeps its lanes.
    async with workshop(servers, tmp_path) as shop:
        shop.modules = ("tests.worker.entries",)
        queues: Any = QueueServiceStub(shop.lab.channel)  # type: ignore[no-untyped-call]
        fifo = CreateQueueRequest(
            queue="ledger", kind=QueueKind.QUEUE_KIND_FIFO, settings=QueueSettings(lanes=6)
        )
        await queues.CreateQueue(fifo, metadata=shop.who)
        yield shop


async def test_every_key_keeps_its_order_while_workers_are_killed_and_frozen(
    shop: Workshop, tmp_path: Path
) -> None:
    trail = tmp_path / "trail"
    workers = await asyncio.gather(*(shop.worker("--queue", "ledger") for _ in range(3)))
    jobs = [
        spec("entry", Order(n, str(trail)), queue="ledger", key=f"key{key}")
        for n in range(EACH)
        for key in range(KEYS)
    ]
    await shop.jobs.EnqueueBatch(pb.EnqueueBatchRequest(jobs=jobs), metadata=shop.who)
    await until(lambda: ends(trail, 100), 15)
    workers[0].kill()
    workers[1].send_signal(signal.SIGSTOP)
    await until(lambda: ends(trail, KEYS * EACH), 50)
    workers[1].send_signal(signal.SIGCONT)
    await until(lambda: succeeded(shop, KEYS * EACH), 20)
    assert kept_order(trail)


async def test_a_wait_for_a_retry_outlives_its_worker_and_holds_its_key_back(
    shop: Workshop, tmp_path: Path
) -> None:
    """The next owner of the lane knows from the record when the next attempt is due, and its number."""
    shop.modules = ("tests.worker.handlers",)
    first = await shop.worker("--queue", "ledger")
    again_s = 8
    failing = await shop.enqueue("raise", Order(again_s, "retry"), queue="ledger", key="k")
    behind = await shop.enqueue("echo", Order(1), queue="ledger", key="k")

    async def retries() -> bool:
        return (await shop.get(failing)).state == JobState.JOB_STATE_RETRYING

    await until(retries, 20)
    due = (await shop.get(failing)).due_time.ToNanoseconds()
    first.kill()
    await shop.worker("--queue", "ledger")

    async def second_attempt() -> Any:
        return [each.report for each in await shop.attempts(failing) if each.report.attempt == 2]

    [report] = await until(second_attempt, 40)
    assert report.start_time.ToNanoseconds() >= due
    assert (await shop.get(behind)).state == JobState.JOB_STATE_QUEUED


async def ends(trail: Path, count: int) -> bool:
    """Whether so many jobs have ended, at least once."""
    return len(await asyncio.to_thread(ended, trail)) >= count


def lines(trail: Path) -> list[tuple[float, str, int, str]]:
    rows = [line.split() for line in trail.read_text().splitlines()] if trail.exists() else []
    return sorted((float(at), key, int(number), what) for at, key, number, what, _ in rows)


def ended(trail: Path) -> set[tuple[str, int]]:
    return {(key, number) for _, key, number, what in lines(trail) if what == "end"}


def kept_order(trail: Path) -> bool:
    """Whether no job began before the one before it had ended."""
    last: dict[str, int] = defaultdict(lambda: -1)
    for _, key, number, what in lines(trail):
        if what == "begin" and number > last[key] + 1:
            return False
        if what == "end":
            last[key] = max(last[key], number)
    return True


async def succeeded(shop: Workshop, count: int) -> bool:
    """Whether the record has so many ends, each of them good."""
    request = pb.ListJobsRequest(
        queue="ledger", states=[JobState.JOB_STATE_SUCCEEDED], page_size=200, page_token=""
    )
    found = 0
    while True:
        page = await shop.jobs.ListJobs(request, metadata=shop.who)
        found += len(page.jobs)
        if not page.next_page_token:
            return found == count
        request.page_token = page.next_page_token
