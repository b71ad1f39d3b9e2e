"""Jobs that came straight into the stream, and by events, are in the record as those enqueued by rpc."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from services.chassis.jetstream import acks
from services.chassis.jetstream.publisher import Publisher
from services.chassis.jetstream.pulling import Delivery, Pull
from services.chassis.jobs import subjects
from services.chassis.jobs.sending import envelope, item
from services.chassis.jobs.streams import ACK_WAIT_S
from services.chassis.testing import until
from services.queue.service.upkeep import PURGE_EVERY_S
from tests.queue.plant import Plant, as_uuid, envelope_of, new_id, report_on
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1 import job_messages_pb2 as jobs
from weft.queue.v1.events_pb2 import JobRequested
from weft.queue.v1.spec_pb2 import JobSpec


async def publish(plant: Plant, *specs: JobSpec) -> list[str]:
    """As the fast way does."""
    now_s = datetime.now(UTC).timestamp()
    made = [envelope(spec, now_s) for spec in specs]
    await Publisher(plant.connection).publish_all([item(each, 0) for each in made])
    return [each.job_id for each in made]


async def recorded(plant: Plant, job_id: str) -> Any:
    async def there() -> Any:
        return await plant.raw("select * from job where job_id = $1", as_uuid(job_id))

    (row,) = await until(there)
    return row


async def test_a_fast_job_is_in_the_record_and_can_be_cancelled(plant: Plant) -> None:
    await plant.create("fast")
    (job_id,) = await publish(plant, JobSpec(type="noop", queue="fast", labels={"a": "b"}))
    row = await recorded(plant, job_id)
    assert (row["labels"], row["sequence"] > 0) == (["a=b"], True)
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_QUEUED
    await plant.jobs.CancelJob(jobs.CancelJobRequest(job_id=job_id), metadata=plant.who)
    assert await plant.depth("fast") == 0


async def test_a_fast_job_is_answered_though_the_record_trails(plant: Plant) -> None:
    await plant.create("trails")
    (job_id,) = await publish(plant, JobSpec(type="noop", queue="trails"))
    assert (await plant.get(job_id)).state == JobState.JOB_STATE_QUEUED


async def test_what_no_text_may_hold_is_left_out_of_the_record(plant: Plant) -> None:
    (job_id,) = await publish(plant, JobSpec(type="noop", key="a\0b", labels={"a\0b": "c\0d"}))
    row = await recorded(plant, job_id)
    assert (row["key"], row["labels"]) == ("ab", ["ab=cd"])


async def test_what_went_to_another_reader_is_missed_and_read_again(plant: Plant) -> None:
    """One acknowledgement is for all before it: so nothing behind a hole may be acknowledged."""
    ids = await publish(plant, JobSpec(type="noop"))
    await recorded(plant, ids[0])  # The reader has begun, and so begins anew only for what it misses.
    stolen: list[Delivery] = []
    thief = Pull(plant.connection, subjects.STREAM, subjects.HISTORY, stolen.extend, 1)
    thief.start()

    async def stole() -> bool:
        ids.extend(await publish(plant, *(JobSpec(type="noop") for _ in range(5))))
        return bool(stolen)

    await until(stole)
    await thief.stop()
    ids += await publish(plant, JobSpec(type="noop"))
    assert {str((await recorded(plant, job_id))["job_id"]) for job_id in ids} == set(ids)

    async def acknowledged() -> bool:
        info = await plant.lab.bus.js.consumer_info(subjects.STREAM, subjects.HISTORY)
        return info.num_ack_pending == 0 and info.num_pending == 0

    await until(acknowledged)


async def test_a_message_that_is_no_job_holds_nobody_up(plant: Plant) -> None:
    await plant.connection.request(subjects.due("default", "m"), b"\xff\xffnot a job")
    (job_id,) = await publish(plant, JobSpec(type="noop"))
    assert await recorded(plant, job_id)


async def test_an_end_that_came_before_the_job_is_its_end(plant: Plant) -> None:
    await plant.create("ahead")
    made = envelope(JobSpec(job_id=new_id(), type="noop", queue="ahead"), datetime.now(UTC).timestamp())
    await plant.report(report_on(made))
    await Publisher(plant.connection).publish_all([item(made, 0)])
    await recorded(plant, made.job_id)
    assert (await plant.get(made.job_id)).state == JobState.JOB_STATE_SUCCEEDED


async def test_a_scheduled_fast_job_can_be_found_when_it_is_due(plant: Plant) -> None:
    await plant.create("fast-later")
    spec = JobSpec(type="noop", queue="fast-later")
    spec.delay.FromMilliseconds(300)
    (job_id,) = await publish(plant, spec)
    (came,) = await plant.take("fast-later")
    assert envelope_of(came).job_id == job_id

    async def moved() -> bool:
        rows = await plant.raw("select sequence from placement where job_id = $1", as_uuid(job_id))
        return bool(rows) and rows[0]["sequence"] == came.sequence

    assert await until(moved)


async def test_what_was_acknowledged_is_purged_and_what_waits_stays(plant: Plant) -> None:
    await plant.create("purged")
    ids = await publish(plant, *(JobSpec(type="noop", queue="purged") for _ in range(3)))
    later = JobSpec(type="noop", queue="purged")
    later.delay.FromSeconds(60)
    (waiting,) = await publish(plant, later)
    came = await plant.take("purged", count=2)
    await plant.acknowledge(came[:2])

    async def gone() -> bool:
        return await plant.stream.get(came[1].sequence) is None

    assert await until(gone)
    assert await plant.stream.last(subjects.later("purged", waiting))
    (left,) = await plant.take("purged")
    assert envelope_of(left).job_id == ids[2]


async def test_what_was_given_back_while_nobody_waits_is_there_for_who_comes(plant: Plant) -> None:
    """A purge in between made the server keep it until its acknowledgement wait was over."""
    await plant.create("given-back")
    ids = await publish(plant, *(JobSpec(type="noop", queue="given-back") for _ in range(2)))
    came = await plant.take("given-back", count=2)
    await plant.acknowledge(came[:1])
    acks.send(plant.connection, [came[1].reply], acks.NAK)
    await asyncio.sleep(PURGE_EVERY_S * 1.5)  # A round of the janitor, which tells nobody.
    (again,) = await plant.take("given-back", wait_s=ACK_WAIT_S / 3)
    assert (envelope_of(again).job_id, again.deliveries) == (ids[1], 2)
    await plant.acknowledge([again])

    async def gone() -> bool:
        return await plant.stream.get(again.sequence) is None

    assert await until(gone)


async def test_what_the_record_has_not_read_is_not_purged(plant: Plant) -> None:
    await plant.create("unread")
    blocker = await plant.lab.db("queue").dedicated()
    writing = blocker.transaction()
    await writing.start()
    await blocker.execute("lock table job in share mode")  # Nobody writes jobs meanwhile; all may read.
    (job_id,) = await publish(plant, JobSpec(type="noop", queue="unread"))
    (came,) = await plant.take("unread")
    await plant.acknowledge([came])
    await asyncio.sleep(PURGE_EVERY_S * 1.5)  # A round of the janitor, which tells nobody.
    assert await plant.stream.get(came.sequence)
    await writing.rollback()
    await blocker.close()
    assert await recorded(plant, job_id)

    async def gone() -> bool:
        return await plant.stream.get(came.sequence) is None

    assert await until(gone)


async def test_a_job_in_somebodys_transaction_is_there_once(plant: Plant) -> None:
    await plant.create("events")
    job_id = new_id()
    event = JobRequested(job_id=job_id, job=JobSpec(job_id=job_id, type="noop", queue="events"))
    event_id = await plant.lab.announce(event)
    await plant.lab.announce(event, event_id)
    (came,) = await plant.take("events")
    assert envelope_of(came).job_id == job_id
    assert await plant.depth("events") == 0
