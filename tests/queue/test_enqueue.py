"""Jobs on their way in: recorded, published once, answered as they stand."""

from tests.queue.plant import Plant, envelope_of, new_id
from weft.jobs.v1.job_pb2 import JobState


async def test_a_job_that_was_answered_waits_for_a_worker(plant: Plant) -> None:
    answer = await plant.enqueue("mail.send", key="k", labels={"tenant": "acme"})
    assert answer.enqueued
    assert answer.job.state == JobState.JOB_STATE_QUEUED
    (came,) = await plant.take()
    envelope = envelope_of(came)
    assert (envelope.job_id, envelope.type) == (answer.job.envelope.job_id, "mail.send")
    assert envelope.retry.attempts_max == 5
    assert envelope.labels["tenant"] == "acme"


async def test_the_same_id_makes_one_job(plant: Plant) -> None:
    job_id = new_id()
    first, second = await plant.enqueue(job_id=job_id), await plant.enqueue(job_id=job_id)
    assert (first.enqueued, second.enqueued) == (True, False)
    assert second.job.envelope.job_id == job_id
