"""Jobs on a real NATS: taken, run, reported, then acknowledged; and what is left by each way of dying."""

import asyncio
from typing import Any

import pytest

from services.chassis.jetstream.feed import Feed
from services.chassis.jobs.telling import each_of, read
from services.chassis.testing import until
from services.worker import feeding, living, reporting
from services.worker.runner import Room
from tests.worker import handlers
from tests.worker.handlers import Order
from tests.worker.wired import Book, Wired, job, known, wired
from weft.jobs.v1.attempt_pb2 import AttemptOutcome, AttemptReport
from weft.jobs.v1.job_pb2 import EndReason, JobState, Priority
from weft.jobs.v1.live_pb2 import Update
from weft.queue.v1.record_pb2 import ReportAttemptsRequest, ReportAttemptsResponse
from weft.queue.v1.settings_pb2 import QueueState

BACKLOG, SLOW_S = 2_000, 0.0005  # Run in a tenth of the time that it takes to write them down.
FAST: dict[str, Any] = {"retry": {"backoff": {"nanos": 20_000_000}, "jitter": 0}}


async def done(worker: Wired) -> bool:
    return await worker.unacknowledged() == 0 and worker.runner.held == 0


async def test_jobs_are_run_reported_and_acknowledged(nats_url: str) -> None:
    async with wired(nats_url) as worker:
        jobs = [job("echo", Order(n), priority=n % 4) for n in range(300)]
        await worker.enqueue(*jobs)
        reports = await worker.book.ends(jobs)
        assert [report.result.data for report in reports] == [
            f'{{"number":{n + 1},"words":"1"}}'.encode() for n in range(300)
        ]
        assert all(report.start_time.ToNanoseconds() >= report.due_time.ToNanoseconds() for report in reports)
        assert len(worker.book.reports) == 300
        await until(lambda: done(worker))
        assert len(worker.book.reports) == 300


async def test_a_failed_attempt_is_followed_by_the_next_after_its_backoff(nats_url: str) -> None:
    async with wired(
        nats_url, queues=known(settings={"retry": {"attempts_max": 3, **FAST["retry"]}})
    ) as worker:
        bad = job("raise", Order(0, "oh"), priority=Priority.PRIORITY_HIGH)
        await worker.enqueue(bad)
        [end] = await worker.book.ends([bad])
        assert [report.attempt for report in worker.book.reports] == [1, 2, 3]
        assert (end.reason, end.failure.kind) == (EndReason.END_REASON_RAISED, "ValueError")
        first, second, third = worker.book.reports
        assert first.next_time.ToNanoseconds() - first.end_time.ToNanoseconds() == pytest.approx(
            20e6, abs=1e3
        )
        assert second.start_time.ToNanoseconds() > first.next_time.ToNanoseconds()
        assert not third.HasField("next_time")
        await until(lambda: done(worker))


async def test_the_next_attempt_begins_from_the_checkpoint(nats_url: str) -> None:
    book = Book()
    async with wired(nats_url, book=book, room=Room(8, 2, 1), queues=known(settings=FAST)) as worker:
        steps = job("steps", Order(3))
        await worker.enqueue(steps)
        [end] = await worker.book.ends([steps])
        assert end.result.data == b"1 2 3"  # Each attempt made one step.
        assert (end.attempt, book.checkpoints[steps.job_id].step) == (3, 1)


async def test_what_came_before_is_looked_up_and_not_run_again(nats_url: str) -> None:
    book = Book()
    again, fresh, off = (job("nothing", verify=True) for _ in range(3))
    book.finals[again.job_id, 1] = AttemptReport(job_id=again.job_id, run=1, outcome=1)
    book.cancelled.add(off.job_id)
    async with wired(nats_url, book=book) as worker:
        await worker.enqueue(again, fresh, off)
        _, end = await book.ends([fresh, off])
        assert end.reason == EndReason.END_REASON_CANCELLED_BY_REQUEST
        await until(lambda: done(worker))
        assert (book.lookups, book.restored) == (3, 0)
        assert fresh.job_id in handlers.began
        assert not {again.job_id, off.job_id} & set(handlers.began)


async def test_what_may_have_been_purged_is_looked_up_and_what_came_later_is_not(nats_url: str) -> None:
    book = Book()
    async with wired(nats_url, book=book, queues=known(state=QueueState.QUEUE_STATE_PAUSED)) as worker:
        purged, fresh = job("nothing"), job("nothing")
        book.finals[purged.job_id, 1] = AttemptReport(
            job_id=purged.job_id, run=1, outcome=AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED
        )
        await worker.enqueue(purged)
        last = (await worker.bus.js.stream_info("jobs")).state.last_seq
        await worker.enqueue(fresh)
        worker.feeder.follow(known(purged_sequence=last))
        await book.ends([fresh])
        await until(lambda: done(worker))
        assert book.lookups == 1
        assert fresh.job_id in handlers.began
        assert purged.job_id not in handlers.began


