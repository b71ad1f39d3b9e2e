"""What runs is known from what workers tell; an attempt whose worker is gone is written down as lost."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from services.chassis.clock import Clock
from services.chassis.jobs.telling import told
from services.chassis.testing import until
from services.queue.domain.histogram import BINS, bin_of, count
from services.queue.service.running import Running
from services.queue.service.wire import Wire
from tests.queue.plant import WORKER, Plant, new_id, report_on
from tests.queue.test_steering import run, running
from weft.jobs.v1.job_pb2 import EndReason, JobState
from weft.jobs.v1.live_pb2 import Progress, Same, StateChange, Update
from weft.queue.v1 import job_messages_pb2 as jobs, job_pb2, record_pb2 as pb


async def look_up(plant: Plant, job_id: str, worker: str = "w2", *, again: bool = True) -> pb.Lookup:
    request = pb.LookupJobsRequest(worker=worker, jobs=[pb.JobRun(job_id=job_id, run=1, again=again)])
    return (await plant.records.LookupJobs(request, metadata=plant.mesh)).jobs[0]  # type: ignore[no-any-return]


async def attempts(plant: Plant, job_id: str) -> Any:
    request = job_pb2.ListAttemptsRequest(job_id=job_id)
    return (await plant.jobs.ListAttempts(request, metadata=plant.who)).attempts


async def test_progress_is_shown_and_the_end_is_known_at_once(plant: Plant) -> None:
    await plant.create("shown")
    job_id = await running(plant, "shown")
    update = Update(job_id=job_id, run=1, attempt=1, queue="shown", worker="w1", progress=Progress(percent=7))
    update.time.GetCurrentTime()
    plant.connection.write(told([update]))

    async def progressed() -> bool:
        return (await plant.get(job_id)).progress.percent == 7

    await until(progressed)
    await plant.finish(job_id)
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("together", [True, False], ids=["with others", "alone"])
async def test_a_job_runs_though_it_is_told_later_that_it_was_published(
    plant: Plant, *, together: bool
) -> None:
    await plant.create("early")
    job_id = await running(plant, "early")
    queued = StateChange(state=JobState.JOB_STATE_QUEUED)
    published = Update(run=1, attempt=1, queue="early", state=queued)
    if together:
        plant.connection.write(told([], [Same(update=published, job_ids=UUID(job_id).bytes)]))
    else:
        published.job_id = job_id
        plant.connection.write(told([published]))
    progress = Update(
        job_id=job_id, run=1, attempt=1, queue="early", worker="w1", progress=Progress(percent=9)
    )
    progress.time.GetCurrentTime()
    plant.connection.write(told([progress]))  # Heard after that.

    async def heard() -> bool:
        job = await plant.get(job_id)
        return (job.state, job.progress.percent) == (JobState.JOB_STATE_RUNNING, 9)

    await until(heard)


async def test_an_attempt_that_another_worker_had_begun_is_lost_once(plant: Plant) -> None:
    await plant.create("lost")
    job_id = await running(plant, "lost")
    assert (await look_up(plant, job_id)).attempts == 1
    assert (await look_up(plant, job_id, "w3")).attempts == 1
    (lost,) = await attempts(plant, job_id)
    assert (lost.report.reason, lost.report.attempt, lost.worker) == (
        EndReason.END_REASON_WORKER_LOST,
        1,
        WORKER,
    )
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_QUEUED
    run(plant, job_id, "lost", attempt=2)

    async def runs() -> bool:
        job = await plant.get(job_id)
        return (job.state, job.attempt) == (JobState.JOB_STATE_RUNNING, 2)

    await until(runs)
    await plant.finish(job_id, attempt=2)
    assert [each.report.attempt for each in await attempts(plant, job_id)] == [1, 2]


@pytest.mark.parametrize("worker", [WORKER, "w2"], ids=["by itself", "its message came once"])
async def test_what_its_own_worker_asks_for_or_comes_first_is_not_lost(plant: Plant, worker: str) -> None:
    await plant.create("kept")
    job_id = await running(plant, "kept")
    assert (await look_up(plant, job_id, worker, again=worker == WORKER)).attempts == 0


async def test_what_a_worker_gave_back_is_not_lost(plant: Plant) -> None:
    await plant.create("given")
    job_id = await running(plant, "given")
    await plant.finish(job_id, "RELEASED")
    found = await look_up(plant, job_id)
    assert (found.attempts, found.retried) == (0, 0)
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_QUEUED


async def test_a_lookup_tells_of_retries_and_when_the_next_is_due(plant: Plant) -> None:
    await plant.create("retried")
    envelope = (await plant.enqueue(queue="retried")).job.envelope
    next_time = datetime.now(UTC) + timedelta(hours=1)
    await plant.report(report_on(envelope, "RETRYING", next_time=next_time))
    found = await look_up(plant, envelope.job_id)
    assert (found.attempts, found.retried) == (1, 1)
    assert found.next_time.ToDatetime(tzinfo=UTC) == next_time


async def test_a_process_that_comes_later_knows_what_runs(plant: Plant) -> None:
    """It reads what was told before it came; of what has ended meanwhile it knows that, too."""
    await plant.create("later")
    runs, ended = await running(plant, "later"), await running(plant, "later")
    await plant.finish(ended)
    tools: Any = plant.lab
    wire = Wire(_Tools(tools))  # type: ignore[arg-type]
    await wire.open()
    known = Running(wire, Clock())
    await known._catch_up()
    assert known.of(UUID(ended)) is None
    last = known.of(UUID(runs))
    assert last is not None
    assert (last.worker, last.attempt) == (WORKER, 1)
    await wire.connection.close()


class _Tools:
    name = "queue"

    def __init__(self, lab: Any) -> None:
        self.settings = lab.settings


def test_ends_of_many_and_later_states_are_heard_and_earlier_attempts_are_not() -> None:
    known: dict[bytes, Update] = {}
    hears = Running(None, Clock())  # type: ignore[arg-type]
    one, two = UUID(new_id()), UUID(new_id())

    def hear(updates: list[Update], same: list[Same] | None = None) -> None:
        payload = told(updates, same or []).partition(b"\r\n")[2][:-2]
        hears._note(payload, known)

    def state(job_id: UUID, state: JobState.ValueType, attempt: int) -> Update:
        change = StateChange(state=state)
        return Update(job_id=str(job_id), run=1, attempt=attempt, queue="q", worker="w", state=change)

    hear([state(each, JobState.JOB_STATE_RUNNING, 2) for each in (one, two)])
    hear([state(one, JobState.JOB_STATE_RETRYING, 1)])
    assert set(known) == {one.bytes, two.bytes}
    hear([state(one, JobState.JOB_STATE_RETRYING, 2)])
    assert set(known) == {two.bytes}
    hear([], [Same(update=Update(queue="q"), job_ids=one.bytes + two.bytes)])
    assert not known
    hear([Update(job_id="no id", queue="q", state=StateChange(state=JobState.JOB_STATE_RUNNING))])
    assert not known


async def test_a_watch_goes_on_in_the_middle_of_a_message(plant: Plant) -> None:
    ids = [new_id() for _ in range(5)]
    await plant.create("middle")
    same = [
        Same(update=Update(queue="middle", worker="w"), job_ids=b"".join(UUID(each).bytes for each in ids))
    ]
    first: Any = plant.jobs.WatchJobs(jobs.WatchJobsRequest(queue="middle"), metadata=plant.who)
    state = (await plant.lab.bus.js.stream_info("jobs-live")).state
    first.cancel()
    plant.connection.write(told([], same))

    async def stored() -> bool:
        return bool((await plant.lab.bus.js.stream_info("jobs-live")).state.last_seq > state.last_seq)

    await until(stored)
    token, heard = str(state.last_seq), list[str]()
    while len(heard) < 5:
        request = jobs.WatchJobsRequest(queue="middle", resume_token=token)
        watch = plant.jobs.WatchJobs(request, metadata=plant.who)
        told_of = await watch.read()
        watch.cancel()
        token = told_of.resume_token
        if told_of.HasField("update"):
            heard.append(told_of.update.job_id)
    assert heard == ids
    alone = plant.jobs.WatchJobs(
        jobs.WatchJobsRequest(queue="middle", resume_token=f"{state.last_seq}.3"), metadata=plant.who
    )
    assert (await alone.read()).update.job_id == ids[3]
    alone.cancel()


@given(st.lists(st.floats(min_value=0, max_value=1e7)))
def test_times_counted_together_are_in_the_bins_of_each(seconds: list[float]) -> None:
    together, each = [0] * BINS, [0] * BINS
    count(together, sorted(seconds))
    for one in seconds:
        each[bin_of(one)] += 1
    assert together == each
