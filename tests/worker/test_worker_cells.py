"""However a job misbehaves in its process: it ends with its reason, and the pool lives on."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import msgspec
import psutil
import pytest

from services.chassis.testing import until
from services.worker.ending import CANCELLED, CRASHES_MAX, FAILED, RETRYING, SUCCEEDED, Ending
from tests.worker.handlers import Order, Place
from tests.worker.running import Laid, delivery, running
from weft.jobs.v1.job_pb2 import EndReason

SEGV = signal.Signals.SIGSEGV


@pytest.fixture(scope="module")
async def laid() -> AsyncIterator[Laid]:
    """One for all: each test finds it as good as new, whatever the one before did to it."""
    async with running() as laid:
        yield laid


def reason(ending: Ending) -> str:
    return EndReason.Name(ending.reason).removeprefix("END_REASON_")


def below() -> list[psutil.Process]:
    """All that the forker has started. The run's own servers are children of this process, too."""
    return [each for forker in forkers() for each in forker.children(recursive=True)]


def forkers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "forker" in " ".join(each.cmdline())]


async def test_a_process_has_checkpoints_progress_lines_and_results(laid: Laid) -> None:
    job = delivery("process", Order(7), state=msgspec.json.encode(Place(3)))
    ending, verdict = await laid.run(job)
    assert verdict.outcome == SUCCEEDED, ending
    answer = msgspec.json.decode(ending.result, type=Order)
    assert (answer.number != os.getpid(), answer.words) == (True, "3")
    assert msgspec.json.decode(laid.heard.checkpoints[job.envelope.job_id], type=Place) == Place(7)
    assert laid.heard.runs[job.envelope.job_id].percent == 50
    assert sorted(line.message for line in ending.lines) == ["logged", "printed"]


@pytest.mark.parametrize(
    ("word", "number", "expected"),
    [
        ("raise", 0, "RAISED"),
        ("exit", 3, "PROCESS_ENDED"),
        ("_exit", 4, "PROCESS_ENDED"),
        ("segv", 0, "PROCESS_ENDED"),
        ("loop", 0, "CPU_EXCEEDED"),
        ("eat", 1000, "MEMORY_EXCEEDED"),
        ("open", 1000, "FILES_EXCEEDED"),
        ("flood", 0, "OUTPUT_EXCEEDED"),
        ("bomb", 0, "PROCESSES_EXCEEDED"),
        ("sleep", 60, "TIMED_OUT"),
    ],
)
async def test_each_misdeed_has_its_reason(laid: Laid, word: str, number: int, expected: str) -> None:
    ending, verdict = await laid.run(
        delivery("misbehave", Order(number, word), timeout_s=0.5 if word == "sleep" else 20)
    )
    assert (reason(ending), verdict.outcome) == (expected, RETRYING), ending.failure
    assert ending.failure is not None
    assert ending.failure.message or ending.failure.kind
    assert ending.failure.exit_code == {"exit": 3, "_exit": 4, "segv": -SEGV}.get(word, 0)
    assert ending.crashed == (word in {"_exit", "segv"})
    assert below() == []
    assert (await laid.run(delivery("process", Order(1))))[1].outcome == SUCCEEDED


async def test_what_a_job_leaves_behind_is_ended(laid: Laid) -> None:
    ending, _ = await laid.run(delivery("misbehave", Order(0, "orphan")))
    assert ending.failure is not None
    assert ending.failure.code == "ORPHAN"
    assert not psutil.pid_exists(int(ending.failure.message))


async def test_a_cancelled_process_is_asked_and_then_killed(laid: Laid) -> None:
    job = delivery("misbehave", Order(60, "sleep"))
    laid.runner.take([job])
    await laid.heard.until_begun(job)
    laid.runner.stop(job.envelope.job_id, 1, EndReason.END_REASON_CANCELLED_BY_REQUEST)
    ending, verdict = await laid.heard.end_of(job)
    assert (reason(ending), verdict.outcome) == ("CANCELLED_BY_REQUEST", CANCELLED)
    assert below() == []


async def test_a_job_that_ends_its_process_again_and_again_is_poisonous(laid: Laid) -> None:
    job = delivery("misbehave", Order(1, "_exit"), attempt=1)
    for crash in range(1, CRASHES_MAX + 1):
        _, verdict = await laid.run(job)
        assert job.envelope.crashes == crash  # It travels in the envelope, and so survives every process.
        assert verdict.outcome == (RETRYING if crash < CRASHES_MAX else FAILED)
        laid.heard.endings.clear()
    assert verdict.reason == EndReason.END_REASON_POISONOUS


@pytest.mark.parametrize("suspicion", [{"deliveries": 3}, {"crashes": 1}])
async def test_a_suspect_runs_where_it_takes_nobody_along(laid: Laid, suspicion: dict[str, int]) -> None:
    """Its handler would end the worker, this test: it is no handler with a process of its own."""
    ending, verdict = await laid.run(delivery("isolated", Order(5), **suspicion))
    assert (reason(ending), verdict.outcome, ending.crashed) == ("PROCESS_ENDED", RETRYING, True)
    assert ending.failure is not None
    assert ending.failure.exit_code == 5
    ending, verdict = await laid.run(delivery("echo", Order(1), **suspicion))
    assert verdict.outcome == SUCCEEDED
    ending, verdict = await laid.run(delivery("thread", Order(1), **suspicion))
    assert verdict.outcome == SUCCEEDED, ending


async def test_a_forker_that_dies_takes_its_cells_along_and_is_replaced(laid: Laid) -> None:
    job = delivery("misbehave", Order(60, "sleep"))
    laid.runner.take([job])
    await laid.heard.until_begun(job)
    cells = await until(lambda: asyncio.to_thread(below))
    for forker in forkers():
        forker.kill()
    ending, verdict = await laid.heard.end_of(job)
    assert (reason(ending), verdict.outcome) == ("WORKER_LOST", RETRYING)
    assert psutil.wait_procs(cells, timeout=10)[1] == []
    assert (await laid.run(delivery("process", Order(1))))[1].outcome == SUCCEEDED


async def test_cells_run_side_by_side(laid: Laid) -> None:
    jobs = [delivery("misbehave", Order(1, "sleep")) for _ in range(2)]
    began = time.monotonic()
    laid.runner.take(jobs)
    ends = [await laid.heard.end_of(job) for job in jobs]
    assert {verdict.outcome for _, verdict in ends} == {SUCCEEDED}
    first, second = (ending for ending, _ in ends)
    assert max(first.start_s, second.start_s) < min(first.end_s, second.end_s) <= began + time.time()
