"""Attempts that ended well, told in columns, are written down as those that are told one by one."""

import time
from typing import Any
from uuid import UUID

import pytest

from services.chassis.jobs.telling import each_of, read
from services.chassis.testing import until
from tests.queue.plant import WORKER, Plant, new_id, report_on
from tests.queue.test_queue_enqueue import refused
from weft.jobs.v1.attempt_pb2 import Successes
from weft.jobs.v1.job_pb2 import Envelope, JobState
from weft.jobs.v1.live_pb2 import Update
from weft.queue.v1 import job_pb2, record_pb2 as pb
from weft.queue.v1.group_pb2 import GetGroupRequest
from weft.queue.v1.spec_pb2 import JobSpec
from weft.queue.v1.stats_pb2 import GetStatsRequest


def columns(envelopes: list[Envelope], **fields: Any) -> Successes:
    first, now = envelopes[0], time.time()
    made = Successes(
        queue=first.queue,
        type=first.type,
        run=first.run,
        attempt=first.attempt,
        group_id=first.group_id,
        unique=first.unique,
        announce=first.announce,
        labels=first.labels,
        job_ids=b"".join(UUID(each.job_id).bytes for each in envelopes),
        due_s=[now - 2] * len(envelopes),
        start_s=[now - 1] * len(envelopes),
        end_s=[now] * len(envelopes),
    )
    made.MergeFrom(Successes(**fields))
    return made


async def report(plant: Plant, *successes: Successes, attempts: Any = (), worker: str = WORKER) -> Any:
    request = pb.ReportAttemptsRequest(worker=worker, attempts=attempts, successes=successes)
    return await plant.records.ReportAttempts(request, metadata=plant.mesh)


async def enqueued(plant: Plant, count: int, **fields: Any) -> list[Envelope]:
    return [(await plant.enqueue(**fields)).job.envelope for _ in range(count)]


async def test_each_job_has_its_end_its_times_and_its_result(plant: Plant) -> None:
    envelopes = await enqueued(plant, 3)
    said = await report(plant, columns(envelopes, results=[b"1", b"", b"3"], result_type="text/plain"))
    assert (list(said.known), list(said.superseded)) == ([], [])
    jobs = [await plant.get(each.job_id) for each in envelopes]
    assert {job.state for job in jobs} == {JobState.JOB_STATE_SUCCEEDED}
    assert [job.result.data for job in jobs] == [b"1", b"", b"3"]
    assert {(job.worker, job.attempt, job.reason) for job in jobs} == {(WORKER, 1, 1)}
    assert all(job.end_time.ToNanoseconds() - job.start_time.ToNanoseconds() > 9e8 for job in jobs)
    request = job_pb2.ListAttemptsRequest(job_id=envelopes[0].job_id)
    (attempt,) = (await plant.jobs.ListAttempts(request, metadata=plant.who)).attempts
    assert (attempt.report.attempt, attempt.report.result.data, attempt.report.type) == (1, b"1", "noop")


async def test_positions_go_on_behind_those_of_single_attempts(plant: Plant) -> None:
    a, b, c, d = await enqueued(plant, 4)
    await plant.report(report_on(b))
    await report(plant, columns([c]))
    said = await report(plant, columns([b, d]), columns([c]), attempts=[report_on(a), report_on(a)])
    assert list(said.known) == [1, 2, 4]
    assert (await plant.get(d.job_id)).state == JobState.JOB_STATE_SUCCEEDED


async def test_a_job_that_is_named_twice_in_columns_ends_once(plant: Plant) -> None:
    (one,) = await enqueued(plant, 1)
    said = await report(plant, columns([one, one]), columns([one]))
    assert list(said.known) == [1, 2]


async def test_columns_of_a_lane_that_others_have_are_superseded_whole(plant: Plant) -> None:
    one, two, three = await enqueued(plant, 3)
    said = await report(plant, columns([one]), columns([two, three], lane=0, lane_epoch=1))
    assert list(said.superseded) == [1, 2]
    assert (await plant.get(two.job_id)).state == JobState.JOB_STATE_QUEUED


async def test_groups_count_them_and_unique_keys_are_free(plant: Plant) -> None:
    group_id = new_id()
    specs = [JobSpec(type="noop", job_id=new_id()) for _ in range(2)]
    await plant.batch(specs, group={"group_id": group_id})
    envelopes = [(await plant.get(spec.job_id)).envelope for spec in specs]
    await report(plant, columns(envelopes))
    group = (await plant.groups.GetGroup(GetGroupRequest(group_id=group_id), metadata=plant.who)).group
    assert (group.succeeded, group.HasField("end_time")) == (2, True)
    first = (await plant.enqueue(unique={"key": "k"})).job.envelope
    await report(plant, columns([first]))
    assert (await plant.enqueue(unique={"key": "k"})).enqueued


async def test_all_of_them_are_told_of_in_one_message(plant: Plant) -> None:
    await plant.create("told")
    heard: list[bytes] = []
    hearing = plant.connection.subscribe("jobs.live.told", lambda came: heard.extend(m.payload for m in came))
    envelopes = await enqueued(plant, 20, queue="told", labels={"a": "b"})
    await report(plant, columns(envelopes))

    def ends() -> list[Update]:
        told = [list(each_of(read(payload))) for payload in heard]
        return [each for updates in told if len(updates) == 20 for each in updates]

    await until(lambda: _soon(len(ends()) == 20))
    assert {each.job_id for each in ends()} == {each.job_id for each in envelopes}
    assert {(each.state.state, each.worker, each.labels["a"]) for each in ends()} == {
        (JobState.JOB_STATE_SUCCEEDED, WORKER, "b")
    }
    hearing.end()


async def test_statistics_count_them_all(plant: Plant) -> None:
    await plant.create("sums")
    await report(plant, columns(await enqueued(plant, 5, queue="sums")))
    answer = await plant.stats.GetStats(GetStatsRequest(queue="sums"), metadata=plant.who)
    (of_type,) = answer.queues[0].types
    assert (of_type.run.count, of_type.wait.count) == (5, 5)
    assert 900 < of_type.run.max.ToMilliseconds() < 1_200


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"job_ids": b"x" * 15}, "successes.job_ids"),
        ({"due_s": [1.0]}, "successes.due_s"),
        ({"start_s": [1.0]}, "successes.start_s"),
        ({"end_s": [1.0]}, "successes.end_s"),
        ({"results": [b"1", b"2"]}, "successes.results"),
    ],
    ids=["ids", "due", "start", "end", "results"],
)
async def test_columns_that_do_not_match_are_refused(plant: Plant, fields: Any, named: str) -> None:
    (one,) = await enqueued(plant, 1)
    made = columns([one])
    for name, value in fields.items():
        if name == "job_ids":
            made.job_ids += value
        else:
            getattr(made, name).extend(value)
    assert await refused(report(plant, made)) == "MISSHAPEN_REPORT"
    assert (await plant.get(one.job_id)).state == JobState.JOB_STATE_QUEUED


async def _soon(value: object) -> object:
    return value
