"""Who asks what became of jobs shares the question with all who ask meanwhile."""

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.worker import lookups
from services.worker.delivery import Delivery
from services.worker.lookups import Lookups
from weft.jobs.v1.job_pb2 import EndReason, Envelope, JobState
from weft.queue.v1.record_pb2 import (
    Checkpoint,
    GetCheckpointRequest,
    GetCheckpointResponse,
    Lookup,
    LookupJobsRequest,
    LookupJobsResponse,
)

ELSEWHERE = SimpleNamespace(lane=3)  # A handle, as far as lookups go.


class Book:
    """A record that answers when it is let."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.known: dict[str, Lookup] = {}
        self.checkpoints_asked: list[str] = []
        self.open = asyncio.Event()
        self.refusal: OSError | None = None

    async def LookupJobs(self, request: LookupJobsRequest, /) -> LookupJobsResponse:
        self.sizes.append(len(request.jobs))
        await self.open.wait()
        if self.refusal:
            raise self.refusal
        return LookupJobsResponse(jobs=[self.known.get(each.job_id, Lookup()) for each in request.jobs])

    async def GetCheckpoint(self, request: GetCheckpointRequest, /) -> GetCheckpointResponse:
        self.checkpoints_asked.append(request.job_id)
        return GetCheckpointResponse(checkpoint=Checkpoint(attempt=2, step=7, state=b"here"))


def came(count: int) -> list[Delivery]:
    return [Delivery(Envelope(job_id=str(uuid4()), run=1, attempt=1), handle=ELSEWHERE) for _ in range(count)]


async def begun(looked: Lookups, *parts: list[Delivery]) -> list[asyncio.Task[tuple[list[Delivery], ...]]]:
    """Asked one after the other; all of them wait."""
    tasks = [asyncio.ensure_future(looked.part(part)) for part in parts]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_many_lanes_ask_twice_and_each_hears_of_its_own() -> None:
    book = Book()
    looked, parts = Lookups(book, "w"), [came(n) for n in range(1, 11)]
    book.known[parts[4][2].job_id] = Lookup(ended=JobState.JOB_STATE_SUCCEEDED)
    first = await begun(looked, parts[0])
    rest = await begun(looked, *parts[1:])
    book.open.set()
    answers = await asyncio.gather(*first, *rest)
    assert book.sizes == [1, sum(range(2, 11))]
    assert [left for left, _ in answers] == [*parts[:4], [*parts[4][:2], *parts[4][3:]], *parts[5:]]
    assert [len(over) for _, over in answers] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]


async def test_a_question_is_no_longer_than_the_record_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "LOOKUP_MAX", 10)
    book = Book()
    looked = Lookups(book, "w")
    tasks = await begun(looked, came(1), came(6), came(4), came(5), came(10))
    book.open.set()
    await asyncio.gather(*tasks)
    assert book.sizes == [7, 9, 10]


async def test_a_refusal_reaches_all_who_shared_the_question_and_nobody_else() -> None:
    book = Book()
    looked = Lookups(book, "w")
    tasks = [*await begun(looked, came(1)), *await begun(looked, came(1), came(1))]
    tasks[1].cancel()  # Who does not wait any more takes nothing from the others.
    book.refusal = OSError("away")
    book.open.set()
    assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[2], OSError)
    book.refusal = None
    assert [len(each) for each in await looked.part(came(3))] == [3, 0]


async def test_only_what_has_a_checkpoint_is_asked_for_it() -> None:
    book = Book()
    book.open.set()
    jobs = came(4)
    book.known[jobs[1].job_id] = Lookup(attempts=1, checkpoint=True)
    book.known[jobs[2].job_id] = Lookup(ended=JobState.JOB_STATE_FAILED, checkpoint=True)
    book.known[jobs[3].job_id] = Lookup(cancel=True)
    left, over = await Lookups(book, "w").part(jobs)
    assert (left, over, book.checkpoints_asked) == ([jobs[0], jobs[1], jobs[3]], [jobs[2]], [jobs[1].job_id])
    assert (jobs[1].envelope.attempt, jobs[1].state, jobs[1].step) == (2, b"here", 7)
    assert (jobs[0].state, jobs[3].stop) == (None, EndReason.END_REASON_CANCELLED_BY_REQUEST)
