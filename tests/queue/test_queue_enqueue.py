"""Jobs on their way in: recorded, published once, answered as they stand; each refusal by its name."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.testing import broken_fields, reason, until
from tests.queue.plant import Plant, as_uuid, envelope_of, new_id
from weft.jobs.v1.job_pb2 import JobState, Payload, Priority
from weft.queue.v1 import job_messages_pb2 as pb, spec_pb2
from weft.queue.v1.spec_pb2 import Dependencies, JobSpec, Unique


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason(caught.value)


async def test_a_job_that_was_answered_waits_for_a_worker(plant: Plant) -> None:
    await plant.create("arrive")
    answer = await plant.enqueue("mail.send", queue="arrive", key="k", labels={"tenant": "acme"})
    assert answer.enqueued
    assert answer.job.state == JobState.JOB_STATE_QUEUED
    (came,) = await plant.take("arrive")
    envelope = envelope_of(came)
    assert (envelope.job_id, envelope.type) == (answer.job.envelope.job_id, "mail.send")
    assert envelope.retry.attempts_max == 5
    assert envelope.execution_timeout.seconds == 900
    assert envelope.labels["tenant"] == "acme"


async def test_the_same_id_makes_one_job(plant: Plant) -> None:
    job_id = new_id()
    first, second = await plant.enqueue(job_id=job_id), await plant.enqueue(job_id=job_id)
    assert (first.enqueued, second.enqueued) == (True, False)
    assert second.job.envelope.job_id == job_id


async def test_sixty_four_callers_with_one_id_make_one_job(plant: Plant) -> None:
    await plant.create("sameid")
    job_id = new_id()
    answers = await asyncio.gather(*(plant.enqueue(job_id=job_id, queue="sameid") for _ in range(64)))
    assert sum(answer.enqueued for answer in answers) == 1
    assert len(await plant.raw("select from job where job_id = $1", as_uuid(job_id))) == 1


@pytest.mark.parametrize(("priority", "place"), [("HIGH", "h"), ("MEDIUM", "m"), ("LOW", "l")])
async def test_each_priority_has_a_place_of_its_own(plant: Plant, priority: str, place: str) -> None:
    queue = f"prio-{place}"
    await plant.create(queue)
    answer = await plant.enqueue(queue=queue, priority=Priority.Value(f"PRIORITY_{priority}"))
    (came,) = await plant.take(queue, place)
    assert envelope_of(came).job_id == answer.job.envelope.job_id


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_a_batch_is_there_whole_and_in_order(plant: Plant, count: int) -> None:
    queue = f"bulk-{count}"
    await plant.create(queue)
    specs = [JobSpec(job_id=new_id(), type="noop", queue=queue) for _ in range(count)]
    answer = await plant.batch(specs)
    assert answer.enqueued == count
    assert list(answer.job_ids) == [spec.job_id for spec in specs]
    came = await plant.take(queue, count=count)
    assert [envelope_of(each).job_id for each in came] == [spec.job_id for spec in specs]


async def test_more_than_ten_thousand_at_once_are_refused(plant: Plant) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plant.batch([JobSpec(type="noop")] * 10_001)
    assert "jobs" in broken_fields(caught.value)


async def test_a_batch_with_one_bad_job_leaves_nothing(plant: Plant) -> None:
    good = JobSpec(job_id=new_id(), type="noop")
    assert await refused(plant.batch([good, JobSpec(type="noop", queue="nowhere")])) == "UNKNOWN_QUEUE"
    lost = JobSpec(type="noop", after=Dependencies(job_ids=[new_id()]))
    assert await refused(plant.batch([good, lost])) == "UNKNOWN_DEPENDENCY"
    assert not await plant.raw("select from job where job_id = $1", as_uuid(good.job_id))


async def test_a_stream_of_batches_is_counted(plant: Plant) -> None:
    async def requests() -> Any:
        for _ in range(3):
            yield pb.EnqueueStreamRequest(jobs=[JobSpec(type="noop") for _ in range(100)])

    answer = await plant.jobs.EnqueueStream(requests(), metadata=plant.who)
    assert (answer.jobs, answer.enqueued) == (300, 300)


async def test_a_delayed_job_comes_when_it_is_due(plant: Plant) -> None:
    await plant.create("later")
    answer = await plant.enqueue(queue="later", delay=Duration(seconds=1))
    assert answer.job.state == JobState.JOB_STATE_SCHEDULED
    due = answer.job.due_time.ToDatetime(tzinfo=UTC)
    (came,) = await plant.take("later")
    assert envelope_of(came).job_id == answer.job.envelope.job_id
    assert datetime.now(UTC) >= due
    assert (await plant.get(answer.job.envelope.job_id)).state == JobState.JOB_STATE_QUEUED


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"queue": "nowhere"}, "UNKNOWN_QUEUE"),
        ({"job_id": "0192f0c0-0000-7000-8000-000000000000"}, "UNTIMELY_JOB_ID"),
        ({"job_id": "9b8f5c9e-3f1c-4f7a-9d4e-111111111111"}, "UNTIMELY_JOB_ID"),
        ({"after": Dependencies(job_ids=["0192f0c0-0000-7000-8000-000000000000"])}, "UNKNOWN_DEPENDENCY"),
        ({"group_id": "0192f0c0-0000-7000-8000-000000000000"}, "UNKNOWN_GROUP"),
    ],
)
async def test_what_cannot_be_taken_in_is_refused(plant: Plant, fields: dict[str, Any], why: str) -> None:
    assert await refused(plant.enqueue(**fields)) == why


async def test_times_too_far_ahead_are_refused(plant: Plant) -> None:
    spec = JobSpec(type="noop")
    spec.due_time.FromDatetime(datetime.now(UTC) + timedelta(days=400))
    assert await refused(plant.jobs.EnqueueJob(pb.EnqueueJobRequest(job=spec), metadata=plant.who)) == (
        "TIME_REFUSED"
    )


async def test_a_job_larger_than_a_message_is_refused(plant: Plant) -> None:
    payload = Payload(data=b"x" * 786_432, metadata={f"m{n}": "y" * 1_024 for n in range(32)})
    spec = JobSpec(type="noop", payload=payload, labels={f"l{n}": "z" * 200 for n in range(32)})
    spec.retry.not_retried_errors.extend("e" * 199 + chr(65 + n % 26) for n in range(50))
    assert (await plant.jobs.EnqueueJob(pb.EnqueueJobRequest(job=spec), metadata=plant.who)).enqueued
    spec.payload.data += b"x"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plant.jobs.EnqueueJob(pb.EnqueueJobRequest(job=spec), metadata=plant.who)
    assert "job.payload.data" in broken_fields(caught.value)


async def test_a_draining_queue_takes_nothing_in(plant: Plant) -> None:
    await plant.create("full")
    await plant.drain("full")
    assert await refused(plant.enqueue(queue="full")) == "QUEUE_DRAINING"
    await plant.resume("full")
    assert (await plant.enqueue(queue="full")).enqueued


async def test_of_sixty_four_callers_one_gets_the_unique_key(plant: Plant) -> None:
    await plant.create("once")
    unique = Unique(key="a", policy=spec_pb2.UNIQUE_POLICY_KEEP)
    answers = await asyncio.gather(*(plant.enqueue(queue="once", unique=unique) for _ in range(64)))
    assert sum(answer.enqueued for answer in answers) == 1
    assert len({answer.job.envelope.job_id for answer in answers}) == 1
    assert len(await plant.raw("select from job where queue = 'once'")) == 1


async def test_a_unique_key_is_free_when_its_job_has_ended(plant: Plant) -> None:
    await plant.create("ended")
    unique = Unique(key="a", policy=spec_pb2.UNIQUE_POLICY_REJECT)
    first = await plant.enqueue(queue="ended", unique=unique)
    assert await refused(plant.enqueue(queue="ended", unique=unique)) == "UNIQUE_KEY_TAKEN"
    assert (await plant.enqueue("other", queue="ended", unique=unique)).enqueued
    await plant.finish(first.job.envelope.job_id)
    assert (await plant.enqueue(queue="ended", unique=unique)).enqueued


async def test_a_unique_window_outlives_its_job_and_ends(plant: Plant) -> None:
    await plant.create("window")
    unique = Unique(key="a", window=Duration(seconds=1))
    first = await plant.enqueue(queue="window", unique=unique)
    await plant.finish(first.job.envelope.job_id)
    kept = await plant.enqueue(queue="window", unique=unique)
    assert (kept.enqueued, kept.job.envelope.job_id) == (False, first.job.envelope.job_id)

    async def again() -> bool:
        return bool((await plant.enqueue(queue="window", unique=unique)).enqueued)

    assert await until(again)


async def test_replacing_calls_the_other_off_and_takes_its_message_away(plant: Plant) -> None:
    await plant.create("newest")
    unique = Unique(key="a", policy=spec_pb2.UNIQUE_POLICY_REPLACE)
    old = await plant.enqueue(queue="newest", unique=unique)
    new = await plant.enqueue(queue="newest", unique=unique)
    assert new.enqueued
    gone = await plant.get(old.job.envelope.job_id)
    assert (gone.state, gone.reason) == (JobState.JOB_STATE_CANCELLED, 17)

    async def one_left() -> bool:
        return await plant.depth("newest") == 1

    assert await until(one_left)
    (came,) = await plant.take("newest")
    assert envelope_of(came).job_id == new.job.envelope.job_id


async def test_a_batch_skips_what_is_taken_and_says_which(plant: Plant) -> None:
    await plant.create("skips")
    unique = Unique(key="a", policy=spec_pb2.UNIQUE_POLICY_REJECT)
    specs = [JobSpec(job_id=new_id(), type="noop", queue="skips", unique=unique) for _ in range(3)]
    specs.append(JobSpec(job_id=new_id(), type="noop", queue="skips"))
    answer = await plant.batch(specs)
    assert (answer.enqueued, list(answer.skipped)) == (2, [1, 2])
    assert list(answer.job_ids) == [specs[0].job_id] * 3 + [specs[3].job_id]


@pytest.mark.parametrize("field", ["key", "labels"])
async def test_control_characters_are_named(plant: Plant, field: str) -> None:
    value: Any = "a\0b" if field == "key" else {"tenant": "a\0b"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plant.enqueue(**{field: value})
    assert any(name.startswith(f"job.{field}") for name in broken_fields(caught.value))


async def test_who_has_no_permission_enqueues_nothing(plant: Plant) -> None:
    request = pb.EnqueueJobRequest(job=JobSpec(type="noop"))
    anyone = plant.lab.bearer(scope="queue.jobs.read")
    assert await refused(plant.jobs.EnqueueJob(request, metadata=anyone)) == "NOT_PERMITTED"
