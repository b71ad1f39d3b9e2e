"""Jobs that failed for good: kept with their reasons, run again one by one or by filter, forgotten."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from tests.queue.plant import Plant, envelope_of, new_id, report_on
from tests.queue.test_queue_enqueue import refused
from weft.jobs.v1.attempt_pb2 import Failure
from weft.jobs.v1.job_pb2 import EndReason, JobState
from weft.queue.v1 import dead_letter_pb2 as pb
from weft.queue.v1.dead_letter_pb2 import DeadLetterFilter
from weft.queue.v1.settings_pb2 import DeadLetterRule, QueueSettings


async def fail(plant: Plant, queue: str, kind: str = "noop", **fields: Any) -> str:
    envelope = (await plant.enqueue(kind, queue=queue)).job.envelope
    await plant.take(queue)
    await plant.report(report_on(envelope, "FAILED", **fields))
    return str(envelope.job_id)


async def listed(plant: Plant, **fields: Any) -> pb.ListDeadLettersResponse:
    return await plant.letters.ListDeadLetters(pb.ListDeadLettersRequest(**fields), metadata=plant.who)


async def test_a_failed_job_is_kept_with_its_reason_and_its_envelope(plant: Plant) -> None:
    await plant.create("dead")
    job_id = await fail(plant, "dead")
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_FAILED
    request = pb.GetDeadLetterRequest(job_id=job_id)
    letter = (await plant.letters.GetDeadLetter(request, metadata=plant.who)).dead_letter
    assert (letter.reason, letter.attempts) == (EndReason.END_REASON_RAISED, 1)
    assert (letter.failure.kind, letter.failure.trace) == ("ValueError", "line 7")
    assert letter.envelope.payload.data == b"x"
    unknown = pb.GetDeadLetterRequest(job_id=new_id())
    assert await refused(plant.letters.GetDeadLetter(unknown, metadata=plant.who)) == "UNKNOWN_DEAD_LETTER"


async def test_a_queue_may_keep_none(plant: Plant) -> None:
    await plant.create("forgets", settings=QueueSettings(dead_letters=DeadLetterRule(disabled=True)))
    await fail(plant, "forgets")
    assert not (await listed(plant, filter=DeadLetterFilter(queue="forgets"))).dead_letters


async def test_a_redriven_job_runs_again_and_may_die_again(plant: Plant) -> None:
    await plant.create("redrive")
    job_id = await fail(plant, "redrive")
    request = pb.RedriveDeadLetterRequest(job_id=job_id, note="the bug is fixed")
    assert (await plant.letters.RedriveDeadLetter(request, metadata=plant.who)).run == 2
    assert await refused(plant.letters.RedriveDeadLetter(request, metadata=plant.who)) == (
        "UNKNOWN_DEAD_LETTER"
    )
    (came,) = await plant.take("redrive")
    assert envelope_of(came).run == 2
    await plant.report(report_on(envelope_of(came), "FAILED"))
    (letter,) = (await listed(plant, filter=DeadLetterFilter(queue="redrive"))).dead_letters
    assert letter.run == 2
    (why,) = await plant.raw("select actor, note from job_run where job_id = $1", job_id)
    assert why["note"] == "the bug is fixed"
    assert why["actor"].startswith("user:")


async def test_filters_choose_what_is_listed_redriven_and_purged(plant: Plant) -> None:
    await plant.create("mixed")
    odd = [await fail(plant, "mixed", "odd", failure=Failure(kind="KeyError")) for _ in range(3)]
    even = [await fail(plant, "mixed", "even") for _ in range(2)]
    keys = DeadLetterFilter(queue="mixed", kind="KeyError")
    assert [each.job_id for each in (await listed(plant, filter=keys)).dead_letters] == odd[::-1]
    before = Timestamp(seconds=1)
    old = DeadLetterFilter(queue="mixed", until_time=before)
    assert not (await listed(plant, filter=old)).dead_letters
    said = await plant.letters.RedriveDeadLetters(
        pb.RedriveDeadLettersRequest(filter=DeadLetterFilter(queue="mixed", type="odd")), metadata=plant.who
    )
    assert (said.jobs, said.more) == (3, False)
    assert {envelope_of(came).job_id for came in await plant.take("mixed", count=3)} == set(odd)
    gone = await plant.letters.PurgeDeadLetters(
        pb.PurgeDeadLettersRequest(filter=DeadLetterFilter(queue="mixed")), metadata=plant.who
    )
    assert gone.dead_letters == 2
    assert (await plant.get(even[0])).state == JobState.JOB_STATE_FAILED


async def test_pages_of_dead_letters_hold_each_once(plant: Plant) -> None:
    await plant.create("pages")
    jobs = [await fail(plant, "pages") for _ in range(7)]
    found: list[str] = []
    token = ""
    while True:
        which = DeadLetterFilter(queue="pages")
        page = await listed(plant, filter=which, page_size=3, page_token=token)
        found += [letter.job_id for letter in page.dead_letters]
        token = page.next_page_token
        if not token:
            break
    assert found == jobs[::-1]


async def test_a_draining_queue_lets_nothing_be_redriven(plant: Plant) -> None:
    await plant.create("shut")
    job_id = await fail(plant, "shut")
    await plant.drain("shut")
    request = pb.RedriveDeadLetterRequest(job_id=job_id)
    assert await refused(plant.letters.RedriveDeadLetter(request, metadata=plant.who)) == "QUEUE_DRAINING"
    assert (await listed(plant, filter=DeadLetterFilter(queue="shut"))).dead_letters
