"""Jobs that wait for jobs: dependencies with each policy, and groups with a job that follows."""

import asyncio
from typing import Any

import pytest

from services.chassis.testing import until
from tests.queue.plant import Plant, envelope_of, new_id, report_on
from tests.queue.test_queue_enqueue import refused
from weft.jobs.v1.job_pb2 import EndReason, JobState
from weft.queue.v1 import group_pb2 as pb, job_messages_pb2 as jobs
from weft.queue.v1.spec_pb2 import Dependencies as After, DependencyPolicy, JobSpec

CANCEL, RUN, WAIT = (
    DependencyPolicy.DEPENDENCY_POLICY_CANCEL,
    DependencyPolicy.DEPENDENCY_POLICY_RUN,
    DependencyPolicy.DEPENDENCY_POLICY_WAIT,
)


async def state(plant: Plant, job_id: str, wanted: int) -> bool:
    async def there() -> bool:
        return (await plant.get(job_id)).state == wanted

    return bool(await until(there))


async def test_a_job_runs_when_those_before_it_have_ended_well(plant: Plant) -> None:
    await plant.create("after")
    first, second = [(await plant.enqueue()).job.envelope.job_id for _ in range(2)]
    waiting = await plant.enqueue(queue="after", after=After(job_ids=[first, second]))
    job_id = waiting.job.envelope.job_id
    assert waiting.job.state == JobState.JOB_STATE_BLOCKED
    assert set(waiting.job.waits_for) == {first, second}
    await plant.finish(first)
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_BLOCKED
    await plant.finish(second)
    (came,) = await plant.take("after")
    assert envelope_of(came).job_id == job_id


async def test_ends_at_the_same_time_free_the_job_that_waits_for_both(plant: Plant) -> None:
    await plant.create("both")
    for _ in range(5):
        before = [(await plant.enqueue()).job.envelope for _ in range(8)]
        ids = [each.job_id for each in before]
        job_id = (await plant.enqueue(queue="both", after=After(job_ids=ids))).job.envelope.job_id
        await asyncio.gather(*(plant.report(report_on(each)) for each in before))
        (came,) = await plant.take("both")
        assert envelope_of(came).job_id == job_id
        await plant.acknowledge([came])


@pytest.mark.parametrize(
    ("policy", "ends"),
    [(CANCEL, JobState.JOB_STATE_CANCELLED), (RUN, JobState.JOB_STATE_QUEUED), (WAIT, 1)],
)
async def test_what_a_failure_does_to_those_behind_is_declared(
    plant: Plant, policy: DependencyPolicy.ValueType, ends: int
) -> None:
    before = (await plant.enqueue()).job.envelope.job_id
    after = After(job_ids=[before], on_failure=policy)
    job_id = (await plant.enqueue(after=after)).job.envelope.job_id
    behind = (await plant.enqueue(after=After(job_ids=[job_id]))).job.envelope.job_id
    await plant.finish(before, "FAILED")
    assert await state(plant, job_id, ends)
    if policy == CANCEL:
        assert (await plant.get(job_id)).reason == EndReason.END_REASON_DEPENDENCY_FAILED
        assert await state(plant, behind, JobState.JOB_STATE_CANCELLED)
    if policy == WAIT:
        await plant.jobs.RetryJob(jobs.RetryJobRequest(job_id=before), metadata=plant.who)
        await plant.finish(before)
        assert await state(plant, job_id, JobState.JOB_STATE_QUEUED)


async def test_a_job_behind_one_that_has_ended_does_not_wait(plant: Plant) -> None:
    done = (await plant.enqueue()).job.envelope.job_id
    await plant.finish(done)
    assert (await plant.enqueue(after=After(job_ids=[done]))).job.state == JobState.JOB_STATE_QUEUED
    failed = (await plant.enqueue()).job.envelope.job_id
    await plant.finish(failed, "FAILED")
    vain = (await plant.enqueue(after=After(job_ids=[failed]))).job.envelope.job_id
    assert await state(plant, vain, JobState.JOB_STATE_CANCELLED)


