"""Workers as processes, with the real queue: killed, frozen, drained; each job ends once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.chassis.testing import until
from tests.servers import Shared
from tests.worker.handlers import Order
from tests.worker.workshop import Workshop, workshop
from weft.jobs.v1.job_pb2 import EndReason, JobState

pytestmark = pytest.mark.timeout(180)  # Processes come and go, on a machine that is busy.


@pytest.fixture
async def shop(servers: Shared, tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(servers, tmp_path) as shop:
        yield shop


async def test_a_killed_workers_job_goes_on_from_its_checkpoint(shop: Workshop, tmp_path: Path) -> None:
    first = await shop.worker()
    trail = tmp_path / "trail"
    job_id = await shop.enqueue("import", Order(40, str(trail)))
    await until(lambda: asyncio.to_thread(lambda: trail.exists() and len(trail.read_text().split()) >= 3))
    first.kill()
    second = await shop.worker()
    job = await shop.end(job_id)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    pid_by_row = [line.split(":") for line in trail.read_text().split()]
    rows = [int(row) for row, _ in pid_by_row]
    assert set(rows) == set(range(40))
    assert len(rows) <= 41  # The row in which it was killed, at most, came twice.
    assert {int(pid) for _, pid in pid_by_row} == {first.pid, second.pid}


async def test_a_killed_workers_attempt_is_in_the_history_and_the_next_has_the_next_number(
    shop: Workshop,
) -> None:
    first = await shop.worker("--name", "first")
    job_id = await shop.enqueue("wait", Order(3600), execution_timeout={"seconds": 3600})
    await until(lambda: _running(shop, job_id))
    first.kill()
    await shop.worker("--name", "second")

    async def second_runs() -> bool:
        job = await shop.get(job_id)
        return (job.state, job.worker, job.attempt) == (JobState.JOB_STATE_RUNNING, "second", 2)

    await until(second_runs, 30)
    [lost] = await shop.attempts(job_id)
    assert (lost.report.attempt, lost.worker) == (1, "first")
    assert lost.report.reason == EndReason.END_REASON_WORKER_LOST
    assert lost.report.start_time.ToNanoseconds() < lost.report.end_time.ToNanoseconds()


async def test_a_frozen_worker_that_wakes_corrupts_nothing(shop: Workshop, tmp_path: Path) -> None:
    """What it held has gone elsewhere meanwhile: each job ends once, by whoever was first."""
    frozen = await shop.worker("--slots", "1", "--threads", "1", "--processes", "1")
    gate = tmp_path / "gate"
    # As many as it asks for: what it still waited for would come to it, frozen as it is.
    ids = [await shop.enqueue("gated", Order(0, str(gate))) for _ in range(5)]
    begun = gate.with_suffix(".begun")
    await until(lambda: asyncio.to_thread(begun.exists))
    frozen.send_signal(signal.SIGSTOP)
    other = await shop.worker()
    await shop.lab.bus.request("CONSUMER.RESET.jobs.default_m")  # As when its acknowledgement wait is over.
    await until(lambda: asyncio.to_thread(lambda: begun.read_text().split().count(str(other.pid)) == 5))
    await asyncio.to_thread(gate.touch)
    jobs = [await shop.end(job_id) for job_id in ids]
    assert {job.state for job in jobs} == {JobState.JOB_STATE_SUCCEEDED}
    frozen.send_signal(signal.SIGCONT)
    await asyncio.sleep(1.0)  # It ends its attempt, and is told that the run has ended.
    for job in jobs:
        after = await shop.get(job.envelope.job_id)
        assert (after.end_time, after.worker, after.run) == (job.end_time, job.worker, 1)
    assert frozen.returncode is None
    next_id = await shop.enqueue("echo", Order(1))
    assert (await shop.end(next_id)).state == JobState.JOB_STATE_SUCCEEDED


async def test_a_drained_worker_ends_what_it_can_and_gives_back_the_rest(shop: Workshop) -> None:
    leaving = await shop.worker(WEFT_WORKER_DRAIN_S="0.5")
    quick, slow = await shop.enqueue("wait", Order(0)), await shop.enqueue("wait", Order(3600))
    await shop.end(quick)
    await until(lambda: _running(shop, slow))
    leaving.terminate()
    assert await asyncio.wait_for(leaving.wait(), 20) == 0
    job = await shop.get(slow)
    assert job.state in {JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_RUNNING}
    await shop.worker()
    await until(lambda: _running(shop, slow))


async def test_a_job_that_kills_its_worker_is_isolated_and_given_up(shop: Workshop) -> None:
    """The first two workers die of it; the third runs it apart, and so every other job."""
    shop.modules = ("tests.worker.poison",)
    job_id = await shop.enqueue("poison", Order(9), retry={"backoff": {"nanos": 10_000_000}})
    for _ in range(2):
        victim = await shop.worker()
        assert await asyncio.wait_for(victim.wait(), 20) == 9
    survivor = await shop.worker()
    job = await shop.end(job_id)
    assert (job.state, job.reason) == (JobState.JOB_STATE_FAILED, EndReason.END_REASON_POISONOUS)
    assert (job.failure.exit_code, survivor.returncode) == (9, None)


async def test_what_is_told_of_a_job_is_in_its_record(shop: Workshop) -> None:
    await shop.worker()
    bad = await shop.end(await shop.enqueue("echo", b"[]"))
    assert (bad.reason, bad.failure.code) == (EndReason.END_REASON_PAYLOAD_REFUSED, "BAD_PAYLOAD")
    good = await shop.end(await shop.enqueue("process", Order(4)))
    assert good.state == JobState.JOB_STATE_SUCCEEDED
    assert msgspec.json.decode(good.result.data, type=Order).number != os.getpid()
    [attempt] = await shop.attempts(good.envelope.job_id)
    assert {line.message for line in attempt.report.log} == {"logged", "printed"}


async def _running(shop: Workshop, job_id: str) -> bool:
    return (await shop.get(job_id)).state == JobState.JOB_STATE_RUNNING
