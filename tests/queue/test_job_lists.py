"""Pages of jobs: each once, newest first, by whatever they are asked for; young and old alike."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.queue.domain.job import floor_id
from services.queue.service import listing
from services.queue.store import upkeep
from tests.queue.plant import Plant, as_uuid, new_id
from tests.queue.test_queue_enqueue import refused
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1 import job_messages_pb2 as pb
from weft.queue.v1.spec_pb2 import JobSpec

QUEUED, SUCCEEDED, FAILED = (
    JobState.JOB_STATE_QUEUED,
    JobState.JOB_STATE_SUCCEEDED,
    JobState.JOB_STATE_FAILED,
)


async def pages(plant: Plant, **fields: Any) -> list[str]:
    """Ids of all pages."""
    found: list[str] = []
    token = ""
    while True:
        page = await plant.list(page_token=token, **fields)
        found += [job.envelope.job_id for job in page.jobs]
        token = page.next_page_token
        if not token:
            return found


async def fill(plant: Plant, queue: str, count: int = 12) -> list[str]:
    """Newest first; every third has succeeded, the next failed, the rest waits."""
    await plant.create(queue)
    specs = [
        JobSpec(job_id=new_id(), type=f"t{n % 2}", queue=queue, key=f"k{n % 4}", labels={"n": str(n % 2)})
        for n in range(count)
    ]
    await plant.batch(specs)
    for n, spec in enumerate(specs):
        if n % 3 < 2:
            await plant.finish(spec.job_id, ("SUCCEEDED", "FAILED")[n % 3])
    return [spec.job_id for spec in specs][::-1]


async def age(plant: Plant) -> None:
    """As if all that is there were older than the horizon."""
    await upkeep.advance(plant.lab.db("queue"), floor_id(datetime.now(UTC) + timedelta(milliseconds=1)))


@pytest.mark.parametrize("old", [False, True], ids=["young", "old"])
async def test_pages_hold_each_job_once_whatever_is_asked_for(plant: Plant, old: bool) -> None:
    queue = f"list-{'old' if old else 'young'}"
    jobs = await fill(plant, queue)
    if old:
        await age(plant)
    numbered = {job_id: len(jobs) - 1 - n for n, job_id in enumerate(jobs)}

    def those(fits: Any) -> list[str]:
        return [job_id for job_id in jobs if fits(numbered[job_id])]

    for size in (1, 5, 50):
        asked: dict[str, Any] = {"queue": queue, "page_size": size}
        assert await pages(plant, **asked) == jobs
        assert await pages(plant, **asked, states=[SUCCEEDED]) == those(lambda n: n % 3 == 0)
        assert await pages(plant, **asked, states=[SUCCEEDED, FAILED]) == those(lambda n: n % 3 < 2)
        assert await pages(plant, **asked, states=[QUEUED]) == those(lambda n: n % 3 == 2)
        assert await pages(plant, **asked, type="t1") == those(lambda n: n % 2 == 1)
        assert await pages(plant, **asked, type="t1", states=[FAILED]) == those(lambda n: n % 6 == 1)
        assert await pages(plant, **asked, key="k2") == those(lambda n: n % 4 == 2)
        assert await pages(plant, **asked, key="k2", states=[QUEUED]) == those(lambda n: n in (2,))
        assert await pages(plant, **asked, labels=["n=1"]) == those(lambda n: n % 2 == 1)
        assert await pages(plant, **asked, labels=["n=1", "x=y"]) == []


async def test_lists_of_all_queues_hold_those_of_each(plant: Plant) -> None:
    jobs = await fill(plant, "list-all", 6)
    waiting = await pages(plant, states=[QUEUED], page_size=50)
    assert [job_id for job_id in waiting if job_id in jobs] == [jobs[0], jobs[3]]
    ended = await pages(plant, states=[FAILED], page_size=50)
    assert [job_id for job_id in ended if job_id in jobs] == [jobs[1], jobs[4]]


async def test_a_rare_label_is_found_at_once_whatever_lies_above_it(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SCAN_MAX", 4)
    monkeypatch.setattr(listing, "CHUNK", 2)
    first = JobSpec(job_id=new_id(), type="noop", labels={"rare": "yes", "often": "yes"})
    rest = [JobSpec(job_id=new_id(), type="noop", labels={"often": "yes"}) for _ in range(12)]
    await plant.batch([first, *rest])
    for labels in (["rare=yes"], ["often=yes", "rare=yes"], ["rare=yes", "often=yes"]):
        page = await plant.list(labels=labels, page_size=1)
        assert [job.envelope.job_id for job in page.jobs] == [first.job_id]
        assert not page.next_page_token
    assert await pages(plant, labels=["often=yes"], page_size=5) == [
        each.job_id for each in [first, *rest][::-1]
    ]


async def test_what_is_forgotten_leaves_no_label_behind(plant: Plant) -> None:
    job_id = (await plant.enqueue(labels={"left": "behind"})).job.envelope.job_id
    assert await plant.raw("select from job_label where label = 'left=behind'")
    await upkeep.forget(plant.lab.db("queue"), [as_uuid(job_id)])
    assert not await plant.raw("select from job_label where label = 'left=behind'")
    assert not await plant.raw("select from job where job_id = $1", as_uuid(job_id))


async def test_times_bound_a_list(plant: Plant) -> None:
    await fill(plant, "list-then", 3)
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC) + timedelta(milliseconds=5))
    assert len(await pages(plant, queue="list-then", until_time=now)) == 3
    assert await pages(plant, queue="list-then", from_time=now) == []


async def test_a_list_holds_no_payloads(plant: Plant) -> None:
    await plant.create("list-lean")
    await plant.enqueue(queue="list-lean")
    (job,) = (await plant.list(queue="list-lean")).jobs
    assert not job.envelope.payload.data


async def test_final_states_and_others_are_not_asked_for_together(plant: Plant) -> None:
    assert await refused(plant.list(states=[QUEUED, FAILED])) == "STATES_REFUSED"


async def test_a_token_opens_no_other_list(plant: Plant) -> None:
    await fill(plant, "list-token", 4)
    token = (await plant.list(queue="list-token", page_size=1)).next_page_token
    assert await refused(plant.list(queue="default", page_token=token)) == "BAD_PAGE_TOKEN"
    assert await refused(plant.list(queue="list-token", page_token=token[:-4] + "AAAA")) == "BAD_PAGE_TOKEN"


async def test_a_job_that_runs_again_is_listed_as_it_stands(plant: Plant) -> None:
    jobs = await fill(plant, "list-again", 3)
    await age(plant)
    await plant.jobs.RetryJob(pb.RetryJobRequest(job_id=jobs[1]), metadata=plant.who)
    assert await pages(plant, queue="list-again", states=[QUEUED]) == [jobs[0], jobs[1]]
    assert await pages(plant, queue="list-again", states=[FAILED]) == []
    await plant.finish(jobs[1])
    assert await pages(plant, queue="list-again", states=[SUCCEEDED]) == [jobs[1], jobs[2]]
