"""What happens to jobs is told as it happens, and again from where a watcher stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.chassis.testing import until
from tests.queue.plant import Plant, new_id
from tests.queue.test_queue_enqueue import refused
from tests.queue.test_steering import run
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1 import job_messages_pb2 as pb
from weft.queue.v1.stats_pb2 import GetStatsRequest


@asynccontextmanager
async def watching(plant: Plant, **fields: Any) -> AsyncIterator[Any]:
    """A watch that has begun: JetStream has its consumer."""

    async def count() -> int:
        info = await plant.lab.bus.js.stream_info("jobs-live")
        return int(info.state.consumer_count)

    before = await count()
    watch = plant.jobs.WatchJobs(pb.WatchJobsRequest(**fields), metadata=plant.who)
    reading = asyncio.ensure_future(watch.read())

    async def begun() -> bool:
        return await count() > before

    await until(begun)
    yield Watch(watch, reading)
    reading.cancel()
    watch.cancel()


class Watch:
    def __init__(self, watch: Any, reading: Any) -> None:
        self._watch, self._reading = watch, reading

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            answer = await self._reading
        self._reading = asyncio.ensure_future(self._watch.read())
        return answer


async def test_a_queue_is_watched_from_now_on(plant: Plant) -> None:
    await plant.create("live")
    async with watching(plant, queue="live") as watch:
        job_id = (await plant.enqueue(queue="live", labels={"a": "b"})).job.envelope.job_id
        first = (await watch.next()).update
        assert (first.job_id, first.state.state, first.labels["a"]) == (
            job_id,
            JobState.JOB_STATE_QUEUED,
            "b",
        )
        await plant.enqueue()
        run(plant, job_id, "live")
        second = (await watch.next()).update
        assert (second.state.state, second.worker) == (JobState.JOB_STATE_RUNNING, "w1")
        await plant.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=plant.who)


async def test_one_job_is_told_first_as_it_stands(plant: Plant) -> None:
    await plant.create("one-job")
    job_id = (await plant.enqueue(queue="one-job")).job.envelope.job_id
    async with watching(plant, job_id=job_id) as watch:
        assert (await watch.next()).update.state.state == JobState.JOB_STATE_QUEUED
        await plant.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=plant.who)
        assert (await watch.next()).update.state.state == JobState.JOB_STATE_CANCELLED


async def test_a_watch_goes_on_where_another_ended(plant: Plant) -> None:
    await plant.create("resume")
    async with watching(plant, queue="resume") as watch:
        await plant.enqueue(queue="resume")
        token = (await watch.next()).resume_token
    missed = [(await plant.enqueue(queue="resume")).job.envelope.job_id for _ in range(3)]
    async with watching(plant, queue="resume", resume_token=token) as watch:
        assert [(await watch.next()).update.job_id for _ in missed] == missed


async def test_filters_by_type_label_and_kind_of_update(plant: Plant) -> None:
    await plant.create("choose")
    async with watching(plant, queue="choose", type="b", labels=["x=1"], states_only=True) as watch:
        await plant.enqueue("a", queue="choose", labels={"x": "1"})
        await plant.enqueue("b", queue="choose", labels={"x": "2"})
        wanted = (await plant.enqueue("b", queue="choose", labels={"x": "1"})).job.envelope.job_id
        assert (await watch.next()).update.job_id == wanted


async def test_tokens_and_jobs_that_are_not_are_refused(plant: Plant) -> None:
    async def first(**fields: Any) -> None:
        await plant.jobs.WatchJobs(pb.WatchJobsRequest(**fields), metadata=plant.who).read()

    assert await refused(first(resume_token="x")) == "RESUME_TOKEN_REFUSED"
    assert await refused(first(resume_token="999999999")) == "RESUME_TOKEN_REFUSED"
    assert await refused(first(job_id=new_id())) == "UNKNOWN_JOB"


async def test_stats_tell_what_waits_and_how_jobs_did(plant: Plant) -> None:
    await plant.create("counted")
    jobs = [(await plant.enqueue("sum", queue="counted")).job.envelope.job_id for _ in range(4)]
    await plant.take("counted")
    await plant.finish(jobs[0])
    await plant.finish(jobs[1], "FAILED")

    async def told() -> Any:
        request = GetStatsRequest(queue="counted")
        (stats,) = (await plant.stats.GetStats(request, metadata=plant.who)).queues
        return stats if stats.enqueue_rate and stats.waiting.medium == 3 else None

    stats = await until(told)
    assert (stats.held, stats.dead_letters) == (1, 1)
    assert stats.oldest_age.ToMilliseconds() > 0
    (of_type,) = stats.types
    assert (of_type.type, of_type.run.count, of_type.wait.count) == ("sum", 2, 2)
    assert 0 < stats.success_rate < 2
    assert stats.run.max.ToMilliseconds() < 1_000
    assert await refused(plant.stats.GetStats(GetStatsRequest(queue="nowhere"), metadata=plant.who)) == (
        "UNKNOWN_QUEUE"
    )
