"""What the runner does with jobs, whatever their handlers do."""

import asyncio
import logging
import time
from itertools import pairwise

import msgspec
import pytest
from google.protobuf.duration_pb2 import Duration

from services.worker import runner as runner_module
from services.worker.delivery import Delivery
from services.worker.ending import CANCELLED, EXPIRED, FAILED, RELEASED, RETRYING, SUCCEEDED, Ending
from services.worker.lines import LineHandler
from services.worker.performing import current_run
from services.worker.runner import Room
from tests.worker.handlers import Order, Place
from tests.worker.running import delivery, running
from weft.jobs.v1.job_pb2 import EndReason, RetryPolicy


def seconds(number: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(int(number * 1000))
    return duration


def reason(ending: Ending) -> str:
    return EndReason.Name(ending.reason).removeprefix("END_REASON_")


async def test_a_handler_takes_a_dataclass_and_returns_one() -> None:
    async with running() as laid:
        ending, verdict = await laid.run(delivery("echo", Order(41, "try"), attempt=3))
        assert (reason(ending), verdict.outcome) == ("RETURNED", SUCCEEDED)
        assert msgspec.json.decode(ending.result, type=Order) == Order(42, "try 3")
        assert ending.result_type == "application/json"
        assert 0 < ending.start_s <= ending.end_s <= time.time()


async def test_a_handler_takes_a_message_in_either_form() -> None:
    async with running() as laid:
        job = delivery("stamp")
        job.envelope.payload.data, job.envelope.payload.content_type = (
            b'"1970-01-01T00:01:00Z"',
            "application/json",
        )
        assert (await laid.run(job))[0].result == b"60"
        job = delivery("stamp")
        job.envelope.payload.data = b"\x08\x07"
        job.envelope.payload.content_type = "application/x-protobuf; type=google.protobuf.Timestamp"
        assert (await laid.run(job))[0].result == b"7"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"number": "1"}, "number: expected `int`, got `str`"),
        ({"words": "x"}, "number: is required"),
        ({"number": 1, "colour": "red"}, "colour: is no field that is known"),
        ([], "expected `object`, got `array`"),
    ],
)
async def test_a_payload_that_does_not_fit_is_refused_by_field(payload: object, said: str) -> None:
    async with running() as laid:
        ending, verdict = await laid.run(delivery("echo", payload))
        assert (reason(ending), verdict.outcome) == ("PAYLOAD_REFUSED", FAILED)
        assert ending.failure is not None
        assert (ending.failure.message, ending.failure.code) == (said, "BAD_PAYLOAD")


async def test_ten_megabytes_are_decoded_and_refused_as_any_payload() -> None:
    async with running() as laid:
        large = await laid.run(delivery("echo", Order(1, "x" * 10_000_000)))
        assert reason(large[0]) == "RESULT_TOO_LARGE"
        ending, verdict = await laid.run(delivery("echo", {"number": "x" * 10_000_000}))
        assert (reason(ending), verdict.outcome) == ("PAYLOAD_REFUSED", FAILED)
        assert ending.failure is not None
        assert len(ending.failure.message) < 100


async def test_an_unknown_type_is_tried_again_where_it_may_be_known() -> None:
    async with running() as laid:
        ending, verdict = await laid.run(delivery("no.such"))
        assert (reason(ending), verdict.outcome) == ("TYPE_UNKNOWN", RETRYING)
        ending, verdict = await laid.run(delivery("no.such", attempt=5))
        assert (reason(ending), verdict.outcome) == ("TYPE_UNKNOWN", FAILED)


async def test_what_a_handler_raises_decides_what_follows() -> None:
    async with running() as laid:
        ending, verdict = await laid.run(delivery("raise", Order(7, "retry")))
        assert (verdict.outcome, verdict.delay_s) == (RETRYING, 7)
        ending, verdict = await laid.run(delivery("raise", Order(0, "fail")))
        assert (reason(ending), verdict.outcome) == ("NOT_RETRYABLE", FAILED)
        assert ending.failure is not None
        assert (ending.failure.code, ending.failure.message) == ("CARD_EXPIRED", "the card has expired")
        ending, verdict = await laid.run(delivery("raise", Order(0, "oh")))
        assert (reason(ending), verdict.outcome) == ("RAISED", RETRYING)
        assert ending.failure is not None
        assert (ending.failure.kind, ending.failure.message) == ("ValueError", "oh")
        assert "raise ValueError" in ending.failure.trace
        policy = RetryPolicy(not_retried_errors=["ValueError"])
        assert (await laid.run(delivery("raise", Order(0, "oh"), policy=policy)))[1].outcome == FAILED


