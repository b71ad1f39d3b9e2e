"""What a crash leaves at each point: nothing is lost, and nothing is there twice."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from services.chassis.jetstream import acks
from services.chassis.testing import laboratory, until
from services.queue.app import build
from tests.queue.plant import Plant, as_uuid, envelope_of, report_on
from tests.queue.test_history import publish, recorded
from tests.queue.test_job_lists import age
from tests.servers import Server, Shared, start_nats, start_postgres
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1.record_pb2 import JobRun, LookupJobsRequest
from weft.queue.v1.spec_pb2 import JobSpec

QUICK = {"WEFT_QUEUE_PUBLISH_S": "0.2", "WEFT_QUEUE_RECONCILE_S": "0.3", "WEFT_QUEUE_AUDIT_S": "0.5"}


@asynccontextmanager
async def plant_on(postgres_url: str, nats_url: str) -> AsyncIterator[Plant]:
    builds: Any = {"queue": partial(build, environ=QUICK)}
    async with (
        laboratory(builds, postgres_url=postgres_url, nats_url=nats_url) as lab,
        Plant.of(lab) as plant,
    ):
        yield plant


async def forget_publication(plant: Plant, job_id: str, seconds: int) -> None:
    """As if the queue had been killed before it noted that the job was published."""
    sql = "update placement set sequence = null, at = now() - make_interval(secs => $2) where job_id = $1"
    await plant.raw(sql, as_uuid(job_id), seconds)


async def noted(plant: Plant, job_id: str) -> int:
    async def there() -> Any:
        (row,) = await plant.raw("select sequence from placement where job_id = $1", as_uuid(job_id))
        return row["sequence"]

    return int(await until(there))


async def test_killed_before_publishing_the_job_is_published_by_another(plant: Plant) -> None:
    await plant.create("before")
    job_id = (await plant.enqueue(queue="before")).job.envelope.job_id
    first = await noted(plant, job_id)
    await plant.stream.delete(first)
    # JetStream remembers the id for two minutes: the message must look as if it had never been.
    await plant.raw("insert into steering (job_id, moves) values ($1, 7)", as_uuid(job_id))
    await forget_publication(plant, job_id, 10)
    assert await noted(plant, job_id) > first
    (came,) = await plant.take("before")
    assert envelope_of(came).job_id == job_id


async def test_killed_after_publishing_nothing_is_there_twice(plant: Plant) -> None:
    await plant.create("behind")
    job_id = (await plant.enqueue(queue="behind")).job.envelope.job_id
    first = await noted(plant, job_id)
    await forget_publication(plant, job_id, 90)
    assert await noted(plant, job_id) == first
    assert await plant.depth("behind") == 1


async def test_what_was_reported_and_comes_again_is_known_to_have_ended(plant: Plant) -> None:
    await plant.create("unacked")
    job_id = (await plant.enqueue(queue="unacked")).job.envelope.job_id
    (came,) = await plant.take("unacked")
    await plant.report(report_on(envelope_of(came)))
    await acks.confirm(plant.connection, [came.reply], acks.NAK)
    (again,) = await plant.take("unacked")
    assert (envelope_of(again).job_id, again.deliveries) == (job_id, 2)
    request = LookupJobsRequest(jobs=[JobRun(job_id=job_id, run=1)])
    (found,) = (await plant.records.LookupJobs(request, metadata=plant.mesh)).jobs
    assert found.ended == JobState.JOB_STATE_SUCCEEDED
    assert list((await plant.report(report_on(envelope_of(again)))).known) == [0]


async def test_a_message_that_jetstream_lost_is_published_anew(servers: Shared) -> None:
    async with plant_on(servers.postgres(), servers.account()) as plant:
        lost, kept, done = [(await plant.enqueue()).job.envelope.job_id for _ in range(3)]
        sequences = [await noted(plant, job_id) for job_id in (lost, kept, done)]
        await plant.finish(done)
        await plant.stream.delete(sequences[0])
        await plant.stream.delete(sequences[2])
        await age(plant)
        came = await plant.take(count=2)
        assert [envelope_of(each).job_id for each in came] == [kept, lost]
        assert envelope_of(came[1]).verify
        assert await plant.depth("default") == 0


async def test_while_nats_is_dead_jobs_are_taken_in_and_come_out_once_it_is_back(
    servers: Shared, tmp_path: Path
) -> None:
    nats = start_nats(tmp_path / "nats")
    port = int(nats.url.rpartition(":")[2])
    back: Server | None = None
    try:
        async with plant_on(servers.postgres(), nats.url) as plant:
            before = (await plant.enqueue()).job.envelope.job_id
            nats.kill()
            answers = await asyncio.gather(*(plant.enqueue() for _ in range(64)))
            assert all(answer.enqueued for answer in answers)
            back = start_nats(tmp_path / "nats", port)
            came = await plant.take(count=65, wait_s=20)
            wanted = {before, *(answer.job.envelope.job_id for answer in answers)}
            assert {envelope_of(each).job_id for each in came} == wanted
            assert len(came) == 65
    finally:
        if back:
            back.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that PostgreSQL may enter, which does not run as root."""
    with tempfile.TemporaryDirectory(prefix="weft-queue-", dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made) / "postgres"


async def test_while_postgres_is_dead_callers_are_told_and_fast_jobs_go_on(
    servers: Shared, folder: Path
) -> None:
    postgres, failures = start_postgres(folder), list[Exception]()
    # The laboratory's own connection dies, too: in the end it cannot drop its database.
    with suppress(asyncpg.InterfaceError):
        async with plant_on(postgres.url, servers.account()) as plant:
            try:
                postgres = await without_postgres(plant, postgres, folder)
            except Exception as failure:
                failures.append(failure)
    postgres.kill()
    assert failures == []


async def without_postgres(plant: Plant, postgres: Server, folder: Path) -> Server:
    """Returns the server that took its place."""
    await plant.enqueue()
    await plant.raw("checkpoint")  # This server does not wait for its disk, and the day has tables.
    postgres.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plant.enqueue()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE, caught.value.details()
    (job_id,) = await publish(plant, JobSpec(type="noop"))
    again = start_postgres(folder)

    async def answered() -> bool:
        try:
            return bool((await plant.enqueue()).enqueued)
        except grpc.aio.AioRpcError:
            return False

    assert await until(answered, 40)
    assert await recorded(plant, job_id)
    # What was refused has left nothing. The first may be gone: this server does not wait for its disk.
    rows = await plant.raw("select count(*) as jobs from job")
    assert rows[0]["jobs"] in (2, 3)
    return again