async def test_a_dependency_written_while_the_other_ended_is_seen_by_the_sweep(plant: Plant) -> None:
    done = (await plant.enqueue()).job.envelope.job_id
    job_id = (await plant.enqueue(after=After(job_ids=[done]))).job.envelope.job_id
    # As if the end had been written by a transaction that could not see the dependency.
    await plant.raw(
        "insert into job_final (job_id, run, state, reason, queue, type, attempt, worker, end_at) "
        "values ($1, 1, 6, 1, 'default', 'noop', 1, 'w1', now())",
        done,
    )
    assert await state(plant, job_id, JobState.JOB_STATE_QUEUED)


async def test_a_blocked_job_can_be_cancelled(plant: Plant) -> None:
    before = (await plant.enqueue()).job.envelope.job_id
    job_id = (await plant.enqueue(after=After(job_ids=[before]))).job.envelope.job_id
    await plant.jobs.CancelJob(jobs.CancelJobRequest(job_id=job_id), metadata=plant.who)
    await plant.finish(before)
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_CANCELLED


def group(plant: Plant, group_id: str) -> Any:
    return plant.groups.GetGroup(pb.GetGroupRequest(group_id=group_id), metadata=plant.who)


def close(plant: Plant, group_id: str, count: int) -> Any:
    request = pb.CloseGroupRequest(group_id=group_id, jobs=count)
    return plant.groups.CloseGroup(request, metadata=plant.who)


async def test_a_batch_that_has_ended_is_followed_by_its_callback(plant: Plant) -> None:
    await plant.create("calls")
    made = pb.NewGroup(group_id=new_id(), callback=JobSpec(type="sum", queue="calls", labels={"a": "b"}))
    answer = await plant.batch([JobSpec(type="noop") for _ in range(6)], group=made)
    outcomes = ["SUCCEEDED"] * 3 + ["FAILED", "CANCELLED", "EXPIRED"]
    reports = zip(answer.job_ids, outcomes, strict=True)
    await asyncio.gather(*(plant.finish(job_id, outcome) for job_id, outcome in reports))
    found = (await group(plant, made.group_id)).group
    assert (found.jobs, found.succeeded, found.failed, found.cancelled, found.expired) == (6, 3, 1, 1, 1)
    assert found.HasField("end_time")
    (came,) = await plant.take("calls")
    envelope = envelope_of(came)
    assert (envelope.job_id, envelope.type) == (found.callback_job_id, "sum")
    assert dict(envelope.labels) | {"a": "b", "group.succeeded": "3", "group.failed": "1"} == envelope.labels


async def test_an_open_group_ends_when_it_is_closed_and_all_have_ended(plant: Plant) -> None:
    made = pb.NewGroup(group_id=new_id())
    await plant.groups.OpenGroup(pb.OpenGroupRequest(group=made), metadata=plant.who)
    await plant.groups.OpenGroup(pb.OpenGroupRequest(group=made), metadata=plant.who)
    first, second = [(await plant.enqueue(group_id=made.group_id)).job.envelope.job_id for _ in range(2)]
    await plant.finish(first)
    assert not (await close(plant, made.group_id, 2)).group.HasField("end_time")
    assert await refused(plant.enqueue(group_id=made.group_id)) == "GROUP_CLOSED"
    await plant.finish(second)
    assert (await group(plant, made.group_id)).group.HasField("end_time")
    assert (await close(plant, made.group_id, 2)).group.closed
    assert await refused(close(plant, made.group_id, 3)) == "GROUP_CLOSED"
    assert await refused(close(plant, new_id(), 3)) == "UNKNOWN_GROUP"


async def test_a_group_id_names_one_group(plant: Plant) -> None:
    made = pb.NewGroup(group_id=new_id())
    await plant.groups.OpenGroup(pb.OpenGroupRequest(group=made), metadata=plant.who)
    other = pb.NewGroup(group_id=made.group_id, callback=JobSpec(type="sum"))
    call = plant.groups.OpenGroup(pb.OpenGroupRequest(group=other), metadata=plant.who)
    assert await refused(call) == "GROUP_ID_REUSED"


async def test_a_repeated_batch_is_the_same_group_and_the_same_jobs(plant: Plant) -> None:
    made = pb.NewGroup(group_id=new_id())
    specs = [JobSpec(job_id=new_id(), type="noop") for _ in range(3)]
    await plant.batch(specs, group=made)
    again = await plant.batch(specs, group=made)
    assert (again.enqueued, list(again.skipped)) == (0, [0, 1, 2])
    assert (await group(plant, made.group_id)).group.jobs == 3