async def test_neither_exit_nor_a_cancellation_of_its_own_ends_more_than_the_job() -> None:
    async with running() as laid:
        for word, kind in (("exit", "SystemExit"), ("cancel", "asyncio.exceptions.CancelledError")):
            ending, verdict = await laid.run(delivery("raise", Order(3, word)))
            assert (reason(ending), verdict.outcome) == ("RAISED", RETRYING)
            assert ending.failure is not None
            assert ending.failure.kind == kind
        assert (await laid.run(delivery("nothing")))[1].outcome == SUCCEEDED


async def test_lines_of_any_logger_are_the_jobs() -> None:
    handler = LineHandler(lambda line: current_run.get().line(line))  # type: ignore[union-attr]
    logging.getLogger().addHandler(handler)
    logging.getLogger("weft.job").setLevel("INFO")
    try:
        async with running() as laid:
            ending, _ = await laid.run(delivery("say"))
    finally:
        logging.getLogger().removeHandler(handler)
    assert [(line.level, line.message, dict(line.facts)) for line in ending.lines] == [
        ("INFO", "once", {"number": "1"}),
        ("WARNING", "twice", {}),
    ]


async def test_as_many_run_at_once_as_there_are_slots() -> None:
    async with running(Room(64, 1, 1)) as laid:
        jobs = [delivery("wait", Order(60)) for _ in range(100)]
        laid.runner.take(jobs)
        await laid.heard.until_begun(*jobs[:64])
        await asyncio.sleep(0)
        assert len(laid.runner.running) == 64
        laid.runner.stop(jobs[0].envelope.job_id, 1, EndReason.END_REASON_CANCELLED_BY_REQUEST)
        await laid.heard.until_begun(jobs[64])
        assert len(laid.runner.running) == 64
        laid.runner.resize(Room(80, 1, 1))
        await laid.heard.until_begun(*jobs[65:81])
        assert len(laid.runner.running) == 80


async def test_ten_thousand_jobs_each_end_once() -> None:
    async with running() as laid:
        jobs = [delivery("nothing") for _ in range(10_000)]
        for start in range(0, len(jobs), 500):
            laid.runner.take(jobs[start : start + 500])
            await asyncio.sleep(0)
        for job in jobs:
            await laid.heard.end_of(job)
        assert set(laid.heard.told.values()) == {1}
        assert laid.runner.held == 0


async def test_a_type_with_a_limit_leaves_slots_to_others() -> None:
    async with running() as laid:
        limited, other = [delivery("one") for _ in range(10)], delivery("nothing")
        laid.runner.take([*limited, other])
        await laid.heard.end_of(other)
        assert len(laid.heard.endings) < 10
        ends = [await laid.heard.end_of(each) for each in limited]
        spans = sorted((ending.start_s, ending.end_s) for ending, _ in ends)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))


async def test_an_attempt_out_of_time_is_ended_and_tried_again() -> None:
    async with running() as laid:
        for fields in ({"execution_timeout": seconds(0.1)}, {"timeout_s": 0.1}):
            ending, verdict = await laid.run(delivery("wait", Order(60), **fields))
            assert (reason(ending), verdict.outcome) == ("TIMED_OUT", RETRYING)


async def test_a_handler_that_swallows_its_cancellation_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner_module, "ASK_AGAIN_S", 0.05)
    async with running() as laid:
        ending, verdict = await laid.run(delivery("stubborn", timeout_s=0.05))
        assert (reason(ending), verdict.outcome) == ("RETURNED", SUCCEEDED)
        assert (await laid.run(delivery("nothing")))[1].outcome == SUCCEEDED


