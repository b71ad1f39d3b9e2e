"""What operators do to jobs: each deed where it is allowed, and its refusal where it is not."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.jobs import subjects
from services.chassis.jobs.telling import told
from services.chassis.testing import until
from services.queue.service import streams
from tests.queue.plant import Plant, as_uuid, envelope_of, new_id, report_on
from tests.queue.test_history import publish
from tests.queue.test_queue_enqueue import refused
from weft.jobs.v1.job_pb2 import EndReason, JobState, Priority
from weft.jobs.v1.live_pb2 import Control, StateChange, Update
from weft.queue.v1 import job_messages_pb2 as pb, queue_pb2, settings_pb2
from weft.queue.v1.record_pb2 import JobRun, LookupJobsRequest
from weft.queue.v1.spec_pb2 import JobSpec


def cancel(plant: Plant, job_id: str) -> Any:
    return plant.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=plant.who)


def retry(plant: Plant, job_id: str) -> Any:
    return plant.jobs.RetryJob(pb.RetryJobRequest(job_id=job_id), metadata=plant.who)


def escalate(plant: Plant, job_id: str) -> Any:
    return plant.jobs.EscalateJob(pb.EscalateJobRequest(job_id=job_id), metadata=plant.who)


def reschedule(plant: Plant, job_id: str, seconds: float) -> Any:
    due = Timestamp()
    due.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    request = pb.RescheduleJobRequest(job_id=job_id, due_time=due)
    return plant.jobs.RescheduleJob(request, metadata=plant.who)


def run(plant: Plant, job_id: str, queue: str, attempt: int = 1) -> None:
    """Says what a worker says when it begins."""
    update = Update(job_id=job_id, run=1, attempt=attempt, queue=queue, worker="w1")
    update.state.CopyFrom(StateChange(state=JobState.JOB_STATE_RUNNING))
    update.time.GetCurrentTime()
    plant.connection.write(told([update]))


async def running(plant: Plant, queue: str) -> str:
    """The id of a job that a worker runs."""
    job_id = str((await plant.enqueue(queue=queue)).job.envelope.job_id)
    await plant.take(queue)
    run(plant, job_id, queue)

    async def seen() -> bool:
        return (await plant.get(job_id)).state == JobState.JOB_STATE_RUNNING

    await until(seen)
    return job_id


async def test_a_queued_job_that_is_cancelled_comes_to_no_worker(plant: Plant) -> None:
    await plant.create("calloff")
    answer = await plant.enqueue(queue="calloff")
    said = await cancel(plant, answer.job.envelope.job_id)
    assert (said.requested, said.job.state) == (False, JobState.JOB_STATE_CANCELLED)
    assert said.job.reason == EndReason.END_REASON_CANCELLED_BY_REQUEST
    assert (await cancel(plant, answer.job.envelope.job_id)).job.state == JobState.JOB_STATE_CANCELLED

    async def gone() -> bool:
        return await plant.depth("calloff") == 0

    await until(gone)  # Its message goes once it is known where it lies.


async def test_a_scheduled_job_that_is_cancelled_never_comes_due(plant: Plant) -> None:
    await plant.create("never")
    job_id = (await plant.enqueue(queue="never", delay=Duration(seconds=60))).job.envelope.job_id
    assert await plant.stream.last(subjects.later("never", job_id))
    assert (await cancel(plant, job_id)).job.state == JobState.JOB_STATE_CANCELLED
    assert await plant.stream.last(subjects.later("never", job_id)) is None


async def test_a_running_job_is_asked_to_end_and_ends_when_its_worker_says_so(plant: Plant) -> None:
    await plant.create("running")
    heard: list[Control] = []
    watch = plant.connection.subscribe(
        subjects.EVERYONE, lambda came: heard.extend(Control.FromString(each.payload) for each in came)
    )
    job_id = await running(plant, "running")
    said = await cancel(plant, job_id)
    assert (said.requested, said.job.state, said.job.cancelling) == (True, JobState.JOB_STATE_RUNNING, True)

    async def told() -> bool:
        return any(each.cancel.job_id == job_id for each in heard)

    await until(told)
    watch.end()
    request = LookupJobsRequest(jobs=[JobRun(job_id=job_id, run=1)])
    (look,) = (await plant.records.LookupJobs(request, metadata=plant.mesh)).jobs
    assert (look.cancel, look.ended) == (True, 0)
    await plant.finish(job_id, "CANCELLED")
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_CANCELLED


async def test_what_ended_otherwise_is_not_cancelled(plant: Plant) -> None:
    job_id = (await plant.enqueue()).job.envelope.job_id
    await plant.finish(job_id)
    assert await refused(cancel(plant, job_id)) == "JOB_ENDED"
    assert await refused(cancel(plant, new_id())) == "UNKNOWN_JOB"


async def test_a_late_report_of_a_cancelled_job_changes_nothing(plant: Plant) -> None:
    await plant.create("toolate")
    envelope = (await plant.enqueue(queue="toolate")).job.envelope
    await cancel(plant, envelope.job_id)
    assert list((await plant.report(report_on(envelope))).known) == [0]
    assert (await plant.get(envelope.job_id)).state == JobState.JOB_STATE_CANCELLED


async def test_a_scheduled_job_is_given_another_time(plant: Plant) -> None:
    await plant.create("sooner")
    job_id = (await plant.enqueue(queue="sooner", delay=Duration(seconds=3600))).job.envelope.job_id
    later = await reschedule(plant, job_id, 1800)
    assert later.job.state == JobState.JOB_STATE_SCHEDULED
    await reschedule(plant, job_id, -1)
    (came,) = await plant.take("sooner")
    assert envelope_of(came).job_id == job_id
    assert await plant.stream.last(subjects.later("sooner", job_id)) is None
    assert await refused(reschedule(plant, job_id, 60)) == "JOB_NOT_WAITING"
    assert await refused(reschedule(plant, job_id, 400 * 86_400)) == "TIME_REFUSED"


async def test_a_failed_job_runs_again_as_its_next_run(plant: Plant) -> None:
    await plant.create("again")
    job_id = (await plant.enqueue(queue="again")).job.envelope.job_id
    await plant.take("again")
    assert await refused(retry(plant, job_id)) == "JOB_NOT_RETRYABLE"
    await plant.finish(job_id, "FAILED")
    said = await retry(plant, job_id)
    assert (said.job.state, said.job.run) == (JobState.JOB_STATE_QUEUED, 2)
    (came,) = await plant.take("again")
    envelope = envelope_of(came)
    assert (envelope.job_id, envelope.run, envelope.attempt) == (job_id, 2, 1)
    await plant.report(report_on(envelope))
    done = await plant.get(job_id)
    assert (done.state, done.run) == (JobState.JOB_STATE_SUCCEEDED, 2)


async def test_a_retry_that_waits_is_due_at_once_when_asked_for(plant: Plant) -> None:
    await plant.create("hurry")
    job_id = (await plant.enqueue(queue="hurry")).job.envelope.job_id
    (came,) = await plant.take("hurry")
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    await plant.report(report_on(envelope_of(came), "RETRYING", next_time=soon))
    waiting = await plant.get(job_id)
    assert (waiting.state, waiting.failure.kind) == (JobState.JOB_STATE_RETRYING, "ValueError")
    await plant.acknowledge([came])
    await retry(plant, job_id)
    (again,) = await plant.take("hurry")
    assert envelope_of(again).job_id == job_id
    assert envelope_of(again).attempt == 2


async def test_an_escalated_job_stands_among_the_high_ones_alone(plant: Plant) -> None:
    await plant.create("climb")
    job_id = (await plant.enqueue(queue="climb", priority=Priority.PRIORITY_LOW)).job.envelope.job_id
    said = await escalate(plant, job_id)
    assert said.job.envelope.priority == Priority.PRIORITY_HIGH
    (came,) = await plant.take("climb", "h")
    assert (envelope_of(came).job_id, envelope_of(came).verify) == (job_id, True)

    async def alone() -> bool:
        return await plant.depth("climb") == 0

    assert await until(alone)


async def test_what_the_server_counts_though_it_is_gone_does_not_wait(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plant.create("taken-back")
    known = streams.info

    async def info(*of: Any) -> Any:
        found = await known(*of)
        for each in found.values():
            each.num_pending = 3
        return found

    monkeypatch.setattr(streams, "info", info)
    assert await plant.depth("taken-back") == 0


async def test_what_cannot_climb_says_why(plant: Plant) -> None:
    await plant.create("ordered", kind=settings_pb2.QUEUE_KIND_FIFO)
    keyed = (await plant.enqueue(queue="ordered", key="k")).job.envelope.job_id
    assert await refused(escalate(plant, keyed)) == "QUEUE_IS_KEYED"
    later = (await plant.enqueue(delay=Duration(seconds=60))).job.envelope.job_id
    assert await refused(escalate(plant, later)) == "JOB_NOT_QUEUED"


async def test_a_job_that_nobody_begins_in_time_expires(plant: Plant) -> None:
    settings = settings_pb2.QueueSettings(queue_timeout=Duration(seconds=1))
    await plant.create("stale", settings=settings)
    job_id = (await plant.enqueue(queue="stale")).job.envelope.job_id

    async def expired() -> bool:
        return (await plant.get(job_id)).state == JobState.JOB_STATE_EXPIRED

    await until(expired)
    assert (await plant.get(job_id)).reason == EndReason.END_REASON_QUEUED_TOO_LONG

    async def gone() -> bool:
        return await plant.depth("stale") == 0

    assert await until(gone)


async def test_a_purge_ends_what_waits_and_leaves_what_runs(plant: Plant) -> None:
    await plant.create("purge")
    busy = await running(plant, "purge")
    waiting = [(await plant.enqueue(queue="purge")).job.envelope.job_id for _ in range(3)]
    said = await plant.queues.PurgeQueue(queue_pb2.PurgeQueueRequest(queue="purge"), metadata=plant.who)
    assert (said.jobs, said.more) == (3, False)
    states = await asyncio.gather(*(plant.get(job_id) for job_id in waiting))
    assert {job.reason for job in states} == {EndReason.END_REASON_PURGED}
    assert (await plant.get(busy)).state == JobState.JOB_STATE_RUNNING
    left = await plant.raw("select from job_final where job_id = $1", as_uuid(busy))
    assert not left


async def test_a_purge_empties_the_stream_and_names_what_is_to_be_looked_up(plant: Plant) -> None:
    await plant.create("emptied")
    waiting = [JobSpec(type="noop", queue="emptied", job_id=new_id()) for _ in range(50)]
    await plant.batch(waiting)
    await publish(plant, JobSpec(type="noop", queue="emptied"))
    later = (await plant.enqueue(queue="emptied", delay=timedelta(hours=1))).job.envelope.job_id

    async def purged() -> bool:
        request = queue_pb2.PurgeQueueRequest(queue="emptied")
        await plant.queues.PurgeQueue(request, metadata=plant.who)
        return await plant.depth("emptied") == 0

    await until(purged)  # The job that came straight into the stream is purged when the record has it.
    (queue,) = await plant.raw("select purged_sequence from queue where queue = 'emptied'")
    assert queue["purged_sequence"] >= 51

    async def gone() -> bool:
        return await plant.stream.last(subjects.later("emptied", later)) is None

    await until(gone)
    came_after = (await plant.enqueue(queue="emptied")).job.envelope.job_id
    (message,) = await plant.take("emptied")
    assert envelope_of(message).job_id == came_after
    assert message.sequence > queue["purged_sequence"]


async def test_what_a_worker_holds_is_purged_from_the_stream_by_nobody(plant: Plant) -> None:
    await plant.create("held")
    busy = await running(plant, "held")
    await plant.enqueue(queue="held")
    await plant.queues.PurgeQueue(queue_pb2.PurgeQueueRequest(queue="held"), metadata=plant.who)
    assert (await plant.get(busy)).state == JobState.JOB_STATE_RUNNING
    kept = await plant.lab.bus.js.stream_info("jobs", subjects_filter=subjects.due("held", "m"))
    assert kept.state.subjects == {subjects.due("held", "m"): 2}


@pytest.mark.parametrize("deed", [cancel, retry, escalate])
async def test_unknown_jobs_are_told(plant: Plant, deed: Any) -> None:
    assert await refused(deed(plant, new_id())) == "UNKNOWN_JOB"