async def test_while_the_queue_is_away_ends_wait_and_nothing_more_is_taken(nats_url: str) -> None:
    async with wired(nats_url, room=Room(4, 1, 1)) as worker:
        worker.book.away = True
        early = [job("nothing") for _ in range(4)]
        await worker.enqueue(*early)
        await until(lambda: asyncio.sleep(0, worker.reporter.away))
        await asyncio.sleep(2 * feeding.FIT_EVERY_S)
        late = [job("nothing") for _ in range(60)]
        await worker.enqueue(*late)
        await asyncio.sleep(0.2)
        assert worker.runner.held == 0
        assert len(set(handlers.began) & {each.job_id for each in late}) <= 30  # What was asked for before.
        worker.book.away = False
        await worker.book.ends([*early, *late])
        await until(lambda: done(worker))


async def test_of_a_backlog_no_more_is_run_than_a_slow_queue_soon_writes_down(nats_url: str) -> None:
    worker_of: list[Wired] = []

    class Slow(Book):
        behind = 0

        async def ReportAttempts(self, request: ReportAttemptsRequest) -> ReportAttemptsResponse:
            count = len(request.attempts) + sum(len(each.end_s) for each in request.successes)
            await asyncio.sleep(count * SLOW_S)
            self.behind = max(self.behind, count + len(worker_of[0].reporter._waiting))
            return await super().ReportAttempts(request)

    book = Slow()
    async with wired(nats_url, book=book, queues=known(state=QueueState.QUEUE_STATE_PAUSED)) as worker:
        worker_of.append(worker)
        jobs = [job("nothing") for _ in range(BACKLOG)]
        await worker.enqueue(*jobs)
        worker.feeder.follow(known())
        await book.ends(jobs)
    assert book.behind < 750


async def test_a_checkpoint_waits_while_the_queue_is_away(nats_url: str) -> None:
    async with wired(nats_url) as worker:
        step = job("steps", Order(1))
        worker.book.away = True
        await worker.enqueue(step)
        await until(lambda: asyncio.sleep(0, step.job_id in worker.runner.running))
        await asyncio.sleep(0.3)
        assert worker.book.checkpoints == {}
        worker.book.away = False
        [end] = await worker.book.ends([step])
        assert (end.attempt, end.result.data) == (1, b"1")


async def test_a_report_that_is_refused_holds_up_no_other(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REFUSED_AGAIN_S", 0.3)
    async with wired(nats_url) as worker:
        jobs = [job("nothing") for _ in range(40)]
        bad = jobs[17]
        worker.book.refuses = lambda report: report.job_id == bad.job_id
        await worker.enqueue(*jobs)
        await worker.book.ends([each for each in jobs if each is not bad])
        worker.book.refuses = lambda report: False
        await worker.book.ends([bad])
        await until(lambda: done(worker))


async def test_a_paused_queue_hands_out_nothing(nats_url: str) -> None:
    paused = known(state=QueueState.QUEUE_STATE_PAUSED)
    async with wired(nats_url, queues=paused) as worker:
        one = job("nothing")
        await worker.enqueue(one)
        await asyncio.sleep(0.2)
        assert await worker.unacknowledged() == 1
        worker.feeder.follow(known())
        await worker.book.ends([one])


async def test_what_is_no_job_is_given_up(nats_url: str) -> None:
    async with wired(nats_url) as worker:
        await worker.bus.publish("jobs.q.default.m", b"\xff\xff")
        one = job("nothing")
        await worker.enqueue(one)
        await worker.book.ends([one])
        await until(lambda: done(worker))


async def test_a_drain_gives_back_what_others_can_run(nats_url: str) -> None:
    book = Book()
    waiting = [job("wait", Order(60)) for _ in range(12)]
    async with wired(nats_url, book=book) as worker:
        await worker.enqueue(*waiting)
        await until(lambda: asyncio.sleep(0, len(worker.runner.running) == 8))
    assert book.finals == {}
    assert len(book.reports) == 8  # RELEASED: those that had begun.
    async with wired(nats_url, book=book, room=Room(16, 1, 1)) as worker:
        await until(lambda: asyncio.sleep(0, len(worker.runner.running) == 12))
        assert {run.delivery.envelope.attempt for run in worker.runner.running.values()} == {1}


async def test_those_who_watch_hear_of_it(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(living, "PROGRESS_EVERY_S", 0.0)
    heard: list[Update] = []
    async with wired(nats_url) as worker, Feed(worker.connection, "jobs.live.default") as feed:
        slow = job("told", labels={"tenant": "acme"})
        await worker.enqueue(slow)
        looking = asyncio.create_task(_flushing(worker))
        async with asyncio.timeout(10):
            async for messages in feed:
                heard += [each for message in messages for each in each_of(read(message.payload))]
                if len(heard) == 3:
                    break
        looking.cancel()
    assert [each.WhichOneof("what") for each in heard] == ["state", "progress", "log"]
    assert {each.job_id for each in heard} == {slow.job_id}
    assert heard[0].state.state == JobState.JOB_STATE_RUNNING
    assert heard[0].state.HasField("start_time")
    assert (heard[1].progress.percent, heard[1].progress.message) == (50, "half")
    assert (heard[2].log.message, heard[2].worker) == ("a line", "w1")
    assert dict(heard[2].labels) == {"tenant": "acme"}


async def _flushing(worker: Wired) -> None:
    while True:
        worker.live.flush()
        await asyncio.sleep(0.01)