async def test_a_cancelled_job_ends_whether_it_runs_or_waits() -> None:
    async with running(Room(1, 1, 1)) as laid:
        first, second = delivery("wait", Order(60)), delivery("wait", Order(60))
        laid.runner.take([first, second])
        await laid.heard.until_begun(first)
        for each in (second, first):
            assert laid.runner.stop(each.envelope.job_id, 1, EndReason.END_REASON_CANCELLED_BY_REQUEST)
        for each in (first, second):
            ending, verdict = await laid.heard.end_of(each)
            assert (reason(ending), verdict.outcome) == ("CANCELLED_BY_REQUEST", CANCELLED)
        assert laid.heard.endings[second.envelope.job_id][0].start_s == 0
        assert not laid.runner.stop(first.envelope.job_id, 1, EndReason.END_REASON_CANCELLED_BY_REQUEST)


async def test_a_later_run_is_not_meant_by_a_cancellation() -> None:
    async with running() as laid:
        job = delivery("wait", Order(60), run=2)
        laid.runner.take([job])
        await laid.heard.until_begun(job)
        assert not laid.runner.stop(job.envelope.job_id, 1, EndReason.END_REASON_CANCELLED_BY_REQUEST)
        assert laid.runner.held == 1


async def test_a_job_begun_too_late_expires() -> None:
    async with running() as laid:
        ending, verdict = await laid.run(delivery("nothing", expires_s=time.time() - 1))
        assert (reason(ending), verdict.outcome) == ("QUEUED_TOO_LONG", EXPIRED)


async def test_a_drain_gives_back_what_has_not_begun_and_waits_for_the_rest() -> None:
    async with running(Room(1, 1, 1)) as laid:
        first, second, late = delivery("wait", Order(60)), delivery("nothing"), delivery("nothing")
        short = delivery("thread.sleep")
        laid.runner.take([first, second, short])
        await laid.heard.until_begun(first, short)
        draining = asyncio.create_task(laid.runner.drain(0.2))
        assert (await laid.heard.end_of(second))[1].outcome == RELEASED
        assert laid.runner.room == 0
        laid.runner.take([late])
        assert (await laid.heard.end_of(late))[1].outcome == RELEASED
        await draining
        ending, verdict = await laid.heard.end_of(first)
        assert (reason(ending), verdict.outcome) == ("WORKER_STOPPED", RELEASED)
        assert (await laid.heard.end_of(short))[0].result == b"saw it"
        assert laid.runner.held == 0


async def test_a_job_that_is_delivered_again_while_it_runs_is_not_run_twice() -> None:
    async with running() as laid:
        job = delivery("wait", Order(60))
        laid.runner.take([job])
        await laid.heard.until_begun(job)
        again = Delivery(job.envelope, handle="newer", deliveries=2)
        laid.runner.take([again])
        await asyncio.sleep(0)
        assert len(laid.runner.running) == laid.runner.held == 1
        assert job.handle == "newer"


async def test_what_waited_in_a_frozen_process_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Room(1, 1, 1)) as laid:
        first, second = delivery("wait", Order(60)), delivery("nothing")
        laid.runner.take([first, second])
        await laid.heard.until_begun(first)
        monkeypatch.setattr(runner_module, "FROZEN_S", 0.2)
        time.sleep(0.4)  # noqa: ASYNC251 - the process stands still
        await asyncio.sleep(0.1)
        assert laid.heard.dropped_ids == [second.envelope.job_id]
        assert (laid.runner.held, laid.heard.endings) == (1, {})


async def test_a_thread_has_checkpoints_progress_and_results() -> None:
    async with running() as laid:
        job = delivery("thread", Order(21))
        ending, _ = await laid.run(job)
        assert msgspec.json.decode(ending.result, type=Order) == Order(42)
        assert msgspec.json.decode(laid.heard.checkpoints[job.envelope.job_id], type=Place) == Place(21)
        assert laid.heard.runs[job.envelope.job_id].percent == 50


async def test_a_thread_that_loops_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.worker.threads.ASKED_S", 0.05)
    async with running(Room(1, 1, 1)) as laid:
        ending, verdict = await laid.run(delivery("thread.loop", timeout_s=0.05))
        assert (reason(ending), verdict.outcome) == ("TIMED_OUT", RETRYING)
        assert ending.failure is not None
        assert ending.failure.kind != "ThreadLost"
        assert (await laid.run(delivery("thread", Order(1))))[1].outcome == SUCCEEDED


async def test_what_a_job_sets_in_its_context_ends_with_it() -> None:
    async with running(Room(1, 1, 1)) as laid:
        for _ in range(3):
            assert (await laid.run(delivery("context")))[0].result == b"nothing"
