"""What workers tell and ask: the first report counts, leases exclude, checkpoints only go on."""

import asyncio
from typing import Any

import pytest

from services.chassis.testing import until
from tests.queue.plant import Plant, envelope_of, new_id, report_on
from tests.queue.test_queue_enqueue import refused
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import JobState, Payload
from weft.queue.v1 import job_messages_pb2 as jobs, job_pb2, record_pb2 as pb, settings_pb2


async def test_a_job_that_was_run_is_told_with_its_result(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    result = Payload(data=b"42", content_type="application/json")
    said = await plant.report(report_on(envelope, result=result, log=[LogLine(message="done")]))
    assert (list(said.known), list(said.superseded)) == ([], [])
    job = await plant.get(envelope.job_id)
    assert (job.state, job.result.data, job.worker) == (JobState.JOB_STATE_SUCCEEDED, b"42", "w1")
    assert job.HasField("start_time")


async def test_a_run_ends_once_by_the_first_report(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    await plant.report(report_on(envelope))
    second = await plant.report(report_on(envelope, "FAILED"), worker="w2")
    assert list(second.known) == [0]
    job = await plant.get(envelope.job_id)
    assert (job.state, job.worker) == (JobState.JOB_STATE_SUCCEEDED, "w1")


async def test_sixty_four_reports_of_one_run_are_one_end(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    reports = (plant.report(report_on(envelope), worker=f"w{n}") for n in range(64))
    answers = await asyncio.gather(*reports)
    assert sum(not answer.known for answer in answers) == 1


async def test_hundreds_in_one_report_with_a_repeat_among_them(plant: Plant) -> None:
    envelopes = [(await plant.enqueue()).job.envelope for _ in range(5)]
    reports = [report_on(each) for each in envelopes]
    said = await plant.report(*reports, reports[2])
    assert list(said.known) == [5]


async def test_a_job_that_the_record_has_not_heard_of_ends_all_the_same(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    envelope.job_id = new_id()
    await plant.report(report_on(envelope))
    request = pb.LookupJobsRequest(jobs=[pb.JobRun(job_id=envelope.job_id, run=1)])
    (found,) = (await plant.records.LookupJobs(request, metadata=plant.mesh)).jobs
    assert found.ended == JobState.JOB_STATE_SUCCEEDED


async def test_attempts_are_told_in_order_with_their_errors(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    await plant.report(report_on(envelope, "RETRYING"))
    envelope.attempt = 2
    await plant.report(report_on(envelope, "RELEASED"))
    await plant.report(report_on(envelope))
    request = job_pb2.ListAttemptsRequest(job_id=envelope.job_id)
    told = (await plant.jobs.ListAttempts(request, metadata=plant.who)).attempts
    assert [(each.report.attempt, each.report.outcome) for each in told] == [(1, 2), (2, 6), (2, 1)]
    assert told[0].report.failure.trace == "line 7"
    unknown = job_pb2.ListAttemptsRequest(job_id=new_id())
    assert await refused(plant.jobs.ListAttempts(unknown, metadata=plant.who)) == "UNKNOWN_JOB"


async def test_lookups_answer_in_the_order_in_which_they_ask(plant: Plant) -> None:
    done, waiting = (await plant.enqueue()).job.envelope, (await plant.enqueue()).job.envelope
    await plant.report(report_on(done))
    runs = [(waiting.job_id, 1), (done.job_id, 1), (done.job_id, 2), (new_id(), 1)]
    request = pb.LookupJobsRequest(jobs=[pb.JobRun(job_id=job_id, run=run) for job_id, run in runs])
    found = (await plant.records.LookupJobs(request, metadata=plant.mesh)).jobs
    assert [each.ended for each in found] == [0, 6, 0, 0]


async def test_only_the_mesh_reports(plant: Plant) -> None:
    request = pb.ReportAttemptsRequest(worker="w1")
    assert await refused(plant.records.ReportAttempts(request, metadata=plant.who)) == "MESH_ONLY"


def checkpoint(plant: Plant, job_id: str, attempt: int, step: int, state: bytes) -> Any:
    request = pb.SaveCheckpointRequest(job_id=job_id, run=1, attempt=attempt, step=step, state=state)
    return plant.records.SaveCheckpoint(request, metadata=plant.mesh)


async def test_a_checkpoint_is_there_for_the_next_attempt_and_gone_at_the_end(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    get = pb.GetCheckpointRequest(job_id=envelope.job_id, run=1)
    await checkpoint(plant, envelope.job_id, 1, 1, b"a")
    await checkpoint(plant, envelope.job_id, 1, 3, b"c")
    await checkpoint(plant, envelope.job_id, 1, 2, b"b")
    kept = (await plant.records.GetCheckpoint(get, metadata=plant.mesh)).checkpoint
    assert (kept.state, kept.step) == (b"c", 3)
    looks = pb.LookupJobsRequest(jobs=[pb.JobRun(job_id=envelope.job_id, run=run) for run in (1, 2)])
    found = (await plant.records.LookupJobs(looks, metadata=plant.mesh)).jobs
    assert [each.checkpoint for each in found] == [True, False]
    await checkpoint(plant, envelope.job_id, 2, 1, b"d")
    assert await refused(checkpoint(plant, envelope.job_id, 1, 9, b"late")) == "ATTEMPT_SUPERSEDED"
    await plant.report(report_on(envelope))
    assert not (await plant.records.GetCheckpoint(get, metadata=plant.mesh)).HasField("checkpoint")


def lanes(plant: Plant, worker: str, queue: str, **fields: Any) -> Any:
    request = pb.LeaseLanesRequest(worker=worker, queue=queue, **fields)
    return plant.records.LeaseLanes(request, metadata=plant.mesh)


async def fifo(plant: Plant, queue: str, count: int = 4) -> None:
    settings = settings_pb2.QueueSettings(lanes=count)
    await plant.create(queue, kind=settings_pb2.QUEUE_KIND_FIFO, settings=settings)


async def test_lanes_are_shared_out_evenly_and_never_owned_twice(plant: Plant) -> None:
    await fifo(plant, "lanes")
    first = await lanes(plant, "a", "lanes")
    assert len(first.lanes) == 4
    assert not (await lanes(plant, "b", "lanes")).lanes
    told = await lanes(plant, "a", "lanes")
    assert len(told.give_up) == 2
    kept = await lanes(plant, "a", "lanes", given_up=told.give_up)
    second = await lanes(plant, "b", "lanes")
    owned = [each.lane for each in (*kept.lanes, *second.lanes)]
    assert sorted(owned) == [0, 1, 2, 3]
    assert len(kept.lanes) == len(second.lanes) == 2
    assert {each.epoch for each in second.lanes} == {2}


async def test_a_report_under_an_old_epoch_is_superseded(plant: Plant) -> None:
    await fifo(plant, "fenced", 1)
    (lane,) = (await lanes(plant, "a", "fenced")).lanes
    job_id = (await plant.enqueue(queue="fenced", key="k")).job.envelope.job_id
    (came,) = await plant.take("fenced", "k0")
    report = report_on(envelope_of(came), lane=lane.lane, lane_epoch=lane.epoch)
    await plant.records.ForgetWorker(pb.ForgetWorkerRequest(worker="a"), metadata=plant.mesh)
    (taken,) = (await lanes(plant, "b", "fenced")).lanes
    assert taken.epoch > lane.epoch
    assert list((await plant.report(report, worker="a")).superseded) == [0]
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_QUEUED
    report.lane_epoch = taken.epoch
    assert not (await plant.report(report, worker="b")).superseded
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_SUCCEEDED


async def test_sixty_four_workers_at_once_own_each_lane_once(plant: Plant) -> None:
    await fifo(plant, "crowd", 16)
    answers = await asyncio.gather(*(lanes(plant, f"w{n}", "crowd") for n in range(64)))
    owned = [each.lane for answer in answers for each in answer.lanes]
    assert len(owned) == len(set(owned))


def tokens(plant: Plant, worker: str, queue: str, **fields: Any) -> Any:
    request = pb.LeaseTokensRequest(worker=worker, queue=queue, **fields)
    return plant.records.LeaseTokens(request, metadata=plant.mesh)


async def test_starts_are_given_by_the_rate_and_then_come_with_time(plant: Plant) -> None:
    settings = settings_pb2.QueueSettings(rate=settings_pb2.StartRate(starts=10, burst=20))
    await plant.create("rated", settings=settings)
    answers = await asyncio.gather(*(tokens(plant, f"w{n}", "rated", starts=5) for n in range(8)))
    assert 20 <= sum(answer.starts for answer in answers) <= 24
    short = [answer for answer in answers if answer.starts < 5]
    assert short
    assert all(0 < answer.wait.ToMilliseconds() <= 100 for answer in short)

    async def more() -> bool:
        return bool((await tokens(plant, "w0", "rated", starts=1)).starts)

    assert await until(more)


async def test_slots_are_never_more_than_the_limit_and_come_back(plant: Plant) -> None:
    limits = settings_pb2.Concurrency(queue=10, by_type={"heavy": 2})
    await plant.create("slots", settings=settings_pb2.QueueSettings(concurrency=limits))
    asked = [pb.Slots(count=4), pb.Slots(type="heavy", count=2), pb.Slots(type="light", count=7)]
    answers = await asyncio.gather(*(tokens(plant, f"w{n}", "slots", slots=asked) for n in range(8)))
    given = [{each.type: each.count for each in answer.slots} for answer in answers]
    assert sum(each[""] for each in given) == 10
    assert sum(each["heavy"] for each in given) == 2
    assert {each["light"] for each in given} == {7}
    rich = next(n for n, each in enumerate(given) if each["heavy"] == 2)
    await tokens(plant, f"w{rich}", "slots", slots=[pb.Slots(type="heavy", count=0)])
    (freed,) = (await tokens(plant, "late", "slots", slots=[pb.Slots(type="heavy", count=1)])).slots
    assert freed.count == 1


async def test_workers_hear_of_queues_and_of_changes(plant: Plant) -> None:
    watch = plant.records.WatchQueues(pb.WatchQueuesRequest(), metadata=plant.mesh)
    assert "default" in {each.queue for each in (await watch.read()).queues}
    await plant.create("heard")
    async with asyncio.timeout(5):
        while "heard" not in {each.queue for each in (await watch.read()).queues}:
            pass
    watch.cancel()


@pytest.mark.parametrize("call", [lanes, tokens])
async def test_unknown_queues_are_told(plant: Plant, call: Any) -> None:
    assert await refused(call(plant, "w1", "nowhere")) == "UNKNOWN_QUEUE"


async def test_one_odd_report_holds_up_no_other(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    odd, dirty = report_on(envelope, job_id="no id"), report_on(envelope, job_id=new_id(), type="a\0b")
    said = await plant.report(odd, dirty, report_on(envelope))
    assert list(said.known) == [0]
    assert (await plant.get(envelope.job_id)).state == JobState.JOB_STATE_SUCCEEDED


async def test_what_is_too_long_is_cut_and_a_huge_result_left_out(plant: Plant) -> None:
    envelope = (await plant.enqueue()).job.envelope
    report = report_on(envelope, "FAILED", result=Payload(data=b"x" * 300_000))
    report.failure.message, report.failure.trace = "m" * 9_000, "t" * 90_000
    await plant.report(report)
    job = await plant.get(envelope.job_id)
    assert (len(job.failure.message), len(job.failure.trace)) == (4_000, 16_000)
    assert not job.HasField("result")
    assert isinstance(job, jobs.Job)
